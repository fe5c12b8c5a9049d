"""Help in three sizes: what everyone needs, all there is, the options of one method.

What an option may name that is no word of its type, methods and attacks, is listed too.
"""

import contextlib
import dataclasses
import importlib
import inspect
import io
import math
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import tyro

from experiments.shell import program

HELP, ALL, METHOD, VERSION = "--help", "--help-all", "--help-method", "--version"
ATTACKS = "--help-attacks"
_MARK = "@description@"
WIDTH = 80  # columns of a help at most, as tyro's boxes have
LINES = 40  # of `HELP`
Shown = Mapping[type, Sequence[str]]  # of a dataclass the fields that are shown


def blank(kind: type) -> Any:
    """Options at their defaults; what has none is missing until it is given."""
    fields = dataclasses.fields(kind)
    absent = dataclasses.MISSING
    given = (
        f.name for f in fields if f.default is absent and f.default_factory is absent
    )
    return kind(**dict.fromkeys(given, tyro.MISSING))


def version() -> NoReturn:
    """Prints what is installed, and ends the process."""
    from ofmu_jax.version import __version__  # imports JAX; other words need not

    print(f"{program.SCRIPT} {__version__}")
    raise SystemExit(0)


def asked(words: Sequence[str]) -> set[str]:
    """The words of a command line that ask for help."""
    known = {HELP, "-h", ALL, METHOD, ATTACKS}
    return known & {word.partition("=")[0] for word in words}


def answer(
    words: Sequence[str], options: Any, prog: str, description: str | None
) -> None:
    """Ends the process with what is asked for, if the words ask for help.

    Args:
      options: those that there are, at their defaults. ``everyday``, if they have it,
        names what `HELP` shows, in that order; ``specs`` are methods with options;
        ``attacks_in`` is the module whose ``ATTACKS`` there are.
      prog: the command, as it is called.
    """
    flags = asked(words)
    if METHOD in flags and getattr(options, "specs", {}):
        following = zip(words, [*words[1:], ""], strict=True)
        names = [
            value if sign else after
            for word, after in following
            for flag, sign, value in [word.partition("=")]
            if flag == METHOD
        ]
        _method(options, prog, names[0])
    if ATTACKS in flags and getattr(options, "attacks_in", ""):
        print("\n".join(attacks(options)))
        raise SystemExit(0)
    if ALL in flags:
        _show(options, prog, description)
    if flags & {HELP, "-h"}:
        _show(options, prog, description, getattr(options, "everyday", ()))


def more(options: Any) -> str:
    """What else can be asked, in two lines."""
    first, second = [f"{ALL}: every option"], ["--config FILE: options from a file"]
    if getattr(options, "specs", {}):
        first.append(f"{METHOD} [NAME]: the methods, or one's options")
    if getattr(options, "attacks_in", ""):
        second.append(f"{ATTACKS}: what each does")
    return "\n".join(map("; ".join, (first, [*second, VERSION])))


def fields(options: Any, paths: Iterable[str]) -> Shown:
    """What of each dataclass is on the way to some options.

    >>> @dataclasses.dataclass
    ... class Step:
    ...     rate: float = 0.1
    >>> @dataclasses.dataclass
    ... class Options:
    ...     seed: int = 0
    ...     step: Step = dataclasses.field(default_factory=Step)
    >>> {k.__name__: v for k, v in fields(Options(), ("step.rate", "seed")).items()}
    {'Options': ['step', 'seed'], 'Step': ['rate']}
    """
    found: dict[type, list[str]] = {}
    for path in paths:
        at = options
        for name in path.split("."):
            known = found.setdefault(type(at), [])
            known += [] if name in known else [name]
            at = getattr(at, name)
    return found


def _method(options: Any, prog: str, name: str) -> NoReturn:
    specs = options.specs
    if not name or name.startswith("-"):
        print("\n".join([f"usage: {prog} {METHOD} NAME", "", *methods(specs)]))
        raise SystemExit(0)
    if name not in specs:
        known = ", ".join(specs)
        print(f"error: {METHOD} {name} is none of {known}.", file=sys.stderr)
        raise SystemExit(2)
    about = methods({name: specs[name]})
    _show(options, prog, *about, paths=_paths_to(options, name))


def _paths_to(options: Any, name: str) -> Iterator[str]:
    """Where the options of that name lie.

    >>> @dataclasses.dataclass
    ... class Methods:
    ...     npo: float = 0.1
    >>> @dataclasses.dataclass
    ... class Options:
    ...     methods: Methods = dataclasses.field(default_factory=Methods)
    >>> list(_paths_to(Options(), "npo"))
    ['methods.npo']
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name == name:
            yield name
        elif dataclasses.is_dataclass(value):
            yield from (f"{field.name}.{path}" for path in _paths_to(value, name))


def methods(specs: Mapping[str, Any]) -> list[str]:
    """Each method in a line: its name, title, paper, and what it does."""
    width = max(map(len, specs))
    return [
        f"{name:<{width}}  {spec.title} ({spec.source}): {_does(spec.config)}"
        for name, spec in specs.items()
    ]


def attacks(options: Any) -> list[str]:
    """Each attack in a line: its name, title, paper, and what it may spend."""
    known = importlib.import_module(options.attacks_in).ATTACKS  # seconds: when asked
    width = max(map(len, known))
    return [
        f"{name:<{width}}  {attack.title} ({attack.source}): "
        f"{attack.budget_text(options.attack)}"
        for name, attack in known.items()
    ]


def _does(config: Any) -> str:
    """What is said of a method's configuration, or of that of its loss."""
    return about(getattr(config, "loss", config))


def about(options: Any) -> str:
    """The first line on the class of some options."""
    return (type(options).__doc__ or "").split("\n\n")[0]


def _show(
    options: Any, prog: str, description: str | None, paths: Iterable[str] = ()
) -> NoReturn:
    """Prints the help of some options, by tyro, and ends the process.

    Args:
      paths: of the options; none: of all.
    """
    text = description or type(options).__doc__ or ""
    most = LINES - 2 if paths else math.inf  # two are behind it
    with contextlib.suppress(SystemExit), described(text, most) as mark:
        tyro.cli(
            type(options),
            prog=prog,
            description=mark,
            args=[HELP],
            default=options,
            registry=registry(fields(options, paths)),
        )
    print(more(options))
    raise SystemExit(0)


@contextlib.contextmanager
def described(text: str, most: float = math.inf) -> Iterator[str]:
    """Within it what is printed has a text in place of what this gives: a description
    in lines of the console's width, where tyro makes one of each paragraph.

    Args:
      most: lines of all that is printed; paragraphs beyond it are left out, but one.
    """
    out, kept = sys.stdout, io.StringIO()
    kept.isatty = out.isatty  # colours are as they would be
    try:
        with contextlib.redirect_stdout(kept):
            yield _MARK
    finally:
        whole, said = kept.getvalue(), wrapped(text)
        while "\n\n" in said and whole.count("\n") + said.count("\n") > most:
            said = said.rpartition("\n\n")[0]
        out.write(whole.replace(_MARK, said))


def wrapped(text: str) -> str:
    r"""Paragraphs in lines that a console need not cut.

    >>> wrapped("What it does\nand to what.\n\nMore.")
    'What it does and to what.\n\nMore.'
    """
    width = min(shutil.get_terminal_size().columns, WIDTH)
    paragraphs = inspect.cleandoc(text).split("\n\n")
    fill = lambda text: textwrap.fill(text, width, break_on_hyphens=False)
    return "\n\n".join(fill(" ".join(text.split())) for text in paragraphs)


def registry(shown: Shown) -> tyro.constructors.ConstructorRegistry:
    """tyro's rules, but that helps are one paragraph, and some fields left out.

    Args:
      shown: of the dataclasses that it names; of others all fields are.
    """
    rules, busy = tyro.constructors.ConstructorRegistry(), set()

    @rules.struct_rule
    def chosen(info: tyro.constructors.StructTypeInfo) -> Any:
        if not dataclasses.is_dataclass(info.type) or info.type in busy:
            return None  # then tyro's own rule is asked
        busy.add(info.type)
        try:
            spec = rules.get_struct_spec(info)
        finally:
            busy.remove(info.type)
        if not isinstance(spec, tyro.constructors.StructConstructorSpec):
            return spec
        fields = {field.name: _flowing(field) for field in spec.fields}
        names = shown.get(info.type, fields)
        return dataclasses.replace(spec, fields=tuple(fields[n] for n in names))

    return rules


def _flowing(field: tyro.constructors.StructFieldSpec) -> Any:
    """The field with its help as one paragraph, which the console's width breaks."""

    def text() -> str | None:
        found = field.helptext() if callable(field.helptext) else field.helptext
        return found and " ".join(found.split())

    return dataclasses.replace(field, helptext=text)
