"""All methods for language models by name.

>>> list(METHODS)[:3]
['ofmu', 'gradient_ascent', 'grad_diff']
>>> npo = METHODS["npo"]
>>> npo.carries(npo.config).reference_nll, npo.config.loss.beta
(True, 0.1)
"""

import dataclasses
from typing import Any

from ofmu_jax.methods.base import Method, Spec, spec_of
from ofmu_jax.methods.language import (
    distillation,
    likelihood,
    margin,
    ofmu,
    preference,
    representation,
    reweighted,
    surgery,
)
from ofmu_jax.methods.language.setting import Baseline, Setting

METHODS: dict[str, Spec] = {
    "ofmu": ofmu.SPEC,
    "gradient_ascent": likelihood.GRADIENT_ASCENT,
    "grad_diff": likelihood.GRAD_DIFF,
    "kl_minimization": likelihood.KL_MINIMIZATION,
    "npo": preference.NPO,
    "simnpo": preference.SIMNPO,
    "idk_dpo": preference.IDK_DPO,
    "rmu": representation.RMU,
    "undial": distillation.UNDIAL,
    "wga": reweighted.WGA,
    "satimp": reweighted.SATIMP,
    "ceu": distillation.CEU,
    "pdu": margin.PDU,
    "blur": preference.BLUR,
    "blur_rmu": representation.BLUR_RMU,
    "pcgrad": surgery.PCGRAD,
    "gru": surgery.GRU,
    "ngdiff": surgery.NGDIFF,
    "hamu": surgery.HAMU,
    "saul": surgery.SAUL,
    "altpo": preference.ALTPO,
    "npo_sam": preference.NPO_SAM,
}


def build(name: str, setting: Setting, config: Any = None) -> Method:
    """The method ``name`` with ``config`` (its published one by default).

    A baseline takes the config of its losses alone as well, at the published rate.

    Raises:
      ValueError: for an unknown name, a config of another method, or a setting
        without what the method needs.
    """
    spec = spec_of(METHODS, name)
    if config is None:
        return spec.build(spec.config, setting)
    losses_of = lambda whole: whole.loss if isinstance(whole, Baseline) else whole
    expected, given = losses_of(spec.config), losses_of(config)
    if not isinstance(given, type(expected)):
        raise ValueError(
            f"{name} needs a {type(expected).__name__}, "
            f"but got a {type(given).__name__}."
        )
    if given is config and expected is not spec.config:
        config = dataclasses.replace(spec.config, loss=config)
    return spec.build(config, setting)
