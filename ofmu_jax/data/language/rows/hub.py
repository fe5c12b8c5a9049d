"""Data sets of Hugging Face as rows: by name, or as they lie in a folder."""

from __future__ import annotations

import pathlib
import re
from typing import Any, NamedTuple

from ofmu_jax.data.language.records import DataError, Path
from ofmu_jax.data.language.rows.tables import Table, plain

PREFIX = "hf:"
_SEVERAL = "dataset_dict.json"  # what save_to_disk leaves
_SAVED = (_SEVERAL, "state.json")


class Place(NamedTuple):
    """``hf:NAME[:CONFIG][:SPLIT]``; the name may be a folder."""

    name: str
    words: tuple[str, ...]  # config and split, or one of them


def place_of(path: Path) -> Place | None:
    """The data set that a path names; None: it is a file.

    >>> place_of("hf:org/name:train[:9]")
    Place(name='org/name', words=('train[:9]',))
    >>> place_of("rows.jsonl")
    """
    text = str(path)
    if text.startswith(PREFIX):
        name, *words = re.split(r":(?![^\[]*\])", text[len(PREFIX) :])
        if not name or len(words) > 2 or not all(words):
            raise DataError(
                f"{text}: names no data set; write {PREFIX}ORG/NAME, with :CONFIG and "
                ":SPLIT behind it where there are several"
            )
        return Place(name, tuple(words))
    return Place(text, ()) if is_saved(path) else None


def is_saved(folder: Path) -> bool:
    """Whether a folder is a data set as ``save_to_disk`` writes it."""
    try:
        return any((pathlib.Path(folder) / name).is_file() for name in _SAVED)
    except ValueError:  # a NUL character in the name
        return False


def label(path: Path) -> str:
    """A file's or data set's name, without the folders that it is in.

    >>> label("data/rows.csv"), label("hf:org/name:train")
    ('rows.csv', 'hf:org/name:train')
    """
    text = str(path)
    place = place_of(text) if text.startswith(PREFIX) else None
    if place is None:
        return pathlib.Path(text).name
    here = pathlib.Path(place.name)
    name = here.name if here.is_dir() or here.is_absolute() else place.name
    return PREFIX + ":".join((name, *place.words))


def read(place: Place) -> Table:
    """The rows of a split of a data set.

    Raises:
      DataError: the library is not installed, there is no such data set, config or
        split, or which one is meant is not said.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{PREFIX}{place.name}: data sets need the library datasets; install it "
            "(pip install datasets, or the extra datasets)"
        ) from None
    try:
        found = _loaded(datasets, place)
    except DataError:
        raise
    except Exception as error:  # network, proxy, no such name: many unrelated types
        cause = error.__cause__ or error
        lines = f"{type(cause).__name__}: {cause}".splitlines()
        raise DataError(
            f"{PREFIX}{place.name}: cannot be loaded ({lines[0].strip()}); check name "
            "and network, or give a folder or a file"
        ) from error
    rows = [plain(row) for row in found.with_format(None).to_list()]
    return Table("Hugging Face data set", rows, tuple(found.column_names))


def _loaded(datasets: Any, place: Place) -> Any:
    """The `datasets.Dataset` of the place."""
    name = place.name
    if is_saved(name):
        saved = datasets.load_from_disk(name)
        if not isinstance(saved, datasets.DatasetDict):
            return _only(place, saved, place.words)
        split = _chosen(place, "split", [*saved], place.words)
        return saved[split]
    configs = datasets.get_dataset_config_names(name)
    first = place.words[0] if place.words else None
    of_config = place.words[:1] if len(place.words) == 2 or first in configs else ()
    if not of_config and "default" in configs:
        of_config = ("default",)
    config = _chosen(place, "config", configs, of_config)
    rest = place.words[1:] if first in configs else place.words
    splits = datasets.get_dataset_split_names(name, config)
    split = _chosen(place, "split", splits, rest)
    return datasets.load_dataset(name, config, split=split)


def _only(place: Place, saved: Any, words: tuple[str, ...]) -> Any:
    if words:
        raise DataError(
            f"{PREFIX}{place.name}: one split was saved there, and {':'.join(words)} "
            "is asked for; leave that out"
        )
    return saved


def _chosen(place: Place, what: str, known: list[str], asked: tuple[str, ...]) -> str:
    """The one that is asked for, such as ``train[:100]``, or the only one there is."""
    named = f"{PREFIX}{place.name}"
    if not asked and len(known) == 1:
        return known[0]
    if len(asked) == 1 and re.split(r"[\[+]", asked[0])[0] in known:
        return asked[0]
    said = f"has no {what} {':'.join(asked)}" if asked else f"has several {what}s"
    such = f"{named}:{known[0]}" if known else named
    raise DataError(f"{named}: {said}; say which: {', '.join(known)} (as in {such})")
