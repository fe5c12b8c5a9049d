"""A run from its configuration to its report, in every domain."""

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from rich.markup import escape

from experiments.config.common import Run
from experiments.config.refuse import check_run
from experiments.deletion.record import KEY, key_of
from experiments.domains.base import Domain
from experiments.domains.of import domain_of
from experiments.pipeline import hub
from experiments.pipeline.pipeline import Pipeline
from experiments.pipeline.planned import stages
from experiments.pipeline.tuning import trials, tuned, tuned_elsewhere
from experiments.report import content, tables, words, write
from experiments.shell import command_line, console
from experiments.shell.heartbeat import Stages
from experiments.stages.files import to_json, write_json
from experiments.stages.trackers import registry
from ofmu_jax import _disk
from ofmu_jax.parallel.distributed import is_main

# Of a badge on the page, on a console.
COLOURS = {"good": "green", "note": "yellow", "bad": "red"}


def execute(run: Run) -> dict[str, Any]:
    """Trains, unlearns, evaluates; writes and prints the report, and returns it.

    Raises:
      ValueError: options that do not fit, or data that cannot be read.
      FloatingPointError: the training of a target or a reference diverged.
    """
    page, found = carried_out(configured(run))
    if page is not None:
        show(page, found)
    exports = [m["export"] for m in found["models"] if m["role"] == "unlearned"]
    export = exports[0] and run.output_dir / exports[0]
    hub.push(run, export, failed=status(found) != 0)
    return found


def carried_out(
    run: Run,
    progress: Stages | None = None,
    planned: Callable[[Domain], Mapping[str, int]] = stages,
) -> tuple[pathlib.Path | None, dict[str, Any]]:
    """`execute` of a run that is `configured`, without a word about its result.

    Args:
      progress: of several runs that this is one of; default: its own.
      planned: stages by kind, those of tuning left out.

    Returns:
      The page, None in all processes but the first, and the report.
    """
    tried: dict[str, Any] = {}
    own = console.progress() if progress is None else contextlib.nullcontext(progress)
    with own as progress:
        pipeline = begun(run, progress, planned=planned)
        if pipeline.run.tune:
            pipeline, tried = tuned(pipeline)
        run, domain = pipeline.run, pipeline.domain
        write_json(run.output_dir / "config.json", recipe(run))
        models = list(pipeline.models())
        progress.add_task("report", total=None, note="")
        found = write.complete(content.report_content(domain, models, tried))
        page = write.write_report(run.output_dir, found)[1] if is_main() else None
    return page, found


def status(found: Mapping[str, Any]) -> int:
    """The exit status of a run with such a report: `NOT_REACHED` where no method did.

    A comparison of methods has its result if one of them forgot, whatever became of
    the others; a single method that did not is no result.
    """
    failed = [verdict["failed"] for verdict in found["verdicts"]]
    return command_line.NOT_REACHED if failed and all(failed) else 0


def configured(run: Run) -> Run:
    """The run with the methods' configurations that it takes from elsewhere.

    Raises:
      ValueError: naming the option, its value, and what it must be.
    """
    check_run(run)
    _disk.check_name(run.output_dir, "--output-dir ")
    run = run.in_paper()
    if run.tuned_from is not None:
        run = tuned_elsewhere(run, run.tuned_from)
    check_run(run)
    registry.check(run.trackers)
    for note in cautions(run):
        console.note(note)
    return run


def recipe(run: Run) -> dict[str, Any]:
    """Every choice of a run, with the name of its command, as JSON values."""
    return {"command": run.command, **to_json(run)}


def cautions(run: Run) -> list[str]:
    """What the methods of a run may do and its user should know."""
    return [
        note
        for name in run.methods
        for note in run.specs[name].cautions(
            run.config_of(name), run.dtype, run.pretrained
        )
    ]


def begun(
    run: Run,
    progress: Stages,
    *,
    planned: Callable[[Domain], Mapping[str, int]] = stages,
    domain: Domain | None = None,
) -> Pipeline:
    """The pipeline of a run that can work, its base trained if it has one.

    Args:
      planned: stages by kind, without those of tuning.
      domain: of the run, where it was made already.
    """
    domain = domain or domain_of(run)
    # Refused before anything is trained.
    if run.export and (run.output_dir / KEY).exists():
        key_of(run.output_dir)
    if run.tune:
        domain.validation(run.output_dir / "tuning")
    domain.run.output_dir.mkdir(parents=True, exist_ok=True)
    for note in domain.refuse():
        console.note(note)
    hub.prepare(run)
    pipeline = Pipeline(domain, progress)
    progress.plan(planned(domain))
    if run.tune:
        progress.plan(trials(domain.run))
    return pipeline.based()


def show(page: Any, found: dict[str, Any]) -> None:
    """Prints table, claims and notes of a report, and the verdicts in the last lines.

    Where there was nothing to forget, the first line says so.
    """
    if nothing := found["nothing_to_forget"]:
        console.result(words.nothing(nothing))
    console.console.print(tables.console_table(found))
    for claim in found["claims"]:
        mark = "[green]yes[/]" if claim["holds"] else "[red]no [/]"
        line = f"{claim['text']} ({claim['evidence']})"
        console.console.print(f"{mark} {escape(line)}", highlight=False)
    for note in found["notes"]:
        console.result(f"note: {note}")
    console.result(f"Report: {page}")
    for verdict in found["verdicts"]:
        card = words.card(verdict, found)
        chips = (f"[{COLOURS[kind]}]{escape(text)}[/]" for kind, text in card["chips"])
        head = f"{escape(card['label'])}: {', '.join(chips)}."
        text = escape(" ".join(card["sentences"]))
        console.console.print(f"{head} {text}", highlight=False, soft_wrap=True)
