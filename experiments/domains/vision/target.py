"""What a vision run aims at: the forget target."""

import math

from experiments.domains.vision.task import VisionTask
from ofmu_jax.bounds import check_word_or_number
from ofmu_jax.data.vision.split import WHOLE_CLASS
from ofmu_jax.models.resnet import Variables

CHOICES = ("reference", "heldout", "chance", "auto", "none")


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
