"""All attacks on classifiers by name, one line each."""

from collections.abc import Mapping

from ofmu_jax.attacks.base import Attack
from ofmu_jax.attacks.vision import relearning, u_lira

ATTACKS: Mapping[str, Attack] = {
    "relearn": relearning.RELEARN,
    "u-lira": u_lira.U_LIRA,
}
