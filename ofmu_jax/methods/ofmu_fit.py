"""What of OFMU's options fits a model: which derivatives, and what is warned of.

``config`` is an `ofmu.OfmuConfig` throughout.
"""

from collections.abc import Iterator
from typing import Any, get_args

from ofmu_jax import choices

NAME = "ofmu"  # in every registry
FAR = 1e-4  # of the norm of a pretrained model
_EXACT = {"curvature": "jvp", "penalty_gradient": "exact"}  # without differences


def derivatives(config: Any) -> dict[str, tuple[str, ...]]:
    """Field that says how a derivative is taken -> what can; nothing without a term."""
    fitting = choices.PENALTY_GRADIENTS_OF[config.penalty]
    return {
        "curvature": get_args(choices.Curvature) if config.beta else (),
        "penalty_gradient": fitting if config.rho else (),
    }


def second_derivatives(config: Any) -> bool:
    """Whether a term is computed by differentiating gradients, not by their
    differences."""
    curved = config.beta and config.curvature not in choices.FIRST_ORDER
    exact = config.penalty == "gradient_norm" and config.penalty_gradient == "exact"
    return bool(curved or (config.rho and exact))


def unfit(config: Any, dtype: str) -> Iterator[str]:
    """Differences of gradients where the model rounds the step between them away."""
    for name, used in derivatives(config).items() if dtype == "bfloat16" else ():
        if used and getattr(config, name) == "finite_difference":
            flag = f"--{NAME}.{name.replace('_', '-')}"
            yield (
                f"{flag} finite_difference compares gradients at parameters that "
                "differ by less than --dtype bfloat16 can tell: the model rounds them, "
                f"and noise is left; give {flag} {_EXACT[name]}, or --dtype float32."
            )


def cautions(config: Any, dtype: str, given: str | None) -> Iterator[str]:
    """Noise in the secant penalty; what is not watched; rates and steps too long for a
    ``given`` model."""
    fixed = config.inner_optimizer != "polyak"  # whose steps find their own length
    fast = fixed and config.inner_learning_rate > 0.05
    if given is not None and (fast or config.outer_learning_rate > 1e-4):
        yield (
            "the learning rates are those of small models trained from scratch; for a "
            f"pretrained model such as {given} 1e-5 is usual: "
            f"--{NAME}.outer-learning-rate, --train.learning-rate, … Inner steps of "
            f"length 0.1 (--{NAME}.inner-learning-rate) broke one of 135M parameters."
        )
    if given is not None and not (fixed or config.inner_check):
        yield (
            f"a pretrained model such as {given} can be broken by steps of polyak, "
            f"which go too far where a row is known by heart: --{NAME}.inner-check "
            "looks where a step leads before it is taken."
        )
    if config.inner_harm is not None and not config.looks:
        yield (
            f"--{NAME}.inner-harm {config.inner_harm:g} is not watched: it goes with "
            f"steps that are checked, --{NAME}.inner-optimizer polyak with "
            f"--{NAME}.inner-check."
        )
    ahead = config.beta and config.curvature == "lookahead"
    if given is not None and ahead and config.lookahead_max_step > FAR:
        yield (
            f"a pretrained model such as {given} is another one at "
            f"{config.lookahead_max_step:g} of its norm, where the look-ahead takes "
            f"the forget gradient: --{NAME}.lookahead-max-step 2e-5 stays near."
        )
    if dtype == "bfloat16" and config.rho and config.penalty_gradient == "secant":
        yield (
            f"--{NAME}.penalty-gradient secant subtracts gradients of two ascent "
            "steps, and --dtype bfloat16 rounds each to 3 digits: with short steps "
            "little but noise is left of the penalty. "
            f"--{NAME}.penalty-gradient exact and --dtype float32 do without."
        )
