"""What can be chosen by name in the algorithm; `ofmu_jax.ofmu` describes each."""

from typing import Literal

Similarity = Literal["cosine", "squared_cosine"]
Curvature = Literal["vjp", "linearize", "jvp", "finite_difference"]
RetainDirection = Literal["fresh", "frozen"]
Base = Literal["inner", "outer"]
PenaltyGradient = Literal["exact", "finite_difference", "secant"]
