"""What runs of every domain have: the methods, their tuning, where results go.

The text after each field is its help on the command line.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import tyro

from experiments.config.fields import value_of, with_values
from ofmu_jax.bounds import Bound, NotNegativeInt, problems
from ofmu_jax.methods import Baseline, Spec
from ofmu_jax.methods.base import spec_of

MOST_ROWS = 1_000_000  # of a batch; more is a slip, and would be gathered for ever
TrackerName = Literal["none", "wandb", "mlflow"]
BatchSize = Annotated[int, Bound(1, MOST_ROWS)]


def names_of(specs: Mapping[str, Spec], *aliases: str) -> Any:
    """The help of a field that takes names of methods."""
    text = f"Of {len(specs)}; --help-method lists them with what they do."
    return tyro.conf.arg(help=text, aliases=aliases)


def group_of(name: str, specs: Mapping[str, Spec]) -> type:
    """A frozen dataclass with the config of each method as a field."""

    generic: Any = Baseline

    def kind(config: Any) -> Any:
        if isinstance(config, Baseline):
            return generic[type(config.loss)]
        return type(config)

    return dataclasses.make_dataclass(
        name,
        [(n, kind(spec.config), spec.config) for n, spec in specs.items()],
        frozen=True,
        namespace={"__doc__": "One entry per method."},
    )


@dataclasses.dataclass(frozen=True)
class Run:
    """What the commands of all domains have in common."""

    specs: ClassVar[Mapping[str, Spec]]  # all methods of the domain
    everyday: ClassVar[tuple[str, ...]]  # options that --help shows, in that order
    group: ClassVar[str]  # field with the methods' configs that are no field themselves
    export_folder: ClassVar[str]  # of a model, within its own

    output_dir: pathlib.Path = pathlib.Path("runs/default")
    """Everything is written here; run again to go on where it stopped."""
    config: pathlib.Path | None = None
    """Options from this file (YAML, TOML, or JSON such as the config.json of an earlier
    run); what the command line gives holds against it."""
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1)
    """Of training and unlearning."""
    share_models: bool = False
    """One target and one reference, of the first seed, for all seeds."""
    tune: NotNegativeInt = 0
    tuned_from: pathlib.Path | None = None
    """Output folder or published results of an earlier run, whose configuration each
    method takes over."""
    tuned_except: tuple[str, ...] = ()
    """Methods that --tuned-from leaves as they are configured here."""
    paper: bool = False
    """OFMU in the paper's literal setting."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters and statistics are kept in float32."""
    matmul_precision: Literal["highest", "high", "default"] = "highest"
    """Of float32 products: highest, float32; high, between it and the default;
    default, what the device likes best, TF32 on a GPU and bfloat16 on a TPU, which
    differences of gradients do not survive. A CPU has one."""
    checkpoint_every: NotNegativeInt | None = None
    """Updates between checkpoints of what is being trained; default: about once a
    minute; 0: none."""
    tracker: tuple[TrackerName, ...] = ()
    """Trackers that get numbers and choices, never rows, beside the event files of
    TensorBoard; each is an extra of its name."""
    export: bool = True
    """Write a folder for every model, to be loaded elsewhere."""
    push_to_hub: str | None = None
    """Repository of the Hugging Face hub, NAME or OWNER/NAME, that the folder of the
    unlearned model goes to if it forgot, private; of a run with one method and seed."""
    push_public: bool = False
    """Make that repository a public one."""
    explicit: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Options of methods that were given, such as ``npo.loss.beta``: they hold,
    whatever is filled in or taken over."""

    @property
    def command(self) -> str:
        """Its word on the command line."""
        return type(self).__name__.lower()

    @property
    def pretrained(self) -> str | None:
        """The given model that the run starts from, if any."""
        return None

    @property
    def trackers(self) -> tuple[str, ...]:
        """Names of those that are told."""
        return tuple(name for name in self.tracker if name != "none")

    @property
    def rounding(self) -> tuple[str, ...]:
        """How numbers are rounded, if not as by default: part of what is made."""
        return () if self.matmul_precision == "highest" else (self.matmul_precision,)

    def config_of(self, name: str) -> Any:
        """The configuration of a method by its name."""
        group = getattr(self, self.group)
        return getattr(group if hasattr(group, name) else self, name)

    def with_method(self, name: str, config: Any) -> Self:
        """The run with another configuration of one method."""
        group, changed = getattr(self, self.group), {name: config}
        if hasattr(group, name):
            changed = {self.group: dataclasses.replace(group, **changed)}
        return dataclasses.replace(self, **changed)

    def told(self, arguments: Sequence[str]) -> Self:
        """The run with the options of methods that a command line gives noted, beside
        those that were before."""
        words = (word.partition("=")[0] for word in arguments if word[:2] == "--")
        paths = (word[2:].replace("-", "_").replace(".no_", ".") for word in words)
        given = [path for path in paths if path.partition(".")[0] in self.specs]
        every = tuple(dict.fromkeys([*self.explicit, *given]))
        return dataclasses.replace(self, explicit=every)

    def without_methods(self) -> dict[str, Any]:
        """Its fields, with the name of its command, but for the methods' configs."""
        names = [field.name for field in dataclasses.fields(self)]
        kept = [n for n in names if n != self.group and n not in self.specs]
        fields = {name: getattr(self, name) for name in kept}
        return {"command": self.command, **fields}

    def given(self, name: str) -> tuple[str, ...]:
        """Fields of a method's configuration that the command line gives."""
        paths = (path.partition(".") for path in self.explicit)
        return tuple(field for method, _, field in paths if method == name)

    def in_paper(self) -> Self:
        """With --paper, methods that have a literal setting of their paper in it; what
        was given on the command line stays."""
        run = self
        for name, spec in self.specs.items() if self.paper else ():
            if spec.paper is None:
                continue
            config = run.config_of(name)
            given = {field: value_of(config, field) for field in self.given(name)}
            run = run.with_method(name, with_values(spec.paper(config), given))
        return run

    def check(self) -> None:
        """Refuses names that are not known and numbers out of range or not finite.

        Only the methods that the run uses are looked at.

        Raises:
          ValueError: naming the option, its value, and what it must be.
        """
        for name in ("seeds", "methods"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"--{name} is empty; give at least one.")
            if len(set(values)) < len(values):
                twice = " ".join(map(str, values))
                raise ValueError(f"--{name} names one twice: {twice}.")
        for name in self.methods:
            spec_of(self.specs, name)
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise ValueError(
                    f"--seeds has {seed}; give numbers from 0 to 2**32 - 1, such as "
                    "0 1 2."
                )
        for path, value, problem in problems(self):
            path = path.removeprefix(f"{self.group}.")
            name, flag = path.partition(".")[0], f"--{path.replace('_', '-')}"
            if name in self.methods or name not in self.specs:
                raise ValueError(f"{flag} is {value}; it must be {problem}.")
