"""A run from its configuration to its report, in every domain."""

from typing import Any

from rich.markup import escape

from experiments.config.common import Run
from experiments.config.refuse import check_run
from experiments.domains.of import domain_of
from experiments.pipeline.pipeline import Pipeline
from experiments.pipeline.tuning import tuned, tuned_elsewhere
from experiments.report import content, tables, write
from experiments.shell import console
from experiments.stages.files import to_json, write_json
from ofmu_jax import _disk
from ofmu_jax.parallel.distributed import is_main


def execute(run: Run) -> dict[str, Any]:
    """Trains, unlearns, evaluates; writes and prints the report, and returns it.

    Raises:
      ValueError: options that do not fit, or data that cannot be read.
      FloatingPointError: the training of a target or a reference diverged.
    """
    run = configured(run)
    trials: dict[str, Any] = {}
    with console.progress() as progress:
        pipeline = begun(run, progress)
        if pipeline.run.tune:
            pipeline, trials = tuned(pipeline)
        run, domain = pipeline.run, pipeline.domain
        write_json(run.output_dir / "config.json", recipe(run))
        models = list(pipeline.models())
    found = content.report_content(domain, models, trials)
    if is_main():
        show(write.write_report(run.output_dir, found)[1], found)
    return found


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


def begun(run: Run, progress: Any) -> Pipeline:
    """The pipeline of a run that can work, its base trained if it has one."""
    domain = domain_of(run)
    domain.run.output_dir.mkdir(parents=True, exist_ok=True)
    for note in domain.refuse():
        console.note(note)
    return Pipeline(domain, progress).based()


def show(page: Any, found: dict[str, Any]) -> None:
    """Prints the table, the claims and the notes of a report."""
    console.console.print(tables.console_table(found))
    for claim in found["claims"]:
        mark = "[green]yes[/]" if claim["holds"] else "[red]no [/]"
        line = f"{claim['text']} ({claim['evidence']})"
        console.console.print(f"{mark} {escape(line)}", highlight=False)
    for note in found["notes"]:
        console.note(note)
    console.console.print(f"Report: {page}", highlight=False, soft_wrap=True)
