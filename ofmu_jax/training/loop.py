"""The loop around a method: updates, checks, snapshots to go on from."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp

from ofmu_jax.methods import traced
from ofmu_jax.methods.base import Method, Params
from ofmu_jax.training.stopping import StoppingRule as StoppingRule
from ofmu_jax.training.stopping import Verdict as Verdict
from ofmu_jax.training.stopping import judge as judge
from ofmu_jax.training.watch import Check as Check
from ofmu_jax.training.watch import OnUpdate as OnUpdate
from ofmu_jax.training.watch import Run as Run
from ofmu_jax.training.watch import Watch, copied


class Snapshot(NamedTuple):
    """Everything in flight after an update: from it a run goes on bit for bit.

    Randomness needs no field of its own: keys are in the state of a method, or follow
    from the position of the batches.
    """

    update: int
    params: Params
    state: Any  # of the method and its optimizers
    kept: Params | None  # worth returning; None: those of the start or of this update
    record: Mapping[str, Any]  # of the watch: metrics, checks, …; JSON values
    position: Any  # of the batches, a JSON value; None: they do not tell


class Saver(Protocol):
    """Keeps snapshots of a run, such as `training.snapshots.Snapshots` on disk."""

    def restore(self, like: Snapshot) -> Snapshot | None:
        """The snapshot to go on from, if any; arrays lie as those of ``like`` do.

        A ``kept`` has the structure of the parameters.
        """

    def due(self, update: int) -> bool:
        """True if a snapshot is wanted after this update."""
        ...

    def save(self, snapshot: Snapshot) -> None:
        """Takes a snapshot; its arrays are donated once this returns."""


def run(
    method: Method,
    params: Params,
    batches: Iterable[Any],
    *,
    num_updates: int,
    check: Check | None = None,
    check_every: int = 10,
    stopping: StoppingRule | None = None,
    on_update: OnUpdate | None = None,
    saver: Saver | None = None,
    fixed: Any = None,
    state: Any = None,
) -> Run:
    """Runs ``method`` for at most ``num_updates`` updates.

    The step is compiled once and its inputs are donated; the metrics of an update are
    read while the next one runs.

    Args:
      method: from `ofmu_jax.methods`.
      params: where it starts; they are copied, the caller's stay valid.
      batches: what the method's update takes, one item an update.
      check: called with the parameters before the first update, after every
        ``check_every``-th and after the last one; returns finite floats, for the
        stopping rule ``forget_nll`` and ``retain_nll``. With or without it the
        parameters themselves are looked at then, and must be finite.
      on_update: called with the number of updates done and their metrics; in a run
        that goes on from a snapshot first with those that were read before it.
      saver: takes snapshots on the way. Given the same arguments and a snapshot of
        it, a later call returns what this one would have, bit for bit; the batches
        go on where they were by ``get_state`` and ``set_state`` if they have them,
        else as many are drawn and dropped.
      fixed: what a method made by `methods.of_part` reads and does not change: neither
        copied nor donated, and in no snapshot. ``params`` are then its part.
      state: of the method, to start with; default: what it makes of ``params``. It is
        donated.

    Returns:
      A `Run`. Where a loss, a check or a parameter was not finite, its parameters are
      the last that passed a check (or the best, if one met the target), and
      ``stopped`` says so.

    Raises:
      ValueError: if ``batches`` ends before the budget does, or the stopping rule has
        a target but nothing to judge.
      FloatingPointError: if the parameters it starts from, or their check, are not
        finite.
    """
    stopping = stopping or StoppingRule()
    if check_every < 1:
        raise ValueError(f"check_every={check_every} must be at least 1 update.")
    if stopping.forget_target is not None and check is None:
        raise ValueError(
            f"forget_target={stopping.forget_target} needs a check that returns "
            "forget_nll and retain_nll; give check=..., or no target."
        )
    step = Step(method)
    watch, iterator = Watch(stopping, check, on_update), iter(batches)
    params, fixed = committed((params, fixed), params)
    more = () if fixed is None else (fixed,)
    given = (params, *more)
    done, params, state = _begun(method, given, iterator, watch, saver, state)
    params, state = committed((params, state), params)
    compiled = None
    while done < num_updates and not watch.bad and not watch.enough:
        batch = _next(iterator, done, num_updates)
        if compiled is None:  # what the first call runs; only its memory is asked for
            compiled = step.lower(params, state, batch, *more).compile()
            watch.peak_bytes = step_bytes(compiled)
        params, state, metrics = step(params, state, batch, *more)
        done += 1
        watch.updated(done, metrics)
        if done % check_every == 0 or done == num_updates:
            watch.look(params, done)
        if saver is not None and saver.due(done):
            saver.save(_snapshot(done, params, state, iterator, watch))
    watch.read_metrics()
    return dataclasses.replace(watch.result(params, done), state=state)


class Step:
    """The update as `run` compiles it: parameters and state are donated.

    Numbers of a method made by `methods.with_numbers` are arguments.
    """

    def __init__(self, method: Method):
        update, self.numbers = traced.apart(method.update)
        self.step = jax.jit(update, donate_argnums=(0, 1))

    def __call__(self, *arguments: Any) -> Any:
        return self.step(*arguments, **self.numbers)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """The program for arguments like these, before XLA compiles it."""
        return self.step.lower(*arguments, **self.numbers)


def step_bytes(compiled: jax.stages.Compiled) -> int | None:
    """Memory that a compiled step needs at once on one device.

    Its inputs, outputs and temporaries, those that share memory counted once; what
    else is alive, such as the copy of the best parameters, is not part of it.

    Returns:
      Bytes, or None where the backend does not say.
    """
    try:
        found = compiled.memory_analysis()
    except NotImplementedError:
        return None
    if found is None:
        return None
    inputs, outputs = found.argument_size_in_bytes, found.output_size_in_bytes
    return inputs + outputs + found.temp_size_in_bytes - found.alias_size_in_bytes


def _begun(
    method: Method,
    given: tuple[Params, ...],
    batches: Iterator[Any],
    watch: Watch,
    saver: Saver | None,
    state: Any = None,
) -> tuple[int, Params, Any]:
    """Updates done, parameters and state: of the start, or of the last snapshot."""
    start, *fixed = given
    params = copied(start)
    if state is None:
        state = _unshared(method.init(params, *fixed), (params, *fixed))
    found = None
    if saver is not None:
        found = saver.restore(Snapshot(0, params, state, None, {}, None))
    if found is None:
        watch.start(start)
        return 0, params, state
    kept = found.kept
    if kept is None:
        here = found.record["kept_update"] == found.update
        kept = copied(found.params) if here else start
    watch.resume(found.record, kept)
    if found.position is None:
        for _ in itertools.islice(batches, found.update):
            pass
    else:
        cast(Any, batches).set_state(found.position)
    return found.update, found.params, found.state


def _snapshot(
    done: int, params: Params, state: Any, batches: Iterator[Any], watch: Watch
) -> Snapshot:
    kept = None if watch.kept_update in (0, done) else watch.kept
    position = getattr(batches, "get_state", lambda: None)()
    return Snapshot(done, params, state, kept, watch.record(), position)


def _next(batches: Iterator[Any], done: int, num_updates: int) -> Any:
    for batch in batches:
        return batch
    raise ValueError(
        f"the batches ended after {done} of {num_updates} updates; "
        "give a repeating iterator or fewer updates."
    )


def committed(tree: Any, params: Params) -> Any:
    """The tree with every array committed to its devices, as a step returns them.

    A step that was given one array without devices of its own, such as a fresh count,
    would be compiled again for what it returned. Those go to all devices of the
    parameters.
    """
    home = jax.tree.leaves(params)[0].sharding
    if isinstance(home, jax.sharding.NamedSharding):
        home = jax.sharding.NamedSharding(home.mesh, jax.sharding.PartitionSpec())
    place = lambda x: x if x.committed else jax.device_put(x, home)
    return jax.tree.map(place, tree)


def _unshared(state: Any, params: Any) -> Any:
    """Copies the arrays that a state, which is donated, shares with the parameters."""
    shared = {id(x) for x in jax.tree.leaves(params)}
    return jax.tree.map(lambda x: jnp.copy(x) if id(x) in shared else x, state)
