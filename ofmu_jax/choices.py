"""What can be chosen by name in the algorithm, which `ofmu_jax.ofmu` describes, and in
all models."""

from typing import Literal

Dtype = Literal["float32", "bfloat16"]  # of what models compute in
Similarity = Literal["cosine", "squared_cosine"]
Curvature = Literal["vjp", "linearize", "jvp", "finite_difference", "lookahead"]
# Of them those that differentiate no gradient.
FIRST_ORDER: tuple[Curvature, ...] = ("finite_difference", "lookahead")
RetainDirection = Literal["fresh", "frozen", "carried"]
Base = Literal["inner", "outer"]
Penalty = Literal["gradient_norm", "value_gap"]
PenaltyGradient = Literal["exact", "finite_difference", "secant", "carried"]
# Of each penalty.
PENALTY_GRADIENTS_OF: dict[str, tuple[PenaltyGradient, ...]] = {
    "gradient_norm": ("exact", "finite_difference", "secant"),
    "value_gap": ("exact", "carried"),
}
