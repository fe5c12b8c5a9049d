"""Distils ``ablations.json`` into a published file, and shows it: tables, figures.

``python -m experiments.publish --ablations RUN_DIR FILE`` calls it. The file has every
variant with its statistics, every run's outcome, the claims with the numbers that
decide and what their figures are drawn from; no texts of the data.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from experiments.ablation import report
from experiments.report import figures as plots
from experiments.report import published, summary, tables
from experiments.shell import provenance

SCHEMA = published.ABLATIONS
KEPT = ("role", "method", "seed", "metrics", "gradient_evaluations", "updates")
KEPT += ("seconds",)
STEP = ("step", "gradient_evaluations", "cosine")  # of the trajectory of the group beta

Row = Mapping[str, Any]


def read(run_dir: pathlib.Path) -> dict[str, Any]:
    """The distilled ablations of a folder.

    Raises:
      OSError: there are none.
    """
    text = (run_dir / "ablations.json").read_text(encoding="utf-8")
    return distil(json.loads(text), provenance.commit())


def distil(content: Row, commit: str | None = None) -> dict[str, Any]:
    """What is published of ``ablations.json``."""
    drawn = {v["key"] for v in content["variants"] if v["group"] == "beta"}
    names = ("options", "variants", "not_run", "weighting", "difficulty", "claims")
    return published.cut(
        {
            **published.header(SCHEMA, content, commit),
            **{name: content[name] for name in names},
            "before": {"statistics": content["before"]["statistics"]},
            "runs": [_run(row, row["method"] in drawn) for row in content["runs"]],
        }
    )


def _run(row: Row, drawn: bool) -> dict[str, Any]:
    steps = row["trajectory"] if drawn else []
    small = [{k: step[k] for k in STEP if k in step} for step in steps]
    return {name: row[name] for name in KEPT} | {"trajectory": small}


def outcomes(result: Row) -> dict[str, Row]:
    """Run, or group of difficulty, -> what repeats."""
    runs = {f"{r['method']}, seed {r['seed']}": r["metrics"] for r in result["runs"]}
    groups = {
        f"{p['method']}, seed {p['seed']}, difficulty {p['group']}": {
            name: value for name, value in p.items() if name != "seconds"
        }
        for p in result["difficulty"]["points"]
    }
    return runs | groups


# --- on a page --------------------------------------------------------------------


def section(name: str, result: Row) -> str:
    """Tables of the variants and of the claims, with their figures."""
    seeds = ", ".join(map(str, result["recipe"]["seeds"]))
    lines = [f"On the training rows alone, seeds {seeds}; the run's own is bold.", ""]
    for group in report.groups(result):
        lines += [f"### {group.replace('_', ' ')}", "", _variants(result, group)]
    drawn = {file: caption for file, caption, _ in figures(name, result)}
    for claim in result["claims"]:
        lines += [f"### ({claim['id']}) {claim['text']}: {claim['verdict']}", ""]
        lines += [claim["rule"], ""]
        rows = [["", "mean [95 % interval]", "verdict"]]
        for part in claim["parts"]:
            text = f"**{part['text']}**" if part["decides"] else part["text"]
            rows.append([text, report.numbers(part), part["verdict"]])
        if claim["parts"]:
            lines += [tables.markdown(rows)]
        if (file := _file(name, claim["id"])) in drawn:
            lines += [f"![{drawn[file]}]({file})", ""]
    return "\n".join(lines)


def _variants(result: Row, group: str) -> str:
    table = report.of_group(result, group)
    measured = summary.present({"metrics": v["statistics"]} for v in table)
    every = report.columns_of(result).items()
    columns = {k: label for k, label in every if k in measured}
    rows = [["Variant", *columns.values()]]
    for row in table:
        label = f"**{row['label']}**" if row["base"] else row["label"]
        rows.append([label, *report.cells(row, columns)])
    return tables.markdown(rows)


def figures(name: str, result: Row) -> list[tuple[str, str, Figure]]:
    """File name, caption and figure of every claim that has one."""
    found = report.claim_figures(result)
    return [
        (_file(name, claim), caption, figure)
        for claim, (figure, caption) in found.items()
        if figure is not None
    ]


def _file(name: str, claim: str) -> str:
    return f"{pathlib.PurePath(name).stem}_{claim}.svg"


def write_figures(folder: pathlib.Path, name: str, result: Row) -> Sequence[str]:
    """Writes the figures of a published file beside it; returns their names."""
    written = []
    for file, _, figure in figures(name, result):
        style = {**plots.STYLE, "svg.hashsalt": file}  # the same bytes each time
        with matplotlib.rc_context(style):
            figure.savefig(folder / file, facecolor="white", metadata={"Date": None})
        written.append(file)
    return written
