"""``python -m experiments.ablations [demo | tofu] [options]``."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro
from rich.markup import escape

from experiments import commands
from experiments.ablation_grid import AblationOptions
from experiments.recipes import Demo, LanguageRun, Tofu

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
    from experiments import (
        ablation_grid,
        ablation_report,
        ablation_runs,
        checks,
        logs,
    )
    from experiments.language_run import (
        check_run,
        configured,
        load_data,
        make_pipeline,
    )
    from experiments.tuning import tuned
    from ofmu_jax.distributed import is_main

    if not options.groups:
        raise ValueError("--groups is empty; give at least one, or leave it out.")
    methods: Any = ablation_runs.needed_methods(options.groups)
    run = dataclasses.replace(run, methods=methods, export=False)
    check_run(run)
    run = configured(run)
    checks.check_values(run)
    data, title = load_data(run)
    run.output_dir.mkdir(parents=True, exist_ok=True)
    with logs.progress() as progress:
        pipeline = make_pipeline(run, data, progress)
        checks.check_work(pipeline.task, run, data)
        if run.tune:
            run, _ = tuned(pipeline)
            pipeline = pipeline.variant(run, data)
        variants = ablation_grid.variants(run, options)
        measured = ablation_runs.measure(pipeline, options, variants)
    found = ablation_report.content(run, options, data, title, variants, measured)
    if not is_main():
        return found
    page = ablation_report.write(run.output_dir, found)
    for table in (
        ablation_report.group_table(found),
        ablation_report.claims_table(found),
    ):
        logs.console.print(table)
    for key, reason in measured.not_run.items():
        logs.console.print(f"[yellow]not run:[/] {escape(key)}: {escape(reason)}")
    logs.console.print(f"Report: {page}", highlight=False, soft_wrap=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = parse(arguments)
    work = lambda: _run(command.run, command.ablation)
    return commands.status(work, MODULE, arguments, command.run.output_dir)


def _run(run: LanguageRun, options: AblationOptions) -> None:
    from experiments import locks, scale

    scale.join(run)
    with locks.held(run.output_dir):
        run_ablations(run, options)


if __name__ == "__main__":
    sys.exit(main())
