"""Language models as a domain: rows, a tokenizer, given or trained models."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

from jax.sharding import Mesh

from experiments.config.language import LanguageRun, Tofu
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
from experiments.domains.language import adapters, handed_back, job, refuse
from experiments.domains.language.attacks import attacks_of
from experiments.domains.language.data import (
    announced,
    divided,
    divided_note,
    evaluated_sets,
    validation_request,
)
from experiments.domains.language.evaluated import asked, evaluated
from experiments.domains.language.evidence import LanguageEvidence, files_of, told
from experiments.domains.language.given import FIELDS, make_task
from experiments.domains.language.goals import GOALS, distance
from experiments.domains.language.rows import rows_fingerprint, taught
from experiments.domains.language.task import LanguageTask, Params
from experiments.stages.files import fingerprint
from experiments.stages.fit import Job
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import UnlearningData
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.parallel import sharding
from ofmu_jax.unlearning.language import goal as targets
from ofmu_jax.version import __version__


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageDomain:
    """A language run with its rows and what was given (`experiments.domains.base`)."""

    run: LanguageRun
    data: UnlearningData
    title: str
    task: LanguageTask
    models: Mapping[str, Params]  # role -> parameters that were given
    files: Mapping[str, Any]  # option -> SHA-256 of a given model's files, once read
    base: Model | None = None  # what all are trained from
    documents: UnlearningData | None = None  # that the rows are blocks of

    @classmethod
    def of(cls, run: LanguageRun) -> Self:
        """Reads the data and the given models of a run.

        Raises:
          ValueError: options that do not go together.
          DataError: malformed or missing files.
        """
        refuse.check_options(run)
        return cls.on(run, *announced(run))

    @classmethod
    def on(cls, run: LanguageRun, data: UnlearningData, title: str = "") -> Self:
        """The domain of a run on these rows."""
        task, models = make_task(run, data)
        whole = data if data.documents else None
        return cls(
            run, divided(data, task), title, task, models, files_of(run), None, whole
        )

    @functools.cached_property
    def identity(self) -> str:
        """By content: another model may lie in the same folder tomorrow."""
        return fingerprint(
            __version__,
            [rows_fingerprint(self.data.forget), rows_fingerprint(self.data.retain)],
            self.task.config,
            self.task.prompt_format.name,
            self.task.max_length,
            self.task.interior_eot,
            self.files,
            handed_back.SCORED if self.files else None,
            None if self.base is None else self.base.identity,
            *self.task.conventions,
            *self.run.rounding,
            *([rows_fingerprint(self.data.adjacent)] if self.data.adjacent else ()),
        )

    @functools.cached_property
    def forget(self) -> list[Encoded]:
        return self.task.encode(self.data.forget)

    @functools.cached_property
    def retain(self) -> list[Encoded]:
        return self.task.encode(self.data.retain)

    @functools.cached_property
    def look(self) -> targets.Look:
        rows, near = self.run.budget.check_rows, self.task.encode(self.data.adjacent)
        return targets.Look(self.task, self.forget, self.retain, rows, near)

    @property
    def mesh(self) -> Mesh | None:
        return self.task.mesh

    @property
    def about(self) -> About:
        sets = {
            f.name: getattr(self.data, f.name) for f in dataclasses.fields(self.data)
        }
        counts = {
            k: len(rows)
            for k, rows in sets.items()
            if isinstance(rows, tuple) and (rows or not k.startswith("adjacent"))
        }
        whole = self.documents or self.data
        sizes = {"name": self.data.name, "counts": counts, "files": told(whole.sources)}
        return About(self.title, sizes, GOALS)

    def refuse(self) -> Sequence[str]:
        refuse.check_work(self.task, self.run, self.data)
        given = self.run.given_models.values() if self.run.export else ()
        notes = [*self._high_target(), *self._whole_matrices()]
        notes += refuse.adjacent_notes(self.run, self.data)
        return [*notes, *self._rounding, *handed_back.limits(given)]

    def variant(self, run: LanguageRun, base: Model | None = None) -> Self:
        return dataclasses.replace(self, run=run, base=base or self.base)

    def given(self, role: str) -> Given | None:
        if role not in self.models:
            return None
        return Given(self.models[role], getattr(self.run, FIELDS[role]))

    def training(self, role: str, seed: int) -> Job | None:
        run, data, config = self.run, self.data, self.run.train
        rows = {TARGET: data.full, REFERENCE: data.retain, BASE: data.pretraining}[role]
        if role == BASE and isinstance(run, Tofu):
            config = dataclasses.replace(config, epochs=run.pretrain_epochs)
        if not rows or (role == REFERENCE and not run.has_reference):
            return None  # nothing to train one from that would compare
        start = lambda: self.task.init_params(seed)
        if self.base is not None:
            start = lambda: self.base.params
        accum, dtype = run.grad_accum, run.moments_dtype
        return job.training(self.task, rows, config, seed, accum, start, dtype)

    def forget_target(self, target: Params, reference: Params | None) -> float | None:
        choice = self.run.budget.forget_target
        return targets.forget_target(choice, self.data, self.task, target, reference)

    def unlearning(
        self, name: str, seed: int, target: Params, goal: float | None
    ) -> Job:
        of, rows = (self.run, self.task), (self.data, self.forget, self.retain)
        return job.unlearning(name, *of, *rows, target, seed, goal, self.look)

    def outline(self, network: Any = None) -> Params:
        return adapters.outline(self.task, network) if network else self.task.outline()

    def evaluated_by(self) -> tuple[Any, ...]:
        rows = {
            name: rows_fingerprint(getattr(self.data, name))
            for name in evaluated_sets(self.data)
        }
        exam = () if self.data.exam is None else (dataclasses.asdict(self.data.exam),)
        return self.run.evaluation, rows, *exam

    def evaluate(
        self, folder: pathlib.Path, model: Model, reference: Model | None, tell: Tell
    ) -> Evaluation:
        against = None if reference is None else reference.evaluation
        return evaluated(self.task, model.params, self.data, against, tell)

    def attacks(self) -> Attacks | None:
        return attacks_of(self.run.attacks, self.run.attack, self.task, self.data)

    def written(self, params: Params) -> Params:
        if (part := adapters.unmerged(self.run)) is not None:
            return part.merge(params, self.models[TARGET])
        return handed_back.written(self.task, params)

    def export(self, folder: pathlib.Path, model: Model) -> None:
        self._check_unchanged()
        handed_back.export(self.task, folder, model)
        if self.run.lora.export_adapter and model.role == "unlearned":
            adapters.export(self.run, self.task, folder, model)

    def evidence(self) -> LanguageEvidence:
        self._check_unchanged()
        rows = self.documents or self.data
        return LanguageEvidence(self.run, rows, self.task.source, self._rounding)

    @functools.cached_property
    def _rounding(self) -> Sequence[str]:
        return adapters.notes(self.run) or handed_back.rounding(self.task)

    def _check_unchanged(self) -> None:
        """Raises ValueError if a given model is not the one that was read."""
        now = files_of(self.run)
        for option, name in self.run.given_models.items():
            if now[option] != self.files[option]:
                raise ValueError(
                    f"{name} has changed since this run read it: an export would have "
                    "its files, and a deletion record would name another model. Put "
                    "the old one back, or run again."
                )

    def costs(self, model: Model) -> Mapping[str, float]:
        return {}

    def validation(self, folder: pathlib.Path) -> Self:
        """As `data.validation_request`, by models that are trained here.

        Raises:
          ValueError: if no reference can be trained for it.
        """
        run = self.run
        if (run.model or run.retain_model) and not run.base_model:
            raise ValueError(
                "--tune needs models that are trained here: leave out --model and "
                "--retain-model, or give --base-model to train references from."
            )
        return dataclasses.replace(
            self,
            run=dataclasses.replace(run, output_dir=folder),
            data=validation_request(self.data),
            models={},
        )

    def yardstick(self, reference: Model) -> Mapping[str, float]:
        return self.look(reference.params)

    def scored(self, model: Model, yardstick: Mapping[str, float]) -> Scored:
        """By its last look at the training rows: |p_forget − p*_forget| +
        max(0, p*_retain − p_retain, p*_adjacent − p_adjacent), p the mean probability
        of an answer and * the retrained model's; 0 … 2. Adjacent rows count where the
        request has some."""
        checks, update = model.record["checks"], model.record["update"]
        check = [found for found in checks if found["update"] == update][-1]
        return Scored(distance(check, yardstick), check, yardstick)

    def notes(self, models: Sequence[Model]) -> Sequence[str]:
        run = self.run
        carries = lambda name: run.specs[name].carries(run.config_of(name))
        names = [name for name in run.methods if carries(name).alternative]
        found = [*(taught(run, name) for name in names), *self._rounding]
        if self.documents is not None:
            found.append(divided_note(self.documents, self.data, self.task))
        return found

    def answers(self, models: Sequence[Model]) -> Sequence[Mapping[str, Any]]:
        return asked(self.data, self.run, models)

    def _high_target(self) -> Sequence[str]:
        """Where the forget target has nothing better to come from."""
        choice = targets.resolved(self.run.budget.forget_target, self.run.has_reference)
        if (
            choice != "chance"
            or targets.chance_pairs(self.data)[1] != targets.UNRELATED
        ):
            return []
        return [
            "with neither a retrained model nor hold-out rows nor "
            "perturbed answers, forget rows count as forgotten where their loss is "
            "that of answers to other questions: a high level, which may cost utility. "
            "Better: --retain-model, --holdout-file, or --budget.forget-target NUMBER "
            "(nats per token)."
        ]

    def _whole_matrices(self) -> Sequence[str]:
        """Matrices that the mesh cannot divide: every device holds them whole."""
        mesh = self.mesh
        if mesh is None:
            return []
        names = sharding.replicated(self.task.outline(), mesh)
        if not names:
            return []
        return [
            f"--mesh {dict(mesh.shape)} divides no dimension of {', '.join(names)}: "
            "every device holds them whole. Choose sizes that divide them."
        ]
