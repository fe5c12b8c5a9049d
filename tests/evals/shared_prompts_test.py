"""Scores of answers that share prompts, against those of whole rows."""

import functools

import jax
import numpy as np
import pytest
from llamas import init_params

from ofmu_jax.data.language.padding import Encoded
from ofmu_jax.evals.language import shared_prompts
from ofmu_jax.evals.language.scores import EvaluationError, score_batches
from ofmu_jax.evals.language.shared_prompts import PromptedModel, score_answers
from ofmu_jax.models.llama import prompted
from ofmu_jax.models.llama.model import Llama, LlamaConfig

EOS = 1
CONFIGS = {
    "grouped": {"num_kv_heads": 1},
    "window": {"num_kv_heads": 2, "sliding_window": 5},
}


class Toy:
    """A model in both forms, compiled once each."""

    def __init__(self, **fields):
        config = LlamaConfig(
            vocab_size=29,
            hidden_size=8,
            intermediate_size=8,
            num_layers=2,
            num_heads=2,
            head_dim=4,
            initializer_range=0.7,
            **fields,
        )
        model = Llama(config)
        self.params = init_params(config, jax.random.key(0))
        self.whole = lambda params, ids, mask: model.apply(
            {"params": params}, ids, mask
        )
        self.prompted = PromptedModel(
            functools.partial(prompted.read, model),
            functools.partial(prompted.follow, model),
        )


@pytest.fixture(scope="module", params=CONFIGS)
def toy(request):
    return Toy(**CONFIGS[request.param])


def encoded(prompt, answer):
    ids = np.array([*prompt, *answer, EOS], np.int32)
    labels = np.where(np.arange(len(ids)) < len(prompt), -100, ids).astype(np.int32)
    return Encoded(ids, labels, len(prompt))


def questions(answers=(3, 1, 2, 4)):
    """As many prompts as there are numbers, with so many answers each, mixed."""
    rng = np.random.default_rng(0)
    draw = lambda most: rng.integers(2, 29, size=rng.integers(1, most))
    found = [encoded(p, draw(20)) for n in answers for p in [draw(9)] * n]
    return [found[i] for i in rng.permutation(len(found))]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.correct, b.correct)
        for name in ("log_prob", "mean", "variance"):
            np.testing.assert_allclose(
                getattr(a, name), getattr(b, name), rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("options", [{}, {"pad_id": EOS, "interior_eot": "compat"}])
def test_equals_whole_rows(toy, options):
    """Also behind a prompt of one token, which leaves nothing to read first, and with
    an end of turn within a prompt, which compat hides."""
    examples = [*questions(), encoded([7], [3, 9]), encoded([4, EOS, 5], [8])]
    found = score_answers(toy.prompted, toy.params, examples, batch_size=8, **options)
    expected = score_batches(toy.whole, toy.params, examples, **options)
    assert_same(found, expected)


def test_a_prompt_is_read_once():
    examples = questions()
    (block,) = shared_prompts._blocks(examples, 64)
    prompts, texts = block
    assert len(prompts) == 4
    assert sorted(text.row for text in texts) == list(range(len(examples)))
    for row, prompt, text in texts:
        ids = np.concatenate([prompts[prompt].input_ids, text.input_ids])
        np.testing.assert_array_equal(ids, examples[row].input_ids)
        assert np.sum(text.labels != -100) == len(text) - 1  # all behind the first
    assert [len(p) for p, _ in shared_prompts._blocks(examples, 3)] == [3, 1]


def test_few_rows_are_not_padded_to_a_full_batch(toy):
    shapes = []

    def follow(params, prompts, owner, ids, mask):
        shapes.append(ids.shape)
        return toy.prompted.follow(params, prompts, owner, ids, mask)

    counted = PromptedModel(toy.prompted.read, follow)
    score_answers(counted, toy.params, questions()[:9], batch_size=64)
    assert shapes == [(16, 24)]


def test_sharded_over_devices(toy):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    examples = questions()
    options = {"batch_size": 8}
    base = score_answers(toy.prompted, toy.params, examples, **options)
    found = score_answers(
        toy.prompted, toy.params, examples, sharding=sharding, **options
    )
    assert_same(found, base)


def test_refuses_what_whole_rows_refuse(toy):
    examples = questions()
    bad = Encoded(np.array([4, 5], np.int32), np.array([-100, -100], np.int32), 1)
    with pytest.raises(EvaluationError, match=r"example 10.*no labelled token"):
        score_answers(toy.prompted, toy.params, [*examples, bad])
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), toy.params)
    with pytest.raises(EvaluationError, match=r"example \d+.*not finite.*diverged"):
        score_answers(toy.prompted, broken, examples)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        score_answers(toy.prompted, toy.params, examples, batch_size=0)
    assert score_answers(toy.prompted, toy.params, []) == []
