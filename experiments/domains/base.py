"""What language and images each give the pipeline: the protocol of a domain."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

from jax.sharding import Mesh

from experiments.domains.attacks import Attacks
from experiments.stages.fit import Job
from ofmu_jax.attacks.base import Found
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.methods.base import Params

TARGET, REFERENCE, BASE = "target", "retrained", "base"


class Given(NamedTuple):
    """A model that is handed in: its parameters, and where they are from."""

    params: Params
    source: str


@dataclasses.dataclass(frozen=True)
class Model:
    """One model of a run: where its parameters come from and what was found."""

    role: str  # "target", "retrained" or "unlearned"
    name: str  # the method, or the role
    seed: int
    params: Params  # None once nothing asks for them any more
    identity: str  # fingerprint of everything it was made from
    record: Mapping[str, Any]  # what its training left
    folder: pathlib.Path  # of its stages
    network: Any = None  # where it is not that of the domain
    evaluation: Evaluation | None = None
    export: str | None = None  # relative to the run's folder
    attacked: Mapping[str, Found] = dataclasses.field(default_factory=dict)
    not_attacked: Mapping[str, str] = dataclasses.field(default_factory=dict)  # why

    @property
    def title(self) -> str:
        """Its name in progress bars and notes."""
        return f"{self.name}, seed {self.seed}"


Tell = Callable[[int, int], None]  # how many are done, of how many: for progress


class Goal(NamedTuple):
    """Something that an unlearned model is held against, as means over seeds."""

    text: str  # of the claim, with {name} for the method
    metrics: Sequence[str]  # the first that both have is taken
    against: str  # TARGET or REFERENCE
    holds: Callable[[float, float], bool]  # (ours, theirs)
    evidence: str  # with {metric}, {ours}, {theirs}, {share}


class Origin(NamedTuple):
    """Where an exported model comes from, for its card."""

    base: str | None  # the given model: its name on the hub, or that of its folder
    metadata: Mapping[str, Any]  # of the card: what the given model's says, licence too
    card: str  # what the given model's says beside
    what: str  # what was done, such as "trained further"; "": it is the given model
    program: str  # that loads it


class Scored(NamedTuple):
    """A trial: its score (lower is better), and the numbers that it is made of."""

    score: float
    check: Mapping[str, float]
    reference: Mapping[str, float]


class Evidence(Protocol):
    """What a deletion record tells of the data, and how an export is scored again."""

    name: str  # of the data

    @property
    def fields(self) -> Sequence[str]:
        """Of each item."""
        ...

    def items(self, part: str) -> Sequence[Any]:
        """What ``forget`` or ``retain`` consists of, as JSON values to be hashed."""
        ...

    def files(self) -> Sequence[Mapping[str, Any]]:
        """What was read, without folders: set, file, format, columns; may be empty."""
        ...

    def notes(self) -> Sequence[str]:
        """What a reader of the record should know."""
        ...

    def origin(self, model: Model) -> Origin:
        """Where an exported model of the run comes from."""
        ...

    def export(self, folder: pathlib.Path) -> Mapping[str, Any]:
        """What a record says of an export beside its files, as JSON values.

        Raises:
          ValueError: the export is not what it should be.
        """
        ...

    def rescored(
        self, folder: pathlib.Path, reference: pathlib.Path | None
    ) -> Evaluation:
        """The evaluation of an exported model, against an exported reference."""
        ...

    def tolerance(self, folder: pathlib.Path) -> float:
        """How far its metrics may be off, absolute or relative."""
        ...


class About(NamedTuple):
    """What a report says of a run and its data."""

    title: str
    sizes: Mapping[str, Any]  # name of the data, and rows of each of its sets
    goals: Sequence[Goal]  # what every method is held against
    chance: float = 0.0  # value by chance of what tells forgetting and keeping


class Domain(Protocol):
    """Language or images, of one run and its data: all that the pipeline asks."""

    @property
    def run(self) -> Any:
        """The `config.common.Run`."""

    @property
    def about(self) -> About: ...

    @property
    def identity(self) -> str:
        """Fingerprint of the data, the architecture and what was given."""
        ...

    @property
    def mesh(self) -> Mesh | None:
        """None: one device."""

    def refuse(self) -> Sequence[str]:
        """Raises for what cannot work; returns what a user should know before it."""
        ...

    def variant(self, run: Any, base: Model | None = None) -> Self:
        """The same data and models with other settings, or trained from a base."""
        ...

    def given(self, role: str) -> Given | None:
        """A model that was handed in."""

    def training(self, role: str, seed: int) -> Job | None:
        """How a base, a target or a reference is trained; None: there is none."""

    def forget_target(self, target: Params, reference: Params | None) -> float | None:
        """The NLL at which the forget set counts as forgotten; None: no target."""

    def unlearning(
        self, name: str, seed: int, target: Params, goal: float | None
    ) -> Job:
        """A method within the common budget. Raises ValueError if it does not fit."""
        ...

    def outline(self, network: Any = None) -> Params:
        """Shapes of the parameters, to restore them by."""

    def written(self, params: Params) -> Params:
        """Parameters as an export holds them, which is what is scored: rounded where
        the files are."""
        ...

    def evaluated_by(self) -> tuple[Any, ...]:
        """What an evaluation depends on, beside the model and the reference."""
        ...

    def evaluate(
        self, folder: pathlib.Path, model: Model, reference: Model | None, tell: Tell
    ) -> Evaluation:
        """All metrics of a model; what else is kept of them goes into ``folder``."""
        ...

    def attacks(self) -> Attacks | None:
        """What every model is attacked with; None: nothing."""
        ...

    def costs(self, model: Model) -> Mapping[str, float]:
        """Metrics of the training's cost, which no evaluation repeats."""
        ...

    def export(self, folder: pathlib.Path, model: Model) -> None:
        """Writes the model's folder, whole or not at all."""

    def evidence(self) -> Evidence:
        """For the deletion records. Raises ValueError if what was given has changed."""
        ...

    def validation(self, folder: pathlib.Path) -> Self:
        """The request that methods are tuned on: of it, no row is reported."""
        ...

    def yardstick(self, reference: Model) -> Any:
        """What of the validation request's reference a trial is scored against."""

    def scored(self, model: Model, yardstick: Any) -> Scored:
        """How near a trial is to it."""
        ...

    def notes(self, models: Sequence[Model]) -> Sequence[str]:
        """What a reader of the report has to know of the data and the numbers."""
        ...

    def answers(self, models: Sequence[Model]) -> Sequence[Mapping[str, Any]]:
        """A few forget and retain rows with what each model says of them: ``part``,
        ``question`` or ``picture``, ``answer``, and ``said`` by name of the model.

        Args:
          models: those of one seed, evaluated.
        """
        ...
