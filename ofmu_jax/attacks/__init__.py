"""Attacks on an unlearned language model: what can still be got out of it.

`base` says what an attack is given and leaves, `budget` what it may spend, `registry`
has all of them by name, and `recovery` tells what one has found.
"""

from typing import TYPE_CHECKING

from ofmu_jax._lazy import submodules

if TYPE_CHECKING:  # what checkers and editors see
    from ofmu_jax.attacks import asking as asking
    from ofmu_jax.attacks import base as base
    from ofmu_jax.attacks import budget as budget
    from ofmu_jax.attacks import compression as compression
    from ofmu_jax.attacks import few_shot as few_shot
    from ofmu_jax.attacks import fine_tuning as fine_tuning
    from ofmu_jax.attacks import lessons as lessons
    from ofmu_jax.attacks import looking as looking
    from ofmu_jax.attacks import membership as membership
    from ofmu_jax.attacks import once as once
    from ofmu_jax.attacks import plain_text as plain_text
    from ofmu_jax.attacks import probing as probing
    from ofmu_jax.attacks import recovery as recovery
    from ofmu_jax.attacks import registry as registry
    from ofmu_jax.attacks import relearning as relearning
    from ofmu_jax.attacks import teaching as teaching
    from ofmu_jax.attacks import vision as vision
else:
    __getattr__, __dir__ = submodules(__name__)
