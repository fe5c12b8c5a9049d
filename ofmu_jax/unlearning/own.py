"""`unlearn` for models of one's own: parameters or an NNX module, a loss, arrays."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from ofmu_jax._trees import name_of, scalar
from ofmu_jax.data.language.batches import paired_rows
from ofmu_jax.data.order import evenly_spaced
from ofmu_jax.methods import own
from ofmu_jax.methods.base import BatchLoss, Params, spec_of
from ofmu_jax.methods.parts.subset import Subset, of_part
from ofmu_jax.training.budget import updates_within
from ofmu_jax.unlearning.carried_out import carried_out
from ofmu_jax.unlearning.options import Asked, configured
from ofmu_jax.unlearning.result import Unlearned

BATCH_SIZE = 64


def unlearn(
    model: Any,
    forget: Any,
    retain: Any,
    asked: Asked,
    *,
    loss: Callable[[Any, Any], jax.Array],
    holdout: Any = None,
    trainable: str | None = None,
    **options: Any,
) -> Unlearned:
    """See `ofmu_jax.unlearn`."""
    name = asked.method
    spec = spec_of(own.METHODS, name)
    config = configured(name, spec.config, options)
    params, of_params, rebuilt = _taken_apart(model, loss)
    of_params = scalar("loss", of_params)
    size = asked.batch_size or BATCH_SIZE
    sets = {"forget": forget, "retain": retain}
    sets = {key: _rows(key, tree) for key, tree in sets.items()}
    mean = jax.jit(of_params)
    goal = asked.goal if isinstance(asked.goal, float) else None
    if holdout is not None and asked.goal in ("auto", "chance"):
        goal = _mean(mean, params, _rows("holdout", holdout), size)
    if goal is None and asked.goal == "chance":
        raise ValueError(
            "forget_target='chance' is the loss of examples that the model never saw; "
            "give them as holdout=."
        )
    look = Look(mean, sets, asked.check_rows, size)

    part = None if trainable is None else Subset(trainable)
    build = lambda lift: spec.build(config, own.Setting(lift(of_params), goal))
    method = build(lambda f: f) if part is None else of_part(build, part.merge)
    cost, option = method.gradient_evaluations, "gradient_evaluations="
    updates = updates_within(asked.gradient_evaluations, cost, name=name, option=option)
    batches = paired_rows(
        sets["forget"],
        sets["retain"],
        size,
        asked.seed,
        num_stack=method.batches_per_update,
    )
    run = carried_out(asked, method, params, batches, updates, look, goal, part)
    metrics = {"before": look(params), "after": look(run.params)}
    return Unlearned(
        name,
        run.params,
        rebuilt(run.params),
        {when: _as_losses(found) for when, found in metrics.items()},
        goal,
        run.updates * cost,
        run,
    )


class Look:
    """Mean loss of the forget and of at most ``rows`` retain examples."""

    def __init__(self, loss: BatchLoss, sets: Mapping[str, Any], rows: int, size: int):
        self.loss, self.size = loss, size
        kept = evenly_spaced(_length(sets["retain"]), rows)
        retain = jax.tree.map(lambda x: x[kept], sets["retain"])
        self.sets = {"forget": sets["forget"], "retain": retain}

    def __call__(self, params: Params) -> Mapping[str, float]:
        return {
            f"{name}_nll": _mean(self.loss, params, rows, self.size)
            for name, rows in self.sets.items()
        }


def _taken_apart(
    model: Any, loss: Callable[[Any, Any], jax.Array]
) -> tuple[Params, BatchLoss, Callable[[Params], Any]]:
    """Parameters, the loss of them, and the way back to what was given."""
    if not isinstance(model, nnx.Module):
        return model, loss, lambda params: None
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    rebuilt = lambda params: nnx.merge(graph, params, rest, copy=True)
    return params, lambda params, batch: loss(rebuilt(params), batch), rebuilt


def _rows(name: str, tree: Any) -> Any:
    """The examples as arrays of one length along their first axis."""
    rows = jax.tree.map(np.asarray, tree)
    sizes = {
        name_of(path) or "the array": x.shape[:1]
        for path, x in jax.tree.leaves_with_path(rows)
    }
    if not sizes or len(set(sizes.values())) > 1 or () in sizes.values():
        raise ValueError(
            f"{name} has leaves of {sizes or 'no'} examples; give a tree of arrays "
            "with one entry for each example along the first axis."
        )
    if not _length(rows):
        raise ValueError(f"{name} is empty; give at least one example.")
    return rows


def _length(rows: Any) -> int:
    return len(jax.tree.leaves(rows)[0])


def _mean(loss: BatchLoss, params: Params, rows: Any, size: int) -> float:
    """Over the examples, by batches of at most ``size``."""
    count = _length(rows)
    part_at = lambda start: jax.tree.map(lambda x: x[start : start + size], rows)
    parts = [part_at(start) for start in range(0, count, size)]
    values = [float(loss(params, part)) * _length(part) for part in parts]
    return math.fsum(values) / count


def _as_losses(found: Mapping[str, float]) -> dict[str, float]:
    return {name.replace("_nll", "_loss"): value for name, value in found.items()}
