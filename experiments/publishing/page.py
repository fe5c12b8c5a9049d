"""The tables of the published results, as a page that is read in the repository.

    python -m experiments.results_page

writes ``experiments/results/TABLES.md``, and the figures of ablations, from the files
of `experiments.publish` beside it. Each number is one of a file, none typed by hand.
"""

import itertools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.publishing import ablations as publish_ablations
from experiments.publishing import run
from experiments.report import glossary, published, tables
from experiments.report.comparison import HEADS, agreement_text, comparison_rows
from experiments.report.summary import DASH

VERSIONS = {
    run.SCHEMA: run.VERSION,
    publish_ablations.SCHEMA: publish_ablations.VERSION,
}
RESULTS = pathlib.Path(__file__).parents[1] / "results"
PAGE = "TABLES.md"
INTRODUCTION = f"""# Tables of the measured results

Written by `python -m experiments.results_page` from the files in this folder; see
README.md for how to repeat one. {tables.CAPTION} With one seed there is no interval.
"""


def read(folder: pathlib.Path) -> dict[str, Any]:
    """File name -> what was published in it, for all of a folder, by name.

    Raises:
      ValueError: a file that is none of published results.
    """
    files = sorted(folder.glob("*.json"))
    return {path.name: published.load(path, VERSIONS) for path in files}


def page(results: Mapping[str, Any]) -> str:
    """The page of all results, as `read` gives them."""
    return "\n".join([INTRODUCTION, *itertools.starmap(section, results.items())])


def section(name: str, result: Mapping[str, Any]) -> str:
    """One file: what was run and where, its metrics, the methods compared."""
    place = result["environment"]
    counts = ", ".join(f"{n} {part}" for part, n in result["data"]["counts"].items())
    lines = [
        f"## {result['title']} (`{name}`)",
        "",
        f"    {result['command']}",
        "",
        f"Rows or images: {counts}. ofmu_jax {result['code']['ofmu_jax']}, commit "
        f"{str(result['code']['commit'])[:12]}; jax {place['jax']}, Python "
        f"{place['python']}; {place['cpu']}, {place['cores']} cores, "
        f"{len(place['devices'])} × {place['devices'][0]}.",
        "",
    ]
    ablations = result["schema"] == publish_ablations.SCHEMA
    show = publish_ablations.section if ablations else _run
    return "\n".join([*lines, show(name, result)])


def _run(name: str, result: Mapping[str, Any]) -> str:
    """The metrics of a run, its methods compared, its tuning trials."""
    del name
    lines = [tables.markdown_table(result)]
    if rows := comparison_rows(result):
        lines += [tables.markdown(_used([list(HEADS), *rows])), agreement_text(result)]
        lines.append("")
    if result["tuning"]:
        lines += ["Tuning trials, trial 0 first; the chosen one is bold:", ""]
        lines.append(tables.markdown(_trials(result["tuning"])))
    return "\n".join(lines)


def _used(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The table without columns that say nothing anywhere."""
    kept = [k for k in range(len(rows[0])) if any(row[k] != DASH for row in rows[1:])]
    return [[row[k] for k in kept] for row in rows]


def _trials(tuning: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    rows = [["Method", "scores, 0 is best"]]
    for method, trials in tuning.items():
        scores = [f"{trial['score']:.3f}" for trial in trials]
        marked = [
            f"**{score}**" if trial["chosen"] else score
            for score, trial in zip(scores, trials, strict=True)
        ]
        rows.append(
            [
                glossary.method_label({"role": "unlearned", "method": method}),
                ", ".join(marked),
            ]
        )
    return rows


def main() -> int:
    """Writes the page; returns the exit status."""
    try:
        results = read(RESULTS)
        text = page(results)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (RESULTS / PAGE).write_text(text, encoding="utf-8")
    for name, result in results.items():
        if result["schema"] == publish_ablations.SCHEMA:
            publish_ablations.write_figures(RESULTS, name, result)
    print(RESULTS / PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
