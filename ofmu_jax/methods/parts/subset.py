"""Methods that change a part of the parameters only: less memory, the rest untouched.

Gradients, norms, cosines, inner iterates and optimizer states are those of the part;
the rest is an argument of the step that is read and never copied, donated or stored.
"""

import dataclasses
import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

import jax

from ofmu_jax._trees import name_of
from ofmu_jax.methods.base import Method, Params
from ofmu_jax.models.llama.nf4 import is_nf4

Function = Callable[..., Any]  # (params, *more) -> anything
SECONDS = 10.0  # for a pattern to be held against all paths of a model
# Of a process of its own, as nothing within this one ends a match that has begun.
_SEARCH = """import json, re, sys
pattern, names = json.load(sys.stdin)
print(json.dumps([re.search(pattern, name) is not None for name in names]))"""


class Part(Protocol):
    """What of a model is trained: `Subset` or `ofmu_jax.methods.Lora`."""

    def split(self, params: Params, key: jax.Array | None = None) -> tuple[Any, Any]:
        """What is trained at the start, and what stays as it is."""
        ...

    def merge(self, trainable: Any, fixed: Any) -> Params:
        """The parameters of the whole model."""
        ...


@dataclasses.dataclass(frozen=True)
class Subset:
    """The parameters whose path has a match of a regular expression.

    A path is the names joined by ``/``, such as
    ``layers/attention/q_proj/kernel``; layers that are stacked are one parameter.

    >>> params = {"layers": {"up_proj": 1.0, "norm": 2.0}, "lm_head": 3.0}
    >>> some = Subset("up_proj|lm_head")
    >>> trainable, fixed = some.split(params)
    >>> trainable
    {'layers': {'norm': None, 'up_proj': 1.0}, 'lm_head': 3.0}
    >>> some.merge(trainable, fixed) == params
    True

    Raises:
      ValueError: if ``pattern`` is no regular expression.
    """

    pattern: str

    def __post_init__(self) -> None:
        check_pattern(self.pattern)

    def split(self, params: Params, key: jax.Array | None = None) -> tuple[Any, Any]:
        """(trainable, fixed): ``params`` twice, None where a leaf is in the other.

        The leaves are those of ``params``, not copies; ``key`` is not used.

        Raises:
          ValueError: if no path matches.
        """
        del key
        chosen = matching(params, self.pattern)
        pick = lambda want: jax.tree.map(
            lambda x, is_chosen: x if is_chosen is want else None, params, chosen
        )
        return pick(True), pick(False)

    def merge(self, trainable: Any, fixed: Any) -> Params:
        """The tree that `split` took apart, with these values; nothing is copied."""
        return jax.tree.map(
            lambda some, rest: rest if some is None else some,
            trainable,
            fixed,
            is_leaf=lambda x: x is None,
        )


def of_part(
    build: Callable[[Callable[[Function], Function]], Method],
    merge: Callable[[Any, Any], Params],
) -> Method:
    """A method that trains a part of the parameters, the rest being an argument.

    Its ``init(trainable, fixed)`` and ``update(trainable, state, batches, fixed)``
    take one argument more than those of other methods, and the state is that of the
    part alone. A method that keeps the model before unlearning keeps the part of it.

    Args:
      build: makes the method of the part. It is given ``lift``, which turns a
        function ``f(params, *more)`` of the whole model, such as a loss, into one of
        the part, and is called within every update: it must not look into arrays
        itself. A loss that takes a second model as well, such as a KL, is made of a
        lifted forward pass rather than lifted.
      merge: from the part and the rest to the parameters: `Part.merge`, or what
        makes a tree of them that the model's forward pass takes.

    Example::

        part = Lora(rank=8, targets="_proj/kernel$")  # or Subset("down_proj")
        trainable, fixed = part.split(params, jax.random.key(0))
        make = lambda lift: weighted_difference(lift(forget), lift(retain), optimizer)
        method = of_part(make, part.merge)
        run = training.run(method, trainable, batches, num_updates=100, fixed=fixed)
        params = part.merge(run.params, fixed)

    >>> import optax
    >>> from ofmu_jax.methods import gradient_ascent
    >>> loss = lambda p, batch: batch * p["w"] * p["b"]
    >>> some, sgd = Subset("b"), optax.sgd(0.5)
    >>> method = of_part(lambda lift: gradient_ascent(lift(loss), sgd), some.merge)
    >>> part, rest = some.split({"w": jax.numpy.array(2.0), "b": jax.numpy.array(1.0)})
    >>> state, batches = method.init(part, rest), {"forget": jax.numpy.array([3.0])}
    >>> part, state, _ = method.update(part, state, batches, rest)
    >>> jax.tree.map(float, some.merge(part, rest))
    {'b': -2.0, 'w': 2.0}
    """

    def made(fixed: Any) -> Method:
        def lift(function: Function) -> Function:
            return lambda part, *more: function(merge(part, fixed), *more)

        return build(lift)

    def init(trainable, fixed):
        return made(fixed).init(trainable)

    def update(trainable, state, batches, fixed):
        return made(fixed).update(trainable, state, batches)

    return made(None)._replace(init=init, update=update)


def matching(params: Params, pattern: str) -> Any:
    """A tree of booleans: whether the path of each leaf has a match; a matrix in NF4
    is one leaf.

    Raises:
      ValueError: if none has, or the pattern takes more than `SECONDS`.
    """
    leaves, structure = jax.tree.flatten_with_path(params, is_leaf=is_nf4)
    names = tuple(name_of(path) for path, _ in leaves)
    found = _searched(pattern, names)
    if not any(found):
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        raise ValueError(
            f"no parameter has a path that {pattern!r} matches; there are "
            f"{', '.join(names[:6])}{more}."
        )
    return jax.tree.unflatten(structure, found)


@functools.lru_cache(maxsize=64)
def _searched(pattern: str, names: tuple[str, ...]) -> tuple[bool, ...]:
    """Whether each name has a match.

    Raises:
      ValueError: if that takes more than `SECONDS`, as repeats of repeats may.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCH],
            input=json.dumps([pattern, names]),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    except subprocess.SubprocessError:  # no time left, or no memory
        raise ValueError(
            f"{pattern!r} cannot be held against the {len(names)} paths of parameters "
            f"in {SECONDS:g} s; write it without repeats within repeats, as in (a+)+."
        ) from None
    return tuple(json.loads(done.stdout))


def check_pattern(pattern: str) -> None:
    """Raises ValueError for what is no regular expression."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}.") from None
