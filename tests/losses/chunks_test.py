"""Losses whose logits are made by chunks of positions: the same, in less memory."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from llamas import init_params

from experiments.config.language import Demo
from experiments.domains.language.task import LanguageTask
from ofmu_jax import bilevel
from ofmu_jax.losses import likelihood, reweighted, tokens
from ofmu_jax.losses.accumulation import accumulated, answer_tokens
from ofmu_jax.models.llama.model import LlamaConfig

ROWS, LENGTH, SIZE = 4, 11, 8  # ten predictions, which chunks of 4 do not share evenly
VOCABULARY = 37


def toy(chunk, params, input_ids, attention_mask):
    """Hidden states that depend on the token alone, and a head; chunk 0: logits."""
    del attention_mask
    hidden = jnp.tanh(params["embedding"][input_ids])
    outputs = tokens.Projected(hidden, params["head"], chunk)
    return outputs if chunk else outputs.logits()


def toy_params():
    keys = jax.random.split(jax.random.key(0))
    shape = (VOCABULARY, SIZE)
    names = ("embedding", "head")
    return {
        k: jax.random.normal(key, shape) for k, key in zip(names, keys, strict=True)
    }


def batch(vocabulary=VOCABULARY, length=LENGTH):
    rng = np.random.default_rng(0)
    ids = rng.integers(vocabulary, size=(ROWS, length)).astype(np.int32)
    keep = np.arange(length) < rng.integers(5, length + 1, size=(ROWS, 1))
    return {
        "input_ids": ids,
        "labels": np.where(keep & (np.arange(length) > 2), ids, -100),
        "attention_mask": keep.astype(np.int32),
        "reference_nll": rng.uniform(5, 20, ROWS).astype(np.float32),
    }


def derivatives(loss, params):
    """Value, gradient, and two products with the Hessian: jvp and linearize of grad."""

    def all_of(p):
        along = optax.tree.random_like(jax.random.key(1), p)
        value, gradient = jax.value_and_grad(loss)(p)
        forward = jax.jvp(jax.grad(loss), (p,), (along,))[1]
        return value, gradient, forward, jax.linearize(jax.grad(loss), p)[1](along)

    return jax.jit(all_of)(params)


@pytest.mark.parametrize(
    ("loss", "chunk"),
    [
        (likelihood.cross_entropy, 1),
        (likelihood.cross_entropy, 100),
        (functools.partial(likelihood.npo, npo_beta=0.1), 4),
        (reweighted.wga, 4),
    ],
)
def test_value_gradient_and_curvature_are_those_of_whole_logits(loss, chunk):
    found = [
        derivatives(
            functools.partial(loss, functools.partial(toy, size), batch=batch()),
            toy_params(),
        )
        for size in (0, chunk)
    ]
    assert found[0][0] != 0
    chex.assert_trees_all_close(*found, rtol=1e-4, atol=1e-5)


def test_the_whole_derivative_of_ofmu_is_the_same():
    """∇F with the exact penalty, a third derivative, in micro-batches as well."""
    found = []
    for chunk, parts in ((0, 1), (3, 2)):
        retain = functools.partial(
            likelihood.cross_entropy, functools.partial(toy, chunk)
        )
        retain = accumulated(retain, parts, answer_tokens)
        gradient = functools.partial(
            bilevel.outer_gradient,
            forget_loss=lambda p, f=retain: jnp.tanh(f(p, batch())),
            retain_loss=lambda p, f=retain: f(p, batch()),
            beta=0.3,
            rho=0.1,
            curvature="linearize",
        )
        found.append(jax.jit(gradient)(toy_params()))
    chex.assert_trees_all_close(*found, rtol=2e-3, atol=1e-4)


def test_gradients_of_the_head_are_summed_in_its_own_dtype():
    """In bfloat16 a sum over many chunks would lose what each adds to it."""

    def apply_fn(chunk, params, input_ids, attention_mask):
        hidden = jnp.tanh(params["embedding"][input_ids]).astype(jnp.bfloat16)
        outputs = tokens.Projected(hidden, params["head"], chunk or 1)
        return outputs if chunk else outputs.logits()

    def gradient(chunk):
        loss = functools.partial(
            likelihood.cross_entropy, functools.partial(apply_fn, chunk), batch=batch()
        )
        return jax.jit(jax.grad(loss))(toy_params())["head"]

    whole, parts = gradient(0), gradient(1)
    assert parts.dtype == jnp.float32
    np.testing.assert_allclose(parts, whole, atol=0.01 * float(jnp.abs(whole).max()))


def task(chunk, **fields):
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_layers": 1,
        "num_heads": 2,
        "num_kv_heads": 1,
        "head_dim": 8,
        "initializer_range": 0.3,
    }
    config = LlamaConfig(**(sizes | fields))
    no_text: list = [None, None, LENGTH, Demo().evaluation]
    return LanguageTask(config, *no_text, loss_chunk=chunk)


@pytest.mark.parametrize("tied", [True, False])
def test_a_llama_gives_its_losses_hidden_states(tied):
    chunked, plain = (task(n, tie_word_embeddings=tied) for n in (4, 0))
    params = init_params(plain.config, jax.random.key(0))

    @jax.jit
    def both(params, rows):
        outputs = tokens.outputs_of(chunked.loss_apply_fn, params, rows)
        assert isinstance(outputs, tokens.Projected)
        # Losses on whole distributions, and the evaluation, take whole logits.
        logits = tokens.logits_of(chunked.loss_apply_fn, params, rows)
        same = chunked.apply_fn(params, rows["input_ids"], rows["attention_mask"])
        expected = tokens.outputs_of(plain.loss_apply_fn, params, rows)
        losses = [tokens.token_nll(x, rows["labels"]) for x in (outputs, expected)]
        return losses, (logits, same)

    for found, expected in both(params, batch()):
        chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


def temporaries(step, loss, params, rows):
    lowered = jax.jit(functools.partial(step, loss)).lower(params, rows)
    return lowered.compile().memory_analysis().temp_size_in_bytes


def gradient(loss, params, rows):
    return jax.grad(loss)(params, rows)


def curvature(loss, params, rows):
    g, product = jax.linearize(lambda p: jax.grad(loss)(p, rows), params)
    return product(g)


@pytest.mark.parametrize("step", [gradient, curvature])
def test_memory_for_a_large_vocabulary_falls(step):
    size, length = 4096, 65
    logits = 4 * ROWS * (length - 1) * size  # bytes of them, once
    shape = jax.ShapeDtypeStruct((size, SIZE), jnp.float32)
    arguments = ({"embedding": shape, "head": shape}, batch(size, length))
    whole, parts = (
        temporaries(
            step,
            functools.partial(likelihood.cross_entropy, functools.partial(toy, chunk)),
            *arguments,
        )
        for chunk in (0, 8)
    )
    assert whole > logits
    assert parts < whole - 0.8 * logits, (whole, parts, logits)


def test_memory_of_the_layers_falls_with_what_is_recomputed():
    found = []
    for remat in ("none", "dots", "full"):
        there = task(0, num_layers=8, remat=remat)
        loss = functools.partial(likelihood.cross_entropy, there.loss_apply_fn)
        params = there.outline()
        found.append(temporaries(gradient, loss, params, batch(length=129)))
    assert found[0] > found[1] > found[2], found
