"""Training under attack against a plain loop of optax, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from attack_toys import ROWS, model, same, task

from ofmu_jax.attacks.fine_tuning import Recipe, trained
from ofmu_jax.data.language import prompts
from ofmu_jax.methods import Lora


def by_hand(params, examples, rates):
    """AdamW of transformers' defaults on all examples at once, step by step."""
    batch = prompts.pad_right(examples, **task().padding)

    @jax.grad
    def gradient_at(params):
        logits = task().apply_fn(params, batch["input_ids"], batch["attention_mask"])
        log_p = jax.nn.log_softmax(logits[:, :-1])
        labels = batch["labels"][:, 1:]
        chosen = jnp.take_along_axis(log_p, np.maximum(labels, 0)[..., None], -1)
        return -(chosen[..., 0] * (labels != -100)).sum() / (labels != -100).sum()

    @jax.jit
    def updated(params, state, rate):
        gradient = gradient_at(params)
        norm = optax.tree.norm(gradient)
        gradient = optax.tree.scale(1 / jnp.maximum(norm, 1.0), gradient)
        direction, state = optax.scale_by_adam().update(gradient, state, params)
        return optax.tree.add_scale(params, -rate, direction), state

    state = optax.scale_by_adam().init(params)
    for rate in rates:
        params, state = updated(params, state, rate)
    return params


def test_linear_decay_is_that_of_transformers():
    """Three updates on all rows at once, at 1, 2/3 and 1/3 of the rate."""
    examples = task().encode(ROWS.scored)
    recipe = Recipe(0.03, len(examples), until=3.0)
    (found,) = trained(task(), model().params, examples, recipe, [3])
    expected = by_hand(model().params, examples, [0.03, 0.02, 0.01])
    for ours, theirs in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_looks_are_on_the_way_and_the_model_stays():
    """A constant rate: what one sees on the way is what a shorter training gives."""
    examples, recipe = task().encode(ROWS.forget), Recipe(1e-2, 4)
    before, ticks = jax.tree.map(np.array, model().params), []
    looks = [
        jax.device_get(params)
        for params in trained(
            task(),
            model().params,
            examples,
            recipe,
            [2, 5],
            on_update=lambda: ticks.append(1),
        )
    ]
    assert len(looks) == 2 and len(ticks) == 5 and not same(*looks)
    (short,) = trained(task(), model().params, examples, recipe, [2])
    assert same(short, looks[0]) and same(model().params, before)


def test_adapters_change_what_they_are_of():
    examples = task().encode(ROWS.forget)
    recipe = Recipe(1e-2, 4, lora=Lora(2))
    (found,) = trained(task(), model().params, examples, recipe, [2])
    change = jax.tree.map(lambda a, b: np.asarray(a) - b, found, model().params)
    for path, value in jax.tree_util.tree_leaves_with_path(change):
        if "kernel" in jax.tree_util.keystr(path):
            assert [np.linalg.matrix_rank(x, 1e-6) for x in value] == [2, 2]
        else:
            assert not value.any()
