"""From data to report: train, unlearn, evaluate and export, stage by stage."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, cast

from rich.progress import Progress

from experiments.config.language import LanguageRun, TrainConfig
from experiments.deletion import record as deletion
from experiments.domains.language import job
from experiments.domains.language import method as build
from experiments.domains.language import rows as inputs
from experiments.domains.language.task import LanguageTask, Params, make_task
from experiments.shell import provenance
from experiments.stages import fit
from experiments.stages import saver as resuming
from experiments.stages.files import fingerprint
from experiments.stages.stage import Stage
from ofmu_jax.data import streams
from ofmu_jax.data.language import batches, prompts
from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.methods import Method
from ofmu_jax.parallel.distributed import on_main
from ofmu_jax.training import checkpoint
from ofmu_jax.version import __version__

TARGET, REFERENCE, BASE = "target", "retrained", "base"


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

    def __init__(
        self,
        run: LanguageRun,
        data: UnlearningData,
        progress: Progress,
        models: tuple[LanguageTask, dict[str, Params]] | None = None,
        base_identity: str | None = None,
    ):
        self.run, self.data, self.progress = run, data, progress
        self.task, self.given = models or make_task(run, data)
        self._base_identity = base_identity
        # By content: another model may lie in the same folder tomorrow.
        self._files = {
            name: deletion.model_files(source)
            for name, source in run.given_models.items()
        }
        self.identity = fingerprint(
            __version__,
            {
                field: inputs.rows_fingerprint(getattr(data, field))
                for field in ("forget", "retain")
            },
            dataclasses.asdict(self.task.config),
            self.task.prompt_format.name,
            self.task.max_length,
            self._files,
            base_identity,
            self.task.interior_eot,
        )

    def variant(self, run: LanguageRun, data: UnlearningData) -> "Pipeline":
        """A pipeline with other settings or rows, but the same tokenizer and models."""
        models = (self.task, self.given)
        return Pipeline(run, data, self.progress, models, self._base_identity)

    def pretrained(self, epochs: int) -> "Pipeline":
        """The pipeline whose models all start from one that has read other rows."""
        train = dataclasses.replace(self.run.train, epochs=epochs)
        base = self._fitted(BASE, self.data.pretraining, train, 0)
        models = (self.task, self.given | {"base": base.params})
        return Pipeline(self.run, self.data, self.progress, models, base.identity)

    def models(self) -> Iterator[Model]:
        """Every model of the run, evaluated and exported: per seed the target, the
        reference (if there is one) and each method.

        A model's parameters are let go when the next is asked for, unless methods
        start from it or are compared with it.
        """
        run = self.run
        trained: dict[str, Model | None] = {}
        for seed in run.seeds:
            if not trained or not run.share_models:
                for model in trained.values():
                    if model is not None:
                        model.params = None
                trained = {
                    REFERENCE: self.trained(REFERENCE, seed),
                    TARGET: self.trained(TARGET, seed),
                }
                for model in trained.values():
                    if model is not None:
                        yield self.finished(model, trained[REFERENCE])
            reference, target = trained[REFERENCE], trained[TARGET]
            assert target is not None
            problem = self.problem(seed, target, reference)
            for name in run.methods:
                model = self.unlearned(name, problem, target)
                self.finished(model, reference)
                if model.export is not None:
                    self._leave_record(model, target, reference)
                yield model
                model.params = None

    @functools.cached_property
    def forget(self) -> list[prompts.Encoded]:
        return self.task.encode(self.data.forget)

    @functools.cached_property
    def retain(self) -> list[prompts.Encoded]:
        return self.task.encode(self.data.retain)

    def folder(self, name: str, seed: int):
        return self.run.output_dir / name / f"seed{seed}"

    def trained(self, role: str, seed: int) -> Model | None:
        """Target or reference: given, or trained on all or on the retain rows."""
        run = self.run
        given = {TARGET: "target", REFERENCE: "reference"}[role]
        if given in self.given:
            record = {"source": run.model if role == TARGET else run.retain_model}
            identity = fingerprint(self.identity, given)
            return Model(role, role, seed, self.given[given], identity, record)
        if role == REFERENCE and not run.has_reference:
            return None  # nothing to train one from that would compare
        rows = self.data.full if role == TARGET else self.data.retain
        return self._fitted(role, rows, run.train, seed)

    def _fitted(
        self, role: str, rows: Sequence[QA], config: TrainConfig, seed: int
    ) -> Model:
        """A model trained on ``rows``, from the base if there is one."""
        base = self.given.get("base")
        identity = fingerprint(
            self.identity, role, inputs.rows_fingerprint(rows), config, seed
        )
        examples = self.task.encode(rows)
        size = config.batch_size
        updates = batches.num_batches(len(examples), size, config.epochs)
        method = build.fine_tuning(
            self.task.loss_apply_fn, config, updates, self.run.grad_accum
        )
        stream = batches.single_batches(
            examples,
            size,
            seed,
            num_stack=1,
            trim_to=32,
            shard=self.task.shard,
            **self.task.padding,
        )
        start = base if base is not None else self.task.init_params(seed)

        def train(stage):
            self._train(
                stage,
                method,
                start,
                stream=streams.named(stream, "retain"),
                label=f"{role}, seed {seed}",
                num_updates=updates,
            )

        params, record = self._stage(self.folder(role, seed), identity, train)
        if not record["finite"]:
            raise FloatingPointError(
                f"training the {role} model broke: {record['stopped']}; lower "
                "--train.learning-rate."
            )
        return Model(role, role, seed, params, identity, record)

    def problem(self, seed: int, target: Model, reference: Model | None) -> job.Problem:
        """What every method is given for a seed."""
        return job.Problem(
            self.run,
            self.task,
            self.data,
            self.forget,
            self.retain,
            target.params,
            None if reference is None else reference.params,
            seed,
        )

    def unlearned(self, name: str, problem: job.Problem, target: Model) -> Model:
        """A method's result, within the budget that every method gets."""
        forget_target = problem.forget_target()
        identity = fingerprint(
            target.identity, job.identity(problem, name, forget_target)
        )

        def train(stage):
            method, options = job.make(problem, name, forget_target)
            label = f"{name}, seed {problem.seed}"
            self._train(stage, method, problem.target, label=label, **options)

        folder = self.folder(name, problem.seed)
        params, record = self._stage(folder, identity, train)
        record["forget_target"] = forget_target
        return Model("unlearned", name, problem.seed, params, identity, record)

    def _stage(self, folder, identity: str, train) -> tuple[Params, dict[str, Any]]:
        """Runs ``train`` in its stage, or reads what it left."""
        stage = Stage(folder / "training", identity)
        if not stage.done:
            train(stage)
        resuming.tidy(stage)
        like = self.task.outline()
        return checkpoint.restore(stage.folder / "checkpoint", like), stage.result

    def _train(self, stage: Stage, method: Method, params: Params, **options) -> None:
        with resuming.resumable(stage, self.run.checkpoint_every) as saver:
            result, record = fit.fit(
                method,
                params,
                progress=self.progress,
                saver=saver,
                mesh=self.task.mesh,
                **options,
            )
            checkpoint.save(stage.folder / "checkpoint", result.params)
            stage.finish(record | {"code": provenance.code()})

    def finished(self, model: Model, reference: Model | None) -> Model:
        """The model with its evaluation and its export."""
        folder = self.folder(model.name, model.seed)
        against = None
        if reference is not None and model is not reference:
            against = reference.evaluation
        identity = fingerprint(
            model.identity,
            self.run.evaluation,
            {
                field: inputs.rows_fingerprint(getattr(self.data, field))
                for field in inputs.EVALUATED
            },
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
                    on_main(hf.rmdir)  # the export makes it, whole or not at all
                    self.task.export(hf, model.params)
                    stage.finish({})
            model.export = stage.folder.relative_to(self.run.output_dir).as_posix()
        return model

    def _leave_record(
        self, model: Model, target: Model, reference: Model | None
    ) -> None:
        """Writes the deletion record into the export of an unlearned model."""
        run, evaluation = self.run, cast(Evaluation, model.evaluation)
        if run.model and deletion.model_files(run.model) != self._files["model"]:
            raise ValueError(
                f"{run.model} has changed since this run read it, and the deletion "
                "record would name another model: put the old one back, or run again."
            )
        export = lambda model: self.folder(model.name, model.seed) / "hf"
        unlearned = deletion.Unlearned(
            model.name,
            model.seed,
            export(model),
            fingerprint(model.identity, run.evaluation, evaluation.to_json()),
            model.record,
            evaluation,
            base=run.model or export(target),
            reference=None if reference is None else export(reference),
            tokenizer_from_data=self.task.source is None,
        )
        on_main(lambda: _nothing(deletion.leave_record(run, self.data, unlearned)))

    def _evaluate(self, stage: Stage, model: Model, against: Evaluation | None) -> None:
        with _busy(self.progress, f"evaluate {model.name}, seed {model.seed}"):
            folder = stage.begin()
            result = inputs.evaluated(self.task, model.params, self.data, against)
            path = folder / "evaluation.json"
            on_main(lambda: _nothing(result.save(path, include_generations=True)))
            stage.finish({})


def _nothing(_: Any) -> None:
    """What `on_main` may tell the other processes of a value that is no JSON."""


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
