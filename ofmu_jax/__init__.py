"""Machine unlearning in JAX: OFMU (arXiv 2509.22483) and the tools around it."""

from typing import TYPE_CHECKING

from ofmu_jax._lazy import submodules
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

if TYPE_CHECKING:  # what checkers and editors see; at run time they are imported late
    from ofmu_jax import attacks as attacks
    from ofmu_jax import data as data
    from ofmu_jax import evals as evals
    from ofmu_jax import losses as losses
    from ofmu_jax import methods as methods
    from ofmu_jax import models as models
    from ofmu_jax import parallel as parallel
    from ofmu_jax import training as training
    from ofmu_jax import unlearning as unlearning
    from ofmu_jax.runs import load_run as load_run
    from ofmu_jax.unlearning import unlearn as unlearn
else:
    __getattr__, __dir__ = submodules(__name__, load_run="runs", unlearn="unlearning")
