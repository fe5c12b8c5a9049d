"""Unlearning methods: each builds one pure update step from two losses."""

from ofmu_jax.methods.base import Method as Method
from ofmu_jax.methods.bilevel import ofmu_method as ofmu_method
from ofmu_jax.methods.weighted import fine_tune as fine_tune
from ofmu_jax.methods.weighted import gradient_ascent as gradient_ascent
from ofmu_jax.methods.weighted import weighted_difference as weighted_difference
