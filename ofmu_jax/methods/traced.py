"""Numbers of a method as arguments of its program, not constants in it.

XLA compiles a program for the constants that it holds: another learning rate would be
another program. `with_numbers` takes the numbers out of a configuration, so that trials
of a search, seeds and ablations of numbers share what is compiled.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from ofmu_jax.bilevel import is_static_zero
from ofmu_jax.bounds import LeftOut, said
from ofmu_jax.methods.base import Method

PROGRAMS = 32  # kept; what XLA compiled of one that is dropped goes with it


@dataclasses.dataclass(frozen=True)
class _Number:
    """Where a number was taken out."""


def split(config: Any) -> tuple[Any, tuple[float, ...]]:
    """A configuration without its numbers, and these in order.

    Looked into are dataclasses and tuples. What is no float stays, and so does the 0
    of a field that is a `bounds.Term`, as it leaves that out: another program.

    >>> split((0.5, "cosine", 3, 0.0, None))
    ((_Number(), 'cosine', 3, _Number(), None), (0.5, 0.0))
    """
    numbers: list[float] = []

    def take(value: Any, is_term: bool) -> Any:
        if isinstance(value, float) and not (is_term and is_static_zero(value)):
            numbers.append(float(value))  # of Python, which no type is promoted by
            return _Number()
        return _mapped(take, value)

    return take(config, False), tuple(numbers)


def filled(rest: Any, numbers: Iterator[Any]) -> Any:
    """The configuration that `split` took apart, with these numbers.

    >>> rest, _ = split((0.5, "cosine", 3))
    >>> filled(rest, iter([0.25]))
    (0.25, 'cosine', 3)
    """

    def put(value: Any, is_term: bool = False) -> Any:
        return next(numbers) if isinstance(value, _Number) else _mapped(put, value)

    return put(rest)


def _mapped(function: Callable[[Any, bool], Any], value: Any) -> Any:
    """A dataclass or a tuple with ``function`` of each field and whether it is one of
    a term; anything else as it is."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(function(item, False) for item in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    terms = said(type(value), LeftOut)
    names = [field.name for field in dataclasses.fields(value)]
    changed = {name: function(getattr(value, name), name in terms) for name in names}
    return dataclasses.replace(value, **changed)


def with_numbers(build: Callable[..., Method], config: Any, *static: Any) -> Method:
    """The method ``build(config, *static)``, the numbers in its config as arguments.

    Its ``init`` and ``update`` are called like those of other methods. They are
    `jax.tree_util.Partial`: of a function, which is the very same for all configs that
    differ in numbers alone, and of the numbers, which `training.run` makes arguments
    of what it compiles. So ``build`` is called within a trace, with traced numbers,
    and must not compare them; it is called with the config itself first, and can
    refuse it then.

    Args:
      build: a function that is there once, such as one of a module.
      config: a dataclass, or a tuple of some and of numbers; see `split`.
      static: floats in them stay constants.

    Raises:
      TypeError: if one of ``static`` cannot be hashed.
    """
    rest, numbers = split(config)
    init, update = _program(build, rest, static)
    return build(config, *static)._replace(
        init=Partial(init, numbers=numbers), update=Partial(update, numbers=numbers)
    )


@functools.lru_cache(maxsize=PROGRAMS)
def _program(build: Callable[..., Method], rest: Any, static: tuple) -> tuple:
    """Init and update as functions of the numbers too."""

    def made(numbers: tuple) -> Method:
        return build(filled(rest, iter(numbers)), *static)

    def init(*params: Any, numbers: tuple) -> Any:
        return made(numbers).init(*params)

    def update(*arguments: Any, numbers: tuple) -> Any:
        return made(numbers).update(*arguments)

    return init, update


def apart(function: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What is compiled of an init or an update, and the numbers it takes by name."""
    if isinstance(function, Partial):
        return function.func, dict(function.keywords)
    return function, {}


def around(
    function: Callable[..., Any], wrap: Callable[[Callable[..., Any]], Any]
) -> Callable[..., Any]:
    """``wrap`` of an init or an update, its numbers staying arguments."""
    inner, numbers = apart(function)
    return Partial(wrap(inner), **numbers) if numbers else wrap(inner)


def rounded(x: Any) -> Any:
    """The nearest integer, of a pair the even one, traced or not.

    >>> rounded(2.5), float(jax.jit(rounded)(3.5))
    (2, 4.0)
    """
    return jnp.round(x) if isinstance(x, jax.Array) else round(x)
