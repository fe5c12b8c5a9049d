"""Tokens that are not the most likely: drawn, from which distribution and by which
keys, or the least likely."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from llamas import init_params

from ofmu_jax.models.llama import decoding
from ofmu_jax.models.llama.generation import generate
from ofmu_jax.models.llama.model import Llama, LlamaConfig

MODEL = Llama(LlamaConfig(5, 8, 8, 1, 2, 2, 4, initializer_range=0.7))
PARAMS = init_params(MODEL.config, jax.random.key(3))
PROMPTS = [np.array(ids, np.int32) for ids in ([1, 2], [3], [4, 0, 1], [2, 2])]


def drawn(prompts=PROMPTS, *, count=6, **more):
    options = {"max_new_tokens": count, "eos_token_ids": (), "temperature": 1.5}
    return generate(MODEL, PARAMS, prompts, **options | more)


def test_first_tokens_have_the_softmax_of_the_logits_over_the_temperature():
    number = 4000
    found = np.concatenate(drawn([PROMPTS[0]] * number, count=1, batch_size=500))
    ids = PROMPTS[0][None]
    logits = jax.jit(MODEL.apply)({"params": PARAMS}, ids, jnp.ones_like(ids))
    expected = jax.nn.softmax(jnp.asarray(logits)[0, -1] / 1.5)
    assert np.ptp(expected) > 0.1  # it is not flat, nor that of another temperature
    shares = np.bincount(found, minlength=5) / number
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / number**0.5)


def test_draws_depend_on_seed_and_place_and_not_on_the_rows_beside():
    together, alone = drawn(), drawn(batch_size=1)
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, drawn(seed=0))
    assert not np.array_equal(together, drawn(seed=1))
    twice = drawn([PROMPTS[0]] * 2, count=20)
    assert not np.array_equal(*twice)


def test_cold_draws_are_greedy():
    greedy = drawn(temperature=0.0)
    np.testing.assert_array_equal(greedy, drawn(temperature=1e-6))
    assert not np.array_equal(greedy, drawn(temperature=5.0))


def test_a_temperature_below_zero_is_refused():
    with pytest.raises(ValueError, match="temperature=-1 must be 0 or above"):
        drawn(temperature=-1)


def test_the_least_likely_token_each_time():
    """Against the logits of whole rows, padded behind what they are."""
    found = drawn(temperature=0.0, least_likely=True)
    rows = [np.concatenate(pair) for pair in zip(PROMPTS, found, strict=True)]
    ids = np.stack([np.pad(row, (0, 9 - len(row))) for row in rows])
    logits = np.asarray(MODEL.apply({"params": PARAMS}, jnp.asarray(ids)))
    for prompt, new, logits_LxV in zip(PROMPTS, found, logits, strict=True):
        start = len(prompt) - 1
        np.testing.assert_array_equal(new, logits_LxV[start : start + 6].argmin(-1))


def test_the_least_likely_token_is_not_an_impossible_one():
    logits = jnp.array([[1.0, -jnp.inf, 0.5, 0.25]])
    scores = decoding._scores(logits, decoding.LeastLikely(), None)
    assert decoding._argmax(scores).tolist() == [3]


def test_nothing_is_drawn_where_the_least_likely_is_taken():
    with pytest.raises(ValueError, match=r"leave out temperature=1\.5"):
        drawn(least_likely=True)
