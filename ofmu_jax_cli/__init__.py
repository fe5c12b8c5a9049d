"""``ofmu-jax COMMAND …``: the commands of `experiments`, from wherever they lie.

In a wheel they lie inside this folder, as ``experiments`` would be too common a name
for site-packages; in a checkout beside it. Either way it is on the path of commands
alone, not of programs that import `ofmu_jax`.
"""

import ast
import importlib
import os
import pathlib
import re
import sys
from collections.abc import Sequence

HERE = pathlib.Path(__file__).resolve().parent
HOME = HERE if (HERE / "experiments").is_dir() else HERE.parent
PROGRAM = "ofmu-jax"
USAGE = re.compile(r"``python -m experiments\.\w+ ?(.*?)``[:.]? ?", re.DOTALL)


def commands() -> dict[str, pathlib.Path]:
    """The file of each command, by name."""
    folder = HOME / "experiments"
    files = {path.stem: path for path in folder.glob("*.py") if path.stem[0] != "_"}
    packages = {path.parent.name: path for path in folder.glob("*/__main__.py")}
    return dict(sorted((files | packages).items()))


def about(file: pathlib.Path) -> str:
    """The first line of its docstring without the call, or what it is called with."""
    line = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0]
    call = USAGE.match(line)
    return line[call.end() :] or call[1] if call else line


def usage() -> str:
    """The help: what there is, in one line each."""
    lines = [f"  {name:<12} {about(file)}" for name, file in commands().items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help lists its options; {PROGRAM} --version is what",
            "is installed. In a checkout `python -m experiments.COMMAND` is the same.",
        ]
    )


def reach() -> None:
    """Puts the commands on the path, of the processes that they start too.

    Raises:
      ImportError: another package of that name is loaded already.
    """
    if str(HOME) not in sys.path:
        sys.path.insert(0, str(HOME))
        others = os.environ.get("PYTHONPATH")
        found = [str(HOME), *([others] if others else [])]
        os.environ["PYTHONPATH"] = os.pathsep.join(found)
    place = pathlib.Path(str(importlib.import_module("experiments").__file__)).parent
    if place != HOME / "experiments":
        raise ImportError(
            f"the package `experiments` of {place} is in the way of {PROGRAM}'s; "
            f"call {PROGRAM} in a process of its own."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and ends the process with its status; 2 for one unknown."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        from ofmu_jax.version import __version__  # imports JAX; --help need not

        print(f"{PROGRAM} {__version__}")
        sys.exit(0)
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        sys.exit(0)
    name, *rest = given
    found = commands()
    if name not in found:
        text = f"there is no command {name!r}; there are {', '.join(found)}."
        print(f"{PROGRAM}: {text}", file=sys.stderr)
        sys.exit(2)
    reach()
    # As `python -m` has it: a command reads its own words, and names itself so.
    sys.argv = [PROGRAM, *rest]
    package = found[name].name == "__main__.py"
    module = importlib.import_module(f"experiments.{name}" + ".__main__" * package)
    importlib.import_module("experiments.shell.signals").leave(module.main)
