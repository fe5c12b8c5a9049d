"""OFMU as a method: config, transform, minibatches and the count of its cost."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import optax

from ofmu_jax import choices, transform
from ofmu_jax.bilevel import LOOKAHEAD_MAX_STEP, AdaptiveRho, is_static_zero
from ofmu_jax.bounds import Count, NotNegative, NotNegativeInt, Positive, Term
from ofmu_jax.methods import inner_optimizers as inner
from ofmu_jax.methods import ofmu_fit as fit
from ofmu_jax.methods import schedules
from ofmu_jax.methods.base import Among, BatchLoss, Method, Range, Span, Spec, minibatch
from ofmu_jax.methods.inner_optimizers import InnerOptimizer
from ofmu_jax.methods.ofmu_cost import gradient_evaluations
from ofmu_jax.methods.ofmu_fit import NAME as NAME

RhoControl = Literal["schedule", "adaptive"]
# Fields that are options of `ofmu_jax.ofmu` as they are.
PASSED = ("inner_steps", "outer_steps", "beta", "similarity", "base", "curvature")
PASSED += ("retain_direction", "lookahead_max_step")
PASSED += ("penalty", "penalty_gradient", "penalty_clip")
PAPER_BETA, PAPER_RHO = 0.1, 1e-2
FIXED_RATE = 0.1  # η_in of steps that do not find their length
NO_GAP = (
    "the penalty value_gap is the gap to the maximum of the forget loss, and "
    "cross_entropy has none; choose a bounded forget loss, the penalty gradient_norm "
    "with the penalty gradient secant, or rho 0."
)


@dataclasses.dataclass(frozen=True)
class OfmuConfig:
    """What OFMU has in every domain, which adds its forget losses and outer steps."""

    forget_loss: str = "target_cross_entropy"
    ceiling: Positive = 1.05
    """What a bounded loss ascends to, in multiples of the forget target."""
    inner_steps: Count = 1
    """T, steps of ascent on Φ."""
    inner_optimizer: InnerOptimizer = "polyak"
    """sgd: plain steps; adam; clipped: gradients of norm at most 1; normalized: of norm
    1; polyak: steps that close the fraction η_in of the gap to the forget loss's
    maximum, by its slope."""
    inner_learning_rate: Positive = 0.5
    """η_in, of the inner optimizer."""
    inner_max_step: Positive = 2e-3
    """The longest step of polyak, in norms of the parameters."""
    inner_check: bool = False
    """Look where a step of polyak leads, for a third of a gradient, and take it to
    where the parabola of what is found closes η_in of the gap. Other inner optimizers
    do not look."""
    inner_harm: Positive | None = None
    """Nats of retain loss that the ascent of an update may break: where steps are
    checked, one that broke more is taken back to where it broke that much, and the next
    asks for less than η_in. Default: not watched."""
    outer_steps: Count = 3
    outer_learning_rate: Positive = 1e-3
    outer_warmup_steps: NotNegativeInt = 0
    """Outer steps in which the rate rises to the outer learning rate in a line."""
    weight_decay: Term = 0.0
    beta: Term = 10.0
    """Weight of the gradient similarity in Φ; 0 leaves it and its cost out."""
    similarity: choices.Similarity = "squared_cosine"
    """squared_cosine is least where gradients have nothing in common; cosine, the
    paper's, where they are opposed."""
    rho: Term = 1e-2
    """Weight of the penalty in F; 0 leaves it and its cost out."""
    rho_control: RhoControl = "schedule"
    """schedule: ρ grows by a factor; adaptive: it starts at --ofmu.rho and follows the
    gap to the maximum of Φ, up while there is one and down when there is none."""
    rho_growth: Positive = 1.0
    """γ: ρ grows by this factor every outer iteration."""
    rho_rate: Positive = 0.02
    """μ: the adaptive ρ changes by this times the gap, less its tolerance."""
    rho_tolerance: NotNegative = 0.3
    """The gap, in nats, under which an adaptive ρ falls."""
    rho_max: Positive = 0.05
    """What an adaptive ρ rises to."""
    base: choices.Base = "inner"
    """Where the outer step starts: inner, from the inner result; outer, where that
    began."""
    curvature: choices.Curvature = "lookahead"
    """How ∇Φ is computed where β > 0: exactly by vjp, linearize or jvp, the last in the
    least memory; finite_difference of two gradients; lookahead: the forget gradient at
    a point that the similarity shifts, without second derivatives."""
    retain_direction: choices.RetainDirection = "carried"
    """fresh: computed anew in each inner step; frozen: once per update; carried: had
    from the update before, at no cost."""
    lookahead_max_step: Positive = LOOKAHEAD_MAX_STEP
    """The longest shift of curvature lookahead, in norms of the parameters."""
    penalty: choices.Penalty = "value_gap"
    """value_gap: the gap of Φ to its maximum; gradient_norm: the paper's ‖∇Φ‖²."""
    penalty_gradient: choices.PenaltyGradient = "carried"
    """exact; of a value gap also carried: ∇Φ of the last inner step, at no cost; of
    ‖∇Φ‖² also finite_difference of ∇Φ along itself, or secant: from the last inner
    step."""
    penalty_clip: Positive | None = 1.0
    """The penalty's norm is at most this multiple of the retain gradient's."""

    @property
    def outer_rate(self) -> float | optax.Schedule:
        """The rate of the domain's outer optimizer."""
        return schedules.warmup(self.outer_learning_rate, self.outer_warmup_steps)

    @property
    def looks(self) -> int:
        """Forward passes of an update that only check steps."""
        checks = self.inner_check and self.inner_optimizer == "polyak"
        return self.inner_steps if checks else 0

    @property
    def _holds_similarity(self) -> bool:
        """Whether the look-ahead of a step was made before it."""
        ahead = self.curvature == "lookahead" and not is_static_zero(self.beta)
        return ahead and self.retain_direction != "fresh"

    def create(
        self,
        forget_loss: BatchLoss,
        retain_loss: BatchLoss,
        outer_optimizer: optax.GradientTransformation,
        **options,
    ) -> Method:
        """The method, of losses as `ofmu_method` takes them; ``options`` go there."""
        rho: Any = self.rho
        penalised = not is_static_zero(rho)
        if penalised and self.rho_control == "adaptive":
            rho = AdaptiveRho(rho, self.rho_rate, self.rho_tolerance, self.rho_max)
        elif penalised:
            rho = schedules.exponential(rho, self.rho_growth)
        maximum = inner.maximum_of(self.forget_loss, self.beta, self.similarity)
        if penalised and maximum is None and self.penalty == "value_gap":
            raise ValueError(NO_GAP)
        highest = maximum
        if self.looks and self._holds_similarity:  # which is no part of its gap
            highest = inner.maximum_of(self.forget_loss, 0.0, self.similarity)
        harm = self.inner_harm if self.looks else None
        ascent = inner.inner_optimizer(
            self.inner_optimizer,
            self.inner_learning_rate,
            maximum=highest,
            longest=self.inner_max_step,
            checked=self.inner_check,
            share=1.0 if harm is None else inner.START,
        )
        return ofmu_method(
            forget_loss,
            retain_loss,
            outer_optimizer=outer_optimizer,
            inner_optimizer=ascent,
            rho=rho,
            maximum=maximum,
            looks=self.looks,
            harm=harm,
            **{name: getattr(self, name) for name in PASSED},
            **options,
        )


Config = TypeVar("Config", bound=OfmuConfig)


def paper_setting(config: Config, **plain: Any) -> Config:
    """The algorithm as the paper writes it: plain ascent on cross-entropy, exact.

    With both terms, at weights of our choice (the paper has none) where ``config`` has
    other forms of them, and the same inner rate in place of a fraction.

    Args:
      plain: what makes a step of the domain's outer optimizer a plain one.
    """
    return dataclasses.replace(
        config,
        beta=(config.similarity == "cosine" and config.beta) or PAPER_BETA,
        rho=(config.penalty == "gradient_norm" and config.rho) or PAPER_RHO,
        forget_loss="cross_entropy",
        inner_steps=5,
        inner_optimizer="sgd",
        inner_learning_rate=inner_rate(config, "sgd"),
        inner_check=False,
        inner_harm=None,
        outer_steps=1,
        outer_warmup_steps=0,
        similarity="cosine",
        rho_growth=1.1,
        base="outer",
        curvature="vjp",
        retain_direction="fresh",
        rho_control="schedule",
        penalty="gradient_norm",
        penalty_gradient="exact",
        penalty_clip=None,
        **plain,
    )


def inner_rate(config: OfmuConfig, optimizer: InnerOptimizer) -> float:
    """η_in for another inner optimizer: polyak's is a fraction, the others' a step."""
    if (optimizer == "polyak") == (config.inner_optimizer == "polyak"):
        return config.inner_learning_rate
    return 0.5 if optimizer == "polyak" else FIXED_RATE


def entry(
    config: OfmuConfig,
    build: Callable[[Any, Any], Any],
    outer_rate: Range,
    search: Mapping[str, Span],
    **more: Any,
) -> Spec:
    """OFMU's entry in a domain; two rates are searched where others have one."""
    spans: dict[str, Span] = {"outer_learning_rate": outer_rate}
    spans |= {"inner_learning_rate": Range(1e-2, 1.0, log=True), **search}
    spans |= {"ceiling": Range(1.0, 1.3)}
    spans |= {"inner_steps": Among((1, 2)), "outer_steps": Among((2, 3, 4))}
    spans |= {"beta": Range(0.1, 30.0, log=True), "rho": Range(1e-3, 0.3, log=True)}
    checks: dict[str, Any] = {"derivatives": fit.derivatives, "unfit": fit.unfit}
    checks |= {"cautions": fit.cautions, "second_derivatives": fit.second_derivatives}
    return Spec("OFMU", "2509.22483", config, build, spans, **more, **checks)


def ofmu_method(
    forget_loss: BatchLoss,
    retain_loss: BatchLoss,
    *,
    looks: int = 0,
    harm: float | None = None,
    **options,
) -> Method:
    """Builds OFMU; ``options`` are those of `ofmu_jax.ofmu`, ``looks`` is how many
    forward passes its inner optimizer takes in an update, and ``harm``, in nats of
    retain loss, takes back updates of a checked `polyak` that broke more
    (`inner_optimizers.kept`) and has it ease off (`inner_optimizers.eased`).

    ``forget_loss`` is the one Φ *maximises* (cross-entropy, bounded cross-entropy,
    the negated NPO loss). Each inner and each outer step has a minibatch of its own;
    the secant penalty reuses that of the last inner step.
    """
    tx = transform.ofmu(**options)
    inner_steps = options.get("inner_steps", 5)
    outer_steps = options.get("outer_steps", 1)
    maximum = options.get("maximum")

    def update(params, state, batches):
        unused: Any = None  # the transform takes the retain gradient itself
        found: Any = tx.update(
            unused,
            state,
            params,
            forget_loss=lambda p, i: forget_loss(p, minibatch(batches["forget"], i)),
            retain_loss=lambda p, i: retain_loss(p, minibatch(batches["retain"], i)),
        )
        updates, state = found
        if harm is not None:
            left = state.inner_state, state.retain_loss, harm
            updates = optax.tree.scale(inner.kept(*left), updates)
            state = state._replace(inner_state=inner.eased(*left))
        metrics = {name: getattr(state, name) for name in transform.METRICS}
        if maximum is not None:
            metrics["gap"] = maximum - metrics["phi"]
        return optax.apply_updates(params, updates), state, metrics

    return Method(
        tx.init,
        update,
        batches_per_update=inner_steps + outer_steps,
        gradient_evaluations=gradient_evaluations(**options, looks=looks),
        parameter_updates=inner_steps + outer_steps,
    )
