"""Values of a run that cannot work, refused before anything is trained."""

import math
import pathlib
import re
from collections.abc import Iterator

import jax

from experiments.config.language import LanguageRun
from experiments.domains.language import job, method, rows
from experiments.domains.language.task import LanguageTask
from ofmu_jax.data.language.records import QA, DataError, UnlearningData
from ofmu_jax.parallel import sharding

FORGET_TARGETS = ("reference", "chance", "auto", "none")


def check_values(run: LanguageRun) -> None:
    """Refuses numbers out of range or not finite, and words that are not known.

    Only the methods that the run uses are looked at.

    Raises:
      ValueError: naming the option, its value, and what it must be.
    """
    run.check()
    target = run.budget.forget_target
    try:
        known = target in FORGET_TARGETS or math.isfinite(float(target))
    except ValueError:
        known = False
    if not known:
        raise ValueError(
            f"--budget.forget-target is {target}; it must be "
            f"{', '.join(FORGET_TARGETS)} or a number of nats per token."
        )
    for name in run.methods:
        for problem in run.specs[name].unfit(run.method(name), run.dtype):
            raise ValueError(problem)
    _check_output(run.output_dir)
    _check_models(run)


def notes(run: LanguageRun) -> Iterator[str]:
    """What a run may do and its user should know."""
    given = run.model or run.base_model
    for name in run.methods:
        yield from run.specs[name].cautions(run.method(name), run.dtype, given)


def check_work(task: LanguageTask, run: LanguageRun, data: UnlearningData) -> None:
    """Looks ahead, so that nothing is refused after hours of training.

    Builds every method and encodes every text that the run will use.

    Raises:
      ValueError: a budget that is too small for one update of a method, or a
        configuration that does not work.
      DataError: naming the set, the row (from 1), the reason and the remedy.
    """
    for name in run.methods:
        job.num_updates(name, run, task)
    check_part(task, run)
    data = rows.limited(data, run.evaluation.max_rows)
    known: set[QA] = set()
    for field in ("forget", "retain", "full", *rows.EVALUATED):
        for number, row in enumerate(getattr(data, field), 1):
            pairs = [QA(row.question, text) for text in _answers(field, row)]
            try:
                task.encode([pair for pair in pairs if pair not in known])
            except DataError as error:
                reason = re.sub("^row [0-9]+: ", "", str(error))
                raise DataError(f"{field} set, row {number}: {reason}") from None
            known.update(pairs)


def check_part(task: LanguageTask, run: LanguageRun) -> None:
    """Refuses a part of the parameters that a method cannot change.

    Raises:
      ValueError: if the part is none, or a method has no gradient there.
    """
    part = method.part_of(run)
    if part is None:
        return
    option = "--trainable" if run.lora.rank == 0 else "--lora.targets"
    try:
        trainable, _ = jax.eval_shape(part.split, task.outline())
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
    paths = [sharding.name_of(path) for path, _ in jax.tree.leaves_with_path(trainable)]
    if any(path.startswith(("layers/", "embed_tokens/")) for path in paths):
        return
    for name in run.methods:
        if run.specs[name].needs_hidden_fn:
            raise ValueError(
                f"{option}: {name} changes hidden states, on which {', '.join(paths)} "
                "have no effect; choose parameters of the layers."
            )


def _answers(field: str, row: QA) -> Iterator[str]:
    """What a row's question is put together with; answers alone where it trains."""
    yield row.answer
    if field in ("forget_eval", "retain_eval", "real_authors", "world_facts"):
        yield from row.perturbed_answers
        if row.paraphrased_answer is not None:
            yield row.paraphrased_answer


def _check_models(run: LanguageRun) -> None:
    """A given model where the run would write over it or move it away."""
    out = run.output_dir.resolve()
    for name, source in run.given_models.items():
        folder = pathlib.Path(source)
        if folder.is_dir() and folder.resolve().is_relative_to(out):
            raise ValueError(
                f"--{name.replace('_', '-')} {source} lies in --output-dir "
                f"{run.output_dir}, where this run writes: it could be lost. Choose "
                "another --output-dir."
            )


def _check_output(folder: pathlib.Path) -> None:
    """A file in the way of the output folder, or of one above it."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(
                f"--output-dir {folder}: {path} is a file; choose another folder."
            )
