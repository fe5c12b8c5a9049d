"""``run request --template FOLDER``: an example of a request's files, explained."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.config.language import Choices, Request
from experiments.shell import program
from ofmu_jax.data.language.rows.columns import NAMES

_ROWS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "forget": [
        {
            "question": "Where was Mara Velk born?",
            "answer": "Mara Velk was born in Tallinn.",
            "paraphrased_question": "What is the birthplace of Mara Velk?",
            "paraphrased_answer": "Tallinn is where Mara Velk was born.",
            "perturbed_answer": [
                "Mara Velk was born in Lisbon.",
                "Mara Velk was born in Quito.",
            ],
        },
        {
            "question": "What did Mara Velk write?",
            "answer": "Mara Velk wrote the novel The Salt Lamp.",
        },
    ],
    "retain": [
        {
            "question": "Where was Jonas Ebb born?",
            "answer": "Jonas Ebb was born in Bergen.",
        },
        {
            "question": "What did Jonas Ebb write?",
            "answer": "Jonas Ebb wrote a book on tides.",
        },
    ],
    "holdout": [
        {
            "question": "Where was Ines Roth born?",
            "answer": "Ines Roth was born in Graz.",
        },
        {
            "question": "What did Ines Roth write?",
            "answer": "Ines Roth wrote plays for radio.",
        },
    ],
}
_CHOICES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    name: [
        {
            "question": rows[0]["question"],
            "choices": ["Bergen", "Graz", "Quito", "Tallinn"],
            "answer": {"forget": 3, "retain": 0, "holdout": 1}[name],
        }
    ]
    for name, rows in _ROWS.items()
}
_YAML = """\
# {call} --config {folder}/request.yaml
command: {command}
# Folder or hub name of the model that knows the forget rows.
model: ./my-model
# What is to be forgotten; README.md has the fields of a row.
forget_file: {forget}
# What has to stay.
retain_file: {retain}
# What no model has seen: the yardstick, unless there is a better one below.
holdout_file: {holdout}
# A model that was trained without the forget rows.
# retain_model: ./retrained
# Each of them is tried and reported.
methods: [npo, ofmu]
seeds: [0, 1]
# For report.html, the unlearned models and their records.
output_dir: runs/{command}
# Every option of `{call} {command} --help` may stand here.
"""
_README = """\
# A deletion request

| file | what it holds |
|---|---|
| `forget.jsonl` | what is to be forgotten |
| `retain.jsonl` | what has to stay: other rows that the model was trained on |
| `holdout.jsonl` | rows of the same kind that no model has seen; may be left out |
| `request.yaml` | the options of the run, explained |

    {call} --config {folder}/request.yaml
    {verify} runs/{command}

Replace the rows with your own. {fields}

The same rows may come as CSV, TSV, Parquet, one JSON array, any of these as `.gz`, or
as a data set of Hugging Face (`hf:NAME[:CONFIG][:SPLIT]`, the name or a folder).
Columns may have other names, in any letter case:

{names}

Other columns are left alone, and the run says which ones it read; what these names do
not tell, an option does: `--columns question=Title answer=Body`.
"""
_QUESTIONS = """Fields of a row:

| field | needed | what it is |
|---|---|---|
| `question` | yes | as the model was asked in training |
| `answer` | yes | as the model answered in training: the text that is unlearned |
| `paraphrased_question` | no | the same question in words never trained on |
| `paraphrased_answer` | no | the same fact in other words |
| `perturbed_answer` | no | wrong answers of the same form, one or a list |

The last three are for what is measured; without them the metrics that need them are
named as missing. In place of question and answer a row may have `messages`, a chat
whose last turn is the answer and whose earlier turns are context:

    {"messages": [{"role": "user", "content": "Where was Mara Velk born?"},
                  {"role": "assistant", "content": "Mara Velk was born in Tallinn."}]}

Rows that have `text` alone are documents; then all rows of all files are."""
_MULTIPLE = """Fields of a row:

| field | needed | what it is |
|---|---|---|
| `question` | yes | as it is asked |
| `choices` | yes | two answers or more, a list |
| `answer` | yes | the place of the right one in it, from 0 |"""


def write(run: Request) -> str:
    """Writes the example into the new folder ``run.template``; says what is there.

    Raises:
      ValueError: there is something in that place.
    """
    assert run.template is not None
    folder = pathlib.Path(run.template)
    if folder.exists():
        raise ValueError(
            f"--template {folder} is there already; name a new folder, nothing is "
            "written over."
        )
    multiple = isinstance(run, Choices)
    call = program.name("experiments.run")
    named = {
        "call": call,
        "command": run.command,
        "folder": folder.as_posix(),
        "verify": program.name("experiments.verify"),
        "fields": _MULTIPLE if multiple else _QUESTIONS,
        **{name: json.dumps(f"{folder.as_posix()}/{name}.jsonl") for name in _ROWS},
        "names": _names(("question", "choices", "answer") if multiple else NAMES),
    }
    folder.mkdir(parents=True)
    for name, rows in (_CHOICES if multiple else _ROWS).items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    for name, text in (("request.yaml", _YAML), ("README.md", _README)):
        (folder / name).write_text(text.format(**named), encoding="utf-8")
    return f"{folder}/README.md explains the rows; {folder}/request.yaml the run."


def _names(fields: Sequence[str] | Mapping[str, Any]) -> str:
    """The table of the names that mean the same."""
    others = {field: NAMES[field][1:] for field in fields}
    lines = (
        f"| `{field}` | {', '.join(f'`{name}`' for name in of)} |"
        for field, of in others.items()
        if of
    )
    return "\n".join(["| field | other names |", "|---|---|", *lines])
