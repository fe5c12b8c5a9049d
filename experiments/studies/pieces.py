"""OFMU's pieces and options as methods: what each costs in gradient ascents."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from experiments.studies.measuring import Case
from experiments.studies.shapes import CLASSES, Shape, forward
from ofmu_jax import bilevel, methods
from ofmu_jax.choices import FIRST_ORDER, Curvature, PenaltyGradient
from ofmu_jax.losses import likelihood, vision
from ofmu_jax.methods import Method
from ofmu_jax.methods.base import minibatch
from ofmu_jax.methods.ofmu import gradient_evaluations
from ofmu_jax.models import resnet

RATE, BETA, RHO = 1e-3, 0.1, 1e-3
ASCENT = "gradient ascent"
CARRIED: dict[str, Any] = {
    "retain_direction": "carried",
    "penalty": "value_gap",
    "maximum": 100.0,
}
INNER, OUTER = "inner step, exact", "outer step, exact"


def pieces(shape: Shape) -> dict[str, Method]:
    """Name -> one update of plain SGD, gradient ascent first.

    What differentiates gradients computes attention by what can be differentiated
    twice, whatever the shape's.
    """
    config = shape.config()
    once, twice = (
        functools.partial(likelihood.cross_entropy, forward(config, twice=x))
        for x in (False, True)
    )
    ascent = lambda params, batch: -once(params, batch)
    optimizer = optax.sgd(RATE)

    name, differences = f"OFMU, T = {shape.inner_steps}", "finite_difference"

    def ofmu(
        curvature: Curvature, penalty_gradient: PenaltyGradient, **options
    ) -> Method:
        weights: dict[str, Any] = {"beta": BETA, "rho": RHO} | options
        curved = weights["beta"] and curvature not in FIRST_ORDER
        loss = (
            twice
            if curved or (weights["rho"] and penalty_gradient == "exact")
            else once
        )
        return methods.ofmu_method(
            loss,
            loss,
            outer_optimizer=optimizer,
            inner_optimizer=optimizer,
            inner_steps=shape.inner_steps,
            curvature=curvature,
            penalty_gradient=penalty_gradient,
            **weights,
        )

    frozen = functools.partial(ofmu, retain_direction="frozen")
    return {
        ASCENT: methods.gradient_ascent(ascent, optimizer),
        "GradDiff": methods.weighted_difference(ascent, once, optimizer),
        INNER: single_step(twice, "vjp"),
        f"{INNER}, linearize": single_step(twice, "linearize"),
        f"{INNER}, jvp": single_step(twice, "jvp"),
        "inner step, differences": single_step(once, differences),
        OUTER: single_step(twice, "vjp", rho=RHO),
        f"{OUTER}, linearize": single_step(twice, "linearize", rho=RHO),
        f"{OUTER}, jvp": single_step(twice, "jvp", rho=RHO),
        f"{name}: exact": ofmu("vjp", "exact"),
        f"{name}: linearize, exact penalty": ofmu("linearize", "exact"),
        f"{name}: finite differences": ofmu(differences, differences),
        f"{name}: linearize, secant": ofmu("linearize", "secant"),
        f"{name}: frozen direction, linearize, secant": frozen("linearize", "secant"),
        f"{name}: frozen direction, differences, secant": frozen(differences, "secant"),
        f"{name}: look-ahead, value gap": ofmu("lookahead", "carried", **CARRIED),
        f"{name}: no similarity, no penalty": ofmu("vjp", "exact", beta=0.0, rho=0.0),
    }


def of_images(shape: Shape) -> dict[str, Case]:
    """Gradient ascent and GradDiff of a residual network that normalises by its batch,
    plain SGD, its running averages left alone."""
    config = resnet.ResNetConfig(shape.model, CLASSES, dtype=shape.dtype)
    init = jax.jit(resnet.init_variables, static_argnums=(0, 2))
    params, stats = init(config, jax.random.key(0), shape.image_size)

    logits = lambda params, images: resnet.apply(config, params, stats, images, True)[0]
    loss = functools.partial(vision.cross_entropy, logits)
    ascent = lambda params, batch: -loss(params, batch)
    optimizer = optax.sgd(RATE)
    rng, size = np.random.default_rng(0), shape.image_size

    def batch() -> dict[str, np.ndarray]:
        pixels = rng.uniform(0, 255, (1, shape.batch_size, size, size, 3))
        labels = rng.integers(0, CLASSES, (1, shape.batch_size), dtype=np.int32)
        return {"images": pixels.astype(np.float32), "labels": labels}

    batches = jax.device_put({"forget": batch(), "retain": batch()})
    return {
        ASCENT: Case(methods.gradient_ascent(ascent, optimizer), params, batches),
        "GradDiff": Case(
            methods.weighted_difference(ascent, loss, optimizer), params, batches
        ),
    }


def single_step(
    loss: Callable[[Any, Any], jax.Array], curvature: Curvature, rho: float = 0.0
) -> Method:
    """θ + η ∇Φ(θ), or with ``rho`` θ − η ∇F(θ): one step of either loop of OFMU."""
    options: dict[str, Any] = {"beta": BETA, "curvature": curvature}

    def update(params, state, batches):
        rows = {part: minibatch(batches[part], 0) for part in batches}
        forget = lambda theta: loss(theta, rows["forget"])
        retain = lambda theta: loss(theta, rows["retain"])
        if rho:
            found = bilevel.outer_gradient(params, forget, retain, rho=rho, **options)
        else:
            found = bilevel.inner_gradient(params, forget, retain, **options)
        rate = -RATE if rho else RATE
        return optax.tree.add_scale(params, rate, found), state, {}

    return Method(
        lambda params: (),
        update,
        batches_per_update=1,
        gradient_evaluations=counted(curvature, rho),
    )


def counted(curvature: Curvature, rho: float = 0.0) -> float:
    """Gradients of one ∇Φ, or with ``rho`` of one ∇F, as OFMU counts them.

    >>> counted("vjp"), counted("jvp"), counted("vjp", rho=1.0)
    (6.0, 8.0, 18.0)
    """
    of = functools.partial(
        gradient_evaluations, curvature=curvature, penalty_gradient="exact"
    )
    # Two inner steps less one; an update less what its inner step costs.
    inner = of(inner_steps=2, rho=0.0) - of(inner_steps=1, rho=0.0)
    return of(inner_steps=1, rho=rho) - inner if rho else inner
