"""Configurations: frozen dataclasses that hold every choice of a run."""

import dataclasses
import pathlib
from typing import Literal

MethodName = Literal["ofmu", "gradient_ascent", "grad_diff", "npo"]
ForgetLoss = Literal["cross_entropy", "bounded_cross_entropy", "npo"]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Size of a Llama trained from scratch (ignored where a model is given)."""

    hidden_size: int = 96
    intermediate_size: int = 256
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 2
    vocab_size: int = 2048  # of the tokenizer trained on the data, at most


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Fine-tuning of the target on all rows and of the reference on retain rows."""

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup_fraction: float = 0.1


@dataclasses.dataclass(frozen=True)
class BudgetConfig:
    """What every method gets alike."""

    gradient_evaluations: int = 600  # gradients of one minibatch, GA step = 1
    batch_size: int = 16
    checks: int = 30  # how often the stopping rule looks, evenly over the budget
    patience: int = 6  # checks without a lower retain loss before it stops
    # What the forget rows' mean NLL has to reach: that of the retrained reference,
    # the target model's on rows it was never shown ("chance"), a number of nats per
    # token, or "none". "auto": the reference where there is one, else chance.
    forget_target: str = "auto"
    check_rows: int = 256  # at most this many retain rows in a check


@dataclasses.dataclass(frozen=True)
class OfmuConfig:
    """OFMU; the defaults were found by search, `paper_setting` is the literal one."""

    forget_loss: ForgetLoss = "bounded_cross_entropy"
    ceiling: float = 1.25  # of bounded cross-entropy, times the forget target
    npo_beta: float = 0.1
    inner_steps: int = 2
    inner_optimizer: Literal["sgd", "normalized", "adam"] = "normalized"
    inner_learning_rate: float = 0.05
    outer_steps: int = 2
    outer_learning_rate: float = 1e-3
    outer_optimizer: Literal["sgd", "adamw"] = "adamw"
    weight_decay: float = 0.0
    beta: float = 0.1
    similarity: Literal["cosine", "squared_cosine"] = "cosine"
    rho: float = 1e-2
    rho_growth: float = 1.0  # γ: ρ grows by this factor every outer iteration
    base: Literal["inner", "outer"] = "inner"
    curvature: Literal["vjp", "linearize", "finite_difference"] = "linearize"
    retain_direction: Literal["fresh", "frozen"] = "frozen"
    penalty_gradient: Literal["exact", "finite_difference", "secant"] = "secant"
    penalty_clip: float | None = 1.0


def paper_setting(config: OfmuConfig) -> OfmuConfig:
    """The algorithm as the paper writes it: plain ascent on cross-entropy, exact."""
    return dataclasses.replace(
        config,
        forget_loss="cross_entropy",
        inner_steps=5,
        inner_optimizer="sgd",
        outer_steps=1,
        outer_optimizer="sgd",
        similarity="cosine",
        rho_growth=1.1,
        base="outer",
        curvature="vjp",
        retain_direction="fresh",
        penalty_gradient="exact",
        penalty_clip=None,
    )


@dataclasses.dataclass(frozen=True)
class BaselineConfig:
    """A method of one level: AdamW on its weighted losses."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    forget_weight: float = 1.0  # γ
    retain_weight: float = 1.0  # α
    npo_beta: float = 0.1  # of npo alone


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Size and conventions of the evaluation."""

    batch_size: int = 64
    max_new_tokens: int = 48
    max_rows: int | None = None  # of each evaluation set; None: all
    interior_eot: Literal["correct", "compat"] = "correct"
    bootstrap: int = 1000  # resamples behind the intervals within a run


@dataclasses.dataclass(frozen=True)
class LanguageRun:
    """What the language commands have in common."""

    output_dir: pathlib.Path = pathlib.Path("runs/default")
    methods: tuple[MethodName, ...] = ("ofmu", "gradient_ascent", "grad_diff")
    seeds: tuple[int, ...] = (0, 1)
    # Train one target and one reference, of the first seed, for all seeds; otherwise
    # every seed has its own.
    share_models: bool = False
    # Folder or hub name of a trained target model; it is not fine-tuned.
    model: str | None = None
    # Folder or hub name of the reference that never saw the forget rows.
    retain_model: str | None = None
    # Folder or hub name of a pretrained model to fine-tune target and reference from.
    base_model: str | None = None
    prompt_format: str = "auto"
    max_length: int = 512
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation
    allow_overlap: bool = False  # accept forget rows that are also retain rows
    paper: bool = False  # OFMU in the paper's literal setting
    export: bool = True  # write Hugging Face folders
    model_size: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    budget: BudgetConfig = BudgetConfig()
    evaluation: EvalConfig = EvalConfig()
    ofmu: OfmuConfig = OfmuConfig()
    gradient_ascent: BaselineConfig = BaselineConfig()
    grad_diff: BaselineConfig = BaselineConfig()
    npo: BaselineConfig = BaselineConfig()


@dataclasses.dataclass(frozen=True)
class Demo(LanguageRun):
    """Unlearn built-in fictitious people from a small model trained on the spot."""

    output_dir: pathlib.Path = pathlib.Path("runs/demo")
    people: int = 40
    forget_people: int = 4
    data_seed: int = 0


@dataclasses.dataclass(frozen=True)
class Tofu(LanguageRun):
    """Unlearn the authors of a TOFU forget split."""

    output_dir: pathlib.Path = pathlib.Path("runs/tofu")
    # Folder with the public TOFU files; without it they come from the hub.
    data_dir: pathlib.Path | None = None
    split: Literal["forget01", "forget05", "forget10"] = "forget10"
    # Use only this many retain rows (evenly spaced): a smaller run on small machines.
    max_retain: int | None = None
    share_models: bool = True
    model_size: ModelConfig = ModelConfig(
        hidden_size=128, intermediate_size=384, num_layers=3, vocab_size=4096
    )


@dataclasses.dataclass(frozen=True)
class Request(LanguageRun):
    """Unlearn your own rows (a deletion request) from your own checkpoint."""

    output_dir: pathlib.Path = pathlib.Path("runs/request")
    # JSON lines with "question" and "answer": what is to be forgotten.
    forget_file: pathlib.Path = pathlib.Path("forget.jsonl")
    # The same fields: what has to stay.
    retain_file: pathlib.Path = pathlib.Path("retain.jsonl")
    share_models: bool = True
