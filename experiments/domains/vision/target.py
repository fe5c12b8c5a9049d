"""What a vision run aims at: the forget target, and the look at how far it has come."""

import math
from collections.abc import Mapping

from experiments.domains.vision.task import VisionTask, label_nll
from ofmu_jax.bounds import check_word_or_number
from ofmu_jax.data.order import evenly_spaced
from ofmu_jax.data.vision.split import WHOLE_CLASS
from ofmu_jax.evals.language.scores import EvaluationError
from ofmu_jax.evals.vision import metrics
from ofmu_jax.models.resnet import ResNetConfig, Variables

CHOICES = ("reference", "heldout", "chance", "auto", "none")


class Look:
    """NLL and accuracy on forget and retain images, for the stopping rule."""

    def __init__(self, task: VisionTask, config: ResNetConfig):
        self.task, self.config = task, config
        rows = task.run.check_rows
        self.sets = {
            name: task.sets[name].take(evenly_spaced(len(task.sets[name]), rows))
            for name in ("forget", "retain")
        }

    def __call__(self, variables: Variables) -> Mapping[str, float]:
        values = {}
        for name, part in self.sets.items():
            try:
                p = self.task.probabilities(self.config, variables, part)
            except EvaluationError:  # diverged: the loop ends at a value not finite
                values |= {f"{name}_nll": math.nan, f"{name}_accuracy": math.nan}
                continue
            values[f"{name}_nll"] = float(label_nll(p, part).mean())
            values[f"{name}_accuracy"] = metrics.accuracy(p, part.labels)
        return values


def _of_a_class(spec: str) -> bool:
    return spec.partition(":")[0] in WHOLE_CLASS


def forget_target(
    task: VisionTask, original: Variables, retrained: Variables
) -> float | None:
    """The mean NLL at which the forget images count as forgotten; None: no target.

    ``reference``: of the retrained model on them. ``heldout``: of the original model on
    the validation images, which needs no retrained model, but says nothing about a
    class that is forgotten whole. ``chance``: log of the number of classes.

    Raises:
      ValueError: an unknown choice, or one that needs validation images.
    """
    choice = task.run.forget_target
    check_word_or_number("--forget-target", choice, CHOICES, "nats")
    if choice == "none":
        return None
    if choice in ("auto", "reference"):
        return task.mean_nll(task.config, retrained, task.sets["forget"])
    if choice == "chance":
        return math.log(task.data.num_classes)
    if choice == "heldout":
        if not len(task.sets["validation"]) or _of_a_class(task.split.spec):
            raise ValueError(
                "--forget-target heldout needs validation images of the classes that "
                "are forgotten; set --validation above 0 and forget random:… or "
                "file:…, or use reference or chance."
            )
        return task.mean_nll(task.config, original, task.sets["validation"])
    return float(choice)
