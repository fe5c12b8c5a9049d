"""From data to report: train, unlearn, evaluate and export, stage by stage."""

import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from rich.progress import Progress

from experiments import build, logs, targets
from experiments.language import Params, make_task
from experiments.recipes import LanguageRun
from experiments.stages import Stage, fingerprint
from ofmu_jax import checkpoint, training
from ofmu_jax.data import batches, prompts
from ofmu_jax.data.records import UnlearningData
from ofmu_jax.evals.evaluation import EvalOptions, Evaluation
from ofmu_jax.evals.tofu import evaluate_language
from ofmu_jax.version import __version__

TARGET, REFERENCE = "target", "retrained"


@dataclasses.dataclass
class Model:
    """One model of a run: where its parameters come from and what was found."""

    role: str  # "target", "retrained" or "unlearned"
    name: str  # the method, or the role
    seed: int
    params: Params
    identity: str  # fingerprint of everything it was made from
    record: dict[str, Any]  # what its training left
    evaluation: Evaluation | None = None
    export: str | None = None


class Pipeline:
    """The stages of a language run; a stage that is done is read, not redone."""

    def __init__(self, run: LanguageRun, data: UnlearningData, progress: Progress):
        self.run, self.data, self.progress = run, data, progress
        self.task, self.given = make_task(run, data)
        self.identity = fingerprint(
            __version__,
            {field: _rows(getattr(data, field)) for field in ("forget", "retain")},
            dataclasses.asdict(self.task.config),
            self.task.prompt_format.name,
            self.task.max_length,
            [run.model, run.retain_model, run.base_model],
        )

    def models(self) -> Iterator[Model]:
        """Every model of the run, evaluated and exported: per seed the target, the
        reference (if there is one) and each method."""
        run = self.run
        trained: dict[str, Model | None] = {}
        for seed in run.seeds:
            if not trained or not run.share_models:
                trained = {
                    REFERENCE: self._trained(REFERENCE, seed),
                    TARGET: self._trained(TARGET, seed),
                }
                for model in trained.values():
                    if model is not None:
                        yield self._finished(model, trained[REFERENCE])
            reference, target = trained[REFERENCE], trained[TARGET]
            assert target is not None
            for name in run.methods:
                model = self._unlearned(name, seed, target, reference)
                yield self._finished(model, reference)

    @functools.cached_property
    def forget(self) -> list[prompts.Encoded]:
        return self.task.encode(self.data.forget)

    @functools.cached_property
    def retain(self) -> list[prompts.Encoded]:
        return self.task.encode(self.data.retain)

    def folder(self, name: str, seed: int):
        return self.run.output_dir / name / f"seed{seed}"

    def _trained(self, role: str, seed: int) -> Model | None:
        """Target or reference: given, or trained on all or on the retain rows."""
        run = self.run
        given = {TARGET: "target", REFERENCE: "reference"}[role]
        if given in self.given:
            record = {"source": run.model if role == TARGET else run.retain_model}
            identity = fingerprint(self.identity, given)
            return Model(role, role, seed, self.given[given], identity, record)
        if role == REFERENCE and run.model is not None and run.base_model is None:
            return None  # nothing to train one from that would compare
        rows = self.data.full if role == TARGET else self.data.retain
        base = self.given.get("base")
        identity = fingerprint(self.identity, role, _rows(rows), run.train, seed)
        examples = self.task.encode(rows)
        size = run.train.batch_size
        updates = batches.num_batches(len(examples), size, run.train.epochs)
        method = build.fine_tuning(self.task.apply_fn, run.train, updates)
        stream = batches.single_batches(
            examples, size, seed, num_stack=1, pad_id=self.task.pad_id
        )
        start = base if base is not None else self.task.init_params(seed)

        def train(stage):
            return self._train(
                stage,
                method,
                start,
                ({"retain": batch} for batch in stream),
                f"{role}, seed {seed}",
                num_updates=updates,
            )

        params, record = self._stage(self.folder(role, seed), identity, train)
        if not record["finite"]:
            raise FloatingPointError(
                f"training the {role} model broke: {record['stopped']}; lower "
                "--train.learning-rate."
            )
        return Model(role, role, seed, params, identity, record)

    def _unlearned(
        self, name: str, seed: int, target: Model, reference: Model | None
    ) -> Model:
        """A method's result, within the budget that every method gets."""
        run, task, budget = self.run, self.task, self.run.budget
        forget_target = targets.forget_target(
            budget.forget_target,
            self.data,
            task,
            target.params,
            None if reference is None else reference.params,
        )
        identity = fingerprint(
            target.identity, name, getattr(run, name), budget, forget_target, seed
        )
        method = build.unlearning(name, task.apply_fn, run, forget_target)
        updates = max(
            1, int(budget.gradient_evaluations // method.gradient_evaluations)
        )

        def train(stage):
            forget = prompts.pad_right(self.forget, pad_id=task.pad_id)
            retain = prompts.pad_right(self.retain, pad_id=task.pad_id)
            length = max(x["input_ids"].shape[1] for x in (forget, retain))
            forget = prompts.pad_right(self.forget, length, pad_id=task.pad_id)
            if build.needs_reference_nll(name, run):
                scores = task.score_encoded(target.params, self.forget)
                nll = [-s.log_prob.sum(dtype=np.float64) for s in scores]
                forget["reference_nll"] = np.asarray(nll, np.float32)
            stream = batches.paired_batches(
                forget,
                retain,
                budget.batch_size,
                seed,
                num_stack=method.batches_per_update,
                length=length,
            )
            return self._train(
                stage,
                method,
                target.params,
                stream,
                f"{name}, seed {seed}",
                num_updates=updates,
                check=targets.Checks(task, self.forget, self.retain, budget.check_rows),
                check_every=max(1, round(updates / budget.checks)),
                stopping=training.StoppingRule(forget_target, budget.patience),
            )

        params, record = self._stage(self.folder(name, seed), identity, train)
        record["forget_target"] = forget_target
        return Model("unlearned", name, seed, params, identity, record)

    def _stage(self, folder, identity: str, train) -> tuple[Params, dict[str, Any]]:
        """Runs ``train`` in its stage, or reads what it left."""
        stage = Stage(folder / "training", identity)
        if not stage.done:
            train(stage)
        like = jax.eval_shape(lambda: self.task.init_params(0))
        return checkpoint.restore(stage.folder / "checkpoint", like), stage.result

    def _train(
        self, stage: Stage, method, params, stream, label: str, **options
    ) -> None:
        folder = stage.begin()
        log = logs.MetricsLog(folder)
        bar = self.progress.add_task(label, total=options["num_updates"], note="")

        def on_update(done: int, metrics: dict[str, float]) -> None:
            log.write(done, metrics)
            note = " ".join(
                f"{k} {metrics[k]:.3f}"
                for k in ("forget_loss", "retain_loss")
                if k in metrics
            )
            self.progress.update(bar, completed=done, note=note)

        started = time.perf_counter()
        result = training.run(method, params, stream, on_update=on_update, **options)
        seconds = time.perf_counter() - started
        for row in result.checks:
            values = {f"eval_{k}": v for k, v in row.items() if k != "update"}
            log.write(int(row["update"]), values)
        log.close()
        checkpoint.save(folder / "checkpoint", result.params)
        self.progress.update(bar, total=result.updates, note="")
        stage.finish(
            {
                "seconds": seconds,
                "updates": result.updates,
                "update": result.update,
                "stopped": result.stopped,
                "finite": result.finite,
                "gradient_evaluations": result.updates * method.gradient_evaluations,
                "gradient_evaluations_per_update": method.gradient_evaluations,
                "metrics": result.metrics,
                "checks": result.checks,
            }
        )

    def _finished(self, model: Model, reference: Model | None) -> Model:
        """The model with its evaluation and its export."""
        folder = self.folder(model.name, model.seed)
        against = None
        if reference is not None and model is not reference:
            against = reference.evaluation
        identity = fingerprint(
            model.identity,
            self.run.evaluation,
            {field: _rows(getattr(self.data, field)) for field in _EVALUATED},
            None if against is None else against.to_json(),
        )
        stage = Stage(folder / "evaluation", identity)
        if not stage.done:
            self._evaluate(stage, model, against)
        model.evaluation = Evaluation.load(stage.folder / "evaluation.json")
        if self.run.export:
            stage = Stage(folder / "hf", model.identity)
            if not stage.done:
                with _busy(self.progress, f"export {model.name}, seed {model.seed}"):
                    hf = stage.begin()
                    hf.rmdir()  # the export makes it, whole or not at all
                    self.task.export(hf, model.params)
                    stage.finish({})
            model.export = stage.folder.relative_to(self.run.output_dir).as_posix()
        return model

    def _evaluate(self, stage: Stage, model: Model, against: Evaluation | None) -> None:
        task, config = self.task, self.run.evaluation
        with _busy(self.progress, f"evaluate {model.name}, seed {model.seed}"):
            folder = stage.begin()
            result = evaluate_language(
                _limited(self.data, config.max_rows),
                score=functools.partial(task.score, model.params),
                generate=functools.partial(task.generate, model.params),
                reference=against,
                options=EvalOptions(num_resamples=config.bootstrap),
            )
            result.save(folder / "evaluation.json", include_generations=True)
            stage.finish({})


_EVALUATED = (
    "forget_eval",
    "retain_eval",
    "real_authors",
    "world_facts",
    "forget_heldout",
    "retain_heldout",
    "holdout",
)


def _limited(data: UnlearningData, most: int | None) -> UnlearningData:
    """At most ``most`` rows, evenly spaced, of each evaluation set."""
    if most is None:
        return data
    fewer: dict[str, Any] = {
        field: tuple(targets.spaced(getattr(data, field), most)) for field in _EVALUATED
    }
    return dataclasses.replace(data, **fewer)


def _rows(rows: Sequence[Any]) -> str:
    return fingerprint([dataclasses.asdict(row) for row in rows])


class _busy:
    """A line of progress without a count."""

    def __init__(self, progress: Progress, label: str):
        self.progress = progress
        self.bar = progress.add_task(label, total=None, note="")

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.progress.update(self.bar, total=1, completed=1)
