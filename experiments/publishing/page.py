"""The tables of the published results, as a page that is read in the repository.

    python -m experiments.publish --tables

writes ``experiments/results/TABLES.md``, and the figures of ablations, from the files
of `experiments.publish` beside it. Each number is one of a file, none typed by hand.
"""

import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.publishing import ablations, picture, run
from experiments.report import published, tables
from experiments.stages.files import write_text

RESULTS = pathlib.Path(__file__).parents[1] / "results"
PAGE = "TABLES.md"
INTRODUCTION = f"""# Tables of the measured results

Written by `python -m experiments.publish --tables` from the files in this folder; see
README.md for how to repeat one. {tables.CAPTION} With one seed there is no interval.
"""


def read(folder: pathlib.Path) -> dict[str, Any]:
    """File name -> what was published in it, for all of a folder, by name.

    Raises:
      ValueError: a file that is none of published results.
    """
    files = sorted(folder.glob("*.json"))
    return {p.name: published.load(p, *published.WITH_RECIPE) for p in files}


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
    kind = ablations if result["schema"] == published.ABLATIONS else run
    return "\n".join([*lines, kind.section(name, result)])


def write() -> pathlib.Path:
    """Writes the page and the figures of all published files; returns its path."""
    results = read(RESULTS)
    write_text(RESULTS / PAGE, page(results))
    for name, result in results.items():
        if result["schema"] == published.ABLATIONS:
            ablations.write_figures(RESULTS, name, result)
    picture.write(RESULTS.parents[1] / "docs")
    return RESULTS / PAGE
