"""The language model of a run: that of the library, which signals may end."""

import dataclasses

import jax

from experiments.config.language import EvalConfig
from experiments.domains.language.mesh import fresh_params
from experiments.shell import signals
from ofmu_jax.unlearning.language.task import Params as Params
from ofmu_jax.unlearning.language.task import Task


@dataclasses.dataclass(frozen=True)
class LanguageTask(Task):
    """What does not change from stage to stage: architecture, tokens, conventions."""

    evaluation: EvalConfig

    def init_params(self, seed: int) -> Params:
        """Fresh parameters of a model trained from scratch, made where they lie."""
        return fresh_params(self.config, self.mesh)(jax.random.key(seed))

    def pause(self) -> None:
        """Ends a run where a signal asks for it."""
        signals.pause()
