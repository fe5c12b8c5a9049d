"""What the models of a lineage know of every request and of what stays."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from experiments.config.language import Request
from experiments.config.sequence import Link
from experiments.domains.base import REFERENCE, TARGET
from experiments.domains.language import adapters
from experiments.domains.language.data import limited, load_data, scored_rows
from experiments.domains.language.domain import LanguageDomain
from experiments.domains.language.rows import rows_fingerprint
from experiments.domains.language.task import Params
from experiments.shell.heartbeat import Stages
from experiments.stages.files import fingerprint
from experiments.stages.hashes import file_hashes
from experiments.stages.stage import CARD, RECORD, Stage
from ofmu_jax.data.language.records import (
    QA,
    UnlearningData,
    check_one_kind,
    check_overlap,
)
from ofmu_jax.evals.language.metrics import exact_memorization, extraction_strength
from ofmu_jax.evals.language.scores import TokenScores

KEPT = "kept"  # what no request was to forget
KIND = "score"  # of a stage, for progress
METRICS = {
    "probability": lambda scores: scores.probability,
    "exact_memorization": exact_memorization,
    "extraction_strength": extraction_strength,
}
START, RETRAINED = "start", "retrained"
Scores = dict[str, dict[str, float]]  # set -> metric -> mean over its rows


class Rows(NamedTuple):
    """The rows of a lineage of requests."""

    whole: UnlearningData  # all requests as one
    asked: list[Sequence[QA]]  # of each request
    retain: list[int]  # how many each request keeps


def joined(links: Sequence[Link], allow_overlap: bool) -> Rows:
    """The rows of all requests.

    Raises:
      DataError: files that cannot be read, questions beside documents, or a row that
        two requests have.
    """
    requests = [load_data(link.run)[0] for link in links]
    for i, (link, data) in enumerate(zip(links, requests, strict=True)):
        for other, earlier in zip(links[:i], requests[:i], strict=True):
            check_overlap(
                data.forget,
                earlier.forget,
                allow_overlap,
                forget_source=str(link.run.forget_file),
                retain_source=f"earlier request {other.run.forget_file}",
            )
    asked: list[Sequence[QA]] = [data.forget for data in requests]
    files = [str(link.run.forget_file) for link in links]
    check_one_kind(dict(zip(files, asked, strict=True)))
    last = requests[-1]  # its retain rows are those that stay for good
    forget = tuple(row for rows in asked for row in rows)
    every = last.retain + forget
    whole = dataclasses.replace(last, forget=forget, forget_eval=forget, full=every)
    return Rows(whole, asked, [len(data.retain) for data in requests])


@dataclasses.dataclass(frozen=True, eq=False)
class Scorer:
    """Scores the rows of all requests under one model after another."""

    run: Request
    domain: LanguageDomain
    sets: Mapping[str, Sequence[QA]]  # of each request by its number, and what stays
    retain: Sequence[int]
    progress: Stages

    @classmethod
    def of(
        cls, run: Request, links: Sequence[Link], progress: Stages | None = None
    ) -> Self:
        """Reads the rows of all requests, and the models that were given.

        Raises:
          ValueError: as `LanguageDomain.on` and `joined`.
        """
        whole, asked, retain = joined(links, run.allow_overlap)
        domain = LanguageDomain.on(links[0].run, whole, "All requests")
        sets: dict[str, Sequence[QA]] = {
            str(link.number): scored_rows(rows, domain.task, link.run.forget_file)
            for link, rows in zip(links, asked, strict=True)
        }
        sets[KEPT] = limited(domain.data, run.evaluation.max_rows).retain_eval
        return cls(run, domain, sets, retain, progress or Stages(disable=True))

    def given(self) -> dict[str, Scores]:
        """Of the model that all start from, and of the retrained one if there is one.

        Returns:
          Under `START` and `RETRAINED`.
        """
        run, models = self.run, self.domain.models
        found = {START: self._staged(START, run.model, lambda: models[TARGET])}
        if run.retain_model is not None:
            params = lambda: models[REFERENCE]
            found[RETRAINED] = self._staged(RETRAINED, run.retain_model, params)
        return found

    def after(self, links: Iterable[Link]) -> list[Scores]:
        """Of the model that each request left."""

        def scores(link: Link) -> Scores:
            export = str(link.export)
            load = lambda: adapters.load(self.run, export, self.domain.mesh)[1]
            place = link.run.output_dir.relative_to(self.run.output_dir)
            return self._staged(place.as_posix(), export, load)

        return [scores(link) for link in links]

    def _staged(self, name: str, model: str | None, load: Any) -> Scores:
        """The scores of a model, read where they are those of its weights and rows."""
        assert model is not None
        task, limits = self.domain.task, self.run.evaluation.max_rows
        identity = fingerprint(
            file_hashes(pathlib.Path(model), lambda name: name not in (RECORD, CARD))
            if pathlib.Path(model).is_dir()
            else model,
            {name: rows_fingerprint(rows) for name, rows in self.sets.items()},
            [task.prompt_format.name, task.max_length, task.interior_eot, limits],
            self.run.dtype,
        )
        stage = Stage(self.run.output_dir / "scores" / name, identity)
        self.progress.reach(stage.folder, KIND)
        if not stage.done:
            stage.begin()
            self.progress.add_task(f"score {name}", total=None, note="")
            stage.finish(self._scores(load()))
        return stage.result

    def _scores(self, params: Params) -> Scores:
        pairs = [
            (row.question, row.answer) for rows in self.sets.values() for row in rows
        ]
        scored = iter(self.domain.task.score(params, pairs))
        return {
            name: _means([next(scored) for _ in rows])
            for name, rows in self.sets.items()
        }


def _means(rows: Sequence[TokenScores]) -> dict[str, float]:
    return {
        name: float(np.mean([metric(row) for row in rows]))
        for name, metric in METRICS.items()
    }
