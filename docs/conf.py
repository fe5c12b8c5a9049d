"""The site: `make docs`. Its source is the repository: links stay as they are."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ofmu_jax.version import __version__  # noqa: E402

project, author, release = "ofmu_jax", "the ofmu_jax authors", __version__
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**.md",
    "docs/**.rst",
    "experiments/results/*.md",
]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "alabaster"
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_theme_options = {
    "fixed_sidebar": True,
    "page_width": "72em",
    "body_max_width": "none",  # lines of code have up to 88 characters
}
html_static_path = ["site.css"]
html_css_files = ["site.css"]
toc_object_entries = False  # the sidebar has pages and sections
myst_heading_anchors = 4  # as GitHub makes them
default_role = "code"
autodoc_typehints = "none"  # shapes and types are in the text
autodoc_member_order = "bysource"
suppress_warnings = ["misc.highlighting_failure"]  # command lines with an ellipsis

CONTENTS = """
```{toctree}
:hidden:
:glob:

docs/*
docs/results/*
experiments/results/*
CHANGELOG
CONTRIBUTING
SECURITY
```
"""


def add_contents(app, docname: str, source: list[str]) -> None:
    """README is the first page; its table of contents is only of the site."""
    if docname == root_doc:
        source[0] += CONTENTS


def skip_fields(app, kind: str, name: str, value, skip: bool, options) -> bool | None:
    """Fields of a NamedTuple have no docstrings of their own, and say so."""
    return True if (value.__doc__ or "").startswith("Alias for field") else None


def setup(app) -> None:
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("source-read", add_contents)
