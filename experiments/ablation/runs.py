"""Runs of an ablation: every variant and every difficulty group is a stage.

Targets and references are those of ``experiments.run`` in the same folder, and so is
the run of each method as configured; variants lie under ``OUT/ablations``.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from rich.markup import escape

from experiments.ablation.grid import OFMU, SPLIT, AblationOptions, Variant
from experiments.domains.base import REFERENCE, TARGET, Domain, Model
from experiments.domains.language.domain import LanguageDomain
from experiments.domains.language.rows import rows_fingerprint
from experiments.pipeline import broken
from experiments.pipeline.pipeline import Pipeline, Start
from experiments.pipeline.planned import trainings
from experiments.report import content
from experiments.stages.files import fingerprint

# "adjacent_prob" beside them, where a request has adjacent rows.
CHECKED = ("forget_nll", "forget_prob", "retain_nll", "retain_prob")
RECORDED = ("seconds", "gradient_evaluations", "gradient_evaluations_per_update")
RECORDED += ("updates", "forget_target", "stopped", "finite")
MOST_POINTS = 100  # of a trajectory


@dataclasses.dataclass
class Measured:
    """What the runs gave; rows are as in `experiments.report`, method is the key."""

    before: list[dict[str, Any]]  # per seed, of the target
    rows: list[dict[str, Any]]  # per variant and seed
    not_run: dict[str, str]  # key -> why
    points: list[dict[str, Any]]  # per method, difficulty group and seed


def measure(
    pipeline: Pipeline, options: AblationOptions, variants: Sequence[Variant]
) -> Measured:
    """Runs what is not done yet. A variant that cannot run is noted with the reason.

    Raises:
      ValueError: if there are fewer forget rows than difficulty groups.
    """
    split = "difficulty" in options.groups
    count = options.difficulty_groups
    rows = len(cast(LanguageDomain, pipeline.domain).data.forget)
    if split and not 2 <= count <= rows:
        raise ValueError(
            f"--difficulty-groups {count} does not fit {rows} forget rows; give a "
            "number from 2 to the number of rows, or leave the group difficulty out."
        )
    unique = list({variant.key: variant for variant in variants}.values())
    measured = Measured([], [], {}, [])
    for start in starts(pipeline, options.evaluate):
        before = pipeline.domain.yardstick(start.target)
        measured.before.append({"seed": start.seed, **before})
        for variant in unique:
            row = _variant(pipeline, start, variant, options.evaluate, measured)
            if row is not None:
                measured.rows.append(row)
        if split:
            measured.points += _difficulty(pipeline, start, count, measured)
    return measured


def planned(
    domain: Domain, options: AblationOptions, variants: Sequence[Variant]
) -> Counter[str]:
    """How many stages of each kind there are, those that are done included."""
    seeds = len(domain.run.seeds)
    count = trainings(domain)
    unlearned = len({variant.key for variant in variants}) * seeds
    if options.evaluate:
        count["evaluate"] = unlearned + count["train"]
    if "difficulty" in options.groups:
        unlearned += options.difficulty_groups * len(SPLIT) * seeds
    count["unlearn"] = unlearned
    return count


def starts(pipeline: Pipeline, evaluate: bool = False) -> Iterator[Start]:
    """Per seed the target, the reference (if there is one), and the forget target."""
    run, start = pipeline.run, None
    for seed in run.seeds:
        if start is None or not run.share_models:
            reference = pipeline.trained(REFERENCE, seed)
            if reference is not None and evaluate:
                reference = pipeline.evaluated(reference, None)
            target = pipeline.trained(TARGET, seed)
            assert target is not None
            if evaluate:
                target = pipeline.evaluated(target, reference)
            start = pipeline.start(seed, target, reference)
        yield start._replace(seed=seed)


def _variant(
    pipeline: Pipeline,
    start: Start,
    variant: Variant,
    evaluate: bool,
    measured: Measured,
) -> dict[str, Any] | None:
    run = pipeline.run.with_method(variant.method, variant.config)
    if variant.key != variant.method:
        folder = pipeline.run.output_dir / "ablations" / variant.key
        run = dataclasses.replace(run, output_dir=folder)
    at = pipeline.of(pipeline.domain.variant(run), variant.key)
    try:
        model = at.unlearned(variant.method, start)
        if evaluate:
            model = at.evaluated(model, start.reference)
    except (ValueError, *broken.causes()) as error:  # such as: no update is affordable
        measured.not_run[variant.key] = broken.reason_of(error)
        say(pipeline, f"{variant.key}: not run: {broken.reason_of(error)}")
        return None
    row = run_row(variant.key, model)
    say(pipeline, line(row))
    return row


def run_row(key: str, model: Model) -> dict[str, Any]:
    """A run as a row: its returned check, its cost, its trajectory."""
    record = model.record
    # The check of the parameters that were returned.
    check = [c for c in record["checks"] if c["update"] == record["update"]][-1]
    looked = (*CHECKED, "adjacent_prob") if "adjacent_prob" in check else CHECKED
    metrics: dict[str, Any] = {name: check[name] for name in looked}
    metrics["cosine"] = mean_cosine(record)
    if (target := record["forget_target"]) is not None:
        metrics["target_met"] = float(check["forget_nll"] >= target)
    if model.evaluation is not None:
        metrics |= model.evaluation.metrics
    return {
        "role": "unlearned",
        "method": key,
        "seed": model.seed,
        "metrics": metrics,
        **{name: record[name] for name in RECORDED},
        "compile_seconds": record.get("compile_seconds"),  # older marks have none
        "returned_update": record["update"],
        "trajectory": content.trajectory(record, MOST_POINTS),
    }


def mean_cosine(record: Mapping[str, Any]) -> float | None:
    """Mean cosine of ∇L_f and ∇L_r over the updates up to the returned one.

    None where the method does not measure it, or returned the target unchanged.
    """
    rows = [row for row in record["metrics"] if row["update"] <= record["update"]]
    values = [row.get("cosine", math.nan) for row in rows]
    values = [value for value in values if math.isfinite(value)]
    return float(np.mean(values)) if values else None


def by_difficulty(nll: Sequence[float] | np.ndarray, count: int) -> list[np.ndarray]:
    """Indices of the rows in ``count`` groups of like size, the easiest first.

    A row is the harder to forget the lower its NLL (nats per token) under the model
    before unlearning, the better it is memorised that is.

    >>> [group.tolist() for group in by_difficulty([0.1, 3.0, 0.2, 2.0], 2)]
    [[1, 3], [2, 0]]
    """
    order = np.argsort(-np.asarray(nll), kind="stable")
    return np.array_split(order, count)


def _difficulty(
    pipeline: Pipeline, start: Start, count: int, measured: Measured
) -> Iterator[dict[str, Any]]:
    """Each group of forget rows as a request of its own, by each method.

    What has to stay are the retain rows of the whole request, so that what is lost
    can be compared; the other groups are neither forgotten nor kept.
    """
    domain = cast(LanguageDomain, pipeline.domain)
    scores = domain.task.score_encoded(start.target.params, domain.forget)
    nll = np.array([s.avg_loss for s in scores])
    for number, rows in enumerate(by_difficulty(nll, count)):
        forget = tuple(domain.data.forget[i] for i in rows)
        name = rows_fingerprint(forget)[:12]
        folder = pipeline.run.output_dir / "ablations" / "difficulty" / name
        run = dataclasses.replace(domain.run, output_dir=folder)
        data = dataclasses.replace(domain.data, forget=forget)
        of_rows = dataclasses.replace(domain, run=run, data=data)
        at = pipeline.of(of_rows)
        identity = fingerprint(start.target.identity, at.domain.identity)
        target = dataclasses.replace(start.target, identity=identity)
        group = at.start(start.seed, target, start.reference)
        for method in SPLIT:
            at.variant = f"{method}, group {number + 1} of {count}"
            try:
                model = at.unlearned(method, group)
            except (ValueError, *broken.causes()) as error:
                reason = broken.reason_of(error)
                measured.not_run[f"{method}, by difficulty"] = reason
                continue
            row = run_row(at.variant, model)
            say(pipeline, line(row))
            yield _point(method, number, name, float(nll[rows].mean()), len(rows), row)


def _point(
    method: str, number: int, name: str, nll: float, size: int, row: dict[str, Any]
) -> dict[str, Any]:
    metrics, start = row["metrics"], row["trajectory"][0]
    return {
        "method": method,
        "seed": row["seed"],
        "group": number,
        "rows": size,
        "identity": name,
        "nll_before": nll,
        "difficulty": -nll,
        "utility_loss": start["eval_retain_prob"] - metrics["retain_prob"],
        **{name: metrics[name] for name in CHECKED},
        "target_met": metrics.get("target_met"),
        **{k: row[k] for k in ("gradient_evaluations", "seconds", "stopped")},
    }


def line(row: dict[str, Any]) -> str:
    """A finished run in one line."""
    values = row["metrics"]
    return (
        f"{row['method']}, seed {row['seed']}: forget {values['forget_prob']:.3f}, "
        f"retain {values['retain_prob']:.3f}, {row['gradient_evaluations']:g} gradient "
        f"evaluations, {row['seconds']:.0f} s"
    )


def say(pipeline: Pipeline, text: str) -> None:
    """Prints a line above the progress bars."""
    pipeline.progress.console.print(escape(text), highlight=False)


def needed_methods(groups: Sequence[str]) -> tuple[str, ...]:
    """Methods that the chosen groups run, OFMU first."""
    weighted = ("grad_diff", "npo") if "weighting" in groups else ()
    split = SPLIT if "difficulty" in groups else ()
    return tuple(dict.fromkeys((OFMU, *weighted, *split)))
