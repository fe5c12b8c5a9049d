"""The summary of a report as a table for the console and in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from experiments.report import glossary
from experiments.report.comparison import HEADS, NARROW, agreement_text, comparison_rows
from experiments.report.gaps import with_gaps
from experiments.report.ranking import compare
from experiments.report.summary import DASH, cell, core_metrics, mebibytes, summarise

WIDTH = 100  # columns of a console that the table fits into
CAPTION = (
    "Mean ± half of its Student-t 95 % interval over seeds. →ref: the goal is the "
    "retrained model's value; ↑ higher, ↓ lower is better."
)


def console_table(report: Mapping[str, Any], width: int = WIDTH) -> Group:
    """Summary, comparison of the methods and agreement of the seeds, for a console.

    Args:
      report: as `experiments.report.write.write_report` takes it.
      width: columns of the console.
    """
    models = with_gaps(report["models"])
    summary = report.get("summary") or summarise(models)
    found = report.get("comparison") or compare(models)
    content = {**report, "summary": summary, "comparison": found}
    parts: list[Any] = [summary_table(content, width)]
    if rows := comparison_rows(content):
        parts.append(_comparison(rows, width))
    if line := agreement_text(content):
        parts.append(Text(line))
    return Group(*parts)


def _comparison(rows: Sequence[Sequence[str]], width: int) -> Table:
    """The columns of the comparison that fit, the most important first."""
    table = Table(title="Methods compared", box=box.SIMPLE_HEAD, padding=(0, 1))
    used, shown = 2, []
    for place in NARROW:
        texts = [_narrow(row[place]) for row in rows]
        if place == 0:
            texts = [_short(row[0]) for row in rows]
        head = HEADS[place].replace(" ", "\n")
        wide = (
            max(len(part) for text in (head, *texts) for part in text.split("\n")) + 3
        )
        if used + wide > width:
            continue
        used += wide
        shown.append(texts)
        justify = "right" if place else "left"
        table.add_column(Text(head, justify=justify), justify=justify, no_wrap=True)
    for texts in zip(*shown, strict=True):
        table.add_row(*map(Text, texts))
    return table


def _narrow(text: str) -> str:
    """A cell of the comparison on lines of its parts."""
    for part in (" ±", " (", " within"):
        text = text.replace(part, "\n" + part[1:])
    return text


def summary_table(report: Mapping[str, Any], width: int = WIDTH) -> Table:
    """The summary of a report, reference first, in at most ``width`` columns.

    Args:
      report: as `experiments.report.write.write_report` takes it.
      width: columns of the console; metrics that do not fit are left out.
    """
    summary = _summary(report)
    table = Table(
        title=Text(report["title"]),
        caption=CAPTION,
        box=box.SIMPLE_HEAD,
        width=None,
        padding=(0, 1),
    )
    labels = [_short(glossary.method_label(row)) for row in summary]
    memory = [mebibytes(row.get("peak_bytes")) for row in summary]
    table.add_column("model", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    used = 2 + max([5, *map(len, labels)]) + 3 + len("seeds") + 3
    shown = []
    if known := any(text != DASH for text in memory):
        used += max(map(len, [*memory, "memory,"])) + 3
    for name in core_metrics(summary):
        header = _header(name)
        lines = [header, *(cell(row["metrics"].get(name), "\n") for row in summary)]
        wide = max(len(part) for text in lines for part in text.split("\n")) + 3
        if used + wide > width:
            break
        used += wide
        shown.append(name)
        table.add_column(Text(header, justify="right"), justify="right", no_wrap=True)
    if known:
        head = Text("step\nmemory,\nMiB", justify="right")
        table.add_column(head, justify="right", no_wrap=True)
    for row, label, size in zip(summary, labels, memory, strict=True):
        cells = [Text(cell(row["metrics"].get(n), "\n")) for n in shown]
        cells += [Text(size)] if known else []
        style = "bold" if row["role"] == "unlearned" else None
        table.add_row(Text(label), Text(str(row["seeds"])), *cells, style=style)
    return table


def markdown_table(
    report: Mapping[str, Any], metrics: Sequence[str] | None = None
) -> str:
    """The summary of a report in Markdown.

    Args:
      report: as `experiments.report.write.write_report` takes it.
      metrics: names of the columns; by default the core metrics that are there.
    """
    summary = _summary(report)
    names = core_metrics(summary) if metrics is None else list(metrics)
    heads = [f"{glossary.metric(n).label} {glossary.metric(n).sign}" for n in names]
    rows = [
        [
            glossary.method_label(row),
            str(row["seeds"]),
            *(cell(row["metrics"].get(n)) for n in names),
        ]
        for row in summary
    ]
    return markdown([["Model", "Seeds", *heads], *rows])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: the head, then rows; all columns but the first are right."""
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return (
        "\n".join("| " + " | ".join(map(_escape, row)) + " |" for row in lines) + "\n"
    )


def _summary(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return report.get("summary") or summarise(report["models"])


def _header(name: str) -> str:
    """The label on narrow lines, with its sign."""
    entry = glossary.metric(name)
    return f"{entry.label} {entry.sign}".strip().replace(", ", ",\n").replace(" ", "\n")


def _escape(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
