"""Hyper-parameters of the vision methods; the text after each field is its help.

Rates are those of ResNet-18 on CIFAR-10 within the ranges of the SalUn protocol
(arXiv 2310.12508); another network or data set wants its own.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from ofmu_jax.choices import (
    Base,
    Curvature,
    PenaltyGradient,
    RetainDirection,
    Similarity,
)
from ofmu_jax.methods.inner_optimizers import InnerOptimizer
from ofmu_jax.methods.language.configs import Range

Order = Literal["auto", "sequential", "mixed"]


@dataclasses.dataclass(frozen=True)
class Descent:
    """What every method that descends a loss has: SGD with momentum 0.9."""

    learning_rate: float = 0.01
    weight_decay: float = 5e-4


@dataclasses.dataclass(frozen=True)
class FineTune(Descent):
    """FT: cross-entropy on retain images."""


@dataclasses.dataclass(frozen=True)
class L1Sparse(Descent):
    """FT with α (1 − progress) ‖θ‖₁."""

    alpha: float = 5e-5
    """α at the start; it falls to 0 over the budget."""


@dataclasses.dataclass(frozen=True)
class RandomLabel(Descent):
    """RL: forget images with labels drawn afresh, then retain images."""

    order: Order = "auto"
    """sequential: all forget, then all retain images an epoch; mixed: one shuffle;
    auto: as published, mixed where there are 100 classes or more."""


@dataclasses.dataclass(frozen=True)
class SalUn(RandomLabel):
    """RL on the weights with the largest forget gradient."""

    learning_rate: float = 0.013
    density: float = 0.5
    """Share of weights that may move."""


@dataclasses.dataclass(frozen=True)
class GradientAscent(Descent):
    """GA: cross-entropy on forget images, upwards."""

    learning_rate: float = 5e-4


@dataclasses.dataclass(frozen=True)
class BoundaryExpand(Descent):
    """BE: forget images become a class of their own, which stays in the head."""

    learning_rate: float = 1e-4


@dataclasses.dataclass(frozen=True)
class BoundaryShrink(Descent):
    """BS: forget images get the label beyond their nearest boundary."""

    learning_rate: float = 1e-4
    epsilon: float = 0.1
    """Size of the adversarial step, as a share of the pixel range."""


@dataclasses.dataclass(frozen=True)
class Scrub(Descent):
    """SCRUB: away from the teacher on forget images, towards it on retain images."""

    learning_rate: float = 5e-4
    alpha: float = 0.5
    """α, weight of the divergence on retain images."""
    gamma: float = 1.0
    """γ, weight of the cross-entropy on retain images."""
    temperature: float = 4.0
    min_steps: int = 1
    """Steps on retain images after each step on forget images."""
    max_fraction: float = 0.5
    """Share of the updates in which forget images are still ascended on."""


@dataclasses.dataclass(frozen=True)
class Influence:
    """IU: one step along the inverse Fisher matrix."""

    alpha: float = 1.0
    """α, length of the step in units of the influence estimate."""
    samples: int = 1000
    """Single retain images that the inverse is built from."""


@dataclasses.dataclass(frozen=True)
class Ofmu:
    """OFMU through `ofmu_jax.ofmu`."""

    forget_loss: Literal[
        "auto", "target_cross_entropy", "mean_target_cross_entropy", "cross_entropy"
    ] = "auto"
    """Bounded image by image, bounded in its mean, or unbounded as in the paper; auto:
    image by image if no class that is forgotten is kept in part, else in its mean, as
    a retrained model still knows most images of a random draw."""
    ceiling: float = 1.05
    """What a bounded loss ascends to, in multiples of the forget target."""
    norm: Literal["batch", "running"] = "batch"
    """What the losses normalise with; running averages move after each update."""
    inner_steps: int = 1
    """T, steps of ascent on Φ."""
    inner_optimizer: InnerOptimizer = "normalized"
    """clipped: gradients of norm at most 1; normalized: of norm 1; polyak: steps that
    close the fraction η_in of the gap to the forget loss's maximum, by its slope."""
    inner_learning_rate: float = 0.1
    """η_in, of the inner optimizer."""
    inner_max_step: float = 2e-3
    """The longest step of polyak, in norms of the parameters."""
    outer_steps: int = 3
    outer_learning_rate: float = 0.01
    """Of the outer SGD."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    beta: float = 0.0
    """Weight of the gradient similarity in Φ; 0 leaves it and its cost out."""
    similarity: Similarity = "cosine"
    rho: float = 0.0
    """Weight of ‖∇Φ‖² in F; 0 leaves it and its cost out."""
    rho_growth: float = 1.02
    """γ: ρ grows by this factor every outer iteration."""
    base: Base = "inner"
    """Where the outer step starts: from the inner result, or where that began."""
    curvature: Curvature = "linearize"
    retain_direction: RetainDirection = "frozen"
    penalty_gradient: PenaltyGradient = "secant"
    penalty_clip: float | None = 1.0
    """The penalty's norm is at most this multiple of the retain gradient's."""


@dataclasses.dataclass(frozen=True)
class VisionMethods:
    """One entry per method."""

    ofmu: Ofmu = Ofmu()
    fine_tune: FineTune = FineTune()
    random_label: RandomLabel = RandomLabel()
    gradient_ascent: GradientAscent = GradientAscent()
    influence: Influence = Influence()
    l1_sparse: L1Sparse = L1Sparse()
    boundary_expand: BoundaryExpand = BoundaryExpand()
    boundary_shrink: BoundaryShrink = BoundaryShrink()
    salun: SalUn = SalUn()
    scrub: Scrub = Scrub()


NAMES = tuple(field.name for field in dataclasses.fields(VisionMethods))
_DESCENT = {"learning_rate": Range(1e-3, 1e-1, log=True)}
_SMALL = {"learning_rate": Range(1e-5, 1e-2, log=True)}
# Field -> what it is searched in. The ranges of the SalUn protocol; those of ascent and
# of the boundary methods reach higher, as small networks need larger rates.
SEARCH: Mapping[str, Mapping[str, Range]] = {
    "ofmu": {
        "outer_learning_rate": _DESCENT["learning_rate"],
        "inner_learning_rate": Range(1e-2, 1.0, log=True),
        "ceiling": Range(1.0, 1.3),
    },
    "fine_tune": _DESCENT,
    "random_label": _DESCENT,
    "gradient_ascent": _SMALL,
    "influence": {"alpha": Range(1.0, 20.0, log=True)},
    "l1_sparse": _DESCENT | {"alpha": Range(1e-6, 1e-4, log=True)},
    "boundary_expand": _SMALL,
    "boundary_shrink": _SMALL,
    "salun": _DESCENT | {"density": Range(0.1, 0.9)},
    "scrub": {"learning_rate": Range(1e-4, 1e-1, log=True)},
}


def paper_setting(config: Ofmu) -> Ofmu:
    """The algorithm as the paper writes it: plain steps on cross-entropy, exact."""
    return dataclasses.replace(
        config,
        forget_loss="cross_entropy",
        inner_steps=5,
        inner_optimizer="sgd",
        outer_steps=1,
        beta=config.beta or 0.1,  # with both of its terms
        rho=config.rho or 1e-2,
        momentum=0.0,
        weight_decay=0.0,
        similarity="cosine",
        rho_growth=1.1,
        base="outer",
        curvature="vjp",
        retain_direction="fresh",
        penalty_gradient="exact",
        penalty_clip=None,
    )
