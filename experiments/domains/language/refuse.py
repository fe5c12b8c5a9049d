"""Values of a run that cannot work, refused before anything is trained."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

from experiments.config.language import (
    Baseline,
    BudgetConfig,
    Demo,
    EvalConfig,
    LanguageRun,
    LoraConfig,
    ModelConfig,
    OfmuConfig,
    Tofu,
    TrainConfig,
)
from experiments.domains.language import job, method, rows
from experiments.domains.language.task import LanguageTask
from ofmu_jax.data.language.records import QA, DataError, UnlearningData
from ofmu_jax.methods import METHODS
from ofmu_jax.parallel import sharding

Rule = Callable[[Any], str | None]  # value -> what it must be, if it is not


def at_least(least: float) -> Rule:
    """A number from ``least`` on, or None."""
    return lambda x: None if x is None or x >= least else f"at least {least:g}"


def above_zero(x: float | None) -> str | None:
    """A number above 0, or None."""
    return None if x is None or x > 0 else "above 0"


def share(x: float) -> str | None:
    """A number from 0 to 1."""
    return None if 0 <= x <= 1 else "between 0 and 1"


def forget_target(text: str) -> str | None:
    """A word that `experiments.domains.language.target` knows, or a finite number."""
    words = ("reference", "chance", "auto", "none")
    try:
        good = text in words or math.isfinite(float(text))
    except ValueError:
        good = False
    return None if good else f"{', '.join(words)} or a number of nats per token"


RULES: dict[type, dict[str, Rule]] = {
    ModelConfig: dict.fromkeys(
        (
            "hidden_size",
            "intermediate_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "vocab_size",
        ),
        at_least(1),
    ),
    TrainConfig: {
        "epochs": at_least(1),
        "batch_size": at_least(1),
        "learning_rate": above_zero,
        "weight_decay": at_least(0),
        "warmup_fraction": share,
    },
    BudgetConfig: {
        "gradient_evaluations": at_least(1),
        "batch_size": at_least(1),
        "checks": at_least(1),
        "patience": at_least(1),
        "check_rows": at_least(1),
        "forget_target": forget_target,
    },
    OfmuConfig: {
        "ceiling": above_zero,
        "npo_beta": above_zero,
        "simnpo_beta": above_zero,
        "inner_steps": at_least(1),
        "inner_learning_rate": above_zero,
        "inner_max_step": above_zero,
        "outer_steps": at_least(1),
        "outer_learning_rate": above_zero,
        "weight_decay": at_least(0),
        "beta": at_least(0),
        "rho": at_least(0),
        "rho_growth": above_zero,
        "penalty_clip": above_zero,
    },
    LoraConfig: {"rank": at_least(0), "alpha": above_zero},
    Baseline: {"learning_rate": above_zero, "weight_decay": at_least(0)},
    EvalConfig: {
        "batch_size": at_least(1),
        "max_new_tokens": at_least(1),
        "max_rows": at_least(1),
        "bootstrap": at_least(1),
    },
    LanguageRun: {
        "max_length": at_least(2),
        "tune": at_least(0),
        "loss_chunk": at_least(0),
    },
    Demo: {"people": at_least(2), "forget_people": at_least(1)},
    Tofu: {"max_retain": at_least(1)},
}


def check_values(run: LanguageRun) -> None:
    """Refuses numbers out of range or not finite, and names that are not known.

    Only the methods that the run uses are looked at.

    Raises:
      ValueError: naming the option, its value, and what it must be.
    """
    for name in run.methods:
        if name != "ofmu" and name not in METHODS:
            known = ", ".join(("ofmu", *METHODS))
            raise ValueError(f"--methods has {name!r}; known methods: {known}.")
    for seed in run.seeds:
        if not 0 <= seed < 2**32:
            raise ValueError(
                f"--seeds has {seed}; give numbers from 0 to 2**32 - 1, such as 0 1 2."
            )
    for option, config in _configs(run):
        for name, problem in _problems(config):
            flag = "--" + ".".join((*option, name)).replace("_", "-")
            raise ValueError(
                f"{flag} is {getattr(config, name)}; it must be {problem}."
            )
    _check_dtype(run)
    _check_output(run.output_dir)
    _check_models(run)


def differences(config: OfmuConfig) -> dict[str, str]:
    """Options by which OFMU divides a difference of gradients by a small step.

    Field to what gives the derivative itself; only of those that are in effect.
    """
    exact = {"curvature": "jvp", "penalty_gradient": "exact"}
    weights = {"curvature": config.beta, "penalty_gradient": config.rho}
    return {
        name: remedy
        for name, remedy in exact.items()
        if weights[name] and getattr(config, name) == "finite_difference"
    }


def notes(run: LanguageRun) -> Iterator[str]:
    """What a run may do and its user should know."""
    ours = run.ofmu
    secant = ours.rho and ours.penalty_gradient == "secant"
    if run.dtype == "bfloat16" and "ofmu" in run.methods and secant:
        yield (
            "--ofmu.penalty-gradient secant subtracts gradients of two ascent steps, "
            "and --dtype bfloat16 rounds each to 3 digits: with short steps little but "
            "noise is left of the penalty. --ofmu.penalty-gradient exact and --dtype "
            "float32 do without."
        )


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
        if name != "ofmu" and METHODS[name].needs_hidden_fn:
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


def _configs(run: LanguageRun) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The run and the configurations in it, each with the words of its options."""
    yield (), run
    for name in ("model_size", "train", "lora", "budget", "evaluation"):
        yield (name,), getattr(run, name)
    for name in run.methods:
        yield (name,), run.method(name)
        if name != "ofmu":
            yield (name, "loss"), run.method(name).loss


def _problems(config: Any) -> Iterator[tuple[str, str]]:
    """(field, what it must be) of what is wrong."""
    rules: dict[str, Rule] = {}
    for kind in type(config).__mro__:
        rules = RULES.get(kind, {}) | rules
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            yield field.name, "a finite number"
        elif field.name in rules and (problem := rules[field.name](value)):
            yield field.name, problem


def _check_dtype(run: LanguageRun) -> None:
    """Differences of gradients where the model rounds the step between them away."""
    if run.dtype != "bfloat16" or "ofmu" not in run.methods:
        return
    for name, exact in differences(run.ofmu).items():
        flag = f"--ofmu.{name.replace('_', '-')}"
        raise ValueError(
            f"{flag} finite_difference compares gradients at parameters that differ "
            "by less than --dtype bfloat16 can tell: the model rounds them, and noise "
            f"is left; give {flag} {exact}, or --dtype float32."
        )


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
