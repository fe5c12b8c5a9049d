"""A whole unlearning run as one call: `unlearn`."""

from ofmu_jax.unlearning.facade import unlearn as unlearn
from ofmu_jax.unlearning.result import Unlearned as Unlearned
