"""From the models of a run to the report's content: rows, trajectories, claims."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.domains.attack_report import attack_report
from experiments.domains.base import Domain, Goal, Model
from experiments.domains.verdict import facts
from experiments.report.remarks import remarks
from experiments.shell import provenance
from experiments.stages.files import to_json


def report_content(
    domain: Domain,
    models: Sequence[Model],
    trials: Mapping[str, Sequence[dict[str, Any]]],
    module: str = "experiments.run",
) -> dict[str, Any]:
    """The dict that `report.write.write_report` takes (its schema says what).

    Args:
      module: of the command, as in ``python -m``.
    """
    about, attacks = domain.about, domain.attacks()
    return {
        "schema_version": 1,
        "title": about.title,
        **provenance.made(module),
        "recipe": to_json(domain.run),
        "data": dict(about.sizes),
        "models": [_row(domain, model) for model in models],
        "notes": [*domain.notes(models), *remarks(about.chance, models)],
        "claims": list(claims(about.goals, models)),
        "tuning": dict(trials),
        "answers": _answers(domain, models),
        "attacks": attacks and attack_report(attacks, attacks.together(models)),
    }


def _answers(domain: Domain, models: Sequence[Model]) -> dict[str, Any] | None:
    """What the models of the first seed say of a few rows; None if nothing is shown."""
    seed = domain.run.seeds[0]
    own = [m for m in models if m.role != "unlearned" or m.seed == seed]
    names = {m.name: m for m in reversed(own)}  # the first of each, as references are
    rows = list(domain.answers(list(reversed(names.values()))))
    return {"seed": seed, "rows": rows} if rows else None


def _row(domain: Domain, model: Model) -> dict[str, Any]:
    evaluation, record = model.evaluation, model.record
    known = facts(model, domain.about.chance)
    assert evaluation is not None
    return {
        "role": model.role,
        "method": model.name,
        "seed": model.seed,
        "metrics": {**evaluation.metrics, **domain.costs(model)},
        "intervals": {name: list(ends) for name, ends in evaluation.intervals.items()},
        "missing": [f"{k}: {reason}" for k, reason in evaluation.missing.items()],
        "notes": evaluation.notes,
        "seconds": record.get("seconds"),
        "compile_seconds": record.get("compile_seconds"),
        "gradient_evaluations": record.get("gradient_evaluations"),
        "peak_bytes": record.get("peak_bytes"),
        "outer_steps": record.get("updates"),
        "stopped": record.get("stopped"),
        "finite": record.get("finite"),
        "forget_target": record.get("forget_target"),
        "forget_target_met": known.met,
        "forget_target_met_before": known.met_before,
        "chance": known.chance,
        "equivalence_margin": evaluation.options.equivalence_margin,
        "export": model.export,
        "trajectory": trajectory(record),
    }


def trajectory(record: Mapping[str, Any], most: int = 400) -> list[dict[str, Any]]:
    """Metrics per update and the checks between them, at most ``most`` updates."""
    cost = record.get("gradient_evaluations_per_update", 1.0)
    setup = record.get("setup_gradient_evaluations", 0.0)
    metrics = record.get("metrics", [])
    stride = max(1, -(-len(metrics) // most))
    rows: dict[int, dict[str, Any]] = {}
    for row in metrics[::stride]:
        rows.setdefault(int(row["update"]), {}).update(row)
    for check in record.get("checks", []):
        renamed = {f"eval_{k}": v for k, v in check.items() if k != "update"}
        rows.setdefault(int(check["update"]), {}).update(renamed)
    return [
        {
            "step": step,
            "gradient_evaluations": step * cost + (setup if step else 0),
            **{k: v for k, v in row.items() if k != "update"},
        }
        for step, row in sorted(rows.items())
    ]


def claims(goals: Sequence[Goal], models: Sequence[Model]) -> Iterator[dict[str, Any]]:
    """Whether each method reached the goals of its domain, as means over the seeds."""
    for name in dict.fromkeys(m.name for m in models if m.role == "unlearned"):
        for goal in goals:
            for metric in goal.metrics:
                ours = _values(models, name, metric)
                theirs = _values(models, goal.against, metric)
                if ours and theirs:
                    yield _claim(goal, name, metric, np.mean(ours), np.mean(theirs))
                    break


def _claim(goal: Goal, name: str, metric: str, ours, theirs) -> dict[str, Any]:
    share = ours / theirs if theirs else float("nan")
    values = {"metric": metric, "ours": ours, "theirs": theirs, "share": share}
    return {
        "method": name,
        "text": goal.text.format(name=name),
        "holds": bool(goal.holds(float(ours), float(theirs))),
        "evidence": goal.evidence.format(**values),
    }


def _values(models: Sequence[Model], name: str, metric: str) -> list[float]:
    found = [m.evaluation.metrics for m in models if m.name == name and m.evaluation]
    return [metrics[metric] for metrics in found if metric in metrics]
