"""Which words of an answer tell the fact: annotated entities, else what is new in it.

"The author's full name is …" can be guessed from the question; the name cannot. A score
of the whole answer is mostly one of what surrounds the fact.
"""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from ofmu_jax.data.language.records import QA, DataError, Path, excerpt, key_of

Span = tuple[int, int]  # characters of an answer, from … up to
Entities = Mapping[tuple[str, str], Span]  # by `key_of` a row

_WORD = re.compile(r"\w[\w'’/+-]*")
_FUNCTION = frozenset(
    "a all also an and any are as at be been both but by for from had has have he her "
    "his in into is it its no not of on or she some such than that the their then "
    "there these they this those to was were which who whom whose with".split()
)


def new_words(question: str, answer: str) -> list[Span]:
    """Words of the answer that the question does not say and that are no function
    words; the whole answer if there are none.

    Of the 367 annotated entities of TOFU's forget10 (arXiv 2605.24614) these overlap
    98.6 %, and hold 78 % of their characters; 31 % of what they hold is entity, against
    19 % of the whole answers.

    >>> new_words("Who is Ann's father?", "Ann's father is the painter Bo Ek.")
    [(20, 27), (28, 30), (31, 33)]
    """
    known = {_stem(word.group()) for word in _WORD.finditer(question)}
    words = ((_stem(word.group()), word.span()) for word in _WORD.finditer(answer))
    found = [span for word, span in words if word not in known | _FUNCTION]
    return found or [(0, len(answer))]


def _stem(word: str) -> str:
    return re.sub(r"['’]s$", "", word.lower())


def read_entities(path: Path) -> Entities:
    """Entities from a JSON array of objects, as arXiv 2605.24614 publishes them: with
    ``question``, ``answer``, ``prefix`` (what of the answer comes before), ``entity``.

    Raises:
      DataError: no such file, not such JSON, or an entity that does not follow its
        prefix.
    """
    path = pathlib.Path(path)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no JSON file of entities ({error})") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: not a JSON array; give one of objects with an entity")
    return dict(_entity(f"{path}, row {i}", row) for i, row in enumerate(rows, 1))


def _entity(where: str, row: object) -> tuple[tuple[str, str], Span]:
    fields = ("question", "answer", "prefix", "entity")
    if not isinstance(row, dict) or any(
        not isinstance(row.get(name), str) for name in fields
    ):
        raise DataError(f"{where}: needs the texts {', '.join(fields)}")
    question, answer, prefix, entity = (row[name] for name in fields)
    start = (
        len(prefix) + len(answer[len(prefix) :]) - len(answer[len(prefix) :].lstrip())
    )
    if not entity or not answer.startswith(
        prefix + answer[len(prefix) : start] + entity
    ):
        raise DataError(
            f"{where}: the entity {excerpt(entity)} does not follow the prefix "
            f"{excerpt(prefix)} in the answer; correct one of the three"
        )
    return key_of(QA(question, answer)), (start, start + len(entity))


def told(row: QA, entities: Entities) -> list[Span]:
    """The words of a row's answer that tell its fact: its entity, else `new_words`."""
    span = entities.get(key_of(row))
    return [span] if span else new_words(row.question, row.answer)


def within(pieces: Sequence[str], answer: str, spans: Sequence[Span]) -> np.ndarray:
    """Which tokens hold a character of the spans, shape (n,), bool.

    Args:
      pieces: the text up to and including each token, so that the last one is the
        answer, which white space may surround.
      answer: what the spans are places in.

    >>> within([" Bo", " Bo E", " Bo Ek."], "Bo Ek.", [(3, 5)]).tolist()
    [False, True, True]
    """
    shift = max(pieces[-1].find(answer), 0) if pieces else 0
    ends = np.array([len(piece) - shift for piece in pieces], int)
    starts = np.concatenate([[0], ends[:-1]])
    return np.any([(starts < b) & (ends > a) for a, b in spans], axis=0)
