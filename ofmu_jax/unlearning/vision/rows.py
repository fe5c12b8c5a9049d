"""Batches of images as a classifier's method takes them: its plan says which."""

from collections.abc import Iterator
from typing import Any

from ofmu_jax.data.streams import named
from ofmu_jax.data.vision.batches import image_batches, paired_image_batches
from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.methods.vision.setting import Plan, Setting


def plan_batches(plan: Plan, setting: Setting) -> Iterator[Any]:
    """What the updates of the method take, of the setting's images, without end."""
    assert plan.method is not None
    forget, retain = setting.forget, setting.retain
    size, seed = setting.batch_size, setting.seed
    stack = plan.method.batches_per_update
    if plan.stream == "paired":
        return paired_image_batches(forget, retain, size, seed, num_stack=stack)
    parts: list[tuple[Labelled, bool]] = {
        "forget": [(forget, True)],
        "retain": [(retain, False)],
    }.get(plan.stream, [(forget, True), (retain, False)])
    mixed = plan.stream == "mixed"
    name = plan.stream if plan.stream in ("forget", "retain") else "union"
    found = image_batches(parts, size, seed, num_stack=stack, mixed=mixed)
    return named(found, name)
