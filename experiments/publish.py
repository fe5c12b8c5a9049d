"""Distils the report of a run into a small file of results, or checks one again.

    python -m experiments.publish RUN_DIR experiments/results/NAME.json
    python -m experiments.publish --check RUN_DIR experiments/results/NAME.json

The file has the command, the code and the machine, the recipe, the metrics and costs of
every model by seed, their summary and comparison, and the tuning trials. It has no
trajectories, no texts of the data and no paths of the machine: of an absolute path its
last component is left. ``--check`` compares the models of a run with those published,
metric by metric and exactly; it ends with 1 if any differs. A run of fewer seeds or
methods than were published is compared in what it has.
"""

import dataclasses
import json
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro

import ofmu_jax.version
from experiments import glossary, provenance, report
from experiments.aggregate import AGGREGATE, FORGET_GAP
from experiments.stages import write_json

SCHEMA, VERSION = "ofmu_jax.result", 1
ENVIRONMENT = ("jax", "python", "devices", "cpu", "cores")
COUNTS = ("gradient_evaluations", "outer_steps", "forget_target")  # the same each time
COSTS = ("seconds", "peak_bytes")  # of the machine
TRIAL = ("trial", "config", "score", "chosen", "gradient_evaluations", "seconds")
ALWAYS = (AGGREGATE, FORGET_GAP, "indistinguishable_from_reference")
WALL_TIME = ("run_time_minutes",)  # a metric that no run repeats

Row = Mapping[str, Any]
Key = tuple[str, str, int]  # role, method, seed


def distil(content: Row, commit: str | None = None) -> dict[str, Any]:
    """What is published of a report: numbers and how they came about.

    Args:
      content: as `experiments.report.load_report` gives it.
      commit: of the code, where it is known.
    """
    complete = report.complete(content)
    environment = complete["environment"]
    result = {
        "schema": SCHEMA,
        "version": VERSION,
        "title": complete["title"],
        "created": complete["created"],
        "command": without_paths(complete["command"]),
        "code": {"ofmu_jax": environment.get("ofmu_jax"), "commit": commit},
        "environment": {k: environment[k] for k in ENVIRONMENT if k in environment},
        "data": complete["data"],
        "recipe": complete["recipe"],
        "models": [_model(model) for model in complete["models"]],
        "summary": [_summary(row) for row in complete["summary"]],
        "comparison": complete["comparison"],
        "tuning": {
            method: [{k: trial[k] for k in TRIAL if k in trial} for trial in trials]
            for method, trials in (complete.get("tuning") or {}).items()
        },
    }
    return _cut(result)


def _model(model: Row) -> dict[str, Any]:
    names = (*COUNTS, *COSTS, "stopped")
    facts = {k: model[k] for k in names if model.get(k) is not None}
    key = {k: model[k] for k in ("role", "method", "seed")}
    return {**key, "metrics": _published(model["metrics"]), **facts}


def _summary(row: Row) -> dict[str, Any]:
    return {**row, "metrics": _published(row["metrics"])}


def _published(metrics: Row) -> dict[str, Any]:
    """The metrics of a model but for variants and derived numbers."""
    names = glossary.ordered(metrics)
    kept = [n for n in names if n in ALWAYS or not glossary.metric(n).minor]
    return {name: metrics[name] for name in kept}


def without_paths(command: str) -> str:
    """A command whose absolute paths are cut to their last component.

    >>> without_paths("python -m experiments.run tofu --data-dir /d/tofu --model=/m/a")
    'python -m experiments.run tofu --data-dir tofu --model=a'
    """
    words = []
    for word in shlex.split(command):
        option, equals, value = word.partition("=")
        if equals and option.startswith("--"):
            words.append(f"{option}={_last(value)}")
        else:
            words.append(_last(word))
    return shlex.join(words)


def _cut(value: Any) -> Any:
    """JSON values with every absolute path cut."""
    if isinstance(value, Mapping):
        return {key: _cut(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_cut(entry) for entry in value]
    return _last(value) if isinstance(value, str) else value


def _last(text: str) -> str:
    path = pathlib.PurePath(text)
    return path.name if path.is_absolute() or text.startswith("~") else text


def differences(found: Row, published: Row) -> list[str]:
    """Where the models of a run differ from those published; both distilled.

    A metric counts as equal only if it is the very same number. Wall time and memory
    belong to a machine and are not compared.
    """
    known = {_key(model): model for model in published["models"]}
    lines = []
    for model in found["models"]:
        role, method, seed = key = _key(model)
        where = f"{method}, seed {seed}" + ("" if role == "unlearned" else f" ({role})")
        if key not in known:
            lines.append(f"{where}: not published")
            continue
        ours, theirs = _comparable(model), _comparable(known[key])
        for name in dict.fromkeys((*ours, *theirs)):
            a, b = (side.get(name, "absent") for side in (ours, theirs))
            if a != b:
                lines.append(f"{where}: {name} is {a}, published {b}")
    return lines


def _key(model: Row) -> Key:
    return model["role"], model["method"], model["seed"]


def _comparable(model: Row) -> dict[str, Any]:
    counts = {name: model[name] for name in COUNTS if name in model}
    metrics = model["metrics"]
    return counts | {name: metrics[name] for name in metrics if name not in WALL_TIME}


def load(path: pathlib.Path) -> dict[str, Any]:
    """Reads a published file.

    Raises:
      ValueError: it is none, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    header = content.get("schema"), content.get("version")
    if header != (SCHEMA, VERSION):
        raise ValueError(
            f"{path} has schema and version {header}; this code reads "
            f"{(SCHEMA, VERSION)}: publish it again."
        )
    return content


def commit_of_code() -> str | None:
    """The commit that the package lies in, with ``-dirty`` where files differ."""
    state = provenance.git_state(pathlib.Path(ofmu_jax.version.__file__))
    commit = state["git_commit"]
    return f"{commit}-dirty" if commit and state["git_changed"] else commit


@dataclasses.dataclass(frozen=True)
class Options:
    """Publishes the results of a run, or checks a run against published ones."""

    # Folder of the run (its --output-dir).
    run_dir: Annotated[pathlib.Path, tyro.conf.Positional]
    # File of results, such as experiments/results/NAME.json.
    file: Annotated[pathlib.Path, tyro.conf.Positional]
    # Compare the run with the file instead of writing it.
    check: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = tyro.cli(Options, prog="python -m experiments.publish", args=arguments)
    try:
        found = distil(report.load_report(options.run_dir), commit_of_code())
        if not options.check:
            options.file.parent.mkdir(parents=True, exist_ok=True)
            write_json(options.file, found)
            print(options.file)
            return 0
        lines = differences(found, load(options.file))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in lines:
        print(line)
    models = len(found["models"])
    print(f"{models} models compared with {options.file}: {len(lines)} differences")
    return 1 if lines or not models else 0


if __name__ == "__main__":
    sys.exit(main())
