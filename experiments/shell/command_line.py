"""From a command line to an exit status, for every command that runs something."""

import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import tyro

from experiments.shell import helps, program, signals
from ofmu_jax.bounds import problems

# Exit status: all was done, and no method forgot. Errors are 2, Ctrl-C is 130.
NOT_REACHED = 3


def parsed(
    kinds: Mapping[str, Any],
    module: str,
    words: Sequence[str],
    description: str | None = None,
    *,
    bare: str = "",
    said: str = "",
) -> Any:
    """The options that a command line gives; exits with a message if it is wrong, and
    with what is asked for by the words of `experiments.shell.helps`.

    Args:
      kinds: subcommand -> its options at their defaults; "" where there is none.
      module: of the command, as in ``python -m``.
      words: of the command line.
      description: of the command; default: what the class of its options says.
      bare: the subcommand that it is where none is named.
      said: on stderr, first, where none is named.
    """
    words, called = list(words), program.name(module)
    if helps.VERSION in words:
        helps.version()
    overview = words[:1] in ([helps.HELP], ["-h"])
    if bare and not overview and (not words or words[0].startswith("-")):
        if said and not helps.asked(words):
            text = f"{called}: no command was given, so {said} All commands: {called}"
            print(f"{text} {helps.HELP}", file=sys.stderr, flush=True)
        words.insert(0, bare)
    if "" not in kinds and (not words or words[0] not in kinds):
        _no_command(kinds, called, words, description, bare)
    name = "" if "" in kinds else words.pop(0)
    prog, about = (f"{called} {name}", None) if name else (called, description)
    helps.answer(words, kinds[name], prog, about)
    return tyro.cli(
        type(kinds[name]),
        prog=prog,
        description=about,
        args=words,
        default=kinds[name],
        registry=helps.registry({}),
    )


def _no_command(
    kinds: Mapping[str, Any],
    called: str,
    words: Sequence[str],
    description: str | None,
    bare: str,
) -> NoReturn:
    """Lists the subcommands, or says that there is none of that name."""
    about = {name: helps.about(options) for name, options in kinds.items()}
    either = tyro.extras.subcommand_type_from_defaults(kinds, about)
    options = {"prog": called, "args": words, "default": kinds[bare]}
    with helps.described(description or "") as mark:
        tyro.cli(either, description=mark, **options)
    raise AssertionError(f"{words} name no command")


def check_numbers(options: Any) -> None:
    """Refuses numbers of a command's own options that are out of range or not finite.

    Raises:
      ValueError: naming the option, its value, and what it must be.
    """
    for path, value, problem in problems(options):
        flag = path.replace("_", "-")
        raise ValueError(f"--{flag} is {value}; it must be {problem}.")


def status(
    work: Callable[[], Any],
    module: str,
    arguments: Sequence[str],
    folder: pathlib.Path,
) -> int:
    """The exit status of ``work``; an error that people can mend is one line.

    Args:
      work: gives a status, or None for 0.
      module, arguments: of the command, to say how to go on.
      folder: where its results are.
    """
    return signals.guarded(lambda: tried(work, folder), module, arguments, folder)


def tried(work: Callable[[], Any], folder: pathlib.Path | None = None) -> int:
    """The exit status of ``work``, which writes into ``folder`` if at all."""
    # Imported late, so that --help and a wrong option answer at once.
    from experiments.shell import console
    from ofmu_jax import _disk
    from ofmu_jax.parallel.distributed import OtherProcessError

    try:
        if folder is None:
            return work() or 0
        with _disk.writing("what is written to", folder):
            return work() or 0
    except (ValueError, FloatingPointError, OSError, OtherProcessError) as error:
        signals.hold()
        console.error(error)
        signals.failed(error)
        return 2
    except signals.Interrupted:
        raise
    except KeyboardInterrupt:
        signals.cut_off()
        return 130
