"""README, CONTRIBUTING and docs/ say what is so: programs, links, commands, options."""

import contextlib
import functools
import importlib.util
import io
import pathlib
import re
import runpy
import sys
from unittest import mock

import chex
import jax.numpy as jnp
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "experiments/results/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--([a-z][\w.-]*[\w])")
COMMAND = re.compile(r"python -m (experiments[\w.]*)((?:\\\n|[^\n`|])*)")
OF_OTHERS = frozenset({"help"})  # of every command


def named(page: pathlib.Path) -> str:
    return str(page.relative_to(ROOT))


def programs(page: pathlib.Path) -> list[str]:
    return [
        text for _, kind, text in FENCED.findall(page.read_text()) if kind == "python"
    ]


PROGRAMS = [
    pytest.param(text, id=f"{named(page)}-{i}")
    for page in PAGES
    for i, text in enumerate(programs(page))
]


@functools.cache
def run(program: str) -> dict:
    """The names that a program leaves."""
    names: dict = {}
    exec(program, names)
    return names


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


# What newcomers ask -> what the answer names: a command, a place, or a page and what
# that says.
QUESTIONS = {
    "how to install it": ("pip install .", "#two-commands"),
    "how to use a GPU": ("[cuda13]", "docs/pods.md"),
    "which command": ("experiments.run request", "#your-own-data-and-model"),
    "which file format": ("question", "answer", "#your-own-data-and-model"),
    "which method": ("npo", "#which-method"),
    "how long it takes": ("minutes", "docs/cost.md", "docs/planning.md"),
    "how to load the result": ("Hugging Face folder", "#your-own-data-and-model"),
    "what the report says": ("forgot", "kept", "docs/language.md#what-came-of-it"),
    "what is good enough": ("docs/language.md#what-came-of-it", "docs/attacks.md"),
    "how to cite it": ("CITATION.cff", "arXiv"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_readme_answers_what_newcomers_ask(question):
    lines = (ROOT / "README.md").read_text().splitlines()[:200]
    (answer,) = (line for line in lines if line.startswith(f"| {question} |"))
    assert not [text for text in QUESTIONS[question] if text not in answer]


SAID = {
    "README.md": ("`pip install", "AutoModelForCausalLM", '{"question": ', "cuda12"),
    "docs/language.md": ("three quarters of the way", "0.9 of the target's value"),
    "docs/cost.md": ("time as a multiple of gradient ascent's",),
    "docs/planning.md": ("python -m experiments.plan",),
}


@pytest.mark.parametrize("page", SAID)
def test_where_the_answers_lead_says_so(page):
    text = (ROOT / page).read_text()
    assert not [words for words in SAID[page] if words not in text]


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run(program):
    run(program)


def test_the_transform_in_fifteen_lines():
    (program,) = programs(ROOT / "README.md")
    assert len([line for line in program.splitlines() if line.strip()]) <= 15
    names = run(program)
    start = {"w": jnp.array([1.0, -1.0, 0.5])}
    chex.assert_trees_all_equal_shapes_and_dtypes(names["params"], start)
    chex.assert_tree_all_finite((names["params"], names["state"]))
    assert not jnp.allclose(names["params"]["w"], start["w"], atol=1e-6)
    assert jnp.isclose(names["state"].rho, 1e-3)
    assert int(names["state"].outer_iteration) == 1


def test_trees_as_batches():
    names = run(programs(ROOT / "docs/library.md")[0])
    assert int(names["state"].outer_iteration) == 3
    assert jnp.isclose(names["state"].rho, 1e-3 * 1.1**2)
    chex.assert_tree_all_finite(names["params"])


def test_an_nnx_model():
    names = run(programs(ROOT / "docs/library.md")[1])
    assert int(names["state"].outer_iteration) == 10
    chex.assert_tree_all_finite(names["params"])
    assert jnp.allclose(names["model"].kernel[...], names["params"]["kernel"][...])


def test_adapters_of_a_dictionary():
    names = run(programs(ROOT / "docs/library.md")[2])
    change = names["params"]["w"] - 1
    assert jnp.abs(change).max() > 1e-3
    chex.assert_trees_all_equal(names["params"]["b"], jnp.zeros(1))


def anchors(page: pathlib.Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    text = FENCED.sub("", page.read_text())
    found = set()
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", LINK.sub("]", title).lower())
        found.add(plain.replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_resolve(page):
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{named(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{named(page)}: {link}"


def test_every_page_is_reached():
    """From the README, over links."""
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        paths = (link.partition("#")[0] for link in LINK.findall(page.read_text()))
        local = [path for path in paths if path and "://" not in path]
        todo += [(page.parent / path).resolve() for path in local]
    assert seen >= set(PAGES)


def commands(page: pathlib.Path) -> list[tuple[str, str]]:
    """(module, its arguments) of every command of a page, continued lines included."""
    return COMMAND.findall(page.read_text())


@functools.cache
def options(module: str, subcommand: str) -> frozenset[str]:
    """Long options that the whole help of a command names."""
    out = io.StringIO()
    arguments = [module, *([subcommand] if subcommand else []), "--help-all"]
    with (
        mock.patch.object(sys, "argv", arguments),
        mock.patch.dict("os.environ", {"COLUMNS": "200"}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        pytest.raises(SystemExit),
    ):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    text = out.getvalue()
    assert text.startswith(f"usage: python -m {module} ")  # no path of this machine
    assert str(ROOT) not in text and "PyTorch was not found" not in text
    return frozenset(OPTION.findall(text))


SUBCOMMANDS = {
    "experiments.run": ("demo", "tofu", "request", "choices", "cifar"),
    "experiments.ablations": ("demo", "tofu"),
    "experiments.benchmark": (
        "cost",
        "growth",
        "evaluation",
        "loading",
        "accelerator",
        "forget10",
    ),
}
MODULES = ("attack", "convergence", "plan", "publish", "report", "schema", "verify")
ALL_COMMANDS = [(f"experiments.{name}", "") for name in MODULES] + [
    (module, name) for module, names in SUBCOMMANDS.items() for name in names
]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist_with_their_options(page):
    for module, rest in commands(page):
        assert importlib.util.find_spec(module), f"{named(page)}: {module}"
        words = rest.split()
        known = SUBCOMMANDS.get(module, ("",))
        subcommand = words[0] if words and words[0] in known else known[0]
        for option in OPTION.findall(rest.partition("#")[0]):
            assert option in options(module, subcommand) | OF_OTHERS, (
                f"{named(page)}: {module} {subcommand} has no --{option}"
            )


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_options_in_the_text_exist(page):
    """`--option`, alone or with a value: some command must have it."""
    known = frozenset.union(OF_OTHERS, *(options(*command) for command in ALL_COMMANDS))
    text = FENCED.sub("", page.read_text())
    for code in re.findall(r"`(--[^`]+)`", text):
        for option in OPTION.findall(code):
            assert option in known, f"{named(page)}: --{option}"
