"""Configurations: frozen dataclasses that hold every choice of a run.

The text after each field is its help on the command line.
"""

import dataclasses
import pathlib
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import tyro

from ofmu_jax.methods import configs
from ofmu_jax.methods.registry import METHODS

LossConfig = TypeVar("LossConfig")

MethodName = Literal[
    "ofmu",
    "gradient_ascent",
    "grad_diff",
    "kl_minimization",
    "npo",
    "simnpo",
    "idk_dpo",
    "rmu",
    "undial",
    "wga",
    "satimp",
    "ceu",
    "pdu",
    "blur",
    "blur_rmu",
]
ForgetLoss = Literal["cross_entropy", "target_cross_entropy", "npo", "simnpo"]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Size of a Llama trained from scratch (not used where a model is given)."""

    hidden_size: int = 96
    intermediate_size: int = 256
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 2
    vocab_size: int = 2048
    """Of the tokenizer built from the data, at most."""


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

    gradient_evaluations: int = 600
    """In gradients of one minibatch; a step of gradient ascent is 1."""
    batch_size: int = 16
    checks: int = 30
    """How often the stopping rule looks, evenly over the budget."""
    patience: int = 15
    """Checks that do not improve, once the target is met, before it stops."""
    forget_target: str = "auto"
    """Mean NLL the forget rows must reach: reference, chance, auto, none or nats."""
    check_rows: int = 256
    """Retain rows in a check, at most."""


@dataclasses.dataclass(frozen=True)
class OfmuConfig:
    """OFMU; --paper is the paper's literal setting."""

    forget_loss: ForgetLoss = "target_cross_entropy"
    ceiling: float = 1.05
    """What target_cross_entropy ascends to, in multiples of the forget target."""
    npo_beta: float = 0.1
    """β of the forget loss npo."""
    simnpo_beta: float = 4.5
    """β of the forget loss simnpo."""
    inner_steps: int = 2
    """T, steps of ascent on Φ."""
    inner_optimizer: Literal["sgd", "clipped", "normalized", "adam"] = "clipped"
    inner_learning_rate: float = 0.1
    outer_steps: int = 2
    outer_learning_rate: float = 1e-3
    outer_optimizer: Literal["sgd", "adamw"] = "adamw"
    weight_decay: float = 0.0
    beta: float = 0.1
    """Weight of the gradient similarity in Φ."""
    similarity: Literal["cosine", "squared_cosine"] = "cosine"
    rho: float = 1e-2
    """Weight of ‖∇Φ‖² in F."""
    rho_growth: float = 1.02
    """γ: ρ grows by this factor every outer iteration."""
    base: Literal["inner", "outer"] = "inner"
    """Where the outer step starts: from the inner result, or where that began."""
    curvature: Literal["vjp", "linearize", "finite_difference"] = "linearize"
    retain_direction: Literal["fresh", "frozen"] = "frozen"
    penalty_gradient: Literal["exact", "finite_difference", "secant"] = "secant"
    penalty_clip: float | None = 1.0
    """The penalty's norm is at most this multiple of the retain gradient's."""


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
class Baseline(Generic[LossConfig]):
    """A baseline: AdamW, gradients clipped to norm 1, on its own losses."""

    loss: LossConfig
    learning_rate: float
    weight_decay: float = 0.0


def published(name: str) -> Baseline:
    """A baseline as it was published, for pretrained models."""
    return Baseline(METHODS[name].config, METHODS[name].learning_rate)


@dataclasses.dataclass(frozen=True)
class Baselines:
    """One entry per method but OFMU."""

    gradient_ascent: Baseline[configs.AscentConfig] = published("gradient_ascent")
    grad_diff: Baseline[configs.GradDiffConfig] = published("grad_diff")
    kl_minimization: Baseline[configs.KlMinimizationConfig] = published(
        "kl_minimization"
    )
    npo: Baseline[configs.NpoConfig] = published("npo")
    simnpo: Baseline[configs.SimNpoConfig] = published("simnpo")
    idk_dpo: Baseline[configs.IdkDpoConfig] = published("idk_dpo")
    rmu: Baseline[configs.RmuConfig] = published("rmu")
    undial: Baseline[configs.UndialConfig] = published("undial")
    wga: Baseline[configs.WgaConfig] = published("wga")
    satimp: Baseline[configs.SatImpConfig] = published("satimp")
    ceu: Baseline[configs.CeuConfig] = published("ceu")
    pdu: Baseline[configs.PduConfig] = published("pdu")
    blur: Baseline[configs.BlurConfig] = published("blur")
    blur_rmu: Baseline[configs.BlurRmuConfig] = published("blur_rmu")


def small_models() -> Baselines:
    """Rates for small models that are trained from scratch; losses as published.

    A layer in the middle takes the place of RMU's, which lies beyond such a model.
    """
    rates = {"gradient_ascent": 3e-4, "grad_diff": 1e-4, "npo": 3e-4}
    fields: dict[str, Any] = {}
    for name in METHODS:
        entry = published(name)
        if isinstance(entry.loss, configs.RmuConfig):
            entry = dataclasses.replace(
                entry, loss=dataclasses.replace(entry.loss, layer=1)
            )
        rate = rates.get(name, 3e-4)
        fields[name] = dataclasses.replace(entry, learning_rate=rate)
    return Baselines(**fields)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Size and conventions of the evaluation."""

    batch_size: int = 64
    max_new_tokens: int = 48
    """Of the greedy answers that ROUGE is computed on."""
    max_rows: int | None = None
    """Rows of each evaluation set, evenly spaced; None: all."""
    interior_eot: Literal["correct", "compat"] = "correct"
    """compat masks end-of-turn tokens in prompts, as published chat numbers do."""
    bootstrap: int = 1000
    """Resamples behind the intervals within a run."""


@dataclasses.dataclass(frozen=True)
class LanguageRun:
    """What the language commands have in common."""

    output_dir: pathlib.Path = pathlib.Path("runs/default")
    """Everything is written here; run again to go on where it stopped."""
    methods: tuple[MethodName, ...] = ("ofmu", "gradient_ascent", "grad_diff")
    seeds: tuple[int, ...] = (0, 1)
    share_models: bool = False
    """One target and one reference, of the first seed, for all seeds."""
    model: str | None = None
    """Folder or hub name of the target, which knows the forget rows already."""
    retain_model: str | None = None
    """Folder or hub name of the reference that never saw the forget rows."""
    base_model: str | None = None
    """Folder or hub name of a pretrained model to fine-tune both from."""
    prompt_format: str = "auto"
    """chat, llama2, phi, plain, …; auto looks at the tokenizer."""
    max_length: int = 512
    """Tokens of question and answer; longer rows are refused."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters are kept in float32."""
    refusals_file: pathlib.Path | None = None
    """Text file with one refusal a line, for idk_dpo; default: TOFU's, or built in."""
    allow_overlap: bool = False
    """Accept forget rows that are also retain rows."""
    tune: int = 0
    """Trials per method, on retain rows that play the forget set; 0: none."""
    tuned_from: pathlib.Path | None = None
    """Output folder of an earlier run, whose configuration each method takes over."""
    paper: bool = False
    """OFMU in the paper's literal setting."""
    checkpoint_every: int | None = None
    """Updates between checkpoints of what is being trained; default: about once a
    minute; 0: none."""
    mesh: str | None = None
    """Devices to spread over, such as data=2,fsdp=4,tensor=2; -1: those left."""
    grad_accum: int = 1
    """Micro-batches that each batch is computed in: less memory, the same step."""
    coordinator: str | None = None
    """host:port of process 0 in a job of several, or auto; needs --mesh."""
    num_processes: int | None = None
    """Processes of the whole job; auto finds out."""
    process_id: int | None = None
    """Which of them this is, from 0; auto finds out."""
    export: bool = True
    """Write a Hugging Face folder for every model."""
    model_size: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    budget: BudgetConfig = BudgetConfig()
    evaluation: EvalConfig = EvalConfig()
    ofmu: OfmuConfig = OfmuConfig()
    baselines: Annotated[Baselines, tyro.conf.arg(name="")] = small_models()

    def method(self, name: str) -> Any:
        """The configuration of a method by its name."""
        return self.ofmu if name == "ofmu" else getattr(self.baselines, name)

    def with_method(self, name: str, config: Any) -> Self:
        """The run with another configuration of one method."""
        if name == "ofmu":
            return dataclasses.replace(self, ofmu=config)
        baselines = dataclasses.replace(self.baselines, **{name: config})
        return dataclasses.replace(self, baselines=baselines)


@dataclasses.dataclass(frozen=True)
class Demo(LanguageRun):
    """Unlearn built-in fictitious people from a small model trained on the spot."""

    output_dir: pathlib.Path = pathlib.Path("runs/demo")
    """Everything is written here; run again to go on where it stopped."""
    people: int = 40
    """Fictitious people that the target model knows."""
    forget_people: int = 4
    """How many of them to forget."""
    data_seed: int = 0
    """Of the people; --seeds are of training and unlearning."""


@dataclasses.dataclass(frozen=True)
class Tofu(LanguageRun):
    """Unlearn the authors of a TOFU forget split."""

    output_dir: pathlib.Path = pathlib.Path("runs/tofu")
    """Everything is written here; run again to go on where it stopped."""
    data_dir: pathlib.Path | None = None
    """Folder with the public TOFU files; without it they come from the hub."""
    split: Literal["forget01", "forget05", "forget10"] = "forget10"
    max_retain: int | None = None
    """Use only the first so many retain rows: a smaller run for small machines."""
    general_knowledge: bool = True
    """Models trained from scratch also learn the real authors and world facts, which
    a pretrained model knows; without them their model utility is 0."""
    pretrain_epochs: int = 0
    """Models trained from scratch start from one that has read the rows which
    --max-retain leaves out so many times: without it they know no language but that
    of the rows they memorise."""
    share_models: bool = True
    """One target and one reference, of the first seed, for all seeds."""
    model_size: ModelConfig = ModelConfig(vocab_size=4096)
    # Of some thirty settings the best on rows set aside by --tune (forget01, 300
    # gradient evaluations): both of the paper's terms cost more than they gave there.
    ofmu: OfmuConfig = OfmuConfig(
        inner_steps=1,
        inner_optimizer="normalized",
        outer_steps=3,
        outer_learning_rate=5e-4,
        beta=0.0,
        rho=0.0,
    )
    evaluation: EvalConfig = EvalConfig(max_new_tokens=200)  # the field's setting


@dataclasses.dataclass(frozen=True)
class Request(LanguageRun):
    """Unlearn your own rows (a deletion request) from your own checkpoint."""

    output_dir: pathlib.Path = pathlib.Path("runs/request")
    """Everything is written here; run again to go on where it stopped."""
    forget_file: pathlib.Path = pathlib.Path("forget.jsonl")
    """JSON lines with question and answer (and TOFU's perturbed fields, if any)."""
    retain_file: pathlib.Path = pathlib.Path("retain.jsonl")
    """The same fields: what has to stay."""
    holdout_file: pathlib.Path | None = None
    """The same fields: rows no model saw, for membership inference and chance."""
    share_models: bool = True
    """One reference, of the first seed, for all seeds."""
    # Rates for pretrained models; those of the other commands suit small ones that
    # are trained from scratch.
    train: TrainConfig = TrainConfig(epochs=5, learning_rate=1e-5)
    ofmu: OfmuConfig = OfmuConfig(outer_learning_rate=1e-5)
    baselines: Annotated[Baselines, tyro.conf.arg(name="")] = Baselines()
