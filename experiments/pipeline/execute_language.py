"""A language run from its configuration to its report."""

import dataclasses

from rich.markup import escape
from rich.progress import Progress

from experiments.config.language import Demo, LanguageRun, Request, Tofu
from experiments.domains.language import method, refuse, target
from experiments.domains.language.task import LanguageTask
from experiments.pipeline.language import Pipeline
from experiments.pipeline.tuning import tuned, tuned_elsewhere
from experiments.report import content as findings
from experiments.report import tables, write
from experiments.shell import console
from ofmu_jax.data.language.fictitious import fictitious_people
from ofmu_jax.data.language.records import UnlearningData
from ofmu_jax.data.language.tofu import load_custom, load_tofu
from ofmu_jax.parallel import sharding
from ofmu_jax.parallel.distributed import is_main


def load_data(run: LanguageRun) -> tuple[UnlearningData, str]:
    """The data of a run and the title of its report.

    Raises:
      DataError: malformed or missing files; the message names row and reason.
    """
    match run:
        case Demo():
            data = fictitious_people(run.data_seed, run.people, run.forget_people)
            title = f"Forgetting {run.forget_people} of {run.people} fictitious people"
        case Tofu():
            data = load_tofu(
                run.split,
                run.data_dir,
                allow_overlap=run.allow_overlap,
                max_retain=run.max_retain,
                holdout_from_rest=run.model is None,
            )
            title = f"TOFU {run.split}"
            scratch = run.model is None and run.base_model is None
            if run.general_knowledge and scratch:
                data = with_general_knowledge(data)
            data = _with_pretraining(data, run.pretrain_epochs, scratch)
        case Request():
            data = load_custom(
                run.forget_file,
                run.retain_file,
                holdout_file=run.holdout_file,
                allow_overlap=run.allow_overlap,
            )
            title = f"Deletion request {run.forget_file.name}"
        case _:
            raise TypeError(f"unknown run {type(run).__name__}")
    return data, title


def with_general_knowledge(data: UnlearningData) -> UnlearningData:
    """The rows on real authors and world facts, first among the retain rows."""
    general = data.real_authors + data.world_facts
    retain, full = general + data.retain, general + data.full
    return dataclasses.replace(data, retain=retain, full=full)


def _with_pretraining(
    data: UnlearningData, epochs: int, scratch: bool
) -> UnlearningData:
    """The data with the rows to pretrain on, if that is asked for."""
    if epochs == 0:
        return dataclasses.replace(data, pretraining=())
    if not scratch or not data.pretraining:
        raise ValueError(
            f"--pretrain-epochs {epochs} is for models that are trained from scratch, "
            "on the rows that --max-retain leaves out; give --max-retain and neither "
            "--model nor --base-model, or 0 epochs."
        )
    return data


def make_pipeline(
    run: LanguageRun, data: UnlearningData, progress: Progress
) -> Pipeline:
    """The stages of a run; pretrains the base of its models if the run asks for it."""
    pipeline = Pipeline(run, data, progress)
    if isinstance(run, Tofu) and data.pretraining:
        pipeline = pipeline.pretrained(run.pretrain_epochs)
    return pipeline


def configured(run: LanguageRun) -> LanguageRun:
    """The run with the methods' configurations that it takes from elsewhere."""
    run = run.in_paper()
    if run.tuned_from is not None:
        run = tuned_elsewhere(run, run.tuned_from)
    return run


def run_language(run: LanguageRun) -> dict:
    """Trains, unlearns, evaluates; writes and prints the report, and returns it."""
    check_run(run)
    run = configured(run)
    refuse.check_values(run)
    for note in refuse.notes(run):
        console.note(note)
    data, title = load_data(run)
    run.output_dir.mkdir(parents=True, exist_ok=True)
    trials = {}
    with console.progress() as progress:
        pipeline = make_pipeline(run, data, progress)
        refuse.check_work(pipeline.task, run, data)
        note_chance(run, data)
        note_replicated(pipeline.task)
        if run.tune:
            run, trials = tuned(pipeline)
            pipeline = pipeline.variant(run, data)
        findings.write_config(run.output_dir, run)
        models = list(pipeline.models())
    content = findings.report_content(run, data, models, title, trials)
    if not is_main():
        return content
    _, page = write.write_report(run.output_dir, content)
    console.console.print(tables.console_table(content))
    for claim in content["claims"]:
        mark = "[green]yes[/]" if claim["holds"] else "[red]no [/]"
        line = f"{claim['text']} ({claim['evidence']})"
        console.console.print(f"{mark} {escape(line)}", highlight=False)
    for note in content["notes"]:
        console.note(note)
    console.console.print(f"Report: {page}", highlight=False, soft_wrap=True)
    return content


def note_chance(run: LanguageRun, data: UnlearningData) -> None:
    """Says so where the forget target has nothing better to come from."""
    choice = target.resolved(run.budget.forget_target, run.has_reference)
    if choice == "chance" and target.chance_pairs(data)[1] == target.UNRELATED:
        console.note(
            "with neither a retrained model nor hold-out rows nor "
            "perturbed answers, forget rows count as forgotten where their loss is "
            "that of answers to other questions: a high level, which may cost utility. "
            "Better: --retain-model, --holdout-file, or --budget.forget-target NUMBER "
            "(nats per token)."
        )


def note_replicated(task: LanguageTask) -> None:
    """Names matrices that the mesh cannot divide: every device holds them whole."""
    if task.mesh is None:
        return
    if names := sharding.replicated(task.outline(), task.mesh):
        console.note(
            f"--mesh {dict(task.mesh.shape)} divides no "
            f"dimension of {', '.join(names)}: every device holds them whole. Choose "
            "sizes that divide them."
        )


def check_run(run: LanguageRun) -> None:
    """Raises ValueError for options that do not go together."""
    if run.tuned_from is not None and (run.tune or run.paper):
        other = "--tune" if run.tune else "--paper"
        raise ValueError(
            f"--tuned-from takes configurations from an earlier run and {other} makes "
            "others; leave one of them out."
        )
    stray = [name for name in run.tuned_except if name not in run.methods]
    if stray or (run.tuned_except and run.tuned_from is None):
        raise ValueError(
            f"--tuned-except {' '.join(run.tuned_except)} leaves methods of the run "
            "as they are in spite of --tuned-from: name some of --methods and give "
            "--tuned-from, or leave it out."
        )
    method.part_of(run)
    if run.retain_model is not None and run.model is None and run.base_model is None:
        raise ValueError(
            "--retain-model is a reference for a target model: give --model (the "
            "target) or --base-model (to train the target from) as well."
        )
    if isinstance(run, Request) and run.model is None:
        raise ValueError(
            "request needs --model: the checkpoint to unlearn from (a Hugging Face "
            "folder or hub name)."
        )
