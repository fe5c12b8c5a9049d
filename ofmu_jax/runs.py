"""A finished run's folder as rows: ``pandas.DataFrame(load_run(folder).metrics)``.

It reads what ``python -m experiments.run`` leaves in its output folder, and needs
nothing of the code that made it.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

REPORT, SCHEMA_VERSION = "report.json", 1
Row = dict[str, Any]
_OF_SEVERAL = {
    "sequence.json": "several requests; give the folder of one, such as "
    "FOLDER/METHOD/seed0/01-…",
    "ablations.json": "ablations; give the folder of one run below it",
}  # file -> what its folder holds


class RunError(ValueError):
    """A folder that is no finished run; the message names what is missing."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Lists of dicts, each the rows of a table; absent cells are absent keys or None.

    Attributes:
      folder: where it was read from.
      report: all of ``report.json``: recipe, environment, claims, verdicts, notes.
      metrics: role, method, seed, metric, value, low, high (ends of the interval over
        rows) and yardstick, the retrained model's value.
      rows: role, method, seed, metric, row (from 0), value: per-example values in the
        order of the rows of the metric's set; truth ratios are raw.
      answers: role, method, seed, set, row, answer: generated answers.
      trajectories: role, method, seed, update, gradient_evaluations, a column for each
        number of the updates, and ``eval_…`` for those of the checks between them.
      trials: method, trial, score, chosen, gradient_evaluations, …, and with dots
        ``config.…``, ``check.…`` and ``reference.…``; of runs with ``--tune``.
      attacks: method, attack, recovered, difference, interval, …; with ``--attacks``.
    """

    folder: pathlib.Path
    report: Mapping[str, Any]
    metrics: list[Row]
    rows: list[Row]
    answers: list[Row]
    trajectories: list[Row]
    trials: list[Row]
    attacks: list[Row]

    def __repr__(self) -> str:
        tables = ("metrics", "rows", "answers", "trajectories", "trials", "attacks")
        sizes = ", ".join(f"{name}: {len(getattr(self, name)):,}" for name in tables)
        return f"<{self.report['title']!r} in {self.folder}; rows of {sizes}>"


def load_run(folder: str | os.PathLike) -> Run:
    """Reads a run's ``--output-dir``: report, evaluations, training logs.

    Raises:
      RunError: there is no finished run, or a file of it is missing or damaged.
    """
    folder = pathlib.Path(folder)
    report = _report(folder)
    found: dict[str, list[Row]] = {
        name: [] for name in ("metrics", "rows", "answers", "trajectories")
    }
    for model in report["models"]:
        who = {name: model[name] for name in ("role", "method", "seed")}
        told = lambda rows, who=who: [{**who, **row} for row in rows]
        found["metrics"] += told(_metrics(model, _yardstick(report, model["seed"])))
        found["trajectories"] += told(_trajectory(folder, model))
        if model["intervals"]:  # none where it broke off
            rows, answers = _evaluation(_place(folder, model) / "evaluation")
            found["rows"] += told(rows)
            found["answers"] += told(answers)
    tuning = (report.get("tuning") or {}).items()
    trials = [{"method": name, **_flat(trial)} for name, of in tuning for trial in of]
    attacks = [dict(row) for row in (report.get("attacks") or {}).get("rows", ())]
    return Run(folder, report, trials=trials, attacks=attacks, **found)


def _report(folder: pathlib.Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}; give a run's --output-dir.")
    if not (folder / REPORT).is_file():
        for name, what in _OF_SEVERAL.items():
            if (folder / name).is_file():
                raise RunError(f"{folder} holds {what}.")
        begun = (folder / "config.json").is_file()
        remedy = (
            "run it again, it goes on where it stopped"
            if begun
            else ("give a run's --output-dir")
        )
        raise RunError(
            f"{folder} has no {REPORT}, so no run was finished there; {remedy}."
        )
    report = _json(folder / REPORT)
    version = report.get("schema_version") if isinstance(report, dict) else None
    if version != SCHEMA_VERSION:
        raise RunError(
            f"{folder / REPORT} has schema_version {version!r}; this code reads "
            f"{SCHEMA_VERSION}: make the report again with the version installed."
        )
    return report


def _json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(
            f"{path} is missing or cannot be read ({error.strerror}); run again, which "
            "does what is missing."
        ) from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not JSON ({error}); run again.") from None


def _place(folder: pathlib.Path, model: Mapping[str, Any]) -> pathlib.Path:
    return folder / model["method"] / f"seed{model['seed']}"


def _yardstick(report: Mapping[str, Any], seed: int) -> Mapping[str, float]:
    """The metrics of the seed's retrained model, or of the only one."""
    found = {
        m["seed"]: m["metrics"] for m in report["models"] if m["role"] == "retrained"
    }
    return found.get(seed) or next(iter(found.values()), {})


def _metrics(model: Mapping[str, Any], yardstick: Mapping[str, float]) -> Iterator[Row]:
    for name, value in model["metrics"].items():
        low, high = model["intervals"].get(name) or (None, None)
        ends = {"low": low, "high": high, "yardstick": yardstick.get(name)}
        yield {"metric": name, "value": value, **ends}


def _trajectory(folder: pathlib.Path, model: Mapping[str, Any]) -> Iterator[Row]:
    """Every update of the training's log, with what the report tells of it."""
    rows: dict[int, Row] = {}
    log = _place(folder, model) / "training" / "metrics.jsonl"
    for row in _lines(log) if log.is_file() else ():
        rows[row["update"]] = row
    for told in model.get("trajectory") or ():
        rest = {name: value for name, value in told.items() if name != "step"}
        rows.setdefault(told["step"], {"update": told["step"]}).update(rest)
    return (rows[update] for update in sorted(rows))


def _lines(path: pathlib.Path) -> list[Row]:
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except ValueError as error:
        raise RunError(f"{path} is not JSON lines ({error}); run again.") from None


def _evaluation(folder: pathlib.Path) -> tuple[list[Row], list[Row]]:
    """Per-example values, and generated answers."""
    content = _json(folder / "evaluation.json")
    rows = [
        {"metric": name, "row": number, "value": value}
        for name, values in content["examples"].items()
        for number, value in enumerate(values)
    ]
    answers = [
        {"set": name, "row": number, "answer": text}
        for name, texts in content.get("generations", {}).items()
        for number, text in enumerate(texts)
    ]
    return rows + list(_of_images(folder / "forget.npz")), answers


def _of_images(path: pathlib.Path) -> Iterator[Row]:
    """The probability of each forget image's own label; ``row`` is its index."""
    if not path.is_file():
        return
    with np.load(path) as saved:
        at = np.arange(len(saved["labels"])), saved["labels"]
        values = saved["probabilities"][at]
        for row, value in zip(saved["indices"], values, strict=True):
            name = "forget_label_probability"
            yield {"metric": name, "row": int(row), "value": float(value)}


def _flat(value: Mapping[str, Any], above: str = "") -> Row:
    """Nested names with dots.

    >>> _flat({"trial": 1, "config": {"loss": {"beta": 0.1}}})
    {'trial': 1, 'config.loss.beta': 0.1}
    """
    found: Row = {}
    for name, each in value.items():
        nested = isinstance(each, Mapping)
        found |= _flat(each, f"{above}{name}.") if nested else {f"{above}{name}": each}
    return found
