"""What a run is asked for: its budget, and the options of its method as keywords."""

import dataclasses
import difflib
import numbers
import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from ofmu_jax.bounds import Bound, Count, check_word_or_number, problems
from ofmu_jax.methods.language.setting import Baseline

FORGET_TARGETS = ("auto", "chance", "none")


@dataclasses.dataclass(frozen=True)
class Asked:
    """What `unlearn` takes alike for models of every kind; see there for each.

    Raises:
      ValueError: naming the argument, its value, and what it must be.
    """

    method: str
    gradient_evaluations: Count = 600
    batch_size: Count | None = None
    forget_target: float | str | None = "auto"
    checks: Count = 30
    check_rows: Count = 256
    patience: Count = 15
    seed: Annotated[int, Bound(0, 2**32, below=True)] = 0
    progress: bool = False

    def __post_init__(self) -> None:
        for name, value, problem in problems(self):
            raise ValueError(f"{name}={value} must be {problem}.")
        target = "none" if self.forget_target is None else str(self.forget_target)
        check_word_or_number("forget_target", target, FORGET_TARGETS, "nats")

    @property
    def goal(self) -> float | str:
        """The forget target as one of the words, or a number."""
        given = "none" if self.forget_target is None else self.forget_target
        return given if given in FORGET_TARGETS else float(given)


def configured(name: str, config: Any, options: Mapping[str, Any]) -> Any:
    """The configuration of a method with these fields changed.

    The fields of a baseline's losses stand beside its own.

    >>> from ofmu_jax.methods import METHODS
    >>> npo = configured("npo", METHODS["npo"].config, {"beta": 0.2, "weight_decay": 0})
    >>> npo.loss.beta, npo.learning_rate, npo.weight_decay
    (0.2, 1e-05, 0.0)

    Raises:
      TypeError: an option that the method does not have; the message has all it has.
      ValueError: a value that an option cannot have.
    """
    parts = {"": config} | ({"loss": config.loss} if _has_losses(config) else {})
    kinds = {
        field: (part, hint)
        for part, of in parts.items()
        for field, hint in typing.get_type_hints(type(of)).items()
        if field != "loss"
    }
    changes: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for option, value in options.items():
        if option not in kinds:
            near = difflib.get_close_matches(option, kinds, n=1, cutoff=0.5)
            raise TypeError(
                f"{option}= is no option of {name}"
                f"{f' (did you mean {near[0]}?)' if near else ''}; "
                f"it has {', '.join(kinds)}."
            )
        part, hint = kinds[option]
        changes[part][option] = _fitting(option, value, hint)
    if "loss" in parts:
        changes[""]["loss"] = dataclasses.replace(config.loss, **changes["loss"])
    config = dataclasses.replace(config, **changes[""])
    for path, value, problem in problems(config):
        option = path.rpartition(".")[2]
        raise ValueError(f"{option}={value} must be {problem}.")
    return config


def _has_losses(config: Any) -> bool:
    return isinstance(config, Baseline)


def _fitting(option: str, value: Any, hint: Any) -> Any:
    """The value as the field has it: a number of its kind, or one of its words."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) is not Literal else (hint,)
    kinds = kinds or (hint,)
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            if value in typing.get_args(kind):
                return value
        elif kind is float and isinstance(value, numbers.Real):
            return float(value)
        elif kind in (int, bool, str) and type(value) is kind:
            return value
    raise ValueError(f"{option}={value!r} must be {_said(kinds)}.")


def _said(kinds: tuple[Any, ...]) -> str:
    words = {float: "a number", int: "a whole number", bool: "True or False"}
    words |= {str: "a text", type(None): "None"}
    found: list[str] = []
    for kind in kinds:
        choices = typing.get_args(kind)
        found += [*map(repr, choices)] if choices else [words[kind]]
    return " or ".join(found) if len(found) < 3 else f"one of {', '.join(found)}"


def as_arguments(text: str) -> str:
    """A message with the options of the command line as arguments.

    >>> as_arguments("raise --max-length")
    'raise max_length='
    """
    return re.sub(r"--([a-z][a-z-]*)", lambda m: m[1].replace("-", "_") + "=", text)
