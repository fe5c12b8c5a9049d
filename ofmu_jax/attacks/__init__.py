"""Attacks on an unlearned language model: what can still be got out of it.

`base` says what an attack is given and leaves, `budget` what it may spend, `registry`
has all of them by name, and `recovery` tells what one has found.
"""

from ofmu_jax._lazy import submodules

__getattr__ = submodules(__name__)
