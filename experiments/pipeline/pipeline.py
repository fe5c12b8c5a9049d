"""From data to models: train, unlearn, evaluate, export and record, stage by stage.

One pipeline for every domain (`experiments.domains.base`). In a job of several
processes every stage is collective: all of them come by here in the same order.
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from experiments.config.common import Run
from experiments.deletion.record import Unlearned, leave_record
from experiments.domains.attacks import Attacks
from experiments.domains.base import BASE, REFERENCE, TARGET, Domain, Model, Tell
from experiments.pipeline import attacking, broken, recording, tracking
from experiments.pipeline.cards import leave_card
from experiments.shell import provenance
from experiments.shell.heartbeat import Stages
from experiments.stages.files import fingerprint
from experiments.stages.fit import Job, fit
from experiments.stages.saver import resumable
from experiments.stages.stage import Stage
from experiments.stages.trackers.registry import Told
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.methods.base import Params
from ofmu_jax.parallel.distributed import on_main
from ofmu_jax.training import checkpoint


class Start(NamedTuple):
    """What every method of a seed starts from."""

    seed: int
    target: Model
    reference: Model | None
    goal: float | None  # NLL at which the forget set counts as forgotten


class Pipeline:
    """The stages of a run; a stage that is done is read, not redone."""

    def __init__(self, domain: Domain, progress: Stages, variant: str = ""):
        self.domain, self.progress, self.variant = domain, progress, variant
        self.run: Run = domain.run

    def based(self) -> "Pipeline":
        """The pipeline whose models all start from a base, if the run trains one."""
        base = self.trained(BASE, 0)
        return self if base is None else self.of(self.domain.variant(self.run, base))

    def of(self, domain: Domain, variant: str = "") -> "Pipeline":
        """A pipeline of a variant of the domain, which progress names so."""
        return Pipeline(domain, self.progress, variant)

    def _reached(self, stage: Stage, kind: str) -> Stage:
        self.progress.reach(stage.folder, kind)
        return stage

    def _title(self, name: str, seed: int) -> str:
        return f"{self.variant or name}, seed {seed}"

    def models(self) -> Iterator[Model]:
        """Every model of the run, evaluated and exported: per seed (or once, if models
        are shared) the reference, if there is one, the target, and each method's.

        They come without their parameters, which are let go as soon as no method
        starts from them or is compared with them.
        """
        start: Start | None = None
        for seed in self.run.seeds:
            if start is None or not self.run.share_models:
                start = None  # before the next are made
                start = yield from self.begun(seed)
            start = start._replace(seed=seed)
            for name in self.run.methods:
                yield self.method(name, start)

    def begun(self, seed: int) -> Generator[Model, None, Start]:
        """Yields reference and target, and returns what methods start from."""
        reference = self.trained(REFERENCE, seed)
        if reference is not None:
            reference = self.finished(reference, None)
        target = self.trained(TARGET, seed)
        assert target is not None
        target = self.finished(target, reference)
        if reference is not None:
            reference = self.attacked(reference, target, reference)
            self._with_card(reference, before=target)
            yield dataclasses.replace(reference, params=None)
        target = self.attacked(target, target, reference)
        self._with_card(target, retrained=reference)
        yield dataclasses.replace(target, params=None)
        return self.start(seed, target, reference)

    def method(self, name: str, start: Start) -> Model:
        """What a method gives, finished, with its deletion record.

        Where it breaks, its model says so and the run goes on. Where all of it is done
        already, its parameters are not read again.
        """
        folder = self.folder(name, start.seed)
        model = Model("unlearned", name, start.seed, None, "", {}, folder)
        try:
            model = self._made(name, start)
            if not self._is_finished(model, start.reference):
                model = self._with_params(model)
            model = self.finished(model, start.reference)
            model = self.attacked(model, start.target, start.reference)
        except broken.causes() as error:
            model = broken.without_result(model, error)
        if model.export is not None:
            export = lambda of: of.folder / self.run.export_folder
            told = attacking.told(self.attacks, model, start.target, start.reference)
            made = recording.unlearned(self.domain, model, start, export, told)
            self._with_card(model, made, before=start.target, retrained=start.reference)
            evidence = self.domain.evidence()
            on_main(lambda: _nothing(leave_record(self.run, evidence, made)))
        return dataclasses.replace(model, params=None)

    def start(self, seed: int, target: Model, reference: Model | None) -> Start:
        """What the methods of a seed start from, and what they aim at."""
        compared = None if reference is None else reference.params
        goal = self.domain.forget_target(target.params, compared)
        return Start(seed, target, reference, goal)

    def folder(self, name: str, seed: int) -> pathlib.Path:
        """Where the stages of a model lie."""
        return self.run.output_dir / name / f"seed{seed}"

    def trained(self, role: str, seed: int) -> Model | None:
        """A base, a target or a reference: given, or trained; None: there is none."""
        folder = self.folder(role, seed)
        if (given := self.domain.given(role)) is not None:
            identity = fingerprint(self.domain.identity, role, "given")
            record = {"source": given.source}
            return Model(role, role, seed, given.params, identity, record, folder)
        job = self.domain.training(role, seed)
        if job is None:
            return None
        identity = fingerprint(self.domain.identity, role, job.made_from, seed)
        model = self._with_params(self._model(role, role, seed, identity, job))
        if not model.record["finite"]:
            raise FloatingPointError(
                f"training the {role} model broke: {model.record['stopped']}; "
                f"{job.remedy}."
            )
        return model

    def unlearned(self, name: str, start: Start) -> Model:
        """A method's result, within the budget that every method gets.

        Raises:
          ValueError: one update costs more than the budget.
        """
        return self._with_params(self._made(name, start))

    def _made(self, name: str, start: Start) -> Model:
        """What `unlearned` gives, without its parameters, which lie in its stage.

        Raises:
          ValueError: one update costs more than the budget.
        """
        target, seed = start.target, start.seed
        job = self.domain.unlearning(name, seed, target.params, start.goal)
        identity = fingerprint(target.identity, name, job.made_from, start.goal, seed)
        model = self._model("unlearned", name, seed, identity, job)
        record = {**model.record, "forget_target": start.goal}
        return dataclasses.replace(model, record=record)

    def _model(self, role: str, name: str, seed: int, identity: str, job: Job) -> Model:
        """Runs a job in its stage, or finds what it left there."""
        folder = self.folder(name, seed)
        kind = "unlearn" if role == "unlearned" else "train"
        stage = self._reached(Stage(folder / "training", identity), kind)
        if not stage.done:
            of = self.run, role, name, seed, stage
            title = self._title(name, seed)
            with (
                tracking.training(*of) as told,
                self.fitted(stage, job, title, seed, told) as fitted,
            ):
                made, found = fitted
                checkpoint.save(stage.folder / "checkpoint", made)
                stage.finish(found | {"code": provenance.code()})
        stage.tidy()
        record, network = stage.result, job.network
        return Model(role, name, seed, None, identity, record, folder, network)

    def _with_params(self, model: Model) -> Model:
        """The model with what its training left.

        From here on it is what its export holds: that is scored and gone on from.
        """
        outline = self.domain.outline(model.network)
        params = checkpoint.restore(model.folder / "training" / "checkpoint", outline)
        return dataclasses.replace(model, params=self.domain.written(params))

    @contextlib.contextmanager
    def fitted(
        self, stage: Stage, job: Job, label: str, seed: int, told: Told
    ) -> Iterator[tuple[Params, dict[str, Any]]]:
        """What a job gives, and its record; the body must finish the stage."""
        with resumable(stage, self.run.checkpoint_every) as saver:
            yield fit(
                job,
                label=label,
                progress=self.progress,
                saver=saver,
                mesh=self.domain.mesh,
                seed=seed,
                told=told,
            )

    def finished(self, model: Model, reference: Model | None) -> Model:
        """The model with its evaluation and its export."""
        model = self.evaluated(model, reference)
        return self.exported(model) if self.run.export else model

    def _is_finished(self, model: Model, reference: Model | None) -> bool:
        """Whether `finished` will find everything done."""
        stages = [self._evaluation(model, reference)]
        stages += [self._export(model)] if self.run.export else []
        return all(stage.done for stage in stages)

    def _evaluation(self, model: Model, reference: Model | None) -> Stage:
        """Of a model, against that of the reference."""
        against = None
        if reference is not None and reference.evaluation is not None:
            against = reference.evaluation.to_json()
        choices = self.domain.evaluated_by()
        identity = fingerprint(model.identity, choices, against)
        return Stage(model.folder / "evaluation", identity)

    def _export(self, model: Model) -> Stage:
        return Stage(model.folder / self.run.export_folder, model.identity)

    def evaluated(self, model: Model, reference: Model | None) -> Model:
        """The model with its evaluation, against that of the reference."""
        stage = self._reached(self._evaluation(model, reference), "evaluate")
        path = stage.folder / "evaluation.json"
        if not stage.done:
            title = f"evaluate {self._title(model.name, model.seed)}"
            with _busy(self.progress, title) as tell:
                folder = stage.begin()
                result = self.domain.evaluate(folder, model, reference, tell)
                on_main(lambda: _nothing(result.save(path, include_generations=True)))
                stage.finish({})
            tracking.evaluated(self.run, model, result.metrics)
        return dataclasses.replace(model, evaluation=Evaluation.load(path))

    def exported(self, model: Model) -> Model:
        """The model with its folder for others to load."""
        stage = self._reached(self._export(model), "export")
        if not stage.done:
            with _busy(self.progress, f"export {model.title}"):
                folder = stage.begin()
                on_main(folder.rmdir)  # the export makes it, whole or not at all
                self.domain.export(folder, model)
                stage.finish({})
        export = stage.folder.relative_to(self.run.output_dir).as_posix()
        return dataclasses.replace(model, export=export)

    def _with_card(
        self, model: Model, made: Unlearned | None = None, **others: Model | None
    ) -> None:
        """Leaves the card in a model's export, if it has one."""
        if model.export is None:
            return
        evidence = self.domain.evidence()
        leave = lambda: leave_card(self.run, evidence, model, others, made)
        on_main(lambda: _nothing(leave()))

    def attacked(self, model: Model, target: Model, reference: Model | None) -> Model:
        """The model with what the attacks of the run find."""
        if (attacks := self.attacks) is None:
            return model
        of = target, reference, attacks
        if model.params is None and not attacking.all_done(model, *of):
            model = self._with_params(model)  # all else of it was done before
        return attacking.attacked(model, *of, self._reached, self.progress)

    @functools.cached_property
    def attacks(self) -> Attacks | None:
        return self.domain.attacks()


def _nothing(_: Any) -> None:
    """What `on_main` may tell the other processes of a value that is no JSON."""


@contextlib.contextmanager
def _busy(progress: Stages, label: str) -> Iterator[Tell]:
    """A line of progress, with a count where it is told (how many are done, of all)."""
    bar = progress.add_task(label, total=None, note="")
    yield lambda done, total: progress.update(bar, completed=done, total=total)
