"""The summary of a report as a table for the console and in Markdown."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from experiments.report import glossary
from experiments.report.attacks import CAPTION as CAPTION_OF_ATTACKS
from experiments.report.attacks import attack_table, verdict_lines
from experiments.report.comparison import NARROW, agreement_text, comparison_table
from experiments.report.gaps import with_gaps
from experiments.report.ranking import compare
from experiments.report.summary import DASH, cell, core_metrics, mebibytes, summarise

Column = tuple[str, Sequence[str]]  # head and cells
WIDTH = 100  # columns of a console that the table fits into
MOST_ON_A_LINE = 3  # methods whose shares have their intervals beside them
CAPTION = (
    "Mean ± half of its Student-t 95 % interval, from three seeds on. →ref: the goal "
    "is the retrained model's value; ↑ higher, ↓ lower is better."
)


def console_table(report: Mapping[str, Any], width: int = WIDTH) -> Group:
    """Summary, comparison of the methods and agreement of the seeds, for a console.

    Args:
      report: as `experiments.report.write.write_report` takes it.
      width: columns of the console; what does not fit is left out, the least first.
    """
    models = with_gaps(report["models"])
    summary = report.get("summary") or summarise(models)
    found = report.get("comparison") or compare(models)
    content = {**report, "summary": summary, "comparison": found}
    parts: list[Any] = [summary_table(content, width)]
    if rows := comparison_table(content):
        cells = {head: column for head, *column in zip(*rows, strict=True)}
        columns = [(head, cells[head]) for head in NARROW if head in cells]
        parts.append(_fitting(columns, width, title="Methods compared"))
    if line := agreement_text(content):
        parts.append(Text(line))
    if attacks := report.get("attacks"):
        parts += attack_parts(attacks, width)
    return Group(*parts)


def attack_parts(found: Mapping[str, Any], width: int = WIDTH) -> list[Any]:
    """What attacks found, for a console: a table and a sentence a method."""
    names, *methods = zip(*attack_table(found), strict=True)
    if len(methods) > MOST_ON_A_LINE:
        methods = [[cell.replace(" [", "\n[") for cell in cells] for cells in methods]
    columns = [(head, cells) for head, *cells in (names, *methods)]
    title, caption = "Recovered by attacks", CAPTION_OF_ATTACKS
    table = _fitting(columns, width, title=title, caption=caption)
    return [table, *map(Text, verdict_lines(found))]


def summary_table(report: Mapping[str, Any], width: int = WIDTH) -> Table:
    """The summary of a report, reference first, as `console_table` has it."""
    summary = _summary(report)
    columns = [
        ("model", [glossary.method_label(row) for row in summary]),
        ("seeds", [str(row["seeds"]) for row in summary]),
        *(
            (_head(name), [cell(row["metrics"].get(name)) for row in summary])
            for name in core_metrics(summary)
        ),
    ]
    memory = [mebibytes(row.get("peak_bytes")) for row in summary]
    known = any(text != DASH for text in memory)
    return _fitting(
        columns,
        width,
        last=[("step memory, MiB", memory)] if known else [],
        styles=["bold" if row["role"] == "unlearned" else None for row in summary],
        title=Text(report["title"]),
        caption=CAPTION,
    )


def _fitting(
    columns: Sequence[Column],
    width: int,
    last: Sequence[Column] = (),
    styles: Sequence[str | None] = (),
    **options: Any,
) -> Table:
    """A table of the columns that fit, those in front before others, and the last."""
    shown = list(columns[:1])
    for column in columns[1:]:
        table = _table([*shown, column, *last], styles)
        if Console(width=10**4).measure(table).maximum <= width:
            shown.append(column)
    return _table([*shown, *last], styles, **options)


def _table(columns: Sequence[Column], styles: Sequence[str | None], **options) -> Table:
    """Heads a word a line, cells a part a line."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), **options)
    for place, (head, _) in enumerate(columns):
        justify = "right" if place else "left"
        text = Text(head.replace(" ", "\n"), justify=justify)
        most = None if place else 24
        table.add_column(text, justify=justify, no_wrap=True, max_width=most)
    rows = zip(*(cells for _, cells in columns), strict=True)
    for row, style in itertools.zip_longest(rows, styles):
        name, *cells = row
        table.add_row(Text(name), *(Text(_narrow(x)) for x in cells), style=style)
    return table


def _narrow(text: str) -> str:
    for part in (" ±", " (", " within"):
        text = text.replace(part, "\n" + part[1:])
    return text


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
    heads = [_head(name) for name in names]
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


def _head(name: str) -> str:
    entry = glossary.metric(name)
    return f"{entry.label} {entry.sign}".strip()


def _escape(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())
