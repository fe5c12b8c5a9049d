"""Unlearning methods: each builds one pure update step from two losses.

`METHODS` lists the baselines by name, with their defaults, what they need and where
they may be tuned; `build` makes one of them.
"""

from ofmu_jax.methods.base import Method as Method
from ofmu_jax.methods.bilevel import ofmu_method as ofmu_method
from ofmu_jax.methods.blur import blur as blur
from ofmu_jax.methods.blur import blur_direction as blur_direction
from ofmu_jax.methods.builders import Setting as Setting
from ofmu_jax.methods.configs import Range as Range
from ofmu_jax.methods.constrained import PrimalDualState as PrimalDualState
from ofmu_jax.methods.constrained import primal_dual as primal_dual
from ofmu_jax.methods.frozen import FrozenState as FrozenState
from ofmu_jax.methods.frozen import with_frozen as with_frozen
from ofmu_jax.methods.lora import Adapter as Adapter
from ofmu_jax.methods.lora import Lora as Lora
from ofmu_jax.methods.parts import Part as Part
from ofmu_jax.methods.parts import Subset as Subset
from ofmu_jax.methods.parts import of_part as of_part
from ofmu_jax.methods.registry import LEARNING_RATE as LEARNING_RATE
from ofmu_jax.methods.registry import METHODS as METHODS
from ofmu_jax.methods.registry import MethodSpec as MethodSpec
from ofmu_jax.methods.registry import build as build
from ofmu_jax.methods.weighted import fine_tune as fine_tune
from ofmu_jax.methods.weighted import gradient_ascent as gradient_ascent
from ofmu_jax.methods.weighted import weighted_difference as weighted_difference
