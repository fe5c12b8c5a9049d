"""What a run gives a vision method, and what it gets back: `Setting` and `Plan`."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.methods.base import Method
from ofmu_jax.methods.vision.classifier import Prepare
from ofmu_jax.models.resnet import ResNetConfig, Variables

Stream = Literal["forget", "retain", "sequential", "mixed", "paired"]


class Compiled(NamedTuple):
    """What of a setting is part of a method's program: never the images themselves."""

    config: ResNetConfig
    prepare: Prepare


class Setting(NamedTuple):
    """What a run gives every method."""

    config: ResNetConfig
    prepare: Prepare
    forget: Labelled
    retain: Labelled
    batch_size: int
    budget: float  # gradients of one batch, of the whole run
    seed: int = 0
    forget_target: float | None = None  # NLL, of the bounded forget losses

    @property
    def compiled(self) -> Compiled:
        """Equal for all seeds and for requests on images of the same kind."""
        return Compiled(self.config, self.prepare)


class Plan(NamedTuple):
    """A method, and what its run needs besides.

    Either ``method`` is there, or ``one_shot``, which does everything at once and
    costs ``setup_cost``.
    """

    method: Method | None
    stream: Stream = "retain"
    config: ResNetConfig | None = None  # of the result, where it is another network
    start: Callable[[Variables], Variables] = lambda variables: variables
    setup_cost: float = 0.0  # gradients of one batch, before the first update
    one_shot: Callable[[Variables], Variables] | None = None
    note: str = ""  # what its user should know before it is run

    def num_updates(self, budget: float) -> int:
        """Updates that the budget pays for after the setup; may be none."""
        assert self.method is not None
        return int((budget - self.setup_cost) // self.method.gradient_evaluations)
