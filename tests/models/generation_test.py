"""Greedy generation against transformers' generate, and its rules."""

import dataclasses

import jax
import jax.numpy as jnp
import model_families as families
import numpy as np
import pytest
from llamas import init_params

from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.llama import decoding, generation
from ofmu_jax.models.llama.generation import greedy_generate
from ofmu_jax.models.llama.model import Llama, LlamaConfig

MODEL = Llama(
    LlamaConfig(
        vocab_size=31,
        hidden_size=8,
        intermediate_size=8,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        head_dim=4,
        initializer_range=0.7,
    )
)
PARAMS = init_params(MODEL.config, jax.random.key(3))
IDS = np.array([[0, 0, 5, 6], [3, 9, 4, 8]], np.int32)
MASK = np.array([[0, 0, 1, 1], [1, 1, 1, 1]], np.int32)


def generate(ids=IDS, mask=MASK, *, count=6, ends=(), pad=0):
    return greedy_generate(
        MODEL,
        PARAMS,
        ids,
        mask,
        max_new_tokens=count,
        eos_token_ids=ends,
        pad_token_id=pad,
    )


@pytest.mark.parametrize("family", families.FAMILIES)
def test_equals_transformers(family, tmp_path):
    """Rows padded on the left, with two end-of-sequence tokens and with none."""
    described, arrays = families.load_fixture(family)
    folder = families.write_golden(tmp_path / family, described)
    config, params = huggingface.load_pretrained(folder)
    for key, ends in (
        ("generated_free", (-1, -1)),  # never: of the same shape, one compilation
        ("generated", arrays["eos_token_ids"].tolist()),
    ):
        tokens = greedy_generate(
            Llama(config),
            params,
            families.input_ids(),
            families.MASKS["left"],
            max_new_tokens=families.NEW_TOKENS,
            eos_token_ids=ends,
            pad_token_id=described["config"]["pad_token_id"],
        )
        np.testing.assert_array_equal(tokens, arrays[key], err_msg=key)


def test_equals_the_whole_forward_pass():
    """Each token is the best one after all before it, without cache and padding."""
    tokens = generate()
    rows = [np.append(IDS[b][MASK[b] == 1], tokens[b]) for b in range(2)]
    longest = max(map(len, rows))  # what lies behind a row changes nothing in it
    ids = np.stack([np.pad(row, (0, longest - len(row))) for row in rows])
    best = jnp.argmax(jax.jit(MODEL.apply)({"params": PARAMS}, ids), -1)
    for b, row in enumerate(rows):
        start = len(row) - len(tokens[b]) - 1
        np.testing.assert_array_equal(best[b, start : len(row) - 1], tokens[b])


def test_masked_tokens_inside_the_prompt_take_no_position():
    """As if the token were not there: it is no key, and positions do not count it."""
    with_hole = generate(np.array([[5, 30, 6]]), np.array([[1, 0, 1]]))
    np.testing.assert_array_equal(with_hole, generate(np.array([[5, 6]]), [[1, 1]]))


def test_rows_end_by_themselves_and_are_padded():
    free = generate()
    end = int(free[0, 2])
    assert end not in free[1]  # so that only the first row ends early
    tokens = generate(ends=(end,), pad=29)
    stop = list(free[0]).index(end)
    np.testing.assert_array_equal(tokens[0, : stop + 1], free[0, : stop + 1])
    assert np.all(tokens[0, stop + 1 :] == 29)
    np.testing.assert_array_equal(tokens[1], free[1])


def test_one_token_and_an_end_at_once():
    free = generate()
    np.testing.assert_array_equal(generate(count=1), free[:, :1])
    ends = tuple(int(x) for x in free[:, 0])
    tokens = generate(ends=ends, pad=29)
    np.testing.assert_array_equal(tokens[:, 0], free[:, 0])
    assert np.all(tokens[:, 1:] == 29)


def prompts_of(lengths):
    rng = np.random.default_rng(2)
    return [rng.integers(31, size=length).astype(np.int32) for length in lengths]


@pytest.fixture(params=[None, 6], ids=["all", "window"])
def grouped(request):
    """Two query heads on one key's; the window is shorter than what is generated."""
    config = dataclasses.replace(
        MODEL.config, num_kv_heads=1, sliding_window=request.param
    )
    params = init_params(config, jax.random.key(3))
    return Llama(config), params


def test_rows_that_end_make_room(grouped, monkeypatch):
    """Prompts join as others end, and the last ones are gathered: the same tokens as
    each prompt by itself."""
    monkeypatch.setattr(generation, "FEWEST", 1)
    model, params = grouped
    prompts, options = prompts_of([1, 9, 3, 30, 2, 7, 4, 12, 5]), {"max_new_tokens": 12}
    gathered, reads = [], []
    original = decoding.gather
    monkeypatch.setattr(
        decoding, "gather", lambda *x: gathered.append(1) or original(*x)
    )
    options |= {"batch_size": 4, "before_batch": lambda: reads.append(1)}
    free = generation.generate(model, params, prompts, eos_token_ids=(), **options)
    assert [len(row) for row in free] == [12] * 9
    # Four begin, the next four join as those end together, and the last is alone.
    assert (len(reads), len(gathered)) == (6, 1)
    ends = tuple(int(row[i % 7]) for i, row in enumerate(free[:4]))
    options["eos_token_ids"], told = ends, []
    found = generation.generate(
        model, params, prompts, after_rows=told.append, **options
    )
    assert sum(told) == 9 and len(told) > 2
    assert len({len(row) for row in found}) > 2  # so that they end one by one
    for prompt, row in zip(prompts, found, strict=True):
        (alone,) = generation.generate(model, params, [prompt], **options)
        np.testing.assert_array_equal(row, alone)
        assert not np.isin(row[:-1], ends).any()
        assert row[-1] in ends or len(row) == 12


def test_more_slots_are_looked_at_as_rows_grow(grouped):
    """Beyond the first 64 slots: each token is the best one after all before it."""
    model, params = grouped
    (prompt,) = prompts_of([5])
    (new,) = generation.generate(
        model, params, [prompt], max_new_tokens=70, eos_token_ids=()
    )
    ids = np.concatenate([prompt, new])[None]
    best = jnp.argmax(jax.jit(model.apply)({"params": params}, ids), -1)
    np.testing.assert_array_equal(best[0, 4:-1], new)


def test_sharded_rows():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    prompts = prompts_of([4, 1, 6, 2, 9])
    options = {"max_new_tokens": 5, "eos_token_ids": (), "batch_size": 4}
    expected = generation.generate(MODEL, PARAMS, prompts, **options)
    found = generation.generate(MODEL, PARAMS, prompts, sharding=sharding, **options)
    np.testing.assert_array_equal(found, expected)


def test_one_compilation_a_shape():
    generate(ends=(4,), pad=7)
    before = decoding.decode._cache_size()
    generate(IDS[::-1], MASK[::-1], ends=(5,), pad=8)
    greedy_generate(  # an equal module is the same program
        Llama(MODEL.config),
        PARAMS,
        IDS,
        MASK,
        max_new_tokens=6,
        eos_token_ids=(6,),
        pad_token_id=1,
    )
    assert decoding.decode._cache_size() == before


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="pad prompts on the left"):
        generate(mask=MASK[:, ::-1])
    with pytest.raises(ValueError, match="at least 1, got 0"):
        generate(count=0)
