"""Unlearning methods: each builds one pure update step from two losses.

`METHODS` lists those for language models by name, with their defaults, what they need
and where they may be tuned; `build` makes one of them.
"""

from ofmu_jax.methods.base import Carries as Carries
from ofmu_jax.methods.base import Method as Method
from ofmu_jax.methods.base import Range as Range
from ofmu_jax.methods.base import Spec as Spec
from ofmu_jax.methods.language.registry import METHODS as METHODS
from ofmu_jax.methods.language.registry import build as build
from ofmu_jax.methods.language.setting import LEARNING_RATE as LEARNING_RATE
from ofmu_jax.methods.language.setting import Baseline as Baseline
from ofmu_jax.methods.language.setting import Setting as Setting
from ofmu_jax.methods.ofmu import ofmu_method as ofmu_method
from ofmu_jax.methods.parts.lora import Adapter as Adapter
from ofmu_jax.methods.parts.lora import Lora as Lora
from ofmu_jax.methods.parts.lora import Unmerged as Unmerged
from ofmu_jax.methods.parts.subset import Part as Part
from ofmu_jax.methods.parts.subset import Subset as Subset
from ofmu_jax.methods.parts.subset import of_part as of_part
from ofmu_jax.methods.rules.blur import blur as blur
from ofmu_jax.methods.rules.blur import blur_direction as blur_direction
from ofmu_jax.methods.rules.frozen import FrozenState as FrozenState
from ofmu_jax.methods.rules.frozen import with_frozen as with_frozen
from ofmu_jax.methods.rules.primal_dual import PrimalDualState as PrimalDualState
from ofmu_jax.methods.rules.primal_dual import primal_dual as primal_dual
from ofmu_jax.methods.rules.weighted import fine_tune as fine_tune
from ofmu_jax.methods.rules.weighted import gradient_ascent as gradient_ascent
from ofmu_jax.methods.rules.weighted import weighted_difference as weighted_difference
from ofmu_jax.methods.traced import with_numbers as with_numbers
