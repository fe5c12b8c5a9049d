"""The loop around a method: checks, the stopping rule, and the guard against NaN."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ofmu_jax.methods.base import Method, Params

Check = Callable[[Params], Mapping[str, float]]  # forget_nll, retain_nll, …


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
    """

    forget_target: float | None = None  # nats per token; None: run the whole budget
    patience: int = 5  # checks


@dataclasses.dataclass
class Run:
    """What a run leaves behind."""

    params: Params
    update: int  # the parameters are those after this many updates
    updates: int  # how many updates were done
    stopped: str  # why it stopped, for people
    finite: bool  # False if a loss or a check was not
    metrics: list[dict[str, float]]  # one row per update
    checks: list[dict[str, float]]  # one row per check


class _Judge:
    """Keeps the best and the last good parameters of a run."""

    def __init__(self, rule: StoppingRule, params: Params):
        self.rule = rule
        self.good, self.good_update = _copy(params), 0
        self.best, self.best_update = None, 0
        self.best_score, self.waited = math.inf, 0

    def judge(self, params: Params, update: int, values: Mapping[str, float]) -> bool:
        """Records a check; True if the run may stop."""
        self.good, self.good_update = _copy(params), update
        target = self.rule.forget_target
        if target is None or values["forget_nll"] < target:
            return False
        score = values["retain_nll"] + values["forget_nll"] - target
        if score < self.best_score:
            self.best, self.best_update = self.good, update
            self.best_score, self.waited = score, 0
        else:
            self.waited += 1
        return self.waited >= self.rule.patience


def run(
    method: Method,
    params: Params,
    batches: Iterable[Any],
    *,
    num_updates: int,
    check: Check | None = None,
    check_every: int = 10,
    stopping: StoppingRule | None = None,
    on_update: Callable[[int, dict[str, float]], None] | None = None,
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
        stopping rule ``forget_nll`` and ``retain_nll``.
      on_update: called with the number of updates done and their metrics.

    Returns:
      A `Run`. Where a loss or a check was not finite, its parameters are those of the
      last check before, and ``stopped`` says so.

    Raises:
      ValueError: if ``batches`` ends before the budget does.
      FloatingPointError: if the check of the parameters it starts from is not finite.
    """
    stopping = stopping or StoppingRule()
    step = jax.jit(method.update, donate_argnums=(0, 1))
    params = _copy(params)
    state = method.init(params)
    judge = _Judge(stopping, params)
    rows: list[dict[str, float]] = []
    checks: list[dict[str, float]] = []

    if check is not None:
        checks.append({"update": 0, **check(params)})
        if bad := _not_finite(checks[-1]):
            raise FloatingPointError(
                f"{bad} before the first update: the model or its data is broken."
            )

    def record(done: int, metrics: Any) -> str | None:
        row = {name: float(value) for name, value in jax.device_get(metrics).items()}
        rows.append({"update": done, **row})
        if on_update is not None:
            on_update(done, row)
        return _not_finite({k: v for k, v in row.items() if k.endswith("_loss")})

    iterator, pending, bad, enough, done = iter(batches), None, None, False, 0
    while done < num_updates and not bad and not enough:
        batch = next(iterator, None)
        if batch is None:
            raise ValueError(
                f"the batches ended after {done} of {num_updates} updates; "
                "give a repeating iterator or fewer updates."
            )
        params, state, metrics = step(params, state, batch)
        done += 1
        if pending is not None:
            bad = record(done - 1, pending)
        pending = metrics
        if check is not None and (done % check_every == 0 or done == num_updates):
            bad = bad or record(done, pending)
            pending = None
            values = check(params)
            bad = bad or _not_finite(values)
            if not bad:
                checks.append({"update": done, **values})
                enough = judge.judge(params, done, values)
    if pending is not None:
        bad = bad or record(done, pending)

    if bad:
        stopped = (
            f"{bad} at update {done}: returned the parameters of update "
            f"{judge.best_update if judge.best is not None else judge.good_update}"
        )
        if judge.best is not None:
            best = (judge.best, judge.best_update)
        else:
            best = (judge.good, judge.good_update)
        return Run(*best, done, stopped, False, rows, checks)
    if judge.best is not None:
        reason = "no longer improved" if enough else "budget used up"
        stopped = (
            f"forget target {stopping.forget_target:.3f} met; {reason}; returned the "
            f"best check, of update {judge.best_update}"
        )
        return Run(judge.best, judge.best_update, done, stopped, True, rows, checks)
    stopped = "budget used up"
    if stopping.forget_target is not None:
        stopped += f"; the forget target {stopping.forget_target:.3f} was not met"
    return Run(params, done, done, stopped, True, rows, checks)


def _copy(params: Params) -> Params:
    """A copy that donation of the original does not touch."""
    return jax.tree.map(jnp.copy, params)


def _not_finite(values: Mapping[str, float]) -> str | None:
    for name, value in values.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    return None
