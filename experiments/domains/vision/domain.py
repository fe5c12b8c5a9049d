"""Image classifiers as a domain: images and their split, original and retrained."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np

from experiments.config.vision import Cifar, resolved
from experiments.domains.attacks import Attacks
from experiments.domains.base import (
    BASE,
    REFERENCE,
    TARGET,
    About,
    Given,
    Model,
    Scored,
    Tell,
)
from experiments.domains.vision.attacks import attacks_of
from experiments.domains.vision.data import images_of, validation_request
from experiments.domains.vision.evidence import VisionEvidence, evaluated
from experiments.domains.vision.grid import SHOWN, save_grid, shown_images
from experiments.domains.vision.target import CHOICES, forget_target
from experiments.domains.vision.task import VisionTask
from experiments.domains.vision.words import GOALS, TUNED, UNITS, UNTUNED, asked
from experiments.stages.files import fingerprint
from experiments.stages.fit import Job
from ofmu_jax.attacks.budget import check as check_budget
from ofmu_jax.attacks.registry import chosen
from ofmu_jax.attacks.vision.registry import ATTACKS
from ofmu_jax.bounds import check_word_or_number
from ofmu_jax.data.vision.images import ImageSet
from ofmu_jax.data.vision.split import Split
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.evals.vision.metrics import trial_score
from ofmu_jax.methods.vision import descent, registry
from ofmu_jax.methods.vision.setting import Plan
from ofmu_jax.models import classifier
from ofmu_jax.models.resnet import ResNetConfig, Variables, init_variables
from ofmu_jax.parallel.distributed import on_main
from ofmu_jax.training import StoppingRule
from ofmu_jax.training.budget import updates_within
from ofmu_jax.unlearning.vision.look import Look
from ofmu_jax.unlearning.vision.rows import plan_batches
from ofmu_jax.version import __version__


@dataclasses.dataclass(frozen=True, eq=False)
class VisionDomain:
    """A vision run with its images (`experiments.domains.base`)."""

    run: Cifar  # resolved
    task: VisionTask

    mesh = None

    @classmethod
    def of(cls, run: Cifar) -> Self:
        """Reads the images of a run.

        Raises:
          ValueError: options that do not fit, or data that cannot be read.
        """
        run = resolved(run)
        return cls.on(run, *images_of(run))

    @classmethod
    def on(cls, run: Cifar, data: ImageSet, split: Split) -> Self:
        """The domain of a run on these images."""
        return cls(run, VisionTask(run, data, split))

    @property
    def about(self) -> About:
        run, data = self.run, self.task.data
        counts = {name: len(part) for name, part in self.task.sets.items()}
        return About(
            f"Forgetting {asked(run.forget)} of {data.name} ({run.model})",
            {"name": data.name, "counts": counts},
            GOALS,
            1 / data.num_classes,
        )

    @functools.cached_property
    def identity(self) -> str:
        data, split = self.task.data, self.task.split
        return fingerprint(
            __version__,
            self.task.content,
            self.task.config,
            [data.name, split.spec, split.seed, data.crop_padding, data.flip],
            *self.run.rounding,
        )

    def refuse(self) -> Sequence[str]:
        if chosen(self.run.attacks, ATTACKS):
            check_budget(self.run.attack)
        check_word_or_number("--forget-target", self.run.forget_target, CHOICES, "nats")
        goal = 1.0  # any: that of the run comes from a model
        plans = {n: self._plan(n, self.run.seeds[0], goal) for n in self.run.methods}
        for name, plan in plans.items():
            self._fitting(name, plan)
        return [f"{name}: {plan.note}" for name, plan in plans.items() if plan.note]

    def variant(self, run: Cifar, base: Model | None = None) -> Self:
        return dataclasses.replace(self, run=run)  # there is never a base

    def given(self, role: str) -> Given | None:
        return None

    def training(self, role: str, seed: int) -> Job | None:
        if role == BASE:
            return None
        run, task = self.run, self.task
        part = task.sets["train" if role == TARGET else "retain"]
        assert run.epochs is not None
        updates = max(1, round(run.epochs * len(part) / task.batch_size))
        setting = task.setting(seed)
        plan = descent.train(setting, run.learning_rate, run.weight_decay, updates)
        return Job(
            (run.epochs, run.batch_size, run.learning_rate, run.weight_decay),
            plan.method,
            lambda: task.init_variables(seed),
            lambda: task.training_stream(part, seed),
            updates,
            remedy="lower --learning-rate",
        )

    def forget_target(
        self, target: Variables, reference: Variables | None
    ) -> float | None:
        assert reference is not None  # there always is one
        return forget_target(self.task, target, reference)

    def unlearning(
        self, name: str, seed: int, target: Variables, goal: float | None
    ) -> Job:
        run, task = self.run, self.task
        plan = self._plan(name, seed, goal)
        updates = self._fitting(name, plan)
        network = plan.config or task.config
        budget = [run.batch_size, task.budget, run.checks, run.patience, run.check_rows]
        return Job(
            (run.config_of(name), budget),
            plan.method,
            lambda: plan.start(target),
            lambda: plan_batches(plan, task.setting(seed)),
            updates,
            check=Look(network, task.sets, run.check_rows, run.eval_batch_size),
            check_every=max(1, round(updates / run.checks)),
            stopping=StoppingRule(goal, run.patience),
            network=network,
            setup_cost=plan.setup_cost,
            once=plan.one_shot,
        )

    def _plan(self, name: str, seed: int, goal: float | None) -> Plan:
        setting = self.task.setting(seed, goal)
        return registry.build(name, setting, self.run.config_of(name))

    def _fitting(self, name: str, plan: Plan) -> int:
        """How many updates the budget allows."""
        within = functools.partial(
            updates_within, self.task.budget, name=name, option="--unlearn-epochs"
        )
        if plan.method is None:  # one step, which is all that it costs
            return min(1, within(plan.setup_cost))
        return within(plan.method.gradient_evaluations, setup=plan.setup_cost)

    def outline(self, network: ResNetConfig | None = None) -> Any:
        config, size = network or self.task.config, self.task.data.image_size
        return jax.eval_shape(lambda: init_variables(config, jax.random.key(0), size))

    def written(self, params: Any) -> Any:
        return params  # exports keep every bit

    def evaluated_by(self) -> tuple[Any, ...]:
        return self.run.attack_rows, self.run.data_seed

    def evaluate(
        self, folder: pathlib.Path, model: Model, reference: Model | None, tell: Tell
    ) -> Evaluation:
        against = None if reference is None else reference.evaluation
        forget = None if reference is None else _saved(reference)
        network = model.network or self.task.config
        found, shown = evaluated(
            self.task, network, model.params, against, forget, tell
        )
        part = self.task.sets["forget"]
        np.savez_compressed(
            folder / "forget.npz",
            probabilities=shown,
            labels=part.labels,
            indices=self.task.split.forget,
        )
        return found

    def export(self, folder: pathlib.Path, model: Model) -> None:
        network, names = model.network or self.task.config, self.task.data.class_names
        on_main(
            lambda: classifier.save(folder, network, model.params, class_names=names)
        )

    def evidence(self) -> VisionEvidence:
        return self._evidence

    @functools.cached_property
    def _evidence(self) -> VisionEvidence:
        return VisionEvidence(self.task)  # keeps the hashes of the images

    def attacks(self) -> Attacks | None:
        return attacks_of(self.run.attacks, self.run.attack, self.task)

    def costs(self, model: Model) -> Mapping[str, float]:
        seconds = model.record.get("seconds")  # absent where the method broke off
        return {} if seconds is None else {"run_time_minutes": seconds / 60}

    def validation(self, folder: pathlib.Path) -> Self:
        """Images like the forget images, but taken from the retain images: another
        draw, or the next class. The validation images, which no model is trained on,
        stand in for the test images, so that no forget and no test image takes part.
        """
        run = dataclasses.replace(self.run, output_dir=folder)
        return self.on(run, *validation_request(self.task.data, self.task.split))

    def yardstick(self, reference: Model) -> tuple[Evaluation, np.ndarray]:
        return evaluated(self.task, self.task.config, reference.params)

    def scored(self, model: Model, yardstick: tuple[Evaluation, np.ndarray]) -> Scored:
        """By its average gap to the retrained model (`trial_score`)."""
        network = model.network or self.task.config
        found, _ = evaluated(self.task, network, model.params, *yardstick)
        metrics = found.metrics
        return Scored(trial_score(metrics), metrics, yardstick[0].metrics)

    def notes(self, models: Sequence[Model]) -> Sequence[str]:
        note, run = self.task.split.note, self.run
        rates = TUNED if run.tune or run.tuned_from else UNTUNED
        return [f"{note[0].upper()}{note[1:]}.", UNITS, rates, *self._grids(models)]

    def answers(self, models: Sequence[Model]) -> Sequence[Mapping[str, Any]]:
        said = {m.name: _saved(m) for m in models if _has_scores(m)}
        names, most = self.task.data.class_names, min(self.run.grid_images, SHOWN)
        return shown_images(self.task.sets["forget"], said, names, most)

    def _grids(self, models: Sequence[Model]) -> Sequence[str]:
        """Writes a picture for each seed; returns the note that names them."""
        run, data = self.run, self.task.data
        written = []
        shared = {m.name: m for m in models if m.role != "unlearned"}
        for seed in run.seeds if run.grid_images else ():
            shown = shared | {m.name: m for m in models if m.seed == seed}
            names = {"before": TARGET, "retrained": REFERENCE}
            names |= {name: name for name in run.methods if _has_scores(shown[name])}
            name = f"forget_images_seed{seed}.png"
            save_grid(
                run.output_dir / name,
                self.task.sets["forget"],
                {label: _saved(shown[name]) for label, name in names.items()},
                data.class_names,
                run.grid_images,
            )
            written.append(name)
        if not written:
            return []
        return [
            f"Beside this report: forget images with the predictions of every model, "
            f"{', '.join(written)}."
        ]


def _has_scores(model: Model) -> bool:
    """False where a method broke off, so that nothing was predicted."""
    return model.evaluation is not None and bool(model.evaluation.metrics)


def _saved(model: Model) -> np.ndarray:
    """A model's probabilities on the forget images, as its evaluation left them."""
    with np.load(model.folder / "evaluation" / "forget.npz") as saved:
        return saved["probabilities"]
