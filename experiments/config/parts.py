"""Settings that a run is put together from: sizes, budgets, methods, evaluation.

The text after each field is its help on the command line.
"""

import dataclasses
from typing import Any, Literal

from experiments.config.common import BatchSize, group_of
from ofmu_jax.bounds import Count, NotNegative, NotNegativeInt, Positive, Share
from ofmu_jax.methods import METHODS, Lora
from ofmu_jax.methods.ofmu import NAME

# OFMU's configuration is a field of the run itself.
BASELINES = {name: spec for name, spec in METHODS.items() if name != NAME}
UNBOUNDED = ("grad_diff", "pcgrad", "gru")  # whose forget loss nothing else holds back
Baselines: Any = group_of("Baselines", BASELINES)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Size of a Llama trained from scratch (not used where a model is given)."""

    hidden_size: Count = 96
    intermediate_size: Count = 256
    num_layers: Count = 2
    num_heads: Count = 4
    num_kv_heads: Count = 2
    vocab_size: Count = 2048
    """Of the tokenizer built from the data, at most."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Fine-tuning of the target on all rows and of the reference on retain rows."""

    epochs: Count = 20
    batch_size: BatchSize = 32
    learning_rate: Positive = 3e-3
    weight_decay: NotNegative = 0.01
    warmup_fraction: Share = 0.1


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters that are unlearned in place of the parameters."""

    rank: NotNegativeInt = 0
    """Of the adapters; 0: none, the parameters themselves are changed."""
    alpha: Positive = Lora.alpha
    """An adapter's product counts alpha / rank times."""
    targets: str = Lora.targets
    """Regular expression: paths of the matrices that get one."""
    dtype: Literal["float32", "bfloat16"] = Lora.dtype
    """Of the adapters and the optimizer's state; small steps are lost in bfloat16."""
    base: Literal["full", "nf4"] = "full"
    """What the given model's projections are kept in: full, float32; nf4, 4-bit
    NormalFloat (QLoRA), an eighth of the memory, which needs --model."""
    export_adapter: bool = False
    """Write the adapter in PEFT's format as well, to hf/adapter; needs --model."""

    @property
    def unmerged(self) -> bool:
        """Whether adapters stay beside the weights, in scores as in training."""
        return self.base != "full" or self.export_adapter


@dataclasses.dataclass(frozen=True)
class BudgetConfig:
    """What every method gets alike."""

    gradient_evaluations: Count = 600
    """In gradients of one minibatch; a step of gradient ascent is 1."""
    batch_size: BatchSize = 16
    checks: Count = 30
    """How often the stopping rule looks, evenly over the budget."""
    patience: Count = 15
    """Checks that do not improve, once the target is met, before it stops."""
    forget_target: str = "auto"
    """Mean NLL the forget rows must reach: reference, chance, auto, none or nats."""
    check_rows: Count = 256
    """Retain rows in a check, at most."""


def small_models() -> Any:
    """Rates for small models that are trained from scratch; losses as published.

    Their rates have no warm-up, as in the results that are published here. A layer in
    the middle takes the place of RMU's, which lies beyond such a model, and AltPO's
    alternatives are drawn, hot, as such a model follows no instructions.
    """
    fields: dict[str, Any] = {}
    for name, spec in BASELINES.items():
        loss = spec.config.loss
        if spec.needs_hidden_fn:
            loss = dataclasses.replace(loss, layer=1)
        if name == "altpo":
            loss = dataclasses.replace(loss, alternatives="sampled", temperature=1.5)
        rate = 1e-4 if name in UNBOUNDED else 3e-4
        fields[name] = dataclasses.replace(
            spec.config, loss=loss, learning_rate=rate, warmup_steps=0
        )
    return Baselines(**fields)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Size and conventions of the evaluation."""

    batch_size: BatchSize = 64
    """Prompts that are read, and texts that are scored or written, at once."""
    max_new_tokens: Count = 48
    """Of the greedy answers that ROUGE is computed on."""
    max_rows: Count | None = None
    """Rows of each evaluation set, evenly spaced; None: all."""
    prefix_tokens: Count = 50
    """Of a document's block, which the model continues by at most --evaluation.\
max-new-tokens; answers to questions have none."""
    interior_eot: Literal["correct", "compat"] = "correct"
    """correct: every token is seen; compat: end-of-turn tokens in prompts are masked,
    and answers end twice, as in published chat numbers, in training as well as in
    scores and answers."""
    bootstrap: Count = 1000
    """Resamples behind the intervals within a run."""
