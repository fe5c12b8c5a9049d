"""`unlearn` for image classifiers of ours: images in, the unlearned model out."""

import functools
import math
import pathlib
from typing import Any

import numpy as np

from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.methods.base import spec_of
from ofmu_jax.methods.vision.classifier import Prepare
from ofmu_jax.methods.vision.registry import METHODS
from ofmu_jax.methods.vision.setting import Plan, Setting
from ofmu_jax.models import classifier
from ofmu_jax.models.resnet import ResNetConfig, Variables
from ofmu_jax.training import Check, Run
from ofmu_jax.training.budget import updates_within
from ofmu_jax.unlearning.carried_out import carried_out
from ofmu_jax.unlearning.options import Asked, configured
from ofmu_jax.unlearning.result import Unlearned
from ofmu_jax.unlearning.vision.look import Look, label_nll, probabilities
from ofmu_jax.unlearning.vision.rows import plan_batches

BATCH_SIZE, LOOK_SIZE = 64, 256


def unlearn(
    model: Any,
    forget: Any,
    retain: Any,
    asked: Asked,
    *,
    holdout: Any = None,
    crop_padding: int = 0,
    flip: bool = False,
    **options: Any,
) -> Unlearned:
    """See `ofmu_jax.unlearn`."""
    name = asked.method
    chosen = configured(name, spec_of(METHODS, name).config, options)
    names: tuple[str, ...] = ()
    if isinstance(model, str | pathlib.Path):
        names = classifier.load_config(model)[1]
        model = classifier.load(model)
    config, variables = model
    sets = {"forget": _images(forget), "retain": _images(retain)}
    goal = _goal(asked, config, variables, holdout)
    setting = Setting(
        config,
        Prepare(config.num_classes, crop_padding, flip),
        sets["forget"],
        sets["retain"],
        asked.batch_size or BATCH_SIZE,
        float(asked.gradient_evaluations),
        asked.seed,
        goal,
    )
    plan = METHODS[name].build(chosen, setting)
    network = plan.config or config
    before = Look(config, sets, asked.check_rows, LOOK_SIZE)
    look = Look(network, sets, asked.check_rows, LOOK_SIZE)
    run, cost = _run(asked, plan, setting, variables, look, goal)
    return Unlearned(
        name,
        run.params,
        (network, run.params),
        {"before": before(variables), "after": look(run.params)},
        goal,
        cost,
        run,
        functools.partial(
            classifier.save, config=network, variables=run.params, class_names=names
        ),
    )


def _images(given: Any) -> Labelled:
    if isinstance(given, Labelled):
        return given
    images, labels = given
    return Labelled(np.asarray(images), np.asarray(labels, np.int32))


def _goal(
    asked: Asked, config: ResNetConfig, variables: Variables, holdout: Any
) -> float | None:
    """The NLL at which images count as forgotten: of ones that no model saw, else of
    a guess among the classes."""
    if asked.goal == "none":
        return None
    if isinstance(asked.goal, float):
        return asked.goal
    if holdout is None or asked.goal == "chance":
        return math.log(config.num_classes)
    part = _images(holdout)
    p = probabilities(config, variables, part, LOOK_SIZE)
    return float(label_nll(p, part).mean())


def _run(
    asked: Asked,
    plan: Plan,
    setting: Setting,
    variables: Variables,
    look: Check,
    goal: float | None,
) -> tuple[Run, float]:
    """The run of a plan, and what it cost."""
    name, budget = asked.method, float(asked.gradient_evaluations)
    within = functools.partial(
        updates_within, budget, name=name, option="gradient_evaluations="
    )
    start = plan.start(variables)
    if plan.one_shot is not None:
        within(plan.setup_cost)
        found = plan.one_shot(start)
        checks = [{"update": i, **look(x)} for i, x in enumerate((start, found))]
        finite = all(map(math.isfinite, checks[1].values()))
        why = "one step" if finite else "a check after its one step was not finite"
        kept = found if finite else start
        return Run(kept, int(finite), 1, why, finite, [], checks), plan.setup_cost
    assert plan.method is not None
    cost = plan.method.gradient_evaluations
    updates = within(cost, setup=plan.setup_cost)
    batches = plan_batches(plan, setting)
    run = carried_out(asked, plan.method, start, batches, updates, look, goal)
    return run, plan.setup_cost + run.updates * cost
