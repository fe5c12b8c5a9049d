"""Tables of a report for the console and in Markdown."""

import io

from reports import make_model
from rich.console import Console

from experiments.report import summary, tables


def printed(table, width=100):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.file.getvalue()


def test_console_table(content):
    text = printed(tables.console_table(content))
    assert "OFMU" in text and "Retrained (goal)" in text and "…" not in text
    assert "0.200" in text and "±0.248" in text  # t · 0.1 / √3
    assert text.index("Retrained") < text.index("Target") < text.index("OFMU")
    assert "memory" in text and text.count("2.000") == 4  # MiB, mean of 1, 2 and 3
    for model in content["models"]:
        model["peak_bytes"] = None
    assert "memory" not in printed(tables.console_table(content))


def test_console_table_fits(content):
    for index, model in enumerate(content["models"]):
        for name in summary.CORE:
            model["metrics"][name] = 1234.5678 * (index + 1)
    for width in (60, 80, 100):
        text = printed(tables.console_table(content, width), width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text


def test_tables_with_missing_metrics(content):
    del content["models"][2]["metrics"]["model_utility"]
    for model in content["models"]:
        if model["role"] == "retrained":
            model["metrics"] = {}
    text = printed(tables.console_table(content))
    assert summary.DASH in text
    lines = tables.markdown_table(content).splitlines()
    assert lines[2] == "| Retrained (goal) | 3 | — | — | — |"
    assert lines[4].startswith("| OFMU | 3 | 0.200 ±0.248 | 0.850 ±0.000 |")
    assert len({line.count("|") for line in lines}) == 1


def test_tables_of_unknown_metrics_and_markup():
    model = make_model("unlearned", "a|b [red]", 0, my_score=0.5)
    content = {"title": "[bold]x", "models": [model]}
    text = printed(tables.console_table(content))
    assert "a|b [red]" in text and "[bold]x" in text and "0.500" in text
    text = tables.markdown_table(content, ["my_score", "absent"])
    assert text.endswith("| a\\|b [red] | 1 | 0.500 | — |\n")
