"""The report of a run: ``report.json`` for machines, ``report.html`` for people.

``python -m experiments.report OUT`` renders the page again from OUT/report.json;
``--compare OUT2 ...`` puts several runs on one page.

`validate_report` checks a report; ``report.schema.json`` says what is in it.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro

from experiments.config import from_file
from experiments.report import attacks, outcomes
from experiments.report.gaps import with_gaps
from experiments.report.page import render_html
from experiments.report.ranking import compare
from experiments.report.schema import validate_report as validate_report
from experiments.report.summary import summarise as summarise
from experiments.shell import command_line, helps
from experiments.stages.files import finite, write_json, write_text
from experiments.stages.stage import RECORD

JSON_NAME, HTML_NAME, COMPARISON_NAME = "report.json", "report.html", "comparison.html"


def write_report(
    output_dir: str | os.PathLike, report: Mapping[str, Any]
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes report.json and report.html, each whole or not at all.

    The summary is computed from the models, NaN and infinities become null and are
    listed in ``not_finite``; ``report`` itself is not changed.

    Args:
      output_dir: folder of the run; made if it is absent.
      report: content as the schema has it, with or without ``summary``.

    Returns:
      The paths of the JSON file and of the page.

    Raises:
      ValueError: the report does not follow the schema.
    """
    folder = pathlib.Path(output_dir)
    content = complete(report)
    page = render_html(with_records(with_trajectories(content, folder), folder))
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / JSON_NAME, folder / HTML_NAME
    write_json(paths[0], content, allow_nan=False)
    write_text(paths[1], page)
    return paths


def complete(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report as it is written: validated, plain JSON values, with its summary, the
    gaps to the retrained model among the metrics, the verdicts and the comparison of
    methods."""
    validate_report(report)
    not_finite = list(report.get("not_finite") or [])
    content = finite(report, not_finite)
    content["models"] = outcomes.with_verdicts(with_gaps(content["models"]))
    content["verdicts"] = outcomes.methods(content["models"])
    content["nothing_to_forget"] = outcomes.nothing_to_forget(content["models"])
    content["summary"] = summarise(content["models"])
    content["comparison"] = compare(content["models"])
    if content["nothing_to_forget"]:  # then nothing was reached, and nothing shown
        content["claims"] = []
        for row in content["comparison"]["methods"]:
            row["equivalence"] = None
    content["not_finite"] = sorted(set(not_finite))
    return content


def with_trajectories(
    report: Mapping[str, Any], folder: pathlib.Path
) -> dict[str, Any]:
    """The report with the trajectories that lie in files read into it."""
    models = list(report["models"])
    for index, model in enumerate(models):
        if isinstance(model.get("trajectory"), str):
            path = folder / model["trajectory"]
            if not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(
                    f"models[{index}].trajectory names {path}, which does not lie in "
                    f"{folder}."
                )
            rows = _read_rows(path, f"models[{index}]")
            models[index] = {**model, "trajectory": rows}
    content = {**report, "models": models}
    if models != report["models"]:
        validate_report(content)
    return content


def with_records(report: Mapping[str, Any], folder: pathlib.Path) -> dict[str, Any]:
    """The report with whether a sealed deletion record lies in each export."""
    models = [
        {**model, "sealed": _is_sealed(folder / model["export"] / RECORD)}
        if model.get("export")
        else model
        for model in report["models"]
    ]
    return {**report, "models": models}


def _is_sealed(path: pathlib.Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("seal"))
    except (OSError, ValueError, AttributeError):
        return False


def _read_rows(path: pathlib.Path, where: str) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{where}.trajectory names {path}, which cannot be read as JSON lines: "
            f"{error}"
        ) from None


def load_report(folder: str | os.PathLike) -> dict[str, Any]:
    """Reads and validates the report.json of a run.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is not JSON or does not follow the schema.
    """
    path = pathlib.Path(folder) / JSON_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; give the --output-dir of a run that has finished."
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        validate_report(report)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a report: {error}") from None
    return report


def merge_reports(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One report of several: every model and claim carries the name of its run.

    Args:
      reports: name of a run -> its report; trajectories in files must be read in.
    """
    data, *others = (report["data"] for report in reports.values())
    notes = []
    if any(other != data for other in others):
        names = dict.fromkeys(each["name"] for each in (data, *others))
        data = {"name": ", ".join(names), "counts": {}}
        notes.append(
            "The runs differ in their data; their numbers compare only with the "
            "references of the same run."
        )
    each = lambda field: {name: report[field] for name, report in reports.items()}
    every = lambda field: [
        (name, entry) for name, r in reports.items() for entry in r.get(field) or []
    ]
    merged = {
        "schema_version": 1,
        "title": f"Comparison of {', '.join(reports)}",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "\n".join(report["command"] for report in reports.values()),
        "recipe": each("recipe"),
        "environment": each("environment"),
        "data": data,
        "notes": [*notes, *(f"{name}: {note}" for name, note in every("notes"))],
        "models": [{**model, "run": name} for name, model in every("models")],
        "attacks": attacks.merged(reports),
        "claims": [
            {**claim, "run": name, "text": f"{name}: {claim['text']}"}
            for name, claim in every("claims")
        ],
        "not_finite": [f"{name}: {path}" for name, path in every("not_finite")],
    }
    return complete(merged)


def render(
    output_dir: pathlib.Path, others: Sequence[pathlib.Path] = ()
) -> pathlib.Path:
    """Writes the page of a run again, or the page that compares it with others."""
    folders = [output_dir, *others]
    reports = {}
    for name, folder in zip(_run_names(folders), folders, strict=True):
        report = with_records(with_trajectories(load_report(folder), folder), folder)
        way = os.path.relpath(folder, output_dir)
        reports[name] = _moved(report, pathlib.PurePath(way).as_posix())
    if others:
        path, report = output_dir / COMPARISON_NAME, merge_reports(reports)
    else:
        path, report = output_dir / HTML_NAME, complete(next(iter(reports.values())))
    write_text(path, render_html(report))
    return path


def _run_names(folders: Sequence[pathlib.Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise ValueError("--compare names a folder twice; name each run once.")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _moved(report: Mapping[str, Any], way: str) -> dict[str, Any]:
    """The report with exports relative to another folder."""
    at = lambda export: os.path.normpath(f"{way}/{export}")
    models = report["models"]
    moved = [m | {"export": at(m["export"])} if m.get("export") else m for m in models]
    return {**report, "models": moved}


@dataclasses.dataclass(frozen=True)
class Options:
    """Renders the page of a run again from its report.json."""

    # Folder of the run (its --output-dir).
    output_dir: Annotated[pathlib.Path, tyro.conf.Positional]
    # Folders of further runs: writes OUTPUT-DIR/comparison.html with all of them.
    compare: tuple[pathlib.Path, ...] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    kinds = {"": helps.blank(Options)}
    of_run = lambda given, run: dataclasses.replace(given, output_dir=run.output_dir)
    words, kinds = from_file.configured(arguments, kinds, of_run)
    options = command_line.parsed(kinds, "experiments.report", words)
    try:
        print(render(options.output_dir, options.compare))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
