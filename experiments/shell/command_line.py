"""From a command line to an exit status, for every command that runs something."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from experiments.shell import signals


def parsed(command: Any, module: str, description: str, arguments: Sequence[str]):
    """What the command line asks for; exits with a message if it is wrong.

    Without a subcommand it is ``demo``.
    """
    arguments = list(arguments)
    helps = ("-h", "--help")
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in helps):
        arguments.insert(0, "demo")
    return tyro.cli(
        command, prog=f"python -m {module}", description=description, args=arguments
    )


def status(
    work: Callable[[], Any],
    module: str,
    arguments: Sequence[str],
    folder: pathlib.Path,
) -> int:
    """The exit status of ``work``; an error that people can mend is one line."""
    return signals.guarded(lambda: tried(work), module, arguments, folder)


def tried(work: Callable[[], Any]) -> int:
    """The exit status of ``work`` alone, which leaves nothing to go on from."""
    # Imported late, so that --help and a wrong option answer at once.
    from experiments.shell import console
    from ofmu_jax.parallel.distributed import OtherProcessError

    try:
        work()
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
    return 0
