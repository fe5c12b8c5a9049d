"""Attacks on an unlearned language model: what can still be got out of it."""

from ofmu_jax.attacks.base import Attack as Attack
from ofmu_jax.attacks.base import Attacked as Attacked
from ofmu_jax.attacks.base import Found as Found
from ofmu_jax.attacks.base import Rows as Rows
from ofmu_jax.attacks.base import Subject as Subject
from ofmu_jax.attacks.budget import Budget as Budget
from ofmu_jax.attacks.registry import ATTACKS as ATTACKS
