"""Token scores against an independent numpy log-softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.evals.language import scores as scores_lib
from ofmu_jax.evals.language.scores import EvaluationError, score_batches

VOCAB, WIDTH, EOS = 23, 6, 1


def apply_fn(params, input_ids, attention_mask):
    """A causal toy model: logits from the attended mean of the embeddings so far."""
    x = params["embed"][input_ids] * attention_mask[..., None]
    count = jnp.maximum(jnp.cumsum(attention_mask, axis=1), 1)[..., None]
    hidden = jnp.cumsum(x, axis=1) / count + params["embed"][input_ids]
    return hidden @ params["head"]


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    return {
        "embed": rng.normal(size=(VOCAB, WIDTH)).astype(np.float32),
        "head": rng.normal(size=(WIDTH, VOCAB)).astype(np.float32),
    }


def make_examples(lengths, seed=1):
    rng = np.random.default_rng(seed)
    examples = []
    for length in lengths:
        ids = rng.integers(2, VOCAB, size=length).astype(np.int32)
        ids[-1] = EOS
        prompt = max(1, length // 3)
        labels = np.where(np.arange(length) < prompt, -100, ids).astype(np.int32)
        examples.append(Encoded(ids, labels, prompt))
    return examples


def numpy_scores(params, example):
    """One example by itself, in float64 and without padding."""
    ids = example.input_ids
    x = params["embed"].astype(np.float64)[ids]
    hidden = np.cumsum(x, axis=0) / np.arange(1, len(ids) + 1)[:, None] + x
    logits = hidden @ params["head"].astype(np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    at = np.flatnonzero(example.labels != -100)
    logp, labels = logp[at - 1], example.labels[at]
    mean = (np.exp(logp) * logp).sum(-1)
    variance = (np.exp(logp) * (logp - mean[:, None]) ** 2).sum(-1)
    chosen = logp[np.arange(len(at)), labels]
    return chosen, logp.argmax(-1) == labels, mean, variance


def assert_same(a, b, **tolerance):
    np.testing.assert_allclose(a.log_prob, b.log_prob, **tolerance)
    np.testing.assert_array_equal(a.correct, b.correct)
    np.testing.assert_allclose(a.mean, b.mean, **tolerance)
    np.testing.assert_allclose(a.variance, b.variance, **tolerance)


def test_matches_numpy_in_order(params):
    examples = make_examples([40, 5, 33, 2, 12, 32, 7])
    found = score_batches(apply_fn, params, examples, batch_size=3)
    assert len(found) == len(examples)
    for scores, example in zip(found, examples, strict=True):
        log_prob, correct, mean, variance = numpy_scores(params, example)
        np.testing.assert_allclose(scores.log_prob, log_prob, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(scores.correct, correct)
        np.testing.assert_allclose(scores.mean, mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(scores.variance, variance, rtol=1e-5, atol=1e-5)
        assert scores.avg_loss == pytest.approx(-log_prob.mean(), rel=1e-5)
        assert scores.probability == pytest.approx(np.exp(log_prob.mean()), rel=1e-5)
        assert len(scores) == (example.labels != -100).sum()
        assert len(scores.without_eos()) == len(scores) - 1


def test_invariant_to_batch_size_padding_and_pad_id(params):
    examples = make_examples([9, 31, 4, 17, 20])
    base = score_batches(apply_fn, params, examples, batch_size=1)
    for options in (
        {"batch_size": 4},
        {"batch_size": 8, "pad_id": 5},
        {"batch_size": 2, "bucket_lengths": (24, 64)},
        {"batch_size": 2, "pad_id": EOS},  # the last token is kept all the same
    ):
        for a, b in zip(
            base, score_batches(apply_fn, params, examples, **options), strict=True
        ):
            assert_same(a, b, rtol=2e-6, atol=2e-6)


def test_compiles_once_per_bucket(params):
    traces = []

    def counted(params, input_ids, attention_mask):
        traces.append(input_ids.shape)
        return apply_fn(params, input_ids, attention_mask)

    score_batches(counted, params, make_examples([5, 30, 33, 60, 9] * 4), batch_size=4)
    score_batches(counted, params, make_examples([7, 50]), batch_size=4)
    assert sorted(traces) == [(4, 32), (4, 64)]


def test_sharded_over_devices(params):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    examples = make_examples([9, 31, 4, 17, 20])
    base = score_batches(apply_fn, params, examples, batch_size=8)
    sharded = score_batches(apply_fn, params, examples, batch_size=8, sharding=sharding)
    for a, b in zip(base, sharded, strict=True):
        assert_same(a, b, rtol=1e-6, atol=1e-6)


def test_interior_eot_is_hidden_only_in_compat_mode(params):
    (example,) = make_examples([12])
    example.input_ids[2] = EOS  # end of a turn inside the prompt
    options = {"batch_size": 1, "pad_id": EOS}
    (correct,) = score_batches(apply_fn, params, [example], **options)
    (compat,) = score_batches(
        apply_fn, params, [example], interior_eot="compat", **options
    )
    np.testing.assert_allclose(
        correct.log_prob, numpy_scores(params, example)[0], rtol=1e-5, atol=1e-5
    )
    assert np.abs(correct.log_prob - compat.log_prob).max() > 1e-3
    (other,) = score_batches(
        apply_fn, params, [example], interior_eot="compat", pad_id=0, eot_id=EOS
    )
    assert_same(compat, other, rtol=1e-6, atol=1e-6)


def test_masked_vocabulary_keeps_moments_finite():
    def masked(params, input_ids, attention_mask):
        row = jnp.array([0.0, 0.0, -jnp.inf, -jnp.inf])
        return jnp.broadcast_to(row, (*input_ids.shape, 4))

    ids = np.array([0, 1], np.int32)
    example = Encoded(ids, np.array([-100, 1], np.int32), 1)
    (scores,) = score_batches(masked, {}, [example])
    # Two options of probability 1/2: log p = μ = −ln 2 and no variance.
    np.testing.assert_allclose(scores.mean, -np.log(2), rtol=1e-6)
    np.testing.assert_allclose(scores.variance, 0, atol=1e-6)


def test_bfloat16_logits_are_reduced_in_float32(params):
    def low(params, input_ids, attention_mask):
        return apply_fn(params, input_ids, attention_mask).astype(jnp.bfloat16)

    examples = make_examples([20])
    (exact,) = score_batches(apply_fn, params, examples)
    (rounded,) = score_batches(low, params, examples)
    assert rounded.log_prob.dtype == np.float32
    assert abs(exact.avg_loss - rounded.avg_loss) < 0.05


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([-100, -100, -100], "no labelled token"),
        ([4, 5, 1], "first token is labelled"),
        ([-100, 5], "vectors of one length"),
    ],
)
def test_refuses_what_cannot_be_scored(params, labels, message):
    good = make_examples([6])
    ids = np.array([4, 5, 1], np.int32)
    bad = Encoded(ids, np.array(labels, np.int32), 1)
    with pytest.raises(EvaluationError, match=f"example 1.*{message}"):
        score_batches(apply_fn, params, [*good, bad])


def test_refuses_a_diverged_model_and_bad_options(params):
    examples = make_examples([6])
    broken = {**params, "head": np.full_like(params["head"], np.nan)}
    with pytest.raises(EvaluationError, match=r"example 0.*not finite.*diverged"):
        score_batches(apply_fn, broken, examples)
    with pytest.raises(EvaluationError, match="6 tokens is longer than every bucket"):
        score_batches(apply_fn, params, examples, bucket_lengths=(4,))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        score_batches(apply_fn, params, examples, batch_size=0)
    with pytest.raises(ValueError, match="interior_eot is 'both'"):
        score_batches(apply_fn, params, examples, interior_eot="both")
    assert score_batches(apply_fn, params, []) == []


def test_pair_scorer_encodes(params):
    examples = make_examples([6, 9])
    table = {("a", "b"): examples[0], ("c", "d"): examples[1]}
    score = scores_lib.pair_scorer(
        apply_fn, params, lambda q, a: table[q, a], batch_size=2
    )
    found = score([("c", "d"), ("a", "b")])
    expected = score_batches(apply_fn, params, examples[::-1], batch_size=2)
    for a, b in zip(found, expected, strict=True):
        assert_same(a, b)
