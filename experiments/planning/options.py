"""The options of ``python -m experiments.plan``, and the run that they are of."""

import dataclasses
import pathlib
from typing import Annotated, ClassVar, Literal, get_args

import tyro

from experiments.config.common import Run, names_of
from experiments.config.language import (
    Baselines,
    BudgetConfig,
    EvalConfig,
    LanguageRun,
    LoraConfig,
    OfmuConfig,
    Request,
)
from ofmu_jax.bounds import Bound, Count, NotNegativeInt, Positive
from ofmu_jax.choices import Curvature, PenaltyGradient
from ofmu_jax.methods import METHODS
from ofmu_jax.methods.language.setting import Moments

MODULE = "experiments.plan"
# Options that a plan has as a run has them.
SHARED = "methods dtype remat loss_chunk grad_accum moments_dtype trainable".split()
SHARED += ["lora", "evaluation", "ofmu", "baselines"]
DESCRIPTION = """Memory, work and traffic of one update, before it is paid for.

Compiles the very step that experiments.run would run, for shapes alone: no weights are
made and no device is needed, for CPU devices are simulated. One row per method; for
OFMU one for every way of taking its derivatives.

All numbers are of one device and one update. param., state: what lies on it between
steps. temp.: what the step takes beyond. step: the sum. run: with two more copies of
what is trained. check: what lies there while the stopping rule scores
--evaluation.batch-size rows. What fits is the larger of run and check. TFLOP: matrix
products. sent: GB of its collectives. docs/planning.md says what is counted, and how
far to trust it. --tpu v5e:4x4 asks the TPU's own compiler, which works without
one."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Options have the names and meanings of experiments.run."""

    specs: ClassVar = METHODS
    everyday: ClassVar = (
        *("model", "methods", "mesh", "batch_size", "length", "dtype"),
        *("grad_accum", "lora.rank", "device_bytes", "json"),
    )

    model: str = "llama-3.2-1b"
    """A known name (llama-2-70b, smollm2-135m, …), a folder or a config.json."""
    mesh: str = "data=1"
    """Devices to spread over, such as fsdp=16 or data=2,fsdp=8,tensor=4."""
    methods: Annotated[tuple[str, ...], names_of(METHODS, "--method")] = ("ofmu",)
    batch_size: Count = 16
    length: Annotated[int, Bound(2)] = 512
    """Tokens of a row, padding included."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters are kept in float32, but see --lora.base."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass recomputes: none of a layer; dots: all but the products
    with weights; full: everything."""
    loss_chunk: NotNegativeInt = 0
    grad_accum: Count = 1
    moments_dtype: Moments = "float32"
    """Of the two moments that AdamW keeps of each trained parameter."""
    trainable: str | None = None
    """Regular expression: train the parameters whose path it matches, and no others."""
    lora: LoraConfig = LoraConfig()
    curvatures: tuple[Curvature, ...] = get_args(Curvature)
    """How OFMU computes ∇Φ, to be compared: exactly by vjp, linearize or jvp, the last
    in the least memory; finite_difference of two gradients; lookahead: the forget
    gradient at a point that the similarity shifts."""
    penalty_gradients: tuple[PenaltyGradient, ...] = get_args(PenaltyGradient)
    """How the penalty is differentiated, to be compared: exact; of a value gap also
    carried: had from the last inner step; of ‖∇Φ‖² also finite_difference of ∇Φ along
    itself, or secant: from the last inner step."""
    tpu: str | None = None
    """Ask the compiler of this TPU slice, such as v5e:4x4 (pip install 'jax[tpu]')."""
    device_bytes: Positive | None = None
    """Memory of a device, such as 95e9: says what fits."""
    json: pathlib.Path | None = None
    """Write everything there as well."""
    ofmu: OfmuConfig = OfmuConfig(outer_learning_rate=1e-5)
    evaluation: EvalConfig = EvalConfig()
    baselines: Annotated[Baselines, tyro.conf.arg(name="")] = Baselines()


def run_of(plan: Plan) -> LanguageRun:
    """The run that is planned."""
    budget = BudgetConfig(batch_size=plan.batch_size, gradient_evaluations=10**6)
    options = {name: getattr(plan, name) for name in (*SHARED, "mesh")}
    return Request(**options, max_length=plan.length, budget=budget)


def of_run(plan: Plan, run: Run) -> Plan:
    """What is planned for a run.

    Raises:
      ValueError: a run of images, or of a model of its own size.
    """
    if not isinstance(run, LanguageRun):
        raise ValueError(f"it is a run of {run.command}; plans are of language models.")
    same = {name: getattr(run, name) for name in SHARED}
    return dataclasses.replace(
        plan,
        **same,
        model=run.pretrained or tyro.MISSING,
        mesh=run.mesh or plan.mesh,
        batch_size=run.budget.batch_size,
        length=run.max_length,
    )
