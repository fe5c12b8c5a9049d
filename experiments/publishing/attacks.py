"""Distils what attacks found into a published file, and shows it as tables.

``python -m experiments.publish --attacks RUN_DIR FILE`` calls it. The file has what
each attack recovered from each method, with its yardsticks and its interval, the
budgets, and the command and the machine of every run that it was taken from. Methods
that the file has of another run stay in it, so a comparison can grow.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.report import glossary, published, tables, write
from experiments.report.summary import DASH
from ofmu_jax.attacks.recovery import RECOVERS

SCHEMA = published.ATTACKS
KEPT = ("method", "attack", "seeds", "before", "after", "at", "reference", "target")
KEPT += ("recovered", "difference", "interval", "word")
MOST_COLUMNS = 14  # attacks of one table

Row = Mapping[str, Any]


def read(run_dir: pathlib.Path) -> dict[str, Any]:
    """What the attacks of a run found.

    Raises:
      OSError: there is none.
      ValueError: it cannot be read, or nothing was attacked.
    """
    return distil(write.load_report(run_dir))


def distil(content: Row) -> dict[str, Any]:
    """What is published of the attacks of a report."""
    found = content.get("attacks")
    if not found:
        raise ValueError("the run was not attacked; run it again with --attacks all.")
    methods = [verdict["method"] for verdict in found["verdicts"]]
    return {
        "schema": SCHEMA,
        "version": published.VERSIONS[SCHEMA],
        "runs": [{"methods": methods, **published.source(content)}],
        "budgets": found["attacks"],
        "rows": [{name: row[name] for name in KEPT} for row in found["rows"]],
    }


def joined(old: Row, new: Row) -> dict[str, Any]:
    """A published file with the methods of a run added, or put in place of its own.

    Raises:
      ValueError: the attacks had other budgets, so that their numbers do not compare.
    """
    both = old["budgets"].keys() & new["budgets"].keys()
    if other := sorted(k for k in both if old["budgets"][k] != new["budgets"][k]):
        raise ValueError(
            f"the file has other budgets of {', '.join(other)}: write another file."
        )
    again = {method for run in new["runs"] for method in run["methods"]}
    rows = [row for row in old["rows"] if row["method"] not in again]
    return {
        **old,
        "runs": published.runs_with(old, new, "methods"),
        "budgets": {**old["budgets"], **new["budgets"]},
        "rows": [*rows, *new["rows"]],
    }


def outcomes(result: Row) -> dict[str, Row]:
    """Method and attack -> what repeats."""
    return {f"{row['method']}, {row['attack']}": row for row in result["rows"]}


# --- on a page --------------------------------------------------------------------


def section(result: Row) -> str:
    """What each attack recovers from each method, in tables that are not too wide.

    The method from which fewest attacks surely recover is first; bold is what surely
    does. A share, or with a sign a difference of AUCs.
    """
    rows = {(row["method"], row["attack"]): row for row in result["rows"]}
    names = list(result["budgets"])
    cells = {
        method: [_cell(rows.get((method, name))) for name in names]
        for run in result["runs"]
        for method in run["methods"]
    }
    count = {m: sum(text.startswith("**") for text in row) for m, row in cells.items()}
    order = sorted(cells, key=count.__getitem__)
    labels = [glossary.method_label({"role": "unlearned", "method": m}) for m in order]
    found = [["surely", *(str(count[method]) for method in order)]]
    found += [
        [f"`{name}`", *(cells[method][k] for method in order)]
        for k, name in enumerate(names)
    ]
    size = -(-len(found) // -(-len(found) // MOST_COLUMNS))
    parts = [found[k : k + size] for k in range(0, len(found), size)]
    as_rows = lambda columns: [list(row) for row in zip(*columns, strict=True)]
    return "\n".join(
        tables.markdown(as_rows([["Method", *labels], *columns])) for columns in parts
    )


def _cell(row: Row | None) -> str:
    if row is None:
        return DASH
    share, difference = row["recovered"], row["difference"]
    if share is None and difference is None:
        return DASH
    text = f"{difference:+.2f}" if share is None else f"{share:z.0%}"
    return f"**{text}**" if row["word"] == RECOVERS else text
