"""Weights & Biases (extra ``wandb``); its own settings hold, such as ``WANDB_MODE``."""

import os
from collections.abc import Mapping

from experiments.stages.trackers.base import PROJECT, About, Kind


def check() -> None:
    """Raises ValueError where it would have to ask for a key."""
    # Late, here and below: an extra, and slow.
    import wandb  # pyrefly: ignore[missing-import]

    online = wandb.setup().settings.mode in ("online", "shared")
    if online and not wandb.login(prompt=False, verify=False):
        raise ValueError("it has no API key: `wandb login`, or set WANDB_MODE=offline")


class Wandb:
    """A run of it; what is offline lies in ``wandb/`` of the run's folder."""

    def __init__(self, about: About, id: str | None):
        import wandb  # pyrefly: ignore[missing-import]

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=os.environ.get("WANDB_DIR", str(about.folder)),
            id=id,
            resume="allow",
            name=about.name,
            group=about.group,
            config={**about.config, **about.tags},
            tags=[f"{name}:{value}" for name, value in about.tags.items()],
            # The console may show rows; numbers and choices are all that is sent.
            settings=wandb.Settings(
                console="off", disable_code=True, disable_git=True, silent=True
            ),
        )
        # Checks are told after the updates: its own step would only count up.
        self._run.define_metric("*", step_metric="update")

    @property
    def id(self) -> str:
        return self._run.id

    def log(self, update: int, values: Mapping[str, float]) -> None:
        self._run.log({"update": update, **values})

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        self._run.summary.update({f"evaluation/{k}": v for k, v in metrics.items()})

    def close(self, done: bool) -> None:
        self._run.finish(exit_code=0 if done else 1)


WANDB = Kind("wandb", check, Wandb)
