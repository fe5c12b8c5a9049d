"""What methods and the pieces of OFMU cost, in units of a step of gradient ascent.

``python -m experiments.benchmark`` compiles each and prints the gradients it is counted
as, its median wall time and its temporary memory by XLA's own analysis, each divided
by that of gradient ascent in the same rounds. ``--against torch`` has PyTorch take
turns with the same model, batch, precision and optimizer.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
from rich.table import Table

from experiments.shell import provenance
from experiments.shell.console import console
from experiments.stages.files import write_json
from experiments.studies import pictures, registries
from experiments.studies.against import torch_updates
from experiments.studies.measuring import Case, Cost, measured
from experiments.studies.pieces import ASCENT, INNER, OUTER, of_images, pieces
from experiments.studies.shapes import Shape, start, token_batches
from experiments.studies.torch_times import COMPILED, EAGER
from ofmu_jax.models.resnet import SHAPES

Part = Literal["methods", "pieces", "variants"]
Found = dict[str, Any]
# What PyTorch does too -> ours that do the same.
ALIKE = {
    ASCENT: (ASCENT,),
    "GradDiff": ("GradDiff",),
    INNER: (INNER, f"{INNER}, linearize"),
    OUTER: (OUTER, f"{OUTER}, linearize"),
}


@dataclasses.dataclass(frozen=True)
class Costs(Shape):
    """What methods cost, and OFMU's pieces and options."""

    everyday: ClassVar = ("model", "models", "parts", "only", "batch_size", "output")

    models: tuple[str, ...] = ()
    """Several in one run, in place of --model; resnet20, resnet18, … for images."""
    parts: tuple[Part, ...] = ("methods", "pieces")
    """methods: all of the registry at their defaults. pieces: OFMU's options on plain
    SGD. variants: what is kept for the backward pass, with a loop over layers or not.
    Images have methods alone."""
    only: tuple[str, ...] = ()
    """Of every part these alone, by name, beside the first, which is the unit."""
    against: Literal["nothing", "torch"] = "nothing"
    """torch: PyTorch takes turns, eager and torch.compile; in place of the parts;
    nothing: the parts. Images have gradient ascent and GradDiff there."""
    output: pathlib.Path | None = None
    """Where all numbers are written as JSON, and a figure (.svg) beside it."""


def run(config: Costs) -> Found:
    """All that is measured, as JSON can hold it; written after every part."""
    names = config.models or (config.model,)
    fields = [field.name for field in dataclasses.fields(Shape)]
    alike = Shape(**{name: getattr(config, name) for name in fields})
    shapes = [dataclasses.replace(alike, model=name) for name in names]
    for shape in shapes:
        if shape.model not in SHAPES:
            shape.config()  # an unknown name is refused before anything is timed
    found: Found = {**provenance.made("experiments.benchmark"), "shape": config}
    found["models"] = {}
    if config.against != "torch":
        # What is kept from earlier starts would be loaded, not compiled.
        jax.config.update("jax_enable_compilation_cache", False)
    for shape in shapes:
        parts = found["models"][shape.model] = {}
        asked = config.parts
        if config.against == "torch":
            asked = ("torch",)
        elif shape.model in SHAPES:
            asked = ("methods",)
        for part in asked:
            with jax.default_matmul_precision("highest"):  # as commands and PyTorch do
                parts[part] = (
                    beside_torch(shape)
                    if part == "torch"
                    else timed(shape, *CASES[part](shape), config.only)
                )
            if config.output is not None:
                write_json(config.output, found)
                pictures.write(config.output, pictures.costs(found["models"]))
    return found


def methods_of(shape: Shape) -> tuple[dict[str, Case], list[str]]:
    """Every method with updates, and the names of those without."""
    if shape.model in SHAPES:
        return registries.images(shape)
    return registries.language(shape), []


def timed(
    shape: Shape, cases: dict[str, Case], without: Sequence[str], only: Sequence[str]
) -> Found:
    """Name -> `Cost` as a dict, or None for a method without updates.

    Raises:
      ValueError: ``only`` names what is not there.
    """
    if unknown := [name for name in only if name not in cases]:
        raise ValueError(
            f"--only {unknown[0]!r} is none of what is timed here: {', '.join(cases)}."
        )
    unit = next(iter(cases), None)
    chosen = {k: v for k, v in cases.items() if not only or k == unit or k in only}
    costs, _ = measured(chosen, shape.rounds)
    return _as_dicts(costs) | ({} if only else dict.fromkeys(without))


def measure(shape: Shape, names: Sequence[str] = ()) -> dict[str, Cost]:
    """Piece -> its counted and measured cost; ``names`` chooses among `pieces`."""
    return measured(cases_of(shape, names), shape.rounds)[0]


def cases_of(shape: Shape, names: Sequence[str] = ()) -> dict[str, Case]:
    """Pieces of that name, or all, with parameters and batches."""
    config = shape.config()
    params, known = start(config), pieces(shape)
    return {
        name: Case(
            known[name],
            params,
            token_batches(shape, config, known[name].batches_per_update),
        )
        for name in names or known
    }


def variants(shape: Shape) -> dict[str, Case]:
    """Gradient ascent and an exact inner step, by how the model is computed."""
    found = {}
    for name, scan, remat in itertools.product(
        (ASCENT, INNER), (False, True), ("none", "dots", "full")
    ):
        chosen: dict[str, Any] = {"scan_layers": scan, "remat": remat}
        one = dataclasses.replace(shape, **chosen)
        title = f"{name}: {'loop' if scan else 'written out'}, remat {remat}"
        found[title] = cases_of(one, [name])[name]
    return found


def beside_torch(shape: Shape) -> Found:
    """Ours and PyTorch's seconds in the same rounds, and what it cannot run.

    Raises:
      TorchError: it is not installed.
    """
    if shape.model in SHAPES:
        cases = of_images(shape)
    else:
        cases = cases_of(shape, [name for ours in ALIKE.values() for name in ours])
    exact = shape.model not in SHAPES
    with torch_updates(shape, exact=exact) as (calls, failed):
        costs, theirs = measured(cases, shape.rounds, calls)
    seconds = {name: cost.seconds for name, cost in costs.items()}
    return {"ours": seconds, "theirs": theirs, "failed": failed}


CASES: Mapping[str, Callable[[Shape], tuple[dict[str, Case], list[str]]]] = {
    "methods": methods_of,
    "pieces": lambda shape: (cases_of(shape, ()), []),
    "variants": lambda shape: (variants(shape), []),
}


def _as_dicts(costs: Mapping[str, Cost]) -> Found:
    return {name: cost._asdict() for name, cost in costs.items()}


def table(title: str, found: Mapping[str, Found | None]) -> Table:
    """The costs as multiples of the first one's."""
    unit = Cost(**(next(iter(found.values())) or {}))
    rows = Table(
        "one update of", title=f"{title}: {1e3 * unit.seconds:.1f} ms the first"
    )
    for column in ("counted", "time", "time per optimizer step", "temporary memory"):
        rows.add_column(column, justify="right")
    rows.add_column("compiled, s", justify="right")
    for name, values in found.items():
        if values is None:
            rows.add_row(name, *"—————")
            continue
        x = Cost(**values)
        time_ = x.seconds / unit.seconds
        numbers = time_, time_ / x.updates, x.memory / unit.memory, x.compiled
        rows.add_row(name, f"{x.counted:.3g}", *(f"{value:.1f}" for value in numbers))
    return rows


def torch_table(title: str, found: Found) -> Table:
    """Milliseconds, and how many times as fast as PyTorch ours is."""
    rows = Table("update", title=f"{title}, milliseconds")
    for column in ("ours", EAGER, COMPILED, f"{EAGER} / ours", f"{COMPILED} / ours"):
        rows.add_column(column, justify="right")
    for theirs, names in ALIKE.items():
        for name in (name for name in names if name in found["ours"]):
            ours = found["ours"][name]
            times = [
                found["theirs"].get(f"{way}: {theirs}") for way in (EAGER, COMPILED)
            ]
            ratios = [f"{t / ours:.2f}" if t else "—" for t in times]
            shown = [f"{1e3 * t:.1f}" if t else "—" for t in times]
            rows.add_row(name, f"{1e3 * ours:.1f}", *shown, *ratios)
    notes = [f"{name}: {why}" for name, why in found["failed"].items()]
    notes.append("torch.compile takes no second derivatives (no double backward).")
    rows.caption = "\n".join(notes)
    return rows


def main(config: Costs) -> None:
    """Measures, writes and prints.

    Raises:
      ValueError: a model or a name that is not known, or PyTorch that is not there.
    """
    found = run(config)
    for model, parts in found["models"].items():
        size = f"{model}, {config.dtype}, {config.batch_size} rows"
        for part, values in parts.items():
            shown = (
                torch_table(size, values)
                if part == "torch"
                else table(f"{size}, {part}", values)
            )
            console.print(shown)
    if config.output is not None:
        console.print(f"Written: {config.output}", highlight=False)
