"""Machine unlearning in JAX: OFMU (arXiv 2509.22483) and the tools around it."""

from ofmu_jax.bilevel import AdaptiveRho as AdaptiveRho
from ofmu_jax.bilevel import inner_ascent as inner_ascent
from ofmu_jax.bilevel import inner_gradient as inner_gradient
from ofmu_jax.bilevel import inner_objective as inner_objective
from ofmu_jax.bilevel import outer_gradient as outer_gradient
from ofmu_jax.bilevel import outer_objective as outer_objective
from ofmu_jax.transform import OfmuState as OfmuState
from ofmu_jax.transform import fill_masked as fill_masked
from ofmu_jax.transform import ofmu as ofmu
from ofmu_jax.transform import with_losses as with_losses
from ofmu_jax.version import __version__ as __version__
