"""A loss in micro-batches is the same function, whatever it is a mean over."""

import functools

import jax
import jax.numpy as jnp
import losses_toys as toys
import numpy as np
import optax
import pytest
from cases import rest_slow
from llamas import init_params
from losses_toys import FORGET, REFUSAL, RETAIN

from ofmu_jax import bilevel, methods
from ofmu_jax.losses import likelihood
from ofmu_jax.losses.accumulation import accumulated, answer_tokens, rows, split
from ofmu_jax.losses.bounded import ASCENDED, ascended_loss
from ofmu_jax.methods.language.distillation import CeuConfig, UndialConfig
from ofmu_jax.methods.language.margin import PduConfig
from ofmu_jax.methods.language.representation import RmuConfig
from ofmu_jax.models.llama.model import Llama, LlamaConfig

# Three answer tokens in one row of the forget batch and two in the other.
EXTRA = {
    "reference_nll": np.array([3.0, 2.0], np.float32),
    "alternative": REFUSAL,
    "alternative_reference_nll": np.array([1.0, 4.0], np.float32),
    "target_nll": np.array([2.0, 1.0], np.float32),
}
BATCHES = jax.tree.map(
    lambda x: jnp.asarray(x)[None], {"forget": FORGET | EXTRA, "retain": RETAIN}
)
CROSS_ENTROPY = functools.partial(likelihood.cross_entropy, toys.bigram)


@pytest.fixture
def table():
    with jax.enable_x64(True):
        yield {"table": jnp.asarray(toys.TABLE["table"])}


def update(name, table, micro_batches, config=None):
    setting = methods.Setting(
        toys.bigram,
        optax.sgd(0.1),
        hidden_fn=toys.bigram,
        budget=12,
        micro_batches=micro_batches,
    )
    method = methods.build(name, setting, config)
    state = method.init(table)
    # Away from where it began: there the gradient of a KL term is rounding alone.
    moved = jax.tree.map(lambda x: x + 0.1 * jnp.sin(jnp.arange(4.0)), table)
    return jax.jit(method.update)(moved, state, BATCHES)[::2]


def assert_same(found, expected, rtol=1e-9):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12),
        found,
        expected,
    )


@pytest.mark.parametrize("name", rest_slow(n for n in methods.METHODS if n != "ofmu"))
def test_every_update_is_that_of_the_whole_batch(name, table):
    assert_same(update(name, table, 2), update(name, table, 1))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("undial", UndialConfig(positions="all")),
        ("pdu", PduConfig(positions="answer")),
        ("pdu", PduConfig(positions="unshifted")),
        ("rmu", RmuConfig(positions="all")),
        ("ceu", CeuConfig(skip_first=2)),  # one row has nothing left
    ],
)
def test_options_that_change_what_a_loss_averages_over(name, config, table):
    assert_same(update(name, table, 2, config), update(name, table, 1, config))


def test_the_mean_of_the_parts_would_be_something_else(table):
    def wrong(batch):
        return jnp.ones((), jnp.int32)

    whole = CROSS_ENTROPY(table, FORGET)
    token_by_token = np.concatenate(toys.log_probs(toys.TABLE["table"], FORGET))
    np.testing.assert_allclose(whole, -token_by_token.mean())
    by_parts = accumulated(CROSS_ENTROPY, 2, answer_tokens)(table, FORGET)
    np.testing.assert_allclose(by_parts, whole, rtol=1e-12)
    part_means = accumulated(CROSS_ENTROPY, 2, wrong)(table, FORGET) / 2
    assert abs(float(part_means) - float(whole)) > 1e-3


@pytest.mark.parametrize("name", rest_slow(ASCENDED, ["target_cross_entropy", "npo"]))
def test_third_derivatives_go_through(name, table):
    loss = ascended_loss(name, toys.bigram)
    weight = answer_tokens if name == "cross_entropy" else rows

    def outer(count):
        forget = accumulated(loss, count, weight)
        retain = accumulated(CROSS_ENTROPY, count, answer_tokens)
        gradient = lambda table: bilevel.outer_gradient(
            table,
            lambda p: forget(p, FORGET | EXTRA),
            lambda p: retain(p, RETAIN),
            beta=0.5,
            rho=0.1,
        )
        return jax.jit(gradient)(table)

    assert_same(outer(2), outer(1))


def test_float32_to_a_millionth():
    table = {"table": jnp.asarray(toys.TABLE["table"], jnp.float32)}
    assert_same(update("grad_diff", table, 2), update("grad_diff", table, 1), 1e-6)


def test_one_micro_batch_is_the_loss_itself():
    assert accumulated(CROSS_ENTROPY, 1, answer_tokens) is CROSS_ENTROPY


def test_parts_take_rows_in_turn_so_that_every_device_has_some():
    parts = split({"x": jnp.arange(6)}, 3)
    np.testing.assert_array_equal(parts["x"], [[0, 3], [1, 4], [2, 5]])


def test_refusals():
    with pytest.raises(ValueError, match="3 equal"):
        split({"x": jnp.arange(4)}, 3)
    with pytest.raises(ValueError, match="at least 1"):
        accumulated(CROSS_ENTROPY, 0, rows)
    with pytest.raises(ValueError, match="compat"):
        config = RmuConfig(compat=True)
        update("rmu", toys.TABLE, 2, config)


def test_temporary_memory_falls():
    config = LlamaConfig(64, 32, 64, 1, 2, 2, 16)
    model = Llama(config)
    apply = lambda p, ids, mask: model.apply({"params": p}, ids, mask)
    loss = functools.partial(likelihood.cross_entropy, apply)
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    array = jax.ShapeDtypeStruct((32, 64), jnp.int32)
    batch = dict.fromkeys(("input_ids", "labels", "attention_mask"), array)

    def temporaries(count):
        by_parts = accumulated(loss, count, answer_tokens)

        def step(params, batch):  # second derivatives: ∇Φ
            closed = lambda p: by_parts(p, batch)
            return bilevel.inner_gradient(params, closed, closed, beta=0.1)

        compiled = jax.jit(step).lower(params, batch).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole, parts = temporaries(1), temporaries(8)
    assert parts < whole / 3, (parts, whole)
