"""All methods for image classifiers by name.

>>> list(METHODS)[:2], METHODS["salun"].config.density
(['ofmu', 'fine_tune'], 0.5)
"""

from typing import Any

from ofmu_jax.methods.base import Spec, spec_of
from ofmu_jax.methods.vision import (
    boundary,
    descent,
    fisher,
    influence,
    ofmu,
    saliency,
    scrub,
    unsir,
)
from ofmu_jax.methods.vision.setting import Plan, Setting

METHODS: dict[str, Spec] = {
    "ofmu": ofmu.SPEC,
    "fine_tune": descent.FINE_TUNE,
    "random_label": saliency.RANDOM_LABEL,
    "gradient_ascent": descent.GRADIENT_ASCENT,
    "influence": influence.SPEC,
    "l1_sparse": descent.L1_SPARSE,
    "boundary_expand": boundary.BOUNDARY_EXPAND,
    "boundary_shrink": boundary.BOUNDARY_SHRINK,
    "salun": saliency.SALUN,
    "scrub": scrub.SPEC,
    "ssd": fisher.SSD,
    "fisher": fisher.FISHER,
    "unsir": unsir.SPEC,
}


def build(name: str, setting: Setting, config: Any = None) -> Plan:
    """The method ``name`` with its config, by default that of its entry.

    Raises:
      ValueError: for an unknown name, or a bounded forget loss without a target.
    """
    spec = spec_of(METHODS, name)
    return spec.build(spec.config if config is None else config, setting)
