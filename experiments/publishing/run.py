"""Distils the report of a run into a published file, and shows it as tables."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import glossary, published, tables, write
from experiments.report.comparison import agreement_text, comparison_table
from experiments.report.gaps import AGGREGATE, FORGET_GAP
from experiments.report.summary import DASH
from experiments.shell import provenance

SCHEMA = published.RUN
COUNTS = ("gradient_evaluations", "outer_steps", "forget_target")  # the same each time
COSTS = ("seconds", "compile_seconds", "peak_bytes")  # of the machine
TRIAL = ("trial", "config", "score", "chosen", "gradient_evaluations", "seconds")
TRIAL += ("compile_seconds",)
ALWAYS = (AGGREGATE, FORGET_GAP, "indistinguishable_from_reference")
WALL_TIME = ("run_time_minutes",)  # a metric that no run repeats

Row = Mapping[str, Any]


def read(run_dir: pathlib.Path) -> dict[str, Any]:
    """The distilled report of a run.

    Raises:
      OSError: there is none.
      ValueError: it cannot be read.
    """
    return distil(write.load_report(run_dir), provenance.commit())


def distil(content: Row, commit: str | None = None) -> dict[str, Any]:
    """What is published of a report: numbers and how they came about.

    Args:
      content: as `experiments.report.write.load_report` gives it.
      commit: of the code, where it is known.
    """
    complete = write.complete(content)
    result = {
        **published.header(SCHEMA, complete, commit),
        "models": [distilled(model) for model in complete["models"]],
        "summary": [_summary(row) for row in complete["summary"]],
        "comparison": complete["comparison"],
        "tuning": {
            method: [{k: trial[k] for k in TRIAL if k in trial} for trial in trials]
            for method, trials in (complete.get("tuning") or {}).items()
        },
    }
    return published.cut(result)


def distilled(model: Row) -> dict[str, Any]:
    """What is published of a model: who it is, its metrics, its costs."""
    names = (*COUNTS, *COSTS, "stopped")
    facts = {k: model[k] for k in names if model.get(k) is not None}
    key = {k: model[k] for k in ("role", "method", "seed")}
    return {**key, "metrics": _kept(model["metrics"]), **facts}


def _summary(row: Row) -> dict[str, Any]:
    return {**row, "metrics": _kept(row["metrics"])}


def _kept(metrics: Row) -> dict[str, Any]:
    """The metrics of a model but for variants and derived numbers."""
    names = glossary.ordered(metrics)
    kept = [n for n in names if n in ALWAYS or not glossary.metric(n).minor]
    return {name: metrics[name] for name in kept}


def outcomes(result: Row) -> dict[str, Row]:
    """Model -> what repeats: not wall time and memory, which are of a machine."""
    return {_name(model): _repeats(model) for model in result["models"]}


def _name(model: Row) -> str:
    role = "" if model["role"] == "unlearned" else f" ({model['role']})"
    return f"{model['method']}, seed {model['seed']}{role}"


def _repeats(model: Row) -> dict[str, Any]:
    counts = {name: model[name] for name in COUNTS if name in model}
    metrics = model["metrics"]
    return counts | {name: metrics[name] for name in metrics if name not in WALL_TIME}


# --- on a page --------------------------------------------------------------------


def section(name: str, result: Row) -> str:
    """The metrics of a run, its methods compared, its tuning trials."""
    del name
    lines = [tables.markdown_table(result)]
    if rows := comparison_table(result):
        lines += [tables.markdown(rows), agreement_text(result)]
        lines.append("")
    if result["tuning"]:
        lines += ["Tuning trials, trial 0 first; the chosen one is bold:", ""]
        lines.append(tables.markdown(_trials(result["tuning"])))
    return "\n".join(lines)


def _trials(tuning: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    rows = [["Method", "scores, 0 is best"]]
    for method, trials in tuning.items():
        label = glossary.method_label({"role": "unlearned", "method": method})
        rows.append([label, ", ".join(map(_score, trials))])
    return rows


def _score(trial: Mapping[str, Any]) -> str:
    if trial["score"] is None:  # it broke
        return DASH
    return f"**{trial['score']:.3f}**" if trial["chosen"] else f"{trial['score']:.3f}"
