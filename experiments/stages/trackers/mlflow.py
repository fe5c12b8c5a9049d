"""MLflow (extra ``mlflow``); its own settings hold, such as ``MLFLOW_TRACKING_URI``."""

import os
import re
import time
from collections.abc import Mapping
from typing import Any

from experiments.stages.trackers.base import PROJECT, About, Kind, flat

MOST_PARAMS = 100  # of one request
_NOT_ALLOWED = re.compile(r"[^\w.\-/ :]")  # in the name of a metric or a parameter


def check() -> None:
    """Raises what MLflow raises where its store cannot be reached."""
    _experiment(_client())


def _client() -> Any:
    # Late, here and below: an extra, and slow.
    import mlflow  # pyrefly: ignore[missing-import]

    return mlflow.MlflowClient()


def _experiment(client: Any) -> str:
    """Id of the experiment, which is made if there is none."""
    if (given := os.environ.get("MLFLOW_EXPERIMENT_ID")) is not None:
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    found = client.get_experiment_by_name(name)
    return client.create_experiment(name) if found is None else found.experiment_id


class Mlflow:
    """A run of it."""

    def __init__(self, about: About, id: str | None):
        self._client, self._sent = _client(), []
        if id is not None:
            self._client.update_run(id, status="RUNNING")
            self.id = id
            return
        tags = {**about.tags, "group": about.group}
        run = self._client.create_run(
            _experiment(self._client), tags=tags, run_name=about.name
        )
        self.id = run.info.run_id
        self._params(flat(about.config))

    def _params(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param  # pyrefly: ignore[missing-import]

        params = [Param(_name(k), str(v)) for k, v in values.items()]
        for at in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self.id, params=params[at : at + MOST_PARAMS])

    def log(self, update: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric  # pyrefly: ignore[missing-import]

        now = int(time.time() * 1000)
        metrics = [Metric(_name(k), v, now, update) for k, v in values.items()]
        self._sent.append(
            self._client.log_batch(self.id, metrics=metrics, synchronous=False)
        )

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        self.log(0, {f"evaluation/{name}": value for name, value in metrics.items()})

    def close(self, done: bool) -> None:
        for sent in self._sent:
            sent.wait()
        self._client.set_terminated(self.id, "FINISHED" if done else "FAILED")


def _name(name: str) -> str:
    return _NOT_ALLOWED.sub("_", name)


MLFLOW = Kind("mlflow", check, Mlflow)
