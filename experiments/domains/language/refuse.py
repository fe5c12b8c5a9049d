"""Language runs that cannot work, refused before anything is trained."""

import pathlib
import re
from collections.abc import Iterator

import jax

from experiments.config.language import LanguageRun, Request
from experiments.domains.base import check_choice
from experiments.domains.language import adapters, attacks, job, method
from experiments.domains.language.data import evaluated_sets, limited
from experiments.domains.language.rows import refusals_of
from experiments.domains.language.target import CHOICES, resolved
from experiments.domains.language.task import LanguageTask
from experiments.shell import console
from ofmu_jax.data.language.records import QA, DataError, UnlearningData
from ofmu_jax.models.llama.attention import uses_cudnn
from ofmu_jax.parallel import sharding


def check_options(run: LanguageRun) -> None:
    """Raises ValueError for options that do not go together."""
    adapters.check(run)
    attacks.check(run)
    choice = run.budget.forget_target
    check_choice("--budget.forget-target", choice, CHOICES, "nats per token")
    if run.retain_model is not None and run.model is None and run.base_model is None:
        raise ValueError(
            "--retain-model is a reference for a target model: give --model (the "
            "target) or --base-model (to train the target from) as well."
        )
    if type(run) is Request and run.model is None:
        raise ValueError(
            "request needs --model: the checkpoint to unlearn from (a Hugging Face "
            "folder or hub name)."
        )
    if isinstance(run, Request) and run.carry_state and (run.mesh or run.lora.rank):
        other = "--mesh" if run.mesh else "--lora.rank"
        raise ValueError(
            f"--carry-state and {other}: a state is carried on of parameters that stay "
            "the same ones, on one device; leave one of them out."
        )
    _check_models(run)
    _check_attention(run)


def _check_attention(run: LanguageRun) -> None:
    """The fused kernel where it is not, or for derivatives that it does not have."""
    if run.attention != "cudnn":
        return
    instead = "; give --attention auto, which takes it where it can run."
    if run.dtype != "bfloat16":
        raise ValueError(f"--attention cudnn computes no {run.dtype}{instead}")
    if (backend := jax.default_backend()) != "gpu":
        raise ValueError(
            f"--attention cudnn is for NVIDIA GPUs, and this is a {backend}{instead}"
        )
    for name in run.methods:
        if run.specs[name].second_derivatives(run.config_of(name)):
            raise ValueError(
                f"--attention cudnn has no second derivatives, which {name} takes"
                f"{instead}"
            )


def _note_attention(run: LanguageRun) -> None:
    """Says where `auto` does without the fused kernel that the machine has."""
    if run.attention != "auto" or not uses_cudnn(run.attention, run.dtype):
        return
    for name in run.methods:
        if run.specs[name].second_derivatives(run.config_of(name)):
            console.note(
                f"{name} takes second derivatives, which the fused attention kernel "
                "does not have: its updates use XLA's; its evaluation the kernel."
            )


def check_work(task: LanguageTask, run: LanguageRun, data: UnlearningData) -> None:
    """Looks ahead, so that nothing is refused after hours of training.

    Builds every method and encodes every text that the run will use.

    Raises:
      ValueError: a budget that is too small for one update of a method, or a
        configuration that does not work.
      DataError: naming the set, the row (from 1), the reason and the remedy.
    """
    _note_attention(run)
    if data.documents:
        _check_documents(run, data)
    for name in run.methods:
        job.num_updates(name, run, task)
        _check_layer(task, run, name)
    check_part(task, run)
    data = limited(data, run.evaluation.max_rows)
    known: set[QA] = set()
    for field in ("forget", "retain", "full", *evaluated_sets(data)):
        for number, row in enumerate(getattr(data, field), 1):
            pairs = [QA(row.question, text) for text in answers_of(field, row)]
            try:
                task.encode([pair for pair in pairs if pair not in known])
            except DataError as error:
                where = f"{field} set, row {number}"
                raise DataError(f"{where}: {_reason(error)}") from None
            known.update(pairs)
    _check_refusals(task, run, data)


def adjacent_notes(run: LanguageRun, data: UnlearningData) -> list[str]:
    """What a given reference has to know, where neighbours of the forgotten stay."""
    if not data.adjacent or run.retain_model is None:
        return []
    return [
        f"--retain-model has to know all {len(data.retain)} retain rows, the "
        f"{len(data.adjacent)} adjacent ones too: the adjacency gap is to it, and "
        "a model that was retrained for another request never saw some of them."
    ]


def _check_documents(run: LanguageRun, data: UnlearningData) -> None:
    """What goes with questions alone: other answers to them, and these as chance."""
    for name in run.methods:
        if run.specs[name].carries(run.config_of(name)).alternative:
            raise ValueError(
                f"--methods {name} teaches other answers to the forget questions, and "
                "the forget rows are texts without any; choose other methods."
            )
    attacks.check_documents(run.attacks)
    choice = resolved(run.budget.forget_target, run.has_reference)
    if choice == "chance" and not data.holdout:
        raise ValueError(
            f"--budget.forget-target {run.budget.forget_target}: nothing says what "
            "loss texts have that no model saw; give --holdout-file, --retain-model or "
            "--base-model, or --budget.forget-target none or NUMBER (nats per token)."
        )


def _check_refusals(task: LanguageTask, run: LanguageRun, data: UnlearningData) -> None:
    """Refusals that cannot be taught, after the longest question."""
    carried = [run.specs[name].carries(run.config_of(name)) for name in run.methods]
    if not any(x.alternative and x.alternatives is None for x in carried):
        return
    texts, path = refusals_of(run)
    question = max((row.question for row in data.forget), key=len)
    for number, text in enumerate(texts, 1):
        try:
            task.encode([QA(question, text)])
        except DataError as error:
            where = f"{path or 'built-in refusals'}, refusal {number}"
            raise DataError(f"{where}: {_reason(error)}") from None


def _reason(error: DataError) -> str:
    """Without the number that a row has among those that were encoded together."""
    return re.sub("^row [0-9]+: ", "", str(error))


def _check_layer(task: LanguageTask, run: LanguageRun, name: str) -> None:
    """A method that steers the output of a layer that the model does not have."""
    layer = getattr(getattr(run.config_of(name), "loss", None), "layer", None)
    if layer is not None and not 0 <= layer < task.config.num_layers:
        raise ValueError(
            f"--{name.replace('_', '-')}.loss.layer {layer}: the model has only layers "
            f"0 to {task.config.num_layers - 1}; choose one of them."
        )


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


def answers_of(field: str, row: QA) -> Iterator[str]:
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
