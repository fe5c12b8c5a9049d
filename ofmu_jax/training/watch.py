"""What a run is watched by: its metrics, its checks, and parameters worth returning."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ofmu_jax._trees import differentiable
from ofmu_jax.methods.base import Params
from ofmu_jax.training.stopping import StoppingRule, judge

Check = Callable[[Params], Mapping[str, float]]  # forget_nll, retain_nll, …
OnUpdate = Callable[[int, dict[str, float]], None]
# Of a `Watch`, all that it needs to go on but for the parameters it keeps.
RECORDED = (
    *("rows", "checks", "pending", "bad", "enough"),
    *("kept_update", "met", "peak_bytes"),
)


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
    state: Any = None  # of the method, after the last update


class Watch:
    """Reads the metrics and checks of a run, and keeps parameters worth returning.

    Either `start` or `resume` comes first.
    """

    def __init__(
        self, rule: StoppingRule, check: Check | None, on_update: OnUpdate | None
    ):
        self.rule, self.check, self.on_update = rule, check, on_update
        self.kept: Params = None
        self.kept_update, self.met = 0, False
        self.pending: tuple[int, Any] | None = None
        self.bad: str | None = None  # what was not finite, and where
        self.enough = False
        self.rows: list[dict[str, float]] = []
        self.checks: list[dict[str, float]] = []
        self.peak_bytes: int | None = None

    def start(self, params: Params) -> None:
        """Checks the parameters before the first update.

        Raises:
          FloatingPointError: if they, or their check, are not finite.
          ValueError: if the check lacks what the stopping rule needs.
        """
        values = self._checked(params)
        if bad := _not_finite(values) or _not_finite_leaf(params):
            raise FloatingPointError(
                f"{bad} before the first update: the model or its data is broken."
            )
        if self.check is not None:
            self._require(values)
            self.checks.append({"update": 0, **values})
        self.kept = params

    def record(self) -> dict[str, Any]:
        """JSON values to `resume` from; what is to be kept beside them is ``kept``."""
        found = {name: getattr(self, name) for name in RECORDED}
        if self.pending is not None:
            done, metrics = self.pending
            found["pending"] = [done, _numbers(metrics)]
        return found

    def resume(self, record: Mapping[str, Any], kept: Params) -> None:
        """Goes on from a `record`; tells ``on_update`` of the rows in it once more."""
        for name in RECORDED:
            setattr(self, name, record[name])
        self.kept = kept
        for row in self.rows:
            self._tell(row)

    def updated(self, done: int, metrics: Any) -> None:
        """Takes an update's metrics and reads those of the one before."""
        self.read_metrics()
        self.pending = (done, metrics)

    def read_metrics(self) -> None:
        """Waits for the metrics that were not read yet."""
        if self.pending is None:
            return
        (done, metrics), self.pending = self.pending, None
        row = _numbers(metrics)
        self.rows.append({"update": done, **row})
        self._tell(self.rows[-1])
        losses = {name: row[name] for name in row if name.endswith("_loss")}
        self._note(_not_finite(losses), done)

    def look(self, params: Params, done: int) -> None:
        """Checks the parameters, keeps them if they are good, and judges the run."""
        self.read_metrics()
        if self.bad:
            return
        values = self._checked(params)
        self._note(_not_finite(values) or _not_finite_leaf(params), done)
        if self.bad:
            return
        if self.checks:
            self.checks.append({"update": done, **values})
        verdict = judge(self.rule, self.checks)
        self.enough = verdict.enough
        if verdict.best_update in (None, done):
            self.kept, self.kept_update = copied(params), done
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
        finite, found = not self.bad, (self.rows, self.checks, self.peak_bytes)
        return Run(*kept, done, stopped, finite, *found)

    def _checked(self, params: Params) -> dict[str, float]:
        return {} if self.check is None else dict(self.check(params))

    def _tell(self, row: Mapping[str, float]) -> None:
        if self.on_update is not None:
            metrics = {name: row[name] for name in row if name != "update"}
            self.on_update(int(row["update"]), metrics)

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


def copied(params: Params) -> Params:
    """A copy that donation of the original does not touch."""
    return jax.tree.map(jnp.copy, params)


def _numbers(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in jax.device_get(metrics).items()}


def _not_finite(values: Mapping[str, float]) -> str | None:
    bad = (f"{k} is {value}" for k, value in values.items() if not math.isfinite(value))
    return next(bad, None)


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
