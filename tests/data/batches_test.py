"""Streams of batches: order, resumption, hosts, epochs; on numbered examples."""

import itertools
import json

import numpy as np
import pytest

from ofmu_jax.data.language.batches import (
    Shard,
    num_batches,
    paired_batches,
    single_batches,
)
from ofmu_jax.data.language.padding import IGNORE, Encoded
from ofmu_jax.data.language.records import DataError


def numbered(count, length=3):
    """Examples that can be told apart: number k is the token k, ``length`` times."""
    ids = np.repeat(np.arange(count, dtype=np.int32)[:, None], length, axis=1)
    return {"input_ids": ids, "labels": ids, "attention_mask": np.ones_like(ids)}


def numbers(batch):
    return batch["input_ids"][..., 0]


def order(stream, most=1000):
    """The numbers that a stream yields, one after another."""
    taken = [numbers(batch).ravel() for batch in itertools.islice(stream, most)]
    return np.concatenate(taken).tolist()


def pairs(forget=5, retain=7, size=4, seed=0, **options):
    """(forget, retain) numbers of a counted stream."""
    options = {"epochs": 1} | options
    stream = paired_batches(numbered(forget), numbered(retain), size, seed, **options)
    return [
        (numbers(b["forget"]).tolist(), numbers(b["retain"]).tolist()) for b in stream
    ]


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        if isinstance(a[key], dict):
            assert_equal(a[key], b[key])
        else:
            np.testing.assert_array_equal(a[key], b[key])


def test_order_is_a_function_of_the_seed():
    assert pairs(seed=3, epochs=4) == pairs(seed=3, epochs=4)
    assert pairs(seed=3, epochs=4) != pairs(seed=4, epochs=4)


# Changed on purpose? Then a resumed run no longer draws what it would have drawn
# before: paste the new numbers and say so in CHANGELOG.md.
GOLDEN = [
    ([2, 4, 3, 0], [0, 2, 5, 3]),
    ([1, 1, 4, 3], [3, 0, 5, 5]),  # from the second 1 on: the next epoch
]


def test_golden_order():
    assert pairs() == GOLDEN


def test_every_example_once_an_epoch():
    # 3 epochs of 5 are 15 examples in batches of 4; the last one is filled up.
    seen = order(single_batches(numbered(5), 4, 0, epochs=3))
    assert len(seen) == 16
    epochs = [seen[k : k + 5] for k in (0, 5, 10)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1
    forgotten = [number for forget, _ in pairs(epochs=3) for number in forget]
    assert [sorted(forgotten[k : k + 5]) for k in (0, 5, 10)] == [list(range(5))] * 3


def test_in_order_without_shuffling():
    stream = single_batches(numbered(3), 2, 0, epochs=2, shuffle=False)
    assert order(stream) == [0, 1, 2, 0, 1, 2]


def test_sets_smaller_than_the_batch_are_cycled():
    stream = single_batches(numbered(2), 5, 0, shuffle=False)
    assert numbers(next(stream)).tolist() == [0, 1, 0, 1, 0]
    assert numbers(next(stream)).tolist() == [1, 0, 1, 0, 1]
    for forget, retain in pairs(forget=1, retain=1, size=3, epochs=4):
        assert forget == retain == [0, 0, 0]


def test_retain_rows_are_drawn_uniformly_and_with_replacement():
    batches = pairs(forget=40, retain=4, size=40, epochs=25)  # 1000 draws
    drawn = np.array([retain for _, retain in batches])
    # Four counts of 250 expected; 5 standard deviations are 68.
    assert np.abs(np.bincount(drawn.ravel(), minlength=4) - 250).max() < 68
    # And whoever is forgotten: each of 40 meets every one of 4 within 25 epochs.
    met = {(f, r) for fs, rs in batches for f, r in zip(fs, rs, strict=True)}
    assert len(met) > 155


def test_every_retain_row_is_met_where_the_forget_set_is_small():
    drawn = [r for _, retain in pairs(forget=2, retain=50, epochs=300) for r in retain]
    assert set(drawn) == set(range(50))


@pytest.mark.parametrize("num_stack", [None, 2])
@pytest.mark.parametrize("done", [0, 1, 3, 7])
def test_resumes_exactly_through_json(done, num_stack):
    make = lambda: paired_batches(
        numbered(5), numbered(7), 4, 11, epochs=8, num_stack=num_stack
    )
    first = make()
    list(itertools.islice(first, done))
    state = json.loads(json.dumps(first.get_state()))
    resumed = make()
    resumed.set_state(state)
    rest, again = list(first), list(resumed)
    assert len(rest) == len(again) == max(0, (10 if num_stack is None else 5) - done)
    for a, b in zip(rest, again, strict=True):
        assert_equal(a, b)


def test_goes_back_as_well():
    stream = single_batches(numbered(9), 2, 5)
    state = stream.get_state()
    first = order(stream, 7)
    stream.set_state(state)
    assert order(stream, 7) == first


@pytest.mark.parametrize("num_stack", [None, 3])
@pytest.mark.parametrize(
    "hosts",
    [
        [Shard()],
        [Shard((0,), 2), Shard((1,), 2)],
        [Shard((k,), 4) for k in range(4)],
        [Shard((0, 3), 4), Shard((1, 2), 4)],  # apart, as on a TPU slice
        [Shard((2,), 4), Shard((0, 1, 3), 4)],
        [Shard((0, 1, 3), 4), Shard((1, 2, 3), 4)],  # two of them on both
    ],
)
def test_hosts_make_up_the_global_batch(hosts, num_stack):
    make = lambda shard: list(
        paired_batches(
            numbered(5), numbered(7), 8, 2, epochs=6, num_stack=num_stack, shard=shard
        )
    )
    met = set()
    for host in hosts:
        met |= set(host.blocks)
        each = 8 // host.count
        mine = [block * each + i for block in host.blocks for i in range(each)]
        for batch, whole in zip(make(host), make(Shard()), strict=True):
            for name in ("forget", "retain"):
                own = {key: x[..., mine, :] for key, x in whole[name].items()}
                assert_equal(batch[name], own)
    assert met == set(range(hosts[0].count))


def test_hosts_trim_alike():
    ids = [np.arange(n, dtype=np.int32) for n in (3, 17, 2, 5)]
    examples = [Encoded(x, x, 1) for x in ids]
    options = {"shuffle": False, "pad_id": 0, "trim_to": 4}
    widths = [
        next(single_batches(examples, 4, 0, shard=Shard(blocks, 4), **options))
        for blocks in ((0, 2), (1, 3))
    ]
    assert [x["input_ids"].shape for x in widths] == [(2, 20)] * 2


def test_stacks_are_consecutive_batches():
    flat = list(paired_batches(numbered(5), numbered(7), 4, 0, epochs=12))
    stacks = list(
        paired_batches(numbered(5), numbered(7), 4, 0, epochs=12, num_stack=3)
    )
    assert (len(flat), len(stacks)) == (15, 5)
    assert stacks[0]["forget"]["input_ids"].shape == (3, 4, 3)
    forget = [numbers(batch["forget"]) for batch in flat]
    stacked = [numbers(batch["forget"]) for batch in stacks]
    np.testing.assert_array_equal(np.concatenate(stacked), np.stack(forget))


@pytest.mark.parametrize(
    "size, batch_size, epochs, num_stack, count",
    [(5, 4, 1, None, 2), (4, 4, 1, None, 1), (5, 4, 4, None, 5), (5, 4, 4, 2, 3)],
)
def test_number_of_batches(size, batch_size, epochs, num_stack, count):
    assert num_batches(size, batch_size, epochs, num_stack) == count
    options = {"epochs": epochs, "num_stack": num_stack}
    stream = single_batches(numbered(size), batch_size, 0, **options)
    assert len(list(stream)) == count


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("num_stack", [None, 1, 2])
def test_without_epochs_it_never_ends(batch_size, num_stack):
    stream = single_batches(numbered(3), batch_size, 0, num_stack=num_stack)
    assert len(order(stream, most=50)) == 50 * batch_size * (num_stack or 1)
    stream = paired_batches(
        numbered(3), numbered(2), batch_size, 0, num_stack=num_stack
    )
    assert len(list(itertools.islice(stream, 50))) == 50


def test_batches_of_one():
    assert len(pairs(size=1, epochs=2)) == 10


def test_encoded_examples_get_one_length():
    example = lambda n: Encoded(np.full(n, 7), np.full(n, 7), 0)
    stream = paired_batches([example(3)], [example(9)], 1, 0, pad_id=2, epochs=1)
    (batch,) = stream
    assert batch["forget"]["input_ids"].tolist() == [[7] * 3 + [2] * 13]
    assert batch["retain"]["input_ids"].shape == (1, 16)
    stream = single_batches(
        [example(3)], 1, 0, pad_id=7, interior_eot="compat", length=4
    )
    assert next(stream)["attention_mask"].tolist() == [[0] * 4]


def test_padded_batches_get_one_length():
    stream = paired_batches(numbered(1, 2), numbered(1, 4), 1, 0, epochs=1)
    (batch,) = stream
    assert batch["forget"]["attention_mask"].tolist() == [[1, 1, 0, 0]]
    assert batch["forget"]["labels"].tolist() == [[0, 0, IGNORE, IGNORE]]
    assert batch["retain"]["attention_mask"].tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize("num_stack", [None, 2])
def test_other_fields_go_along(num_stack):
    forget = numbered(6, 2) | {"reference_nll": np.arange(6, dtype=np.float32) / 4}
    stream = paired_batches(
        forget,
        numbered(3, 4),
        4,
        0,
        epochs=3,
        num_stack=num_stack,
        shard=Shard((1,), 2),
    )
    for batch in stream:
        nll = batch["forget"]["reference_nll"]
        assert nll.dtype == np.float32
        np.testing.assert_array_equal(nll * 4, numbers(batch["forget"]))
        assert "reference_nll" not in batch["retain"]


def test_batches_are_copies():
    rows = numbered(3)
    batch = next(single_batches(rows, 3, 0))
    batch["input_ids"][:] = -1
    np.testing.assert_array_equal(rows["input_ids"], numbered(3)["input_ids"])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"num_stack": -1}, "num_stack is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, r"seed is 4294967296; .* below 2\*\*32"),
        ({"shard": Shard((2,), 2)}, r"the blocks \(2,\) of a shard .* from 0 to 1"),
        ({"shard": Shard((-1, 1), 2)}, "ascending numbers of its 2 blocks"),
        ({"shard": Shard((1, 0), 2)}, "ascending"),
        ({"shard": Shard((1, 1), 2)}, "ascending"),
        ({"shard": Shard((), 2)}, "at least one"),
        ({"shard": Shard((0,), 0)}, "ascending"),
        ({"shard": Shard((0,), 3)}, "batch_size is 4, .* 3 blocks.* multiple of 3"),
        ({"length": 2}, "batch is 3 wide, more than length=2; raise length"),
        ({"retain": numbered(0)}, "the retain set is empty"),
        ({"forget": []}, "the forget set is empty; give at least one example"),
        ({"forget": [Encoded(np.ones(1), np.ones(1), 0)]}, "need pad_id="),
        (
            {"forget": numbered(3) | {"reference_nll": np.ones(2)}},
            r"'reference_nll' of the forget batch has 2 rows, its 'input_ids' 3",
        ),
    ],
)
def test_refusals(options, message):
    arguments = {
        "forget": numbered(3),
        "retain": numbered(3),
        "batch_size": 4,
        "seed": 0,
    }
    with pytest.raises(DataError, match=message):
        paired_batches(**arguments | options)


def test_dicts_of_arrays_go_along_row_by_row():
    ids = np.arange(12).reshape(6, 2)
    forget = {
        "input_ids": ids,
        "labels": ids,
        "attention_mask": np.ones_like(ids),
        "alternative": {"input_ids": ids + 100},
    }
    stream = paired_batches(forget, dict(forget), 4, 0, length=2, num_stack=2)
    batch = next(stream)["forget"]
    assert batch["alternative"]["input_ids"].shape == (2, 4, 2)
    np.testing.assert_array_equal(
        batch["alternative"]["input_ids"], batch["input_ids"] + 100
    )
    forget["alternative"] = {"input_ids": ids[1:]}
    with pytest.raises(DataError, match=r"'alternative/input_ids' .* has 5 rows"):
        paired_batches(forget, dict(forget), 4, 0, length=2)


@pytest.mark.parametrize("num_stack", [None, 2])
def test_trimmed_batches_lose_nothing_but_padding(num_stack):
    examples = [
        Encoded(np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int32), 1)
        for n in (3, 5, 9, 2, 17, 4)
    ]
    make = lambda **options: single_batches(
        examples, 2, 0, epochs=2, num_stack=num_stack, pad_id=0, **options
    )
    widths = set()
    for trimmed, whole in zip(make(trim_to=4), make(), strict=True):
        width = trimmed["input_ids"].shape[-1]
        longest = int(whole["attention_mask"].sum(-1).max())
        assert width == -(-longest // 4) * 4
        assert_equal(trimmed, {k: v[..., :width] for k, v in whole.items()})
        assert not whole["attention_mask"][..., width:].any()
        assert (whole["labels"][..., width:] == IGNORE).all()
        widths.add(width)
    assert len(widths) > 1
