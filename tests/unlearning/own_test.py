"""`ofmu_jax.unlearn` on models of one's own: a line, a tree, an NNX module."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ofmu_jax import unlearn
from ofmu_jax.data.language.batches import paired_batches, paired_rows
from ofmu_jax.methods import own

X = np.array(jax.random.normal(jax.random.key(0), (12, 3)))
X[:3, :2] = X[3:, 2] = 0  # what is forgotten has a direction of its own
Y = (X @ np.array([[1.0], [-2.0], [0.5]])).astype(np.float32)


def mse(params, batch):
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


START = {"w": jnp.array([[0.9], [-1.9], [0.4]]), "b": jnp.zeros(1)}
FORGET, RETAIN = (X[:3], Y[:3]), (X[3:], Y[3:])
CHANGES = dict(gradient_evaluations=60, batch_size=3, seed=1)


@pytest.mark.parametrize("method", own.METHODS)
def test_every_method_raises_the_forget_loss_to_its_target(method):
    options = {"learning_rate": 0.05}
    if method == "ofmu":
        options = {"outer_learning_rate": 0.02, "inner_max_step": 0.1}
    run = unlearn(
        START,
        FORGET,
        RETAIN,
        loss=mse,
        method=method,
        forget_target=0.3,
        **options,
        **CHANGES,
    )
    before, after = run.metrics["before"], run.metrics["after"]
    assert before["forget_loss"] == pytest.approx(float(mse(START, FORGET)))
    assert before["retain_loss"] == pytest.approx(float(mse(START, RETAIN)))
    assert run.stopped.startswith("forget target 0.300 met"), run.stopped
    assert after["forget_loss"] == pytest.approx(float(mse(run.params, FORGET)))
    assert after["forget_loss"] >= 0.3 > before["forget_loss"]
    assert run.gradient_evaluations <= 60


@pytest.mark.parametrize(("warmup_steps", "length"), [(0, 0.5), (5, 0.1)])
def test_gradient_ascent_on_paper(warmup_steps, length):
    """Adam's first step, of a gradient above its epsilon, is the rate in each entry."""
    run = unlearn(
        {"w": jnp.array([2.0, -3.0])},
        np.ones((1, 2), np.float32),
        np.ones((1, 2), np.float32),
        loss=lambda p, x: jnp.mean((x * p["w"]) ** 2),
        method="gradient_ascent",
        learning_rate=0.5,
        warmup_steps=warmup_steps,
        gradient_evaluations=1,
        forget_target=None,
    )
    expected = np.array([2 + length, -3 - length])
    np.testing.assert_allclose(run.params["w"], expected, rtol=1e-5)
    loss = (expected**2).mean()
    assert run.metrics["after"]["forget_loss"] == pytest.approx(loss, rel=1e-5)


def test_an_nnx_module_comes_back_as_one():
    model = nnx.Sequential(
        nnx.Linear(3, 4, rngs=nnx.Rngs(0)), jnp.tanh, nnx.Linear(4, 1, rngs=nnx.Rngs(1))
    )
    before = jax.tree.map(np.asarray, nnx.state(model))
    loss = lambda model, batch: jnp.mean((model(batch[0]) - batch[1]) ** 2)
    run = unlearn(
        model,
        FORGET,
        RETAIN,
        loss=loss,
        holdout=(X[3:], -Y[3:]),
        method="grad_diff",
        learning_rate=1e-2,
        trainable="^layers/2/",
        **CHANGES,
    )
    assert run.forget_target == pytest.approx(float(loss(model, (X[3:], -Y[3:]))))
    after = jax.tree.map(np.asarray, nnx.state(run.model))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), before)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert not any(jax.tree.leaves(moved["layers"][0]))
    assert all(jax.tree.leaves(moved["layers"][2]))
    found = run.metrics["after"]["retain_loss"]
    assert found == pytest.approx(float(loss(run.model, RETAIN)), rel=1e-5)
    with pytest.raises(TypeError, match=r"checkpoint\.save"):
        run.save_pretrained("out")


def test_batches_of_any_tree_are_those_of_rows():
    rows = {
        "input_ids": np.arange(10)[:, None],
        "labels": np.arange(10)[:, None],
        "attention_mask": np.ones((10, 1), int),
    }
    ours = paired_rows(np.arange(10), {"x": np.arange(10)}, 4, 3, num_stack=2)
    theirs = paired_batches(rows, rows, 4, 3, num_stack=2, length=1)
    for _ in range(4):
        one, other = next(ours), next(theirs)
        np.testing.assert_array_equal(
            one["forget"], other["forget"]["input_ids"][..., 0]
        )
        np.testing.assert_array_equal(
            one["retain"]["x"], other["retain"]["input_ids"][..., 0]
        )


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"forget_target": "auto"},
            ValueError,
            "ofmu ascends to a forget target and there is none",
        ),
        ({"forget_target": "chance"}, ValueError, "give them as holdout="),
        ({"forget": (X[:3], Y[:2])}, ValueError, r"forget has leaves of .*\(3,\).*\(2"),
        ({"retain": ()}, ValueError, "retain has leaves of no examples"),
        ({"retain": (X[:0], Y[:0])}, ValueError, "retain is empty"),
        ({"method": "npo"}, ValueError, "method 'npo' is unknown"),
        ({"loss": lambda p, b: b[0]}, ValueError, "loss must return a floating point"),
    ],
)
def test_what_own_models_refuse(changes, kind, message):
    given = {"forget": FORGET, "retain": RETAIN, "loss": mse, "forget_target": 1.0}
    given |= changes
    with pytest.raises(kind, match=message):
        unlearn(START, **given)
