"""Runs of the command line: frozen dataclasses that hold every choice of a run.

What they are put together from is in `experiments.config.parts`. The text after each
field is its help on the command line.
"""

import dataclasses
import pathlib
from typing import Annotated, Any, ClassVar, Literal

import tyro

from experiments.config.attacks import AttackConfig as AttackConfig
from experiments.config.attacks import small_budgets
from experiments.config.common import Run, names_of
from experiments.config.parts import Baselines as Baselines
from experiments.config.parts import BudgetConfig as BudgetConfig
from experiments.config.parts import EvalConfig as EvalConfig
from experiments.config.parts import LoraConfig as LoraConfig
from experiments.config.parts import ModelConfig as ModelConfig
from experiments.config.parts import TrainConfig as TrainConfig
from experiments.config.parts import small_models as small_models
from ofmu_jax.bounds import Bound, Count, NotNegativeInt
from ofmu_jax.methods import METHODS
from ofmu_jax.methods.language.ofmu import PRETRAINED
from ofmu_jax.methods.language.ofmu import Ofmu as OfmuConfig
from ofmu_jax.methods.language.setting import Moments
from ofmu_jax.models.llama.config import COMPUTATION

EVERYDAY = ("methods", "seeds", "tune", "output_dir")
EVERYDAY += ("budget.gradient_evaluations",)


@dataclasses.dataclass(frozen=True)
class LanguageRun(Run):
    """What the language commands have in common."""

    specs: ClassVar = METHODS
    attacks_in: ClassVar = "ofmu_jax.attacks.registry"
    group: ClassVar = "baselines"
    export_folder: ClassVar = "hf"

    methods: Annotated[tuple[str, ...], names_of(METHODS)] = (
        "ofmu",
        "gradient_ascent",
        "grad_diff",
    )
    tune: NotNegativeInt = 0
    """Trials per method, on retain rows that play the forget set; 0: none."""
    model: str | None = None
    """Folder or hub name of the target, which knows the forget rows already."""
    retain_model: str | None = None
    """Folder or hub name of the reference that never saw the forget rows."""
    base_model: str | None = None
    """Folder or hub name of a pretrained model to fine-tune both from."""
    prompt_format: str = "auto"
    """chat, llama2, phi, plain, …; auto looks at the tokenizer."""
    max_length: Annotated[int, Bound(2)] = 512
    """Tokens of question and answer; longer rows are refused, documents divided."""
    refusals_file: pathlib.Path | None = None
    """File with one refusal a line, text or JSON, for idk_dpo; default: TOFU's
    idontknow.txt (or .jsonl) in --data-dir, else the ten built in."""
    allow_overlap: bool = False
    """Accept forget rows that are also retain rows."""
    mesh: str | None = None
    """Devices to spread over, such as data=2,fsdp=4,tensor=2; -1: those left."""
    grad_accum: Count = 1
    """Micro-batches that each batch is computed in: less memory, the same step."""
    trainable: str | None = None
    """Regular expression: unlearn in the parameters alone whose path it matches, such
    as down_proj; the others stay as they are, bit for bit. Default: in all."""
    loss_chunk: NotNegativeInt = 0
    """Positions of each row whose logits are made at a time in losses on single
    tokens: less memory, the same step; 0: all."""
    remat: Literal["none", "dots", "full"] = "none"
    """What of a layer the backward pass recomputes, to save memory: none of it; dots:
    all but the products with weights; full: everything."""
    moments_dtype: Moments = "float32"
    """Of the two moments that AdamW keeps of each trained parameter; bfloat16 halves
    that memory, and rounds the second one at random."""
    attention: Literal["auto", "xla", "cudnn"] = "auto"
    """cudnn: a fused kernel, in bfloat16 on an NVIDIA GPU, without second derivatives;
    auto: that where it can run, else xla."""
    scan_layers: bool | None = None
    """Compile the layers as one loop, or write each out, which is faster on a CPU and
    longer to compile; default: a loop of 8 layers or more, or with --remat or
    --lora.base nf4."""
    show_answers: bool = True
    """The report shows three forget and two retain questions, with the models' answers:
    text of the rows, beside their generated answers in every evaluation.json."""
    coordinator: str | None = None
    """host:port of process 0 in a job of several, or auto; needs --mesh."""
    num_processes: int | None = None
    """Processes of the whole job; auto finds out."""
    process_id: int | None = None
    """Which of them this is, from 0; auto finds out."""
    attacks: tuple[str, ...] = ()
    """Attacks on every model, or all; --help-attacks lists them with what they do."""
    model_size: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    lora: LoraConfig = LoraConfig()
    budget: BudgetConfig = BudgetConfig()
    evaluation: EvalConfig = EvalConfig()
    attack: AttackConfig = small_budgets()
    ofmu: OfmuConfig = OfmuConfig()
    baselines: Annotated[Baselines, tyro.conf.arg(name="")] = small_models()

    @property
    def given_models(self) -> dict[str, str]:
        """Field -> folder or hub name, of the models that are given.

        What is trained or changed comes before what it is compared with: the first has
        the tokenizer and the files of exports.
        """
        fields = ("model", "base_model", "retain_model")
        return {f: name for f in fields if (name := getattr(self, f)) is not None}

    @property
    def computation(self) -> dict[str, Any]:
        """How the model is computed: the fields of `LlamaConfig` that say so."""
        found = {name: getattr(self, name) for name in COMPUTATION}
        if self.lora.base != "full" and self.scan_layers is None:
            found["scan_layers"] = True  # or XLA on a CPU has all layers dense at once
        return found

    @property
    def pretrained(self) -> str | None:
        return self.model or self.base_model

    @property
    def rounding(self) -> tuple[str, ...]:
        """Of the products, of AdamW's moments and of a quantised given model."""
        found, base, moments = super().rounding, self.lora.base, self.moments_dtype
        found += () if moments == "float32" else (f"moments {moments}",)
        return found + (() if base == "full" else (base,))

    @property
    def has_reference(self) -> bool:
        """Whether there is a retrained model, given or to be trained."""
        return self.given_models.keys() != {"model"}


@dataclasses.dataclass(frozen=True)
class Demo(LanguageRun):
    """Unlearn built-in fictitious people from a small model trained on the spot."""

    everyday: ClassVar = ("people", "forget_people", "request", *EVERYDAY)

    output_dir: pathlib.Path = pathlib.Path("runs/demo")
    people: Annotated[int, Bound(2)] = 40
    """Fictitious people that the target model knows."""
    forget_people: Count = 4
    """How many of them to forget."""
    data_seed: int = 0
    """Of the people; --seeds are of training and unlearning."""
    request: str = "whole"
    """whole people; half of the facts of each; attribute:NAME, one of everyone
    (birthplace, birth_year, profession, award, book, food, parents, language);
    neighbours: whole people, and kept ones of the same birthplace or profession are
    scored on their own."""


@dataclasses.dataclass(frozen=True)
class Tofu(LanguageRun):
    """Unlearn the authors of a TOFU forget split."""

    everyday: ClassVar = ("split", "data_dir", "model", "retain_model", *EVERYDAY)

    output_dir: pathlib.Path = pathlib.Path("runs/tofu")
    data_dir: pathlib.Path | None = None
    """Folder with the public TOFU files; without it they come from the hub."""
    split: Literal["forget01", "forget05", "forget10"] = "forget10"
    """1, 5 or 10 % of the authors: forget01, forget05, forget10."""
    request: str = "whole"
    """whole authors of the split; half of the questions of each; attribute:NAME, one
    of everyone (birth, parents, award, genre, gender); neighbours: whole authors, and
    kept ones of the same genre or country of birth are scored on their own."""
    max_retain: Count | None = None
    """Use only the first so many retain rows: a smaller run for small machines."""
    general_knowledge: bool = True
    """Models trained from scratch also learn the real authors and world facts, which
    a pretrained model knows; without them their model utility is 0."""
    pretrain_epochs: NotNegativeInt = 0
    """Models trained from scratch start from one that has read the rows which
    --max-retain leaves out so many times: without it they know no language but that
    of the rows they memorise."""
    share_models: bool = True
    model_size: ModelConfig = ModelConfig(vocab_size=4096)
    ofmu: OfmuConfig = OfmuConfig(outer_learning_rate=5e-4)
    evaluation: EvalConfig = EvalConfig(max_new_tokens=200)  # the field's setting


@dataclasses.dataclass(frozen=True)
class Request(LanguageRun):
    """Unlearn your own rows (a deletion request) from your own checkpoint."""

    everyday: ClassVar = ("model", "forget_file", "retain_file", *EVERYDAY)

    output_dir: pathlib.Path = pathlib.Path("runs/request")
    forget_file: Annotated[
        pathlib.Path | tuple[pathlib.Path, ...],
        tyro.conf.arg(metavar="PATH [PATH ...]"),
    ] = pathlib.Path("forget.jsonl")
    """Rows with question and answer (and TOFU's perturbed fields, if any), messages, or
    text: whole documents. JSON, CSV, TSV, Parquet, or hf:NAME[:CONFIG][:SPLIT], a data
    set of Hugging Face or its folder. Several files, or a folder of them in the order
    of their names: requests that are carried out one after another, each on the model
    that the one before left."""
    retain_file: pathlib.Path = pathlib.Path("retain.jsonl")
    """The same fields: what has to stay. Of several requests each keeps these rows but
    those of itself and of the requests before it."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=COLUMN")] = ()
    """Columns of these files whose names do not say what they are, such as
    question=Title answer=Body; docs/data.md has the names that do."""
    template: pathlib.Path | None = None
    """Write an example of all files into this new folder, explained, and stop."""
    forgotten_files: tuple[pathlib.Path, ...] = ()
    """Forget files of requests that were carried out before: their rows are taken out
    of the retain and adjacent rows."""
    carry_state: bool = False
    """A request that goes on from a model of this command starts with the optimizer's
    moments, the weight ρ and multipliers that were left there; default: anew."""
    holdout_file: pathlib.Path | None = None
    """The same fields: rows no model saw, for membership inference and chance."""
    adjacent_file: pathlib.Path | None = None
    """The same fields: rows that have to stay and lie close to what is forgotten; they
    are trained on as retain rows and scored on their own."""
    share_models: bool = True
    """One reference, of the first seed, for all seeds."""
    # Rates for pretrained models; those of the other commands suit small ones that
    # are trained from scratch.
    train: TrainConfig = TrainConfig(epochs=5, learning_rate=1e-5)
    attack: AttackConfig = AttackConfig()
    ofmu: OfmuConfig = PRETRAINED
    evaluation: EvalConfig = EvalConfig(max_new_tokens=200)  # the field's setting
    baselines: Annotated[Baselines, tyro.conf.arg(name="")] = Baselines()


@dataclasses.dataclass(frozen=True)
class Choices(Request):
    """Unlearn what multiple-choice questions ask, or a corpus, and score by choices."""

    everyday: ClassVar = ("model", "forget_file", "retain_file", "style", *EVERYDAY)

    output_dir: pathlib.Path = pathlib.Path("runs/choices")
    forget_file: pathlib.Path = pathlib.Path("forget.jsonl")
    """Rows with question, choices and answer (the right one's place, from 0):
    what must no longer be answered. Unlearned are the questions with their right
    answers, unless there is --forget-corpus."""
    retain_file: pathlib.Path = pathlib.Path("retain.jsonl")
    """The same fields: what has to stay."""
    eval_file: pathlib.Path | None = None
    """The same fields: what has to stay as well and is scored on its own, not trained
    on."""
    forget_corpus: pathlib.Path | None = None
    """Rows with text, or with question and answer: what is unlearned in place of
    the rows of --forget-file. --holdout-file and --adjacent-file then have its form."""
    retain_corpus: pathlib.Path | None = None
    """The same fields: what is kept in place of the rows of --retain-file."""
    style: Literal["letters", "texts"] = "letters"
    """letters: choices are listed in the prompt and asked for by letter, as MMLU and
    WMDP are; texts: each is scored in its own words, as a continuation."""
    subject: str | None = None
    """What the questions are about, as the harness's prompt says first."""
