"""Endless streams of image batches; order is a function of seed and position alone.

Each batch is a dict: ``images`` uint8 (B, H, W, C), ``labels`` int32 (B,), ``forget``
bool (B,), whether the image is one to forget, and ``draw`` uint32 (2,), seed and number
of the batch in its stream, from which augmentation and random labels are drawn on the
device. With ``num_stack`` S all have a further first axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import grain
import numpy as np

from ofmu_jax.data import order
from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.streams import iterate
from ofmu_jax.data.vision.images import Labelled

Batch = dict[str, np.ndarray]


def image_batches(
    parts: Sequence[tuple[Labelled, bool]],
    batch_size: int,
    seed: int,
    *,
    num_stack: int = 1,
    mixed: bool = False,
) -> grain.DatasetIterator:
    """Batches of one or several sets, reshuffled each epoch.

    An epoch goes through the sets one after another, each in a fresh order (random
    labels: first all forget, then all retain images). A batch may end one set or
    epoch and begin the next, so that every image is seen equally often.

    Args:
      parts: sets, each with whether its images are to be forgotten.
      batch_size: B.
      seed: of the order.
      num_stack: S.
      mixed: shuffle the sets as one instead.

    Raises:
      DataError: an empty set, or a count below 1.
    """
    rows, flags = joined(parts)
    sizes = [len(part) for part, _ in parts]
    indices = order.Order([sum(sizes)] if mixed else sizes, (seed, 0))
    stacks = _stacks(indices, batch_size, num_stack, seed)
    return iterate(stacks.map(lambda item: _gather(rows, flags, seed, *item)))


def paired_image_batches(
    forget: Labelled, retain: Labelled, batch_size: int, seed: int, *, num_stack: int
) -> grain.DatasetIterator:
    """``{"forget": batch, "retain": batch}``, each set in an order of its own.

    The sets are walked independently: after |retain| / B batches every image to keep
    has been seen once, and the forget images |retain| / |forget| times.
    """
    streams = {}
    for place, (name, part) in enumerate((("forget", forget), ("retain", retain))):
        rows, flags = joined([(part, name == "forget")])
        indices = order.Order([len(part)], (seed, place))
        streams[name] = (rows, flags, _stacks(indices, batch_size, num_stack, seed))

    def both(items) -> dict[str, Batch]:
        found = zip(streams.items(), items, strict=True)
        return {
            name: _gather(rows, flags, seed, *item)
            for (name, (rows, flags, _)), item in found
        }

    stacks = [stacks for _, _, stacks in streams.values()]
    return iterate(grain.experimental.ZipMapDataset(stacks).map(both))


def joined(parts: Sequence[tuple[Labelled, bool]]) -> tuple[Labelled, np.ndarray]:
    """The sets one after another, and for each image whether it is to be forgotten."""
    for part, forget in parts:
        if not len(part):
            name = "forget" if forget else "retain"
            raise DataError(f"the {name} set is empty; give at least one image")
    rows = Labelled(
        np.concatenate([part.images for part, _ in parts]),
        np.concatenate([part.labels for part, _ in parts]),
    )
    return rows, np.concatenate([np.full(len(part), flag) for part, flag in parts])


def _stacks(
    indices: order.Order, batch_size: int, num_stack: int, seed: int
) -> grain.MapDataset:
    """(indices (S, B), steps (S,)) without end."""
    order.check(seed, batch_size=batch_size, num_stack=num_stack)
    ids = grain.MapDataset.source(indices).seed(seed).batch(batch_size).batch(num_stack)
    number = lambda index, rows: (rows, index * num_stack + np.arange(num_stack))
    return ids.map_with_index(number)


def _gather(
    rows: Labelled, flags: np.ndarray, seed: int, ids: np.ndarray, steps: np.ndarray
) -> Batch:
    return {
        "images": rows.images[ids],
        "labels": rows.labels[ids],
        "forget": flags[ids],
        "draw": np.stack([np.full_like(steps, seed), steps], -1).astype(np.uint32),
    }
