"""``python -m experiments.ablations [demo | tofu] [options]``."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro
from rich.markup import escape

from experiments.ablation.grid import AblationOptions
from experiments.config.language import Demo, LanguageRun, Tofu
from experiments.shell import arguments as commands

NO_PREFIX = tyro.conf.arg(name="")
OPTIONS, DEMO, TOFU = AblationOptions(), Demo(), Tofu()
MODULE = "experiments.ablations"
DESCRIPTION = """OFMU's parts, one change at a time, and the paper's three claims.

Every variant gets the budget, the seeds and the models of the run that the options
configure, which are those of experiments.run. Leaves ablations.json and ablations.html
in --output-dir. Models and finished variants there are used, not made again: run it
again to go on where it stopped. --methods and --export mean nothing here; --tune N
tunes the methods first, and what is varied is the tuned configuration."""


@dataclasses.dataclass(frozen=True)
class DemoAblations:
    """On built-in fictitious people, with a small model trained on the spot."""

    ablation: Annotated[AblationOptions, NO_PREFIX] = OPTIONS
    run: Annotated[Demo, NO_PREFIX] = DEMO


@dataclasses.dataclass(frozen=True)
class TofuAblations:
    """On the authors of a TOFU forget split."""

    ablation: Annotated[AblationOptions, NO_PREFIX] = OPTIONS
    run: Annotated[Tofu, NO_PREFIX] = TOFU


Command = (
    Annotated[DemoAblations, tyro.conf.subcommand("demo")]
    | Annotated[TofuAblations, tyro.conf.subcommand("tofu")]
)


def parse(arguments: Sequence[str]) -> DemoAblations | TofuAblations:
    """What the command line asks for; exits with a message if it is wrong."""
    return commands.parsed(Command, MODULE, DESCRIPTION, arguments)


def run_ablations(run: LanguageRun, options: AblationOptions) -> dict[str, Any]:
    """Runs what is missing; writes and prints the report, and returns its content.

    Raises:
      ValueError: for options that do not fit; a variant that cannot run is reported.
    """
    from experiments.ablation import grid, report, runs
    from experiments.domains.language import refuse
    from experiments.pipeline.execute_language import (
        check_run,
        configured,
        load_data,
        make_pipeline,
    )
    from experiments.pipeline.tuning import tuned
    from experiments.shell import console
    from ofmu_jax.parallel.distributed import is_main

    if not options.groups:
        raise ValueError("--groups is empty; give at least one, or leave it out.")
    methods: Any = runs.needed_methods(options.groups)
    run = dataclasses.replace(run, methods=methods, export=False)
    check_run(run)
    run = configured(run)
    refuse.check_values(run)
    data, title = load_data(run)
    run.output_dir.mkdir(parents=True, exist_ok=True)
    with console.progress() as progress:
        pipeline = make_pipeline(run, data, progress)
        refuse.check_work(pipeline.task, run, data)
        if run.tune:
            run, _ = tuned(pipeline)
            pipeline = pipeline.variant(run, data)
        variants = grid.variants(run, options)
        measured = runs.measure(pipeline, options, variants)
    found = report.content(run, options, data, title, variants, measured)
    if not is_main():
        return found
    page = report.write(run.output_dir, found)
    for table in (
        report.group_table(found),
        report.claims_table(found),
    ):
        console.console.print(table)
    for key, reason in measured.not_run.items():
        console.console.print(f"[yellow]not run:[/] {escape(key)}: {escape(reason)}")
    console.console.print(f"Report: {page}", highlight=False, soft_wrap=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = parse(arguments)
    work = lambda: _run(command.run, command.ablation)
    return commands.status(work, MODULE, arguments, command.run.output_dir)


def _run(run: LanguageRun, options: AblationOptions) -> None:
    from experiments.domains.language import mesh
    from experiments.stages import lock

    mesh.join(run)
    with lock.held(run.output_dir):
        run_ablations(run, options)


if __name__ == "__main__":
    sys.exit(main())
