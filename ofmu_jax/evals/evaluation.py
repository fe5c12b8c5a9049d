"""What an evaluation leaves behind, and its JSON form."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from ofmu_jax import _disk
from ofmu_jax.evals import intervals
from ofmu_jax.evals.intervals import Interval
from ofmu_jax.evals.language import metrics, privacy
from ofmu_jax.evals.language.metrics import TruthRatioVariant
from ofmu_jax.evals.language.scores import EvaluationError

SCHEMA = "ofmu_jax.evaluation"
VERSION = 1


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """How an evaluation is computed; stored with it."""

    truth_ratio: TruthRatioVariant = "geometric"  # "prob_mean" is always reported too
    min_k: float = privacy.MIN_K  # share of tokens in min-k and min-k++
    confidence: float = 0.95  # coverage of the intervals
    num_resamples: int = 2000  # of the bootstrap
    seed: int = 0  # of the bootstrap
    equivalence_margin: float = 0.05  # on scales from 0 to 1
    equivalence_alpha: float = 0.05  # level of each one-sided test

    def __post_init__(self) -> None:
        allowed = [v for v in metrics.TRUTH_RATIO_VARIANTS if v != "prob_mean"]
        if self.truth_ratio not in allowed:
            raise ValueError(
                f"truth_ratio must be one of {allowed}, got {self.truth_ratio!r}"
            )
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must be in (0, 1), got {self.confidence}")
        if self.num_resamples < 1:
            raise ValueError(f"num_resamples must be ≥ 1, got {self.num_resamples}")


@dataclasses.dataclass
class Evaluation:
    """All metrics of one model.

    Attributes:
      metrics: name -> value, under the names of open-unlearning where it has one.
      intervals: name -> (low, high), a subset of the names of `metrics`.
      examples: name -> per-example values in the order of the rows. Truth ratios are
        raw here, as the KS test needs them; `metrics` holds their aggregate.
      missing: name of a metric that could not be computed -> the reason.
      notes: what else a reader of the numbers should know.
      fingerprints: set -> hash of its questions and answers, to refuse a comparison
        of different rows.
      options: how it was computed.
      generations: set -> generated answers; left out of the JSON unless asked for.
    """

    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    intervals: dict[str, Interval] = dataclasses.field(default_factory=dict)
    examples: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    fingerprints: dict[str, str] = dataclasses.field(default_factory=dict)
    options: EvalOptions = EvalOptions()
    generations: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def add_mean(self, name: str, values, *, raw=None) -> None:
        """Reports the mean of per-example values (N,) with its bootstrap interval.

        ``raw`` are per-example values to keep instead of them.
        """
        values = np.asarray(values, np.float64)
        self.metrics[name] = float(values.mean())
        self.examples[name] = np.asarray(values if raw is None else raw).tolist()
        self.add_interval(name, intervals.bootstrap_mean(values, **self.bootstrap))

    def add_interval(self, name: str, interval: Interval | None) -> None:
        """Keeps an interval, unless one example was too few for any."""
        if interval is not None:
            self.intervals[name] = interval

    def add_missing(self, names: Iterable[str], reason: str) -> None:
        """Names metrics that could not be computed, so that none is silently 0."""
        self.missing.update(dict.fromkeys(names, reason))

    @property
    def bootstrap(self) -> dict[str, Any]:
        """The options that every bootstrap shares."""
        names = ("confidence", "num_resamples", "seed")
        return {name: getattr(self.options, name) for name in names}

    def to_json(self, *, include_generations: bool = False) -> str:
        """A JSON text without questions, and without answers unless asked for."""
        content = {"schema": SCHEMA, "version": VERSION, **dataclasses.asdict(self)}
        if not include_generations:
            del content["generations"]
        return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Evaluation":
        """Reads what `to_json` wrote.

        Raises:
          EvaluationError: not such a JSON text, or of an unknown version.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise EvaluationError(f"not an evaluation: invalid JSON, {error}") from None
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise EvaluationError(
                f"not an evaluation: expected a JSON object with schema {SCHEMA!r}; "
                "give a file that Evaluation.to_json wrote"
            )
        if content.get("version") != VERSION:
            raise EvaluationError(
                f"evaluation of version {content.get('version')!r}, this code reads "
                f"version {VERSION}: evaluate the model again"
            )
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = set(content) - names - {"schema", "version"}
        absent = names - set(content) - {"generations"}
        if unknown or absent:
            raise EvaluationError(
                f"damaged evaluation: unknown fields {sorted(unknown)}, missing fields "
                f"{sorted(absent)}; evaluate the model again"
            )
        fields = {name: content[name] for name in names if name in content}
        fields["intervals"] = {
            name: Interval(*ends) for name, ends in content["intervals"].items()
        }
        try:
            fields["options"] = EvalOptions(**content["options"])
        except TypeError as error:
            raise EvaluationError(f"damaged evaluation: options, {error}") from None
        return cls(**fields)

    def save(self, path: str | os.PathLike, **options) -> None:
        """Writes `to_json` to a file; where that fails, what was there before stays.

        Raises:
          OSError: if there is no room.
        """
        path, text = pathlib.Path(path), self.to_json(**options)
        with _disk.replacing("the evaluation", path) as partial:
            partial.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Evaluation":
        """Reads a file that `save` wrote."""
        return cls.from_json(pathlib.Path(path).read_text(encoding="utf-8"))


def fingerprint(pairs: Iterable[tuple[str, str]]) -> str:
    """Hash of questions and answers: equal rows in equal order, equal hash."""
    text = json.dumps([list(pair) for pair in pairs], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
