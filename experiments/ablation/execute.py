"""An ablation from its options to its report."""

import dataclasses
from typing import Any, cast

from rich.markup import escape

from experiments.ablation import grid, report, runs
from experiments.ablation.grid import AblationOptions
from experiments.config.common import Run
from experiments.config.language import LanguageRun
from experiments.pipeline.execute import begun, configured
from experiments.pipeline.tuning import tuned
from experiments.shell import console
from ofmu_jax.parallel.distributed import is_main


def run_ablations(run: Run, options: AblationOptions) -> dict[str, Any]:
    """Runs what is missing; writes and prints the report, and returns its content.

    Raises:
      ValueError: for options that do not fit; a variant that cannot run is reported.
    """
    if not options.groups:
        raise ValueError("--groups is empty; give at least one, or leave it out.")
    methods = runs.needed_methods(options.groups)
    run = configured(dataclasses.replace(run, methods=methods, export=False))
    with console.progress() as progress:
        of = lambda at: grid.variants(cast(LanguageRun, at.run), options)
        planned = lambda domain: runs.planned(domain, options, of(domain))
        pipeline = begun(run, progress, planned=planned)
        if run.tune:
            pipeline, _ = tuned(pipeline)
        variants = of(pipeline)
        measured = runs.measure(pipeline, options, variants)
    found = report.content(pipeline.domain, options, variants, measured)
    if not is_main():
        return found
    page = report.write(run.output_dir, found)
    for table in (report.group_table(found), report.claims_table(found)):
        console.console.print(table)
    for key, reason in measured.not_run.items():
        console.console.print(f"[yellow]not run:[/] {escape(key)}: {escape(reason)}")
    console.console.print(f"Report: {page}", highlight=False, soft_wrap=True)
    return found
