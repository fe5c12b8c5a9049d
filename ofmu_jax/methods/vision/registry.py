"""The vision methods by name: from a config and what a run provides to a `Plan`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ofmu_jax.losses import vision
from ofmu_jax.methods.base import Method
from ofmu_jax.methods.inner_optimizers import inner_optimizer, maximum_of
from ofmu_jax.methods.ofmu import ofmu_method
from ofmu_jax.methods.rules.frozen import FORWARD_COST, copy_params
from ofmu_jax.methods.vision import configs as configs
from ofmu_jax.methods.vision.boundary import nearest_class, with_one_more_class
from ofmu_jax.methods.vision.classifier import (
    Context,
    add_l1,
    descend,
    logits_fn,
    only_where,
    sgd,
    vision_method,
)
from ofmu_jax.methods.vision.influence import influence, influence_cost
from ofmu_jax.methods.vision.saliency import num_batches, top_share, total_gradient
from ofmu_jax.methods.vision.scrub import scrub
from ofmu_jax.methods.vision.setting import Plan, Setting, Stream
from ofmu_jax.models.resnet import Variables, predict


def build(name: str, setting: Setting, config: Any) -> Plan:
    """The method ``name`` with its config, one of `vision_configs`.

    Raises:
      ValueError: for an unknown name, or a bounded forget loss without a target.
    """
    if name not in _BUILDERS:
        raise ValueError(
            f"vision method {name!r} is unknown; choose one of {', '.join(_BUILDERS)}."
        )
    return _BUILDERS[name](setting, config)


def train(setting: Setting, optimizer: optax.GradientTransformation) -> Plan:
    """Cross-entropy on the stream's images: original, retrained and FT."""
    return _descent(setting, optimizer, vision.cross_entropy, "retain", "retain")


def _descent(
    setting: Setting, optimizer, loss, part: Literal["forget", "retain"], stream: Stream
) -> Plan:
    build = lambda context: descend(
        functools.partial(loss, logits_fn(setting.config, context)), optimizer, part
    )
    return Plan(
        vision_method(build, setting.config, setting.prepare, averages_from=part),
        stream,
    )


def _fine_tune(setting: Setting, config: configs.FineTune) -> Plan:
    return train(setting, sgd(config.learning_rate, config.weight_decay))


def _l1_sparse(setting: Setting, config: configs.L1Sparse) -> Plan:
    updates = max(1, int(setting.budget))
    weight = lambda k: config.alpha * jnp.maximum(0.0, 1 - k / updates)
    return train(
        setting, sgd(config.learning_rate, config.weight_decay, add_l1(weight))
    )


def _gradient_ascent(setting: Setting, config: configs.GradientAscent) -> Plan:
    optimizer = sgd(config.learning_rate, config.weight_decay)
    loss = vision.negated_cross_entropy
    return _descent(setting, optimizer, loss, "forget", "forget")


def _random_label(setting: Setting, config: configs.RandomLabel) -> Plan:
    optimizer = sgd(config.learning_rate, config.weight_decay)
    build = lambda context: _relabelled(setting, context, optimizer)
    method = vision_method(
        build, setting.config, setting.prepare, averages_from="union"
    )
    return Plan(method, _order(setting, config))


def _order(setting: Setting, config: configs.RandomLabel) -> Stream:
    if config.order != "auto":
        return config.order
    return "mixed" if setting.config.num_classes >= 100 else "sequential"


def _relabelled(setting: Setting, context: Context, optimizer) -> Method:
    loss = functools.partial(
        vision.cross_entropy,
        logits_fn(setting.config, context),
        labels="random_labels",
    )
    return descend(loss, optimizer, "union")


def _salun(setting: Setting, config: configs.SalUn) -> Plan:
    plain = sgd(config.learning_rate, config.weight_decay)

    def mask_of(variables: Variables) -> Any:
        gradient = total_gradient(
            setting.config,
            variables,
            setting.forget,
            setting.batch_size,
            setting.prepare,
            setting.seed,
        )
        return top_share(gradient, config.density)

    def build(context: Context) -> Method:
        optimizer = plain
        if context.frozen is not None:  # absent only in the outline
            optimizer = only_where(context.frozen, plain)
        return _relabelled(setting, context, optimizer)

    method = vision_method(
        build,
        setting.config,
        setting.prepare,
        averages_from="union",
        freeze=mask_of,
    )
    cost = num_batches(setting.forget, setting.batch_size)
    return Plan(method, _order(setting, config), setup_cost=cost)


def _boundary_expand(setting: Setting, config: configs.BoundaryExpand) -> Plan:
    grown = dataclasses.replace(
        setting.config, num_classes=setting.config.num_classes + 1
    )
    new_class = setting.config.num_classes

    def loss(logits, params, batch):
        labels = jnp.full_like(batch["labels"], new_class)
        return vision.cross_entropy(logits, params, {**batch, "labels": labels})

    plan = _descent(
        setting._replace(config=grown),
        sgd(config.learning_rate, config.weight_decay),
        loss,
        "forget",
        "forget",
    )
    key = jax.random.fold_in(jax.random.key(setting.seed), new_class)
    grow = lambda variables: with_one_more_class(variables, key)
    return plan._replace(config=grown, start=grow)


def _boundary_shrink(setting: Setting, config: configs.BoundaryShrink) -> Plan:
    optimizer = sgd(config.learning_rate, config.weight_decay)

    def build(context: Context) -> Method:
        logits = logits_fn(setting.config, context)

        def loss(params, batch):
            before = lambda images: predict(setting.config, context.frozen, images)
            labels = nearest_class(before, batch, config.epsilon)
            return vision.cross_entropy(logits, params, {**batch, "labels": labels})

        return descend(loss, optimizer, "forget")

    method = vision_method(
        build,
        setting.config,
        setting.prepare,
        averages_from="forget",
        freeze=copy_params,
        extra_cost=1 + FORWARD_COST,  # the adversarial step, and its label
    )
    return Plan(method, "forget")


def _scrub(setting: Setting, config: configs.Scrub) -> Plan:
    optimizer = sgd(config.learning_rate, config.weight_decay)

    def build_for(max_updates: int):
        def build(context: Context) -> Method:
            logits = logits_fn(setting.config, context)
            teacher = lambda images: predict(setting.config, context.frozen, images)
            divergence = functools.partial(
                vision.distillation,
                logits,
                teacher_fn=teacher,
                temperature=config.temperature,
            )
            keep = lambda p, b: (
                config.gamma * vision.cross_entropy(logits, p, b)
                + config.alpha * divergence(p, b)
            )
            return scrub(
                divergence,
                keep,
                optimizer,
                max_updates=max_updates,
                min_steps=config.min_steps,
            )

        return vision_method(
            build,
            setting.config,
            setting.prepare,
            averages_from="retain",
            averages="after",
            freeze=copy_params,
        )

    plan = Plan(build_for(0), "paired")
    updates = plan.num_updates(setting.budget)
    return plan._replace(method=build_for(round(config.max_fraction * updates)))


def _influence(setting: Setting, config: configs.Influence) -> Plan:
    sets = (setting.forget, setting.retain)
    cost = influence_cost(*sets, config.samples, setting.batch_size)
    return Plan(
        None,
        setup_cost=cost,
        one_shot=lambda variables: influence(
            setting.config,
            variables,
            *sets,
            alpha=config.alpha,
            samples=config.samples,
            batch_size=setting.batch_size,
            seed=setting.seed,
        ),
    )


def _forget_loss(setting: Setting, config: configs.Ofmu) -> str:
    if config.forget_loss != "auto":
        return config.forget_loss
    kept = np.isin(setting.forget.labels, setting.retain.labels).any()
    return "mean_target_cross_entropy" if kept else "target_cross_entropy"


def _ofmu(setting: Setting, config: configs.Ofmu) -> Plan:
    target = setting.forget_target
    target = None if target is None else config.ceiling * target
    forget_loss = _forget_loss(setting, config)
    inner = inner_optimizer(
        config.inner_optimizer,
        config.inner_learning_rate,
        maximum=maximum_of(forget_loss, config.beta, config.similarity),
        longest=config.inner_max_step,
    )
    rho: Any = config.rho
    if rho and config.rho_growth != 1.0:
        rho = optax.exponential_decay(config.rho, 1, config.rho_growth)

    def build(context: Context) -> Method:
        logits = logits_fn(setting.config, context, config.norm)
        return ofmu_method(
            vision.ascended_loss(forget_loss, logits, target=target),
            functools.partial(vision.cross_entropy, logits),
            outer_optimizer=sgd(
                config.outer_learning_rate,
                config.weight_decay,
                momentum=config.momentum,
            ),
            inner_optimizer=inner,
            inner_steps=config.inner_steps,
            outer_steps=config.outer_steps,
            beta=config.beta,
            rho=rho,
            similarity=config.similarity,
            base=config.base,
            curvature=config.curvature,
            retain_direction=config.retain_direction,
            penalty_gradient=config.penalty_gradient,
            penalty_clip=config.penalty_clip,
            unroll=jax.default_backend() == "cpu",  # convolutions: see `ofmu_jax.ofmu`
        )

    method = vision_method(
        build,
        setting.config,
        setting.prepare,
        averages_from="retain",
        averages="after",
        last=config.outer_steps,
    )
    return Plan(method, "paired")


_BUILDERS: dict[str, Callable[[Setting, Any], Plan]] = {
    "ofmu": _ofmu,
    "fine_tune": _fine_tune,
    "random_label": _random_label,
    "gradient_ascent": _gradient_ascent,
    "influence": _influence,
    "l1_sparse": _l1_sparse,
    "boundary_expand": _boundary_expand,
    "boundary_shrink": _boundary_shrink,
    "salun": _salun,
    "scrub": _scrub,
}
