"""From a command line to an exit status, for every command that runs something."""

import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from experiments.shell import program, signals
from ofmu_jax.bounds import problems

# Exit status: all was done, and no method forgot. Errors are 2, Ctrl-C is 130.
NOT_REACHED = 3


def parsed(
    command: Any,
    module: str,
    description: str,
    arguments: Sequence[str],
    *,
    demo: Any,
    lasts: str,
    configured: tuple[str, Any] | None = None,
):
    """What the command line asks for; exits with a message if it is wrong.

    Without a subcommand it is ``demo``, which is said first, on stderr.

    Args:
      command: the union of the subcommands.
      module: of the command, as in ``python -m``.
      demo: the subcommand that it is without one.
      lasts: how long that takes, in words.
      configured: the subcommand, and what it is where the command line says nothing.
    """
    arguments, called = list(arguments), program.name(module)
    helps = ("-h", "--help")
    bare = not arguments or arguments[0].startswith("-")
    if configured is not None:
        arguments = [configured[0], *(arguments if bare else arguments[1:])]
        demo = configured[1]
    elif bare and arguments[:1] not in ([word] for word in helps):
        arguments.insert(0, "demo")
        if not {*arguments} & {*helps}:
            print(
                f"{called}: no command was given, so this is the embedded demo; it "
                f"takes {lasts}. All commands: {called} --help",
                file=sys.stderr,
                flush=True,
            )
    return tyro.cli(
        command, prog=called, description=description, args=arguments, default=demo
    )


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
