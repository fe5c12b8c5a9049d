"""Imports go one way, down two tables; files, folders and commands keep their size."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("ofmu_jax", "experiments")

# The core: each may import those before it, and nothing else of the package.
CORE = "_lazy _disk choices bounds _optimizers _trees _derivatives _penalties".split()
CORE += "bilevel _options _loops transform".split()
# Wing of the library -> wings that it may import; all may import the core.
WINGS = {
    "losses": (),
    "data": (),
    "parallel": (),
    "models": ("parallel",),
    "methods": ("losses", "data", "models"),
    "evals": ("data", "models", "parallel"),
    "training": ("data", "methods", "parallel"),
    "attacks": ("data", "evals", "losses", "methods", "models", "training"),
    "runs": (),
}
LIBRARY = {part: set(CORE[:i]) for i, part in enumerate(CORE)}
LIBRARY |= {wing: {*CORE, *below} for wing, below in WINGS.items()}

# Wings of the commands, from the ground up: each may import the rows below its own.
COMMANDS = {path.stem for path in (ROOT / "experiments").glob("*.py")} - {"__init__"}
ROWS = (
    ("shell", "config"),
    ("stages",),
    ("domains",),
    ("report", "deletion", "planning"),
    ("pipeline",),
    ("ablation", "sequence", "studies"),
    ("publishing",),
    tuple(sorted(COMMANDS)),
)
EXPERIMENTS = {
    wing: {name for below in ROWS[:i] for name in below}
    for i, row in enumerate(ROWS)
    for wing in row
}
TABLES = {"ofmu_jax": LIBRARY, "experiments": EXPERIMENTS}

MOST_FLOORS = 8  # of wings and commands of experiments/ on top of one another
MOST_FILES = 20  # in a folder
MOST_LINES = 300  # of a file
MOST_LINES_OF_A_COMMAND = 100
# What only a run needs: --help and a wrong option answer without it.
LATE = "grain matplotlib orbax scipy sklearn tensorflow_datasets transformers".split()


def module_of(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_of(path): path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
}


def at_run_time(module: str) -> ast.Module:
    """Its code, without what only type checkers import."""
    tree = ast.parse(FILES[module].read_text())
    of_checkers = lambda node: (
        isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    tree.body = [node for node in tree.body if not of_checkers(node)]
    return tree


@functools.cache
def imported(module: str) -> frozenset[str]:
    """Modules of the project that one imports, within functions too."""
    found = set()
    for node in ast.walk(at_run_time(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else str(node.module) for name in names}
    return frozenset(found & FILES.keys()) - {module}


def part_of(module: str) -> str:
    """Its wing, or its file where that lies at the top; "" for the package itself."""
    return [*module.split("."), ""][1]


def check_table(package: str, part: str) -> None:
    """No module of the part imports another part than its table allows."""
    allowed = {part, *TABLES[package][part]}
    back_up = [
        f"{module} -> {other}"
        for module in sorted(FILES)
        if module.startswith(f"{package}.") and part_of(module) == part
        for other in sorted(imported(module))
        if other.split(".")[0] == package and part_of(other) not in allowed
    ]
    assert not back_up


@pytest.mark.parametrize("part", sorted(LIBRARY))
def test_library_imports_go_down_the_table(part):
    check_table("ofmu_jax", part)


@pytest.mark.parametrize("part", sorted(EXPERIMENTS))
def test_imports_of_the_commands_go_down_the_table(part):
    check_table("experiments", part)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_tables_name_every_part(package):
    parts = {part_of(module) for module in FILES if module.startswith(f"{package}.")}
    assert parts - {"version"} == TABLES[package].keys()


def test_the_library_knows_nothing_of_the_commands():
    library = [module for module in FILES if module.split(".")[0] == "ofmu_jax"]
    for module in library:
        assert not [x for x in imported(module) if x.split(".")[0] == "experiments"]


def test_importing_the_library_imports_its_core_alone():
    names = {part_of(module) for module in imported("ofmu_jax")}
    assert names <= {*CORE, "version"}


CHAINS: dict[str, list[str]] = {}


def chain(module: str, above: tuple[str, ...] = ()) -> list[str]:
    """The longest chain of imports within its package, from the module down."""
    assert module not in above, f"a circle: {' -> '.join((*above, module))}"
    if module not in CHAINS:
        package = module.split(".")[0]
        others = [x for x in sorted(imported(module)) if x.split(".")[0] == package]
        chains = [chain(other, (*above, module)) for other in others]
        CHAINS[module] = [module, *max(chains, key=len, default=[])]
    return CHAINS[module]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle(package):
    for module in FILES:
        if module.split(".")[0] == package:
            chain(module)


def floor(part: str) -> int:
    """How high a wing or a command stands: on top of the highest that it imports."""
    modules = [x for x in FILES if x.startswith("experiments.") and part_of(x) == part]
    others = {part_of(x) for m in modules for x in imported(m) if "experiments." in x}
    return 1 + max((floor(other) for other in others - {part}), default=0)


def test_floors_of_the_commands():
    floors = {part: floor(part) for part in EXPERIMENTS}
    assert max(floors.values()) <= MOST_FLOORS, floors


def test_folders_are_small():
    folders = {path.parent for path in FILES.values()}
    sizes = {str(x.relative_to(ROOT)): len(list(x.glob("*.py"))) for x in folders}
    assert not {name: size for name, size in sizes.items() if size > MOST_FILES}


def lines_of(module: str) -> int:
    return len(FILES[module].read_text().splitlines())


def test_files_are_short():
    sizes = {module: lines_of(module) for module in FILES}
    assert not {name: size for name, size in sizes.items() if size > MOST_LINES}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_are_thin(command):
    assert lines_of(f"experiments.{command}") <= MOST_LINES_OF_A_COMMAND


@pytest.mark.parametrize("arguments", [["--help"], ["cifar", "--help"], ["--nonsense"]])
def test_the_command_line_answers_before_it_loads_what_a_run_needs(arguments):
    program = (
        "import sys\nfrom experiments import run\n"
        f"try:\n    run.main({arguments})\n"
        f"finally:\n    print('loaded:', sorted(set({LATE}) & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert "python -m experiments.run" in said or "--nonsense" in said
    assert done.stdout.splitlines()[-1] == "loaded: []"
