"""Endless or counted streams of fixed-shape minibatches, with a state to resume from.

Order is a function of the seed and the position alone (`ofmu_jax.data.order`), and
`get_state`/`set_state` resume exactly.

The stream of examples is cut into batches without regard to epochs: an epoch is one
pass over all examples, reshuffled each time; a batch may end one epoch and begin the
next. So a set smaller than the batch is cycled within it, and every example is seen
equally often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from ofmu_jax._trees import name_of
from ofmu_jax.data import order
from ofmu_jax.data.language.padding import (
    IGNORE,
    Batch,
    Encoded,
    InteriorEot,
    pad_right,
    padded_length,
)
from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.streams import iterate

Examples = Sequence[Encoded] | Batch
# What is per token, and its padding: masked and unlabelled, so that the id itself
# does not matter.
_PER_TOKEN = {"input_ids": 0, "labels": IGNORE, "attention_mask": 0}


class Shard(NamedTuple):
    """What one host makes of every batch, cut into ``count`` blocks of equal rows.

    Its blocks need not be neighbours: a mesh follows the wires between the devices,
    not the hosts that they belong to. Hosts may share blocks.
    """

    blocks: tuple[int, ...] = (0,)  # ascending
    count: int = 1


WHOLE = Shard()  # one host makes all rows


def paired_batches(
    forget: Examples,
    retain: Examples,
    batch_size: int,
    seed: int,
    *,
    epochs: int | None = None,
    num_stack: int | None = None,
    length: int | None = None,
    pad_id: int | None = None,
    interior_eot: InteriorEot = "correct",
    shard: Shard = WHOLE,
) -> grain.DatasetIterator:
    """Batches of forget examples, each with a random retain example beside it.

    An epoch is |forget| pairs: every forget example once, in a fresh order, with a
    retain example drawn uniformly with replacement.

    Args:
      forget: encoded examples, or a batch of all of them, already padded; what such
        a batch has beside its tokens (a reference loss (N,)) goes along.
      retain: the same.
      batch_size: B, pairs in a batch over all hosts.
      seed: of the order and of the pairing.
      epochs: end after this many (the last batch is filled up from the next epoch);
        None: never end.
      num_stack: S; stack this many consecutive batches along a new first axis, one
        for each of the inner steps and the outer step of OFMU. Counted by `epochs`,
        the last stack is filled up like the last batch.
      length: L, one for both sets; default: the longest example of both, rounded up
        to a multiple of 8.
      pad_id: id to pad with; needed for encoded examples.
      interior_eot: key mask of the encoded examples, see `pad_right`.
      shard: this host's blocks of rows; it gets block after block, block k being
        the rows ``[k·B/count, (k+1)·B/count)``. See `placement.host_shard`.

    Returns:
      An iterator of ``{"forget": batch, "retain": batch}`` with int32 arrays (B, L) or
      (S, B, L), B the rows of this host. `get_state` returns a small JSON-able value,
      `set_state` takes it back.

    Raises:
      DataError: empty set, or a size that does not fit.
    """
    if length is None:
        length = max(_longest(forget, "forget"), _longest(retain, "retain"))
    pad = lambda examples, name: _pad(examples, name, length, pad_id, interior_eot)
    sets = {"forget": pad(forget, "forget"), "retain": pad(retain, "retain")}
    options = {"epochs": epochs, "num_stack": num_stack, "shard": shard}
    return paired_rows(sets["forget"], sets["retain"], batch_size, seed, **options)


def paired_rows(
    forget: Any,
    retain: Any,
    batch_size: int,
    seed: int,
    *,
    epochs: int | None = None,
    num_stack: int | None = None,
    shard: Shard = WHOLE,
) -> grain.DatasetIterator:
    """`paired_batches` of any trees of arrays with one entry (N, …) for each example.

    >>> forget, retain = np.arange(3), {"x": np.arange(10, 15)}
    >>> batch = next(paired_rows(forget, retain, 4, seed=0))
    >>> batch["forget"].shape, jax.tree.map(np.shape, batch["retain"])
    ((4,), {'x': (4,)})
    """
    sets = {"forget": forget, "retain": retain}
    sizes = {name: len(jax.tree.leaves(rows)[0]) for name, rows in sets.items()}

    def take(ids: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        partners = rng.integers(sizes["retain"], size=ids.shape)
        return {
            "forget": _take(sets["forget"], ids, shard),
            "retain": _take(sets["retain"], partners, shard),
        }

    size = sizes["forget"]
    batches = _batches(size, seed, True, batch_size, epochs, num_stack, shard)
    return iterate(batches.random_map(take))


def single_batches(
    examples: Examples,
    batch_size: int,
    seed: int,
    *,
    epochs: int | None = None,
    num_stack: int | None = None,
    shuffle: bool = True,
    length: int | None = None,
    trim_to: int | None = None,
    pad_id: int | None = None,
    interior_eot: InteriorEot = "correct",
    shard: Shard = WHOLE,
) -> grain.DatasetIterator:
    """Batches of one set, reshuffled each epoch (or in order); see `paired_batches`.

    Args:
      trim_to: cut each batch (or stack) to its own longest row, rounded up to a
        multiple of this: less padding, for one compilation per length. On all hosts
        alike. None: all batches have length L.

    Returns:
      An iterator of batches with int32 arrays (B, L) or (S, B, L).
    """
    length = _longest(examples, "example") if length is None else length
    rows = _pad(examples, "example", length, pad_id, interior_eot)
    size = len(rows["input_ids"])
    batches = _batches(size, seed, shuffle, batch_size, epochs, num_stack, shard)
    lengths = _lengths(rows)

    def take(ids: np.ndarray) -> Batch:
        batch = _take(rows, ids, shard)
        if trim_to is None:
            return batch
        width = -(-lengths[ids].max() // trim_to) * trim_to
        return {
            key: values[..., :width] if key in _PER_TOKEN else values
            for key, values in batch.items()
        }

    return iterate(batches.map(take))


def num_batches(
    size: int, batch_size: int, epochs: int, num_stack: int | None = None
) -> int:
    """How many batches (or stacks) `epochs` passes over ``size`` examples make.

    >>> num_batches(40, 16, epochs=1), num_batches(40, 16, epochs=2)
    (3, 5)
    """
    return -(-size * epochs // (batch_size * (num_stack or 1)))


def _batches(
    size: int,
    seed: int,
    shuffle: bool,
    batch_size: int,
    epochs: int | None,
    num_stack: int | None,
    shard: Shard,
) -> grain.MapDataset:
    """Batches of indices, int64 (B,) or (S, B), B over all hosts."""
    order.check(seed, batch_size=batch_size, epochs=epochs, num_stack=num_stack)
    blocks, count = shard
    if not blocks or list(blocks) != sorted(set(blocks) & set(range(count))):
        raise DataError(
            f"the blocks {blocks} of a shard must be ascending numbers of its {count} "
            f"blocks, from 0 to {count - 1}, and at least one"
        )
    if batch_size % count:
        raise DataError(
            f"batch_size is {batch_size}, which the {count} blocks of the mesh's rows "
            f"do not share evenly; give a multiple of {count}"
        )
    indices = grain.MapDataset.source(order.Order([size], (seed,), shuffle))
    batches = indices.seed(seed).batch(batch_size)
    if num_stack is not None:
        batches = batches.batch(num_stack)
    if epochs is not None:
        batches = batches[: num_batches(size, batch_size, epochs, num_stack)]
    return batches


def _take(rows: Batch, ids: np.ndarray, shard: Shard) -> Batch:
    """This host's rows b: ids (B,) or (S, B) → arrays (b, L) or (S, b, L)."""
    *stack, size = ids.shape
    by_block = ids.reshape(*stack, shard.count, size // shard.count)
    ids = by_block[..., list(shard.blocks), :].reshape(*stack, -1)
    return jax.tree.map(lambda values: values[ids], rows)


def _lengths(rows: Batch) -> np.ndarray:
    """Places (N,) up to the last one of each row that is read or labelled."""
    used = (rows["attention_mask"] != 0) | (rows["labels"] != IGNORE)
    return used.shape[-1] - np.argmax(used[:, ::-1], axis=-1)


def _longest(examples: Examples, name: str) -> int:
    if isinstance(examples, dict):
        return examples["input_ids"].shape[-1]
    if not len(examples):
        raise DataError(f"the {name} set is empty; give at least one example")
    return padded_length(examples)


def _pad(
    examples: Examples,
    name: str,
    length: int,
    pad_id: int | None,
    interior_eot: InteriorEot,
) -> Batch:
    """All examples as one batch (N, L)."""
    if isinstance(examples, dict):
        return _widen(examples, name, length)
    if pad_id is None:
        raise DataError(
            "encoded examples need pad_id= (see pad_id_of) to be padded to one length"
        )
    return pad_right(examples, length, pad_id=pad_id, interior_eot=interior_eot)


def _widen(batch: Batch, name: str, length: int) -> Batch:
    rows, width = batch["input_ids"].shape
    if not rows:
        raise DataError(f"the {name} set is empty; give at least one example")
    if width > length:
        raise DataError(
            f"the {name} batch is {width} wide, more than length={length}; raise length"
        )
    for path, values in jax.tree_util.tree_leaves_with_path(batch):
        if len(values) != rows:
            key = name_of(path)
            raise DataError(
                f"field {key!r} of the {name} batch has {len(values)} rows, its "
                f"'input_ids' {rows}; give one value for each example"
            )
    missing = ((0, 0), (0, length - width))
    # What is not per token, such as a reference loss (B,) or a dict of arrays with
    # other answers, goes along as it is.
    return {
        key: np.pad(values, missing, constant_values=_PER_TOKEN[key])
        if key in _PER_TOKEN
        else values
        for key, values in batch.items()
    }
