"""The loop around a method: checks, the stopping rule, and the guard against NaN."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ofmu_jax._trees import differentiable
from ofmu_jax.methods.base import Method, Params

Check = Callable[[Params], Mapping[str, float]]  # forget_nll, retain_nll, …
OnUpdate = Callable[[int, dict[str, float]], None]


@dataclasses.dataclass(frozen=True)
class StoppingRule:
    """When a run has forgotten enough, and which of its parameters to return.

    A run is judged at its checks. One *meets the target* if the mean NLL of the
    forget rows is at least ``forget_target``. Of those the run returns the one with
    the least retain NLL + (forget NLL − target): forgetting far beyond the target is
    a defect of its own, as visible from outside as remembering. It stops once
    ``patience`` further checks have not lowered that sum. If no check meets the
    target, the run uses up its budget and returns its last parameters. The same rule
    serves every method.

    Raises:
      ValueError: for a target that is not finite, or patience below 1.
    """

    forget_target: float | None = None  # nats per token; None: run the whole budget
    patience: int = 5  # checks

    def __post_init__(self):
        if self.forget_target is not None and not math.isfinite(self.forget_target):
            raise ValueError(
                f"forget_target={self.forget_target} is not finite; give nats per "
                "token, or None to run the whole budget."
            )
        if self.patience < 1:
            raise ValueError(f"patience={self.patience} must be at least 1 check.")


class Verdict(NamedTuple):
    """What a `StoppingRule` says of the checks so far."""

    best_update: int | None  # None: no check has met the target
    enough: bool  # the run may stop


def judge(rule: StoppingRule, checks: Sequence[Mapping[str, float]]) -> Verdict:
    """Applies the rule to recorded checks, in order; the start (update 0) is none.

    The decision of a run depends on its recorded checks alone, so that it can be
    repeated from them.

    >>> rule = StoppingRule(forget_target=2.0, patience=1)
    >>> start = {"update": 0, "forget_nll": 0.1, "retain_nll": 0.1}
    >>> met = {"update": 10, "forget_nll": 2.1, "retain_nll": 0.3}
    >>> beyond = {"update": 20, "forget_nll": 9.0, "retain_nll": 0.3}
    >>> judge(rule, [start, met, beyond])
    Verdict(best_update=10, enough=True)
    """
    best, best_score, waited = None, math.inf, 0
    for values in checks:
        target, update = rule.forget_target, int(values["update"])
        if target is None or update == 0 or values["forget_nll"] < target:
            continue
        score = values["retain_nll"] + values["forget_nll"] - target
        if score < best_score:
            best, best_score, waited = update, score, 0
        else:
            waited += 1
    return Verdict(best, waited >= rule.patience)


@dataclasses.dataclass
class Run:
    """What a run leaves behind."""

    params: Params
    update: int  # the parameters are those after this many updates
    updates: int  # how many updates were done
    stopped: str  # why it stopped, for people
    finite: bool  # False if a loss, a check or the parameters were not
    metrics: list[dict[str, float]]  # one row per update
    checks: list[dict[str, float]]  # one row per check
    peak_bytes: int | None = None  # memory of a step, per device; None: not known


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
      on_update: called with the number of updates done and their metrics.

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
    step = jax.jit(method.update, donate_argnums=(0, 1))
    watch = _Watch(stopping, check, on_update, params)
    params = _copy(params)
    state = _unshared(method.init(params), params)
    iterator, done, compiled = iter(batches), 0, None
    while done < num_updates and not watch.bad and not watch.enough:
        batch = _next(iterator, done, num_updates)
        if compiled is None:  # what the first call runs; only its memory is asked for
            compiled = step.lower(params, state, batch).compile()
        params, state, metrics = step(params, state, batch)
        done += 1
        watch.updated(done, metrics)
        if done % check_every == 0 or done == num_updates:
            watch.look(params, done)
    watch.read_metrics()
    result = watch.result(params, done)
    result.peak_bytes = None if compiled is None else step_bytes(compiled)
    return result


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


class _Watch:
    """Reads the metrics and checks of a run, and keeps parameters worth returning."""

    def __init__(
        self,
        rule: StoppingRule,
        check: Check | None,
        on_update: OnUpdate | None,
        params: Params,
    ):
        self.rule, self.on_update = rule, on_update
        self.check = check or (lambda params: {})
        self.kept, self.kept_update, self.met = params, 0, False
        self.pending: tuple[int, Any] | None = None
        self.bad: str | None = None  # what was not finite, and where
        self.enough = False
        self.rows: list[dict[str, float]] = []
        self.checks: list[dict[str, float]] = []
        values = dict(self.check(params))
        if bad := _not_finite(values) or _not_finite_leaf(params):
            raise FloatingPointError(
                f"{bad} before the first update: the model or its data is broken."
            )
        if check is not None:
            self._require(values)
            self.checks.append({"update": 0, **values})

    def updated(self, done: int, metrics: Any) -> None:
        """Takes an update's metrics and reads those of the one before."""
        self.read_metrics()
        self.pending = (done, metrics)

    def read_metrics(self) -> None:
        """Waits for the metrics that were not read yet."""
        if self.pending is None:
            return
        (done, metrics), self.pending = self.pending, None
        row = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self.rows.append({"update": done, **row})
        if self.on_update is not None:
            self.on_update(done, row)
        losses = {name: row[name] for name in row if name.endswith("_loss")}
        self._note(_not_finite(losses), done)

    def look(self, params: Params, done: int) -> None:
        """Checks the parameters, keeps them if they are good, and judges the run."""
        self.read_metrics()
        if self.bad:
            return
        values = dict(self.check(params))
        self._note(_not_finite(values) or _not_finite_leaf(params), done)
        if self.bad:
            return
        if self.checks:
            self.checks.append({"update": done, **values})
        verdict = judge(self.rule, self.checks)
        self.enough = verdict.enough
        if verdict.best_update in (None, done):
            self.kept, self.kept_update = _copy(params), done
            self.met = verdict.best_update is not None

    def result(self, params: Params, done: int) -> Run:
        """The run, and in words why it ended and what it returns."""
        kept, target = (self.kept, self.kept_update), self.rule.forget_target
        if self.bad:
            which = "the best check" if self.met else "the last good parameters"
            stopped = f"{self.bad}; returned {which}, of update {self.kept_update}"
        elif self.met:
            reason = "no longer improved" if self.enough else "budget used up"
            stopped = (
                f"forget target {target:.3f} met; {reason}; returned the "
                f"best check, of update {self.kept_update}"
            )
        else:
            kept, stopped = (params, done), "budget used up"
            if target is not None:
                stopped += f"; the forget target {target:.3f} was not met"
        return Run(*kept, done, stopped, not self.bad, self.rows, self.checks)

    def _note(self, bad: str | None, done: int) -> None:
        if bad and not self.bad:
            self.bad = f"{bad} at update {done}"

    def _require(self, values: Mapping[str, float]) -> None:
        missing = {"forget_nll", "retain_nll"} - values.keys()
        if self.rule.forget_target is not None and missing:
            raise ValueError(
                f"the check returned {sorted(values)}, and the stopping rule needs "
                f"{sorted(missing)} as well."
            )


def _next(batches: Iterator[Any], done: int, num_updates: int) -> Any:
    for batch in batches:
        return batch
    raise ValueError(
        f"the batches ended after {done} of {num_updates} updates; "
        "give a repeating iterator or fewer updates."
    )


def _copy(params: Params) -> Params:
    """A copy that donation of the original does not touch."""
    return jax.tree.map(jnp.copy, params)


def _unshared(state: Any, params: Params) -> Any:
    """Copies the arrays a state shares with the parameters: both are donated."""
    shared = {id(x) for x in jax.tree.leaves(params)}
    return jax.tree.map(lambda x: jnp.copy(x) if id(x) in shared else x, state)


def _not_finite(values: Mapping[str, float]) -> str | None:
    for name, value in values.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    return None


@jax.jit
def _finite_leaves(params: Params) -> Params:
    return jax.tree.map(lambda x: jnp.isfinite(x).all(), params)


def _not_finite_leaf(params: Params) -> str | None:
    """Names a parameter with an entry that is not finite."""
    flags = jax.device_get(_finite_leaves(differentiable(params)))
    for path, finite in jax.tree.leaves_with_path(flags):
        if not finite:
            return f"parameter {jax.tree_util.keystr(path)} is not finite"
    return None
