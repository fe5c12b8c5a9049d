"""Which column of a row is which field: one table, whatever the file's format."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

from ofmu_jax.data.language.records import DataError

# Field -> the names of columns that mean it, without letter case.
NAMES: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "prompt", "instruction", "input", "query", "q"),
    "answer": ("answer", "completion", "response", "output", "a"),
    "messages": ("messages", "conversations", "conversation"),
    "text": ("text", "document"),
    "choices": ("choices", "options"),
    "paraphrased_question": ("paraphrased_question",),
    "paraphrased_answer": ("paraphrased_answer",),
    "perturbed_answer": ("perturbed_answer", "perturbed_answers"),
}
CONTEXT = "context"  # what an instruction is about (Alpaca): read behind it
Form = tuple[str, ...]  # the fields that a row of one kind must have
QUESTIONS: Form = ("question", "answer")
CHATS: Form = ("messages",)
TEXTS: Form = ("text",)
CHOICES: Form = ("question", "choices", "answer")
_COMPARED = ("paraphrased_question", "paraphrased_answer", "perturbed_answer")
OPTIONAL: Mapping[Form, tuple[str, ...]] = {  # what a row of a kind may have beside
    QUESTIONS: (CONTEXT, *_COMPARED),
    CHATS: _COMPARED,
    TEXTS: (),
    CHOICES: (CONTEXT,),
}
Asked = tuple[tuple[str, str], ...]  # (field, column) of --columns


def asked(columns: Sequence[str]) -> Asked:
    """What ``--columns question=Title answer=Body`` says.

    >>> asked(["question=Title", "answer=Body"])
    (('question', 'Title'), ('answer', 'Body'))

    Raises:
      DataError: no such field, one that is named twice, or no column.
    """
    pairs = [tuple(word.split("=", 1)) for word in columns]
    for word, pair in zip(columns, pairs, strict=True):
        if len(pair) != 2 or pair[0] not in NAMES or not pair[1]:
            raise DataError(
                f"--columns {word}: write FIELD=COLUMN, such as question=Title; fields "
                f"are {', '.join(NAMES)}"
            )
    for values in zip(*pairs, strict=True):  # all fields, all columns
        if twice := [value for value in values if values.count(value) > 1]:
            raise DataError(f"--columns names {twice[0]} twice; name it once")
    return tuple((field, column) for field, column in pairs)


@functools.lru_cache(maxsize=4096)
def mapping(
    columns: tuple[str, ...], forms: tuple[Form, ...], chosen: Asked | None = ()
) -> Mapping[str, str]:
    """Field -> column, of a row that has these columns.

    Beside an ``instruction`` an ``input`` is what it is about. A ``text`` beside other
    fields is not read: it is the whole of them.

    >>> dict(mapping(("id", "Prompt", "completion"), (QUESTIONS, TEXTS)))
    {'question': 'Prompt', 'answer': 'completion'}

    Args:
      forms: the kinds of rows that may be.
      chosen: what `asked` gives: such a column means that field, wherever it is found.
        None: there is no such option.

    Raises:
      DataError: none of the forms, or several; says what was found and what is read.
    """
    named = _named(columns, dict(chosen or ()))
    given = {field for field, column in chosen or () if column in columns}
    possible = [form for form in forms if given & {*form}] or [*forms]
    others = named["question"] + named["answer"] + named["messages"]
    if others and TEXTS in possible and "text" not in given:
        possible.remove(TEXTS)
    whole = [form for form in possible if all(named[field] for field in form)]
    if not whole:
        raise DataError(_missing(columns, named, possible, forms, chosen is not None))
    fields = (*whole[0], *OPTIONAL[whole[0]])
    rivals = {field: named[field] for field in fields if len(named[field]) > 1}
    if len(whole) > 1:
        every = [column for form in whole for field in form for column in named[field]]
        rivals = {whole[0][0]: every}
    for field, several in rivals.items():
        remedy = f", or {_remedy(field)}" if chosen is not None else ""
        raise DataError(
            f"the fields {_listed(several)} may all be what is asked for; leave out "
            f"what is not{remedy}. {_read(forms)}"
        )
    return {field: named[field][0] for field in fields if named[field]}


def _named(columns: Sequence[str], chosen: Mapping[str, str]) -> dict[str, list[str]]:
    """Field -> all columns that mean it."""
    chosen = {field: column for field, column in chosen.items() if column in columns}
    free = {c: _plain(c) for c in columns if c not in chosen.values()}
    found = {
        field: [column for column in free if free[column] in known]
        for field, known in NAMES.items()
    }
    found |= {field: [column] for field, column in chosen.items()}
    about = [c for c in found["question"] if free.get(c) == "input"]
    beside = [c for c in found["question"] if free.get(c) == "instruction"]
    alpaca = len(about) == len(beside) == 1
    if alpaca:
        found["question"].remove(about[0])
    return found | {CONTEXT: about if alpaca else []}


def _plain(name: str) -> str:
    """A name for comparison.

    >>> _plain(" Perturbed answer")
    'perturbed_answer'
    """
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()


def _missing(
    columns: Sequence[str],
    named: Mapping[str, Sequence[str]],
    possible: Sequence[Form],
    forms: Sequence[Form],
    option: bool,
) -> str:
    """Of the form that has most of its fields, the first field that is not there."""
    nearest = max(possible or forms, key=lambda form: sum(bool(named[f]) for f in form))
    field = next(f for f in nearest if not named[f])
    remedy = f", or {_remedy(field)}" if option else ""
    return (
        f"field {field!r} is missing (fields found: {_listed(columns) or 'none'}); add "
        f"it, check its spelling{remedy}. {_read(forms)}"
    )


def _remedy(field: str) -> str:
    return f"say which one it is: --columns {field}=NAME"


def _read(forms: Sequence[Form]) -> str:
    """What is read, in words.

    >>> _read([TEXTS])
    'Read are: text (document).'
    """
    said = lambda field: f"{field} ({', '.join(NAMES[field][1:])})"
    return f"Read are: {'; '.join(' with '.join(map(said, f)) for f in forms)}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in dict.fromkeys(names))
