"""Multiple choice: rows of MMLU and WMDP, and the prompts of lm-evaluation-harness."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from typing import Literal

from ofmu_jax.data.language.json_lines import Whole, checked_text, json_type
from ofmu_jax.data.language.records import (
    QA,
    DataError,
    Path,
    UnlearningData,
    check_distinct,
    check_overlap,
    check_unseen,
)
from ofmu_jax.data.language.requests import entangled
from ofmu_jax.data.language.rows import columns as names
from ofmu_jax.data.language.rows.columns import Asked
from ofmu_jax.data.language.rows.read import Read, Row, read_objects
from ofmu_jax.data.language.rows.source import Source
from ofmu_jax.data.language.tofu import load_custom

Style = Literal["letters", "texts"]
_INTRODUCED = "The following are {}questions (with answers) about {}.\n\n"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A question with the answers to choose from.

    Attributes:
      question: as asked.
      choices: two answers or more.
      answer: which of them is right, from 0.
    """

    question: str
    choices: tuple[str, ...]
    answer: int


@dataclasses.dataclass(frozen=True)
class Exam:
    """Questions that a model is asked, and how.

    Attributes:
      sets: name of a set ("forget", "retain", "eval") -> its rows.
      style: "letters" lists the choices in the prompt and asks for a letter, as MMLU
        and WMDP do; "texts" asks for a choice in its own words, as the harness's
        ``mmlu_continuation`` does.
      subject: what the questions are about, as the prompt says it; None: it does not.
    """

    sets: dict[str, tuple[Choice, ...]]
    style: Style = "letters"
    subject: str | None = None


def read_choices(path: Path, columns: Asked | None = None) -> Read[Choice]:
    """Reads ``{"question": …, "choices": […], "answer": …}``, in any format of
    `read_rows`.

    Choices are strings or whole numbers (in a cell of CSV one JSON array); the answer
    is the place of the right one, from 0. Other fields are ignored.

    Raises:
      DataError: naming the file, the row (from 1), the reason and the remedy.
    """
    like = '{"question": ..., "choices": [..., ...], "answer": 0}'
    return read_objects(path, like, (names.CHOICES,), columns, _to_choice)


def _to_choice(row: Row) -> Choice:
    for field in names.CHOICES:
        row.check(field)
    where, choices, answer = row.where, row.value("choices"), row.value("answer")
    if not isinstance(choices, list) or len(choices) < 2:
        kind = "an array of one" if isinstance(choices, list) else json_type(choices)
        raise DataError(
            f"{where}: field 'choices' is {kind}; give an array of two or more"
        )
    texts = tuple(
        x.digits if isinstance(x, Whole) else checked_text(where, "choices", x)
        for x in choices
    )
    if len(texts) > len(string.ascii_uppercase):
        raise DataError(f"{where}: {len(texts)} choices, and there are but 26 letters")
    places = [str(place) for place in range(len(texts))]
    if not isinstance(answer, Whole) or answer.digits not in places:
        shown = answer.digits if isinstance(answer, Whole) else repr(answer)
        raise DataError(
            f"{where}: field 'answer' is {shown}; give the place of the right choice, "
            f"from 0 to {places[-1]}"
        )
    return Choice(row.question(), texts, int(answer.digits))


def load_choices(
    forget_file: Path,
    retain_file: Path,
    eval_file: Path | None = None,
    *,
    forget_corpus: Path | None = None,
    retain_corpus: Path | None = None,
    holdout_file: Path | None = None,
    adjacent_file: Path | None = None,
    style: Style = "letters",
    subject: str | None = None,
    allow_overlap: bool = False,
    columns: Sequence[str] = (),
) -> UnlearningData:
    """A request that is judged by multiple choice, which it has as its `exam`.

    Its rows are the questions with their right answers, wrong ones as perturbed
    answers; or what is in the corpora, both or none, read as `load_custom` does.

    Args:
      eval_file: other questions that have to stay answered, scored alone.
      holdout_file: rows that no model saw: choices, or of the corpora's form.
      adjacent_file: the same, that have to stay and lie close to what is forgotten.
      columns: see `load_custom`.

    Raises:
      DataError: missing or malformed files, or sets that do not fit.
    """
    chosen = names.asked(columns)
    sources: dict[str, Source] = {}

    def read(option: str, path: Path | None) -> tuple[Choice, ...]:
        if path is None:
            return ()
        found = read_choices(path, chosen)
        sources[option] = found.source
        return found.rows

    files = {"forget": forget_file, "retain": retain_file}
    sets = {option: read(option, path) for option, path in files.items()}
    if eval_file is not None:
        sets["eval"] = read("eval", eval_file)
    exam = Exam(sets, style, subject)
    corpora = (forget_corpus, retain_corpus)
    if (forget_corpus is None) != (retain_corpus is None):
        given = next(path for path in corpora if path is not None)
        raise DataError(
            f"{given}: a corpus to forget and one to retain go together; "
            "give both --forget-corpus and --retain-corpus, or neither"
        )
    if forget_corpus is not None:
        data = load_custom(
            forget_corpus,
            retain_corpus,
            holdout_file=holdout_file,
            adjacent_file=adjacent_file,
            allow_overlap=allow_overlap,
            columns=columns,
        )
        named = {f"{option}_exam": source for option, source in sources.items()}
        sources = {**named, **data.sources}
        return dataclasses.replace(data, exam=exam, sources=sources)
    forget, retain = (tuple(map(answered, sets[k])) for k in ("forget", "retain"))
    holdout = tuple(map(answered, read("holdout", holdout_file)))
    adjacent = tuple(map(answered, read("adjacent", adjacent_file)))
    check_distinct(forget, str(forget_file))
    check_distinct(adjacent, str(adjacent_file))
    for rows, path in ((retain, retain_file), (adjacent, adjacent_file)):
        named = {"forget_source": str(forget_file), "retain_source": str(path)}
        check_overlap(forget, rows, allow_overlap, **named)
    full = retain + forget
    check_unseen(holdout, full + adjacent, allow_overlap, source=str(holdout_file))
    data = UnlearningData(
        name="choices",
        forget=forget,
        retain=retain,
        full=full,
        forget_eval=forget,
        retain_eval=retain,
        holdout=holdout,
        exam=exam,
        sources=sources,
    )
    return entangled.watched(data, adjacent) if adjacent else data


def answered(row: Choice) -> QA:
    """A question with its right answer; the others are perturbed ones.

    >>> answered(Choice("Where? ", ("Rome", "Oslo"), 1))
    ... # doctest: +ELLIPSIS
    QA(question='Where?', answer='Oslo', ..., perturbed_answers=('Rome',))
    """
    answer = row.choices[row.answer]
    wrong = tuple(text for text in row.choices if text != answer)
    return QA(row.question.strip(), answer, perturbed_answers=wrong)


def prompt(row: Choice, style: Style, subject: str | None = None) -> str:
    """What comes before a choice, as lm-evaluation-harness writes it without examples.

    >>> print(prompt(Choice("Where?", ("Rome", "Oslo"), 1), "letters", "towns"))
    The following are multiple choice questions (with answers) about towns.
    <BLANKLINE>
    Where?
    A. Rome
    B. Oslo
    Answer:
    """
    kind = "multiple choice " if style == "letters" else ""
    said = _INTRODUCED.format(kind, subject) if subject else ""
    if style == "texts":
        return f"{said}Question: {row.question.strip()}\nAnswer:"
    listed = zip(string.ascii_uppercase, row.choices, strict=False)
    lines = "".join(f"\n{letter}. {text}" for letter, text in listed)
    return f"{said}{row.question.strip()}{lines}\nAnswer:"


def continuations(row: Choice, style: Style) -> Sequence[str]:
    """What is scored after the prompt, one for each choice."""
    if style == "texts":
        return [f" {text}" for text in row.choices]
    return [f" {letter}" for letter in string.ascii_uppercase[: len(row.choices)]]
