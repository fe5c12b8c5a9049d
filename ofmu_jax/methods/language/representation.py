"""RMU, which steers hidden states to a random direction, and BLUR's use of it."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ofmu_jax.bounds import NotNegativeInt, Positive, Term
from ofmu_jax.losses import representation
from ofmu_jax.methods.base import Params, Range
from ofmu_jax.methods.language.setting import (
    GradDiffConfig,
    Positions,
    Setting,
    baseline,
    hidden_fn_of,
    mean_of_hidden,
    retain_of,
)
from ofmu_jax.methods.rules.blur import blur
from ofmu_jax.methods.rules.frozen import copy_params, with_frozen
from ofmu_jax.methods.rules.weighted import weighted_difference


@dataclasses.dataclass(frozen=True)
class RmuConfig(GradDiffConfig):
    """γ RMU on forget rows + α R."""

    retain: Literal["hidden", "nll", "kl"] = "hidden"  # type: ignore[bad-override]
    """R: hidden states stay (hidden, published); nll, cross-entropy; kl, KL(before ‖
    now)."""
    positions: Positions = "answer"
    """Tokens whose hidden states count: those of answers, or all."""
    steering: Positive = 2.0
    """c, norm of the control vector."""
    layer: NotNegativeInt = 7
    """Decoder layer, from 0, whose output is steered: what hidden_fn has to return."""
    seed: NotNegativeInt = 0
    """Of the control vector."""
    compat: bool = False
    """The published normalisation, which mixes the lengths of rows."""


@dataclasses.dataclass(frozen=True)
class BlurRmuConfig(RmuConfig):
    """BLUR's direction from RMU's two losses (published for WMDP)."""

    alpha: Term = 800.0
    positions: Positions = "all"
    steering: Positive = 6.5


def rmu(config: RmuConfig, setting: Setting, rule=weighted_difference):
    """γ RMU + α R; the control vector is in the state, as is the model before.

    The loss has no gradient beyond the layer, but weight decay would still shrink
    what lies there: leave it out, or mask those parameters in the optimizer. The
    cost counts whole passes; a ``hidden_fn`` that stops at its layer takes less.
    """
    hidden_fn = hidden_fn_of(config, setting)
    retain, passes = retain_of(config, setting)
    forget = mean_of_hidden(representation.rmu_forget, config, setting)

    def freeze(params: Params) -> dict[str, Any]:
        token = jax.ShapeDtypeStruct((1, 1), jnp.int32)
        size = jax.eval_shape(hidden_fn, params, token, token).shape[-1]
        key = jax.random.key(config.seed)
        control = representation.control_vector(key, size, config.steering)
        reference = copy_params(params) if passes else None
        return {"control": control, "reference": reference}

    def with_control(frozen):
        frozen = frozen or {"control": None, "reference": None}
        return rule(
            lambda p, b: forget(p, b, frozen["control"]),
            functools.partial(retain, reference=frozen["reference"]),
            setting.optimizer,
            forget_weight=config.gamma,
            retain_weight=config.alpha,
        )

    return with_frozen(with_control, forward_passes=passes, freeze=freeze)


_STEERING = Range(1.0, 100.0, log=True)
RMU = baseline(
    "RMU",
    "2403.03218",
    RmuConfig(),
    rmu,
    {"steering": _STEERING, "alpha": Range(0.1, 1000.0, log=True)},
    needs_hidden_fn=True,
)
BLUR_RMU = baseline(
    "BLUR with RMU",
    "2506.08164",
    BlurRmuConfig(),
    functools.partial(rmu, rule=blur),
    {"steering": _STEERING, "alpha": Range(1.0, 1000.0, log=True)},
    learning_rate=5e-5,
    needs_hidden_fn=True,
)
