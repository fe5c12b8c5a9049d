"""Distils runs that differ in their budget into one published file, and into a table.

``python -m experiments.publish --budgets RUN_DIR FILE`` calls it. The file has the
metrics and costs of every unlearned model by method, budget and seed, with the command
and the machine of every run. What it has of other runs stays, so a curve can grow.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.publishing import run
from experiments.report import glossary, published, tables, write
from experiments.report.gaps import AGGREGATE
from experiments.report.summary import DASH, cell, statistic

SCHEMA = published.BUDGETS
KEY = ("method", "budget", "seed")

Row = Mapping[str, Any]


def read(run_dir: pathlib.Path) -> dict[str, Any]:
    """The methods of a run, each with the budget that it had.

    Raises:
      OSError: there is none.
      ValueError: it cannot be read, its budget is in epochs, or no method was compared
        with a retrained model.
    """
    return distil(write.load_report(run_dir))


def distil(content: Row) -> dict[str, Any]:
    """What is published of the methods of a report."""
    complete = write.complete(content)
    budget = complete["recipe"].get("budget")
    if budget is None:
        raise ValueError("the budget of the run is in epochs, as that of images is.")
    gradients = budget["gradient_evaluations"]
    models = [
        {**run.distilled(model), "budget": gradients}
        for model in complete["models"]
        if model["role"] == "unlearned" and model["metrics"].get(AGGREGATE) is not None
    ]
    if not models:
        raise ValueError("no method of the run was compared with a retrained model.")
    made = [[model[name] for name in KEY] for model in models]
    data = {name: complete["data"][name] for name in ("name", "counts")}
    return {
        "schema": SCHEMA,
        "version": published.VERSIONS[SCHEMA],
        "data": data,
        "runs": [{"made": made, **published.source(complete)}],
        "models": models,
    }


def joined(old: Row, new: Row) -> dict[str, Any]:
    """A published file with the models of a run added, or put in place of its own.

    Raises:
      ValueError: the run has other rows, so that its numbers do not compare.
    """
    if old["data"] != new["data"]:
        raise ValueError(
            f"the file is of {old['data']}, the run of {new['data']}: write another "
            "file."
        )
    key = lambda model: [model[name] for name in KEY]
    again = [key(model) for model in new["models"]]
    others = [model for model in old["models"] if key(model) not in again]
    models = sorted([*others, *new["models"]], key=key)
    return {**old, "runs": published.runs_with(old, new, "made"), "models": models}


def outcomes(result: Row) -> dict[str, Row]:
    """Method, budget and seed -> what repeats."""
    return {
        ", ".join(str(model[name]) for name in KEY): model["metrics"]
        for model in result["models"]
    }


# --- on a page --------------------------------------------------------------------


def section(result: Row) -> str:
    """The mean gap of every method at every budget, with its interval over seeds.

    The method that comes nearest to the retrained model at any budget is first.
    """
    gaps: dict[str, dict[int, list[float]]] = {}
    for model in result["models"]:
        of_method = gaps.setdefault(model["method"], {})
        of_method.setdefault(model["budget"], []).append(model["metrics"][AGGREGATE])
    budgets = sorted({budget for found in gaps.values() for budget in found})
    stats = {
        method: {budget: statistic(values) for budget, values in found.items()}
        for method, found in gaps.items()
    }
    least = lambda method: min(x["mean"] for x in stats[method].values())
    rows = [["Method", *(f"{budget:,} gradients" for budget in budgets)]]
    for method in sorted(stats, key=least):
        label = glossary.method_label({"role": "unlearned", "method": method})
        found = stats[method]
        rows.append([label, *(cell(found[b]) if b in found else DASH for b in budgets)])
    return tables.markdown(rows)
