"""Distils the report of a run into a small file of results, or checks one again.

    python -m experiments.publish RUN_DIR experiments/results/NAME.json
    python -m experiments.publish --check RUN_DIR experiments/results/NAME.json
    python -m experiments.publish --ablations RUN_DIR experiments/results/NAME.json

The file has the command, the code and the machine, the recipe, the metrics and costs of
every model by seed, their summary and comparison, and the tuning trials. It has no
trajectories, no texts of the data and no paths of the machine: of an absolute path its
last component is left. ``--check`` compares the models of a run with those published,
metric by metric and exactly; it ends with 1 if any differs. A run of fewer seeds or
methods than were published is compared in what it has.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro

from experiments.publishing import ablations as publish_ablations
from experiments.report import glossary, published, write
from experiments.report.gaps import AGGREGATE, FORGET_GAP
from experiments.stages.stage import write_json

SCHEMA, VERSION = "ofmu_jax.result", 1
COUNTS = ("gradient_evaluations", "outer_steps", "forget_target")  # the same each time
COSTS = ("seconds", "peak_bytes")  # of the machine
TRIAL = ("trial", "config", "score", "chosen", "gradient_evaluations", "seconds")
ALWAYS = (AGGREGATE, FORGET_GAP, "indistinguishable_from_reference")
WALL_TIME = ("run_time_minutes",)  # a metric that no run repeats

Row = Mapping[str, Any]
Key = tuple[str, str, int]  # role, method, seed


def read(run_dir: pathlib.Path) -> dict[str, Any]:
    """The distilled report of a run.

    Raises:
      OSError: there is none.
      ValueError: it cannot be read.
    """
    return distil(write.load_report(run_dir), published.commit_of_code())


def distil(content: Row, commit: str | None = None) -> dict[str, Any]:
    """What is published of a report: numbers and how they came about.

    Args:
      content: as `experiments.report.write.load_report` gives it.
      commit: of the code, where it is known.
    """
    complete = write.complete(content)
    result = {
        **published.header(SCHEMA, VERSION, complete, commit),
        "models": [_model(model) for model in complete["models"]],
        "summary": [_summary(row) for row in complete["summary"]],
        "comparison": complete["comparison"],
        "tuning": {
            method: [{k: trial[k] for k in TRIAL if k in trial} for trial in trials]
            for method, trials in (complete.get("tuning") or {}).items()
        },
    }
    return published.cut(result)


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


def differences(found: Row, theirs: Row) -> list[str]:
    """Where the models of a run differ from those published; both distilled.

    A metric counts as equal only if it is the very same number. Wall time and memory
    belong to a machine and are not compared.
    """
    known = {_key(model): model for model in theirs["models"]}
    lines = []
    for model in found["models"]:
        role, method, seed = key = _key(model)
        where = f"{method}, seed {seed}" + ("" if role == "unlearned" else f" ({role})")
        if key not in known:
            lines.append(f"{where}: not published")
            continue
        ours, other = _comparable(model), _comparable(known[key])
        for name in dict.fromkeys((*ours, *other)):
            a, b = (side.get(name, "absent") for side in (ours, other))
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
    """Reads a published file of a run.

    Raises:
      ValueError: it is none, or of another version.
    """
    return published.load(path, {SCHEMA: VERSION})


@dataclasses.dataclass(frozen=True)
class Options:
    """Publishes the results of a run, or checks a run against published ones."""

    # Folder of the run (its --output-dir).
    run_dir: Annotated[pathlib.Path, tyro.conf.Positional]
    # File of results, such as experiments/results/NAME.json.
    file: Annotated[pathlib.Path, tyro.conf.Positional]
    # Compare the run with the file instead of writing it.
    check: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    # The folder's ablations (experiments.ablations), in place of its run.
    ablations: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = tyro.cli(Options, prog="python -m experiments.publish", args=arguments)
    try:
        kind = publish_ablations if options.ablations else sys.modules[__name__]
        found = kind.read(options.run_dir)
        if not options.check:
            options.file.parent.mkdir(parents=True, exist_ok=True)
            write_json(options.file, found)
            print(options.file)
            return 0
        lines = kind.differences(found, kind.load(options.file))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in lines:
        print(line)
    count = len(found["runs" if options.ablations else "models"])
    print(f"{count} models compared with {options.file}: {len(lines)} differences")
    return 1 if lines or not count else 0


if __name__ == "__main__":
    sys.exit(main())
