"""``python -m experiments.plan``: what a run will take, before it is paid for."""

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from experiments.config import from_file
from experiments.config.language import Baselines, LanguageRun, OfmuConfig
from experiments.planning.options import DESCRIPTION, MODULE, of_run
from experiments.planning.options import Plan as Plan
from experiments.planning.options import run_of as run_of
from experiments.shell import command_line
from ofmu_jax.methods import METHODS


class Row(NamedTuple):
    """A line of the table: an estimate, or why there is none."""

    method: str
    options: dict[str, str]
    found: Any  # an `experiments.planning.estimate.Estimate`
    problem: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Plans and prints; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    words, kinds = from_file.configured(arguments, {"": Plan()}, of_run)
    plan = command_line.parsed(kinds, MODULE, words, DESCRIPTION)
    return command_line.tried(lambda: _plan(plan))


def _plan(plan: Plan) -> None:
    # Imported late, so that --help and a wrong option answer at once.
    from experiments.shell import console
    from experiments.stages.files import write_json

    found = list(rows(plan))
    console.console.print(table(plan, found))
    if plan.json is not None:
        write_json(plan.json, as_json(plan, found))


# --- what is compiled -------------------------------------------------------------


def variants(plan: Plan) -> Iterator[tuple[str, LanguageRun, dict[str, Any]]]:
    """Method, run and options of every row.

    Without a similarity (β = 0) or a penalty (ρ = 0) there is nothing to choose.
    """
    run = run_of(plan)
    for name in plan.methods:
        config = run.config_of(name)
        spans = {
            field: [x for x in getattr(plan, f"{field}s") if x in fitting]
            or [getattr(config, field)]
            for field, fitting in run.specs[name].derivatives(config).items()
        }
        for values in itertools.product(*spans.values()):
            options: dict[str, Any] = dict(zip(spans, values, strict=True))
            changed = dataclasses.replace(config, **options)
            yield name, run.with_method(name, changed), options


def rows(plan: Plan) -> Iterator[Row]:
    """Every row, compiled one after the other.

    Raises:
      ValueError: a model that is unknown, a mesh or sizes that do not fit.
    """
    from experiments.config.refuse import check_run
    from experiments.domains.language import mesh as scale
    from experiments.domains.language import refuse
    from experiments.domains.language.task import LanguageTask
    from experiments.planning import architectures, estimate
    from experiments.shell import console
    from ofmu_jax.training import placement

    # The methods' are looked at below, and only those that are planned.
    others: dict[str, Any] = {"ofmu": OfmuConfig(), "baselines": Baselines()}
    command_line.check_numbers(dataclasses.replace(plan, **others))
    config = architectures.architecture(plan.model)
    if plan.length > config.max_position_embeddings:
        raise ValueError(
            f"--length {plan.length} is more than the {config.max_position_embeddings} "
            f"positions of {plan.model}; give fewer tokens."
        )
    check_run(run_of(plan))
    mesh = estimate.mesh_of(plan.mesh, plan.tpu)
    part = scale.micro_batch("--batch-size", plan.batch_size, plan.grad_accum)
    placement.check_rows(part, mesh, "--batch-size / --grad-accum")
    loop = {"scan_layers": run_of(plan).computation["scan_layers"]}
    no_text: Any = None  # of which there is no need for shapes
    task = LanguageTask(
        dataclasses.replace(config, dtype=plan.dtype, remat=plan.remat, **loop),
        no_text,
        no_text,
        plan.length,
        run_of(plan).evaluation,
        mesh=mesh,
        loss_chunk=plan.loss_chunk,
        quantized=plan.lora.base == "nf4",
    )
    refuse.check_part(task, run_of(plan))
    wanted = list(variants(plan))
    with console.progress() as progress:
        bar = progress.add_task("compiling", total=len(wanted), note="")
        for name, run, options in wanted:
            progress.update(bar, note=" ".join((name, *options.values())))
            found = problem = None
            try:
                found = estimate.estimate(name, run, task, plan.length)
            except estimate.DoesNotFit as error:
                problem = str(error)
            progress.advance(bar)
            yield Row(name, options, found, problem)


# --- what is shown ----------------------------------------------------------------


def table(plan: Plan, found: Sequence[Row]) -> Any:
    """The table for a console."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    unit = next((r.found for r in found if r.method == "gradient_ascent"), None)
    heads = "gradi-\nents param. state temp. step run check TFLOP sent".split(" ")
    heads += ["step /\nascent"] * (unit is not None)
    heads += ["fits"] * (plan.device_bytes is not None)
    result = Table(title=title(plan), box=box.SIMPLE_HEAD, padding=(0, 1))
    result.add_column("GB of one device", no_wrap=True)
    for head in heads:
        result.add_column(head, justify="right", no_wrap=True)
    for row in found:
        result.add_row(*cells(plan, row, unit))
    notes = [Text(row.found.hosts) for row in found if row.found][:1]
    notes += [Text(f"{_label(r)}: {r.problem}") for r in found if r.problem]
    if any(row.found and row.found.unknown_loops for row in found):
        notes.append(Text("Some loops are counted once: their length is not known."))
    if any(_unfit(plan, row) for row in found):
        what = "differences: of gradients they are noise in bfloat16, and "
        what += "experiments.run refuses them; jvp is the next in memory."
        notes.append(Text(what))
    return Group(result, *notes)


def _unfit(plan: Plan, row: Row) -> bool:
    """Whether experiments.run would refuse a row's options."""
    options: dict[str, Any] = row.options
    config = dataclasses.replace(run_of(plan).config_of(row.method), **options)
    return any(METHODS[row.method].unfit(config, plan.dtype))


def title(plan: Plan) -> str:
    """Model, mesh, and the sizes that matter."""
    where = f"TPU {plan.tpu}" if plan.tpu else "XLA for CPU"
    chunk = f", logits by {plan.loss_chunk}" if plan.loss_chunk else ""
    parts = f" in {plan.grad_accum} parts" if plan.grad_accum > 1 else ""
    return (
        f"{plan.model} on {plan.mesh} ({where}): {plan.batch_size} rows{parts} of "
        f"{plan.length} tokens, {plan.dtype}, remat {plan.remat}{chunk}{_part(plan)}"
    )


def _part(plan: Plan) -> str:
    if plan.lora.rank:
        base = "" if plan.lora.base == "full" else f" beside {plan.lora.base.upper()}"
        return f", LoRA of rank {plan.lora.rank}{base}"
    return f", {plan.trainable} alone" if plan.trainable else ""


def cells(plan: Plan, row: Row, unit: Any) -> list[str]:
    """A row of the table; sizes in GB."""
    found = row.found
    if found is None:
        fits = ["no"] if plan.device_bytes is not None else []
        return [_label(row), *[""] * (9 + (unit is not None)), *fits]
    names = ("parameters", "state", "temporaries", "step", "run", "check")
    shown = [_number(found.gradient_evaluations)]
    shown += [_number(getattr(found, name) / 1e9) for name in names]
    shown += [_number(found.flops / 1e12), _number(sum(found.sent.values()) / 1e9)]
    if unit is not None:
        shown.append(_number(found.step / unit.step))
    if plan.device_bytes is not None:
        most = max(found.run, found.check)
        shown.append("yes" if most <= plan.device_bytes else "no")
    return [_label(row), *shown]


def as_json(plan: Plan, found: Sequence[Row]) -> dict[str, Any]:
    """Everything, in bytes and FLOPs of one device and one update."""
    import jax

    def one(row: Row) -> dict[str, Any]:
        values = row.found._asdict() if row.found else {"problem": row.problem}
        return {"method": row.method, **row.options, **values}

    return {
        "plan": plan,
        "jax": jax.__version__,
        "compiler": f"tpu {plan.tpu}" if plan.tpu else jax.default_backend(),
        "rows": [one(row) for row in found],
    }


def _number(x: float) -> str:
    """Three digits or more.

    >>> _number(0.0123), _number(3.14159), _number(1434.48), _number(12)
    ('0.01', '3.14', '1,434', '12')
    """
    if x >= 100 or x == round(x):
        return f"{x:,.0f}"
    return f"{x:.2f}" if x < 10 else f"{x:.1f}"


def _label(row: Row) -> str:
    options = ", ".join(row.options.values())
    label = f"{row.method}: {options}" if options else row.method
    return label.replace("finite_difference", "differences")
