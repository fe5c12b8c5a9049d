"""Every registered method at its defaults, with random batches of all it needs."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from experiments.studies.measuring import Case
from experiments.studies.shapes import CLASSES, Shape, forward, start, token_batches
from ofmu_jax import methods
from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.methods.language.ofmu import Ofmu
from ofmu_jax.methods.language.registry import METHODS as LANGUAGE
from ofmu_jax.methods.language.setting import Setting
from ofmu_jax.methods.vision import registry as vision
from ofmu_jax.methods.vision.classifier import Prepare
from ofmu_jax.methods.vision.setting import Plan
from ofmu_jax.methods.vision.setting import Setting as VisionSetting
from ofmu_jax.models import resnet
from ofmu_jax.models.llama.config import LlamaConfig
from ofmu_jax.models.llama.model import hidden_states

BUDGET = 1000  # gradients of a whole run, of which some methods make a schedule
NLL = 3.0  # of a row's tokens: a number stands for any other
# What its terms cost is the difference of the two.
WITHOUT_TERMS = {"beta": 0.0, "rho": 0.0}


def language_ofmu() -> dict[str, Any]:
    """OFMU by title: the recipe of commands, and what to hold it to."""
    return {
        "ofmu": Ofmu(outer_learning_rate=1e-5),
        "ofmu, neither term": Ofmu(**WITHOUT_TERMS),
        "ofmu, paper": paper(LANGUAGE["ofmu"]),
    }


def language(shape: Shape) -> dict[str, Case]:
    """Every method for language models; gradient ascent first."""
    config = shape.config()
    params = start(config)
    configs: dict[str, Any] = {name: spec.config for name, spec in LANGUAGE.items()}
    configs |= language_ofmu()
    found = {}
    for title in ("gradient_ascent", *(n for n in configs if n != "gradient_ascent")):
        name, chosen = title.partition(",")[0], configs[title]
        spec = LANGUAGE[name]
        hidden_fn = None
        if spec.needs_hidden_fn:
            layer = min(chosen.loss.layer, config.num_layers - 1)
            loss = dataclasses.replace(chosen.loss, layer=layer)
            chosen = dataclasses.replace(chosen, loss=loss)
            hidden_fn = functools.partial(hidden_states, config, layer)
        apply_fn = forward(config, twice=spec.second_derivatives(chosen))
        setting = Setting(apply_fn, hidden_fn=hidden_fn, budget=BUDGET)
        method = methods.build(name, setting, chosen)
        batches = token_batches(shape, config, method.batches_per_update)
        batches = {**batches, "forget": _carrying(spec, chosen, batches["forget"])}
        found[title] = Case(method, params, batches)
    return found


def ofmu_case(shape: Shape, config: LlamaConfig, options: Any) -> Case:
    """OFMU with these options on a model of this architecture."""
    spec = LANGUAGE["ofmu"]
    apply_fn = forward(config, twice=spec.second_derivatives(options))
    method = methods.build("ofmu", Setting(apply_fn, budget=BUDGET), options)
    batches = token_batches(shape, config, method.batches_per_update)
    batches = {**batches, "forget": _carrying(spec, options, batches["forget"])}
    return Case(method, start(config), batches)


def paper(spec: methods.Spec) -> Any:
    """A method's config as its paper has it."""
    assert spec.paper is not None
    return spec.paper(spec.config)


def _carrying(spec: methods.Spec, config: Any, batch: dict) -> dict[str, Any]:
    """The forget batches with what the method's loss looks for in them."""
    carries, rows = spec.carries(config), batch["input_ids"].shape[:2]
    constant = lambda value: jax.numpy.full(rows, value, jax.numpy.float32)
    found = dict(batch)
    if carries.reference_nll:
        found["reference_nll"] = constant(NLL * batch["input_ids"].shape[-1])
    if carries.target_nll is not None:
        found["target_nll"] = constant(carries.target_nll * 2 * NLL)
    if carries.alternative:
        found["alternative"] = batch
        found["alternative_reference_nll"] = found["reference_nll"]
    return found


def images(shape: Shape) -> tuple[dict[str, Case], list[str]]:
    """Every method for classifiers, and those that have no updates at all."""
    config = resnet.ResNetConfig(shape.model, CLASSES, dtype=shape.dtype)
    init = jax.jit(resnet.init_variables, static_argnums=(0, 2))
    variables = init(config, jax.random.key(0), shape.image_size)
    forget, retain = (_images(shape, seed) for seed in (0, 1))
    setting = VisionSetting(
        config,
        Prepare(CLASSES, padding=4, flip=True),
        forget,
        retain,
        shape.batch_size,
        budget=BUDGET,
        forget_target=2 * NLL,
    )
    specs = vision.METHODS
    configs = {name: spec.config for name, spec in specs.items()}
    configs |= {"ofmu, paper": paper(specs["ofmu"])}
    found, without = {}, []
    for title in ("gradient_ascent", *(n for n in configs if n != "gradient_ascent")):
        plan = vision.build(title.partition(",")[0], setting, configs[title])
        if plan.method is None:
            without.append(title)
            continue
        batches = _image_batches(plan, forget, retain, shape.batch_size)
        found[title] = Case(plan.method, plan.start(variables), batches)
    return found, without


def _images(shape: Shape, seed: int) -> Labelled:
    rng, size = np.random.default_rng(seed), shape.image_size
    pixels = rng.integers(0, 256, (shape.batch_size, size, size, 3))
    labels = rng.integers(0, CLASSES, shape.batch_size)
    return Labelled(pixels.astype(np.uint8), labels.astype(np.int32))


def _image_batches(plan: Plan, forget: Labelled, retain: Labelled, size: int) -> Any:
    """What the plan's stream would give, the same images in every minibatch."""
    assert plan.method is not None
    stack = plan.method.batches_per_update

    def batch(part: Labelled, forgotten: bool) -> dict[str, np.ndarray]:
        repeated = lambda x: np.stack([x] * stack)
        draw = np.stack([np.zeros(stack), np.arange(stack)], axis=1)
        return {
            "images": repeated(part.images),
            "labels": repeated(part.labels),
            "forget": np.full((stack, size), forgotten),
            "draw": draw.astype(np.uint32),
        }

    if plan.stream == "paired":
        return jax.device_put(
            {"forget": batch(forget, True), "retain": batch(retain, False)}
        )
    if plan.stream == "retain":
        return jax.device_put({"retain": batch(retain, False)})
    name = "forget" if plan.stream == "forget" else "union"
    return jax.device_put({name: batch(forget, True)})
