"""From images to evaluated models, stage by stage: train, unlearn, evaluate."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from rich.progress import Progress

from experiments.config.vision import Cifar
from experiments.domains.vision.task import Checks, VisionTask, forget_target, predictor
from experiments.stages import fit
from experiments.stages import saver as resuming
from experiments.stages.stage import Stage, fingerprint, write_json
from ofmu_jax.data.vision.images import ImageSet
from ofmu_jax.data.vision.split import Split
from ofmu_jax.evals.vision import metrics as evals
from ofmu_jax.methods.vision import descent, registry
from ofmu_jax.methods.vision.classifier import sgd
from ofmu_jax.methods.vision.setting import Plan
from ofmu_jax.models.resnet import ResNetConfig, Variables, init_variables
from ofmu_jax.training import checkpoint, loop
from ofmu_jax.version import __version__

TARGET, REFERENCE = "target", "retrained"


@dataclasses.dataclass
class VisionModel:
    """One model of a run: its parameters, how they came about and what was found."""

    role: str  # "target", "retrained" or "unlearned"
    name: str  # the method, or the role
    seed: int
    config: ResNetConfig
    variables: Variables
    identity: str  # fingerprint of everything it was made from
    record: dict[str, Any]  # what its training left
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    intervals: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    forget: np.ndarray | None = None  # probabilities on the forget images


class VisionPipeline:
    """The stages of a vision run; a stage that is done is read, not redone."""

    def __init__(
        self,
        run: Cifar,
        data: ImageSet,
        split: Split,
        progress: Progress,
        task: VisionTask | None = None,
    ):
        self.run, self.progress = run, progress
        self._updates: dict[Any, Callable] = {}
        self.task = VisionTask(run, data, split) if task is None else task
        self.identity = fingerprint(
            __version__,
            self.task.content,
            self.task.config,
            [data.name, split.spec, split.seed, data.crop_padding, data.flip],
        )

    def variant(self, run: Cifar) -> "VisionPipeline":
        """A pipeline with other configurations of the methods or another folder, but
        the same images, which are not copied and hashed again."""
        task = self.task
        return VisionPipeline(run, task.data, task.split, self.progress, task)

    def models(self) -> Iterator[VisionModel]:
        """Every model of the run, evaluated: per seed (or once, if models are shared)
        the retrained and the original one, then each method's."""
        run = self.run
        trained: dict[str, VisionModel] = {}
        for seed in run.seeds:
            if not trained or not run.share_models:
                trained[REFERENCE] = self.trained(REFERENCE, seed)
                yield self.evaluated(trained[REFERENCE], None)
                trained[TARGET] = self.trained(TARGET, seed)
                yield self.evaluated(trained[TARGET], trained[REFERENCE])
            reference, target = trained[REFERENCE], trained[TARGET]
            for name in run.methods:
                model = self.unlearned(name, seed, target, reference)
                yield self.evaluated(model, reference)

    def _folder(self, name: str, seed: int):
        return self.run.output_dir / name / f"seed{seed}"

    def trained(self, role: str, seed: int) -> VisionModel:
        """The original model, on forget and retain images, or the retrained one."""
        run, task = self.run, self.task
        part = task.sets["train" if role == TARGET else "retain"]
        choices = [run.epochs, run.batch_size, run.learning_rate, run.weight_decay]
        identity = fingerprint(self.identity, role, choices, seed)
        assert run.epochs is not None
        updates = max(1, round(run.epochs * len(part) / task.batch_size))
        schedule = optax.piecewise_constant_schedule(
            run.learning_rate, {updates // 2: 0.1, updates * 3 // 4: 0.1}
        )
        plan = descent.train(task.setting(seed), sgd(schedule, run.weight_decay))

        def work(stage: Stage) -> None:
            self._train(
                stage,
                plan,
                task.init_variables(seed),
                task.training_stream(part, seed),
                f"{role}, seed {seed}",
                num_updates=updates,
            )

        variables, record = self._stage(role, seed, identity, task.config, work)
        if not record["finite"]:
            raise FloatingPointError(
                f"training the {role} model broke: {record['stopped']}; lower "
                "--learning-rate."
            )
        return VisionModel(role, role, seed, task.config, variables, identity, record)

    def unlearned(
        self, name: str, seed: int, target: VisionModel, reference: VisionModel
    ) -> VisionModel:
        """A method's result, within the budget that every method gets."""
        run, task = self.run, self.task
        goal = forget_target(task, target.variables, reference.variables)
        config = run.in_paper().method(name)
        choices = [run.batch_size, task.budget, run.checks, run.patience]
        choices.append(run.check_rows)
        identity = fingerprint(target.identity, name, config, choices, goal, seed)
        plan = registry.build(name, task.setting(seed, goal), config)
        if plan.method is not None:
            # One function object for all seeds, so that it is compiled once.
            made = self._updates.setdefault((name, goal), plan.method.update)
            plan = plan._replace(method=plan.method._replace(update=made))
        network = plan.config or task.config

        def work(stage: Stage) -> None:
            label = f"{name}, seed {seed}"
            checks = Checks(task, network)
            if plan.one_shot is not None:
                self._apply(stage, plan, target.variables, checks, label)
                return
            updates = plan.num_updates(task.budget)
            self._train(
                stage,
                plan,
                plan.start(target.variables),
                task.stream(plan, seed),
                label,
                num_updates=updates,
                check=checks,
                check_every=max(1, round(updates / run.checks)),
                stopping=loop.StoppingRule(goal, run.patience),
            )

        variables, record = self._stage(name, seed, identity, network, work)
        record = record | {"forget_target": goal}
        return VisionModel(
            "unlearned", name, seed, network, variables, identity, record
        )

    def _stage(self, name: str, seed: int, identity: str, config: ResNetConfig, work):
        """Runs ``work`` in its stage, or reads what it left."""
        stage = Stage(self._folder(name, seed) / "training", identity)
        if not stage.done:
            work(stage)
        resuming.tidy(stage)
        size = self.task.data.image_size
        shapes = jax.eval_shape(lambda: init_variables(config, jax.random.key(0), size))
        tree = checkpoint.restore(stage.folder / "checkpoint", shapes._asdict())
        return Variables(**tree), stage.result

    def _train(
        self, stage: Stage, plan: Plan, variables: Variables, stream, label, **options
    ) -> None:
        """Runs a method with its log; its time is without that of the checks."""
        assert plan.method is not None
        options |= {"label": label, "progress": self.progress}
        with resuming.resumable(stage, self.run.checkpoint_every) as saver:
            if (check := options.get("check")) is not None:
                saver.aside = lambda: check.seconds
            result, record = fit.fit(
                plan.method, variables, stream, saver=saver, **options
            )
            cost = plan.method.gradient_evaluations
            self._finish(
                stage, result.params, cost=cost, setup=plan.setup_cost, **record
            )

    def _apply(
        self, stage: Stage, plan: Plan, variables: Variables, checks: Checks, label
    ) -> None:
        """Runs a method that does everything at once."""
        assert plan.one_shot is not None
        stage.begin()
        bar = self.progress.add_task(label, total=1, note="")
        before = {"update": 0, **checks(variables)}
        started = time.perf_counter()
        result = plan.one_shot(variables)
        jax.block_until_ready(result)
        seconds = time.perf_counter() - started
        after = {"update": 1, **checks(result)}
        self.progress.update(bar, completed=1)
        finite = all(np.isfinite(value) for value in after.values())
        why = "one step, at its full cost"
        if not finite:  # as an update that is not finite: the last good model stays
            result, why = variables, "a check after its one step was not finite"
        self._finish(
            stage,
            result,
            seconds=seconds,
            updates=1,
            update=int(finite),
            stopped=why,
            finite=finite,
            cost=0.0,
            setup=plan.setup_cost,
            metrics=[],
            checks=[before, after] if finite else [before],
        )

    def _finish(self, stage: Stage, variables, *, updates, cost, setup, **record):
        checkpoint.save(stage.folder / "checkpoint", variables._asdict())
        stage.finish(
            record
            | {
                "updates": updates,
                "gradient_evaluations": setup + updates * cost,
                "gradient_evaluations_per_update": cost,
                "setup_gradient_evaluations": setup,
            }
        )

    def evaluated(
        self, model: VisionModel, reference: VisionModel | None
    ) -> VisionModel:
        """The model with its metrics, read from its stage."""
        against = None if reference is None else reference.metrics
        identity = fingerprint(
            model.identity,
            [self.run.attack_rows, self.run.data_seed],
            None if reference is None else [reference.identity, against],
        )
        folder = self._folder(model.name, model.seed)
        stage = Stage(folder / "evaluation", identity)
        if not stage.done:
            bar = self.progress.add_task(
                f"evaluate {model.name}, seed {model.seed}", total=1, note=""
            )
            self._evaluate(stage, model, reference)
            self.progress.update(bar, completed=1)
        model.metrics = dict(stage.result["metrics"])
        model.intervals = dict(stage.result["intervals"])
        with np.load(stage.folder / "forget.npz") as saved:
            model.forget = saved["probabilities"]
        seconds = model.record.get("seconds")
        if seconds is not None:
            model.metrics["run_time_minutes"] = seconds / 60
        return model

    def _evaluate(
        self, stage: Stage, model: VisionModel, reference: VisionModel | None
    ) -> None:
        task = self.task
        folder = stage.begin()
        forget, retain, test = (task.sets[n] for n in ("forget", "retain", "test"))
        predict = functools.partial(predictor(model.config), model.variables)
        size = self.run.eval_batch_size
        found = evals.predictions(predict, forget, retain, test, size)
        untrained = task.init_variables(self.run.data_seed + 1_000_003)
        metrics, intervals = evals.evaluate_vision(
            found,
            untrained_forget=task.probabilities(task.config, untrained, forget),
            reference=None if reference is None else reference.metrics,
            reference_forget=None if reference is None else reference.forget,
            attack_rows=self.run.attack_rows,
        )
        np.savez_compressed(
            folder / "forget.npz",
            probabilities=found.forget.astype(np.float32),
            labels=found.forget_labels,
            indices=task.split.forget,
        )
        ends = {name: list(interval) for name, interval in intervals.items()}
        write_json(folder / "metrics.json", {"metrics": metrics, "intervals": ends})
        stage.finish({"metrics": metrics, "intervals": ends})
