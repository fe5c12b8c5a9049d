"""Which images are forgotten, kept and held out: one object, drawn once.

The original model trains on ``train``, which is forget and retain together, the
retrained one on ``retain``: both come from the same `Split`, so that everything in
``forget`` was trained on. (Where the two are drawn with seeds of their own, as in
public vision code, a tenth of "forget" may never have been seen.)
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.vision import superclasses
from ofmu_jax.data.vision.images import ImageSet

HELP = "use random:SHARE (0 < share < 1), class:NUMBER, subclass:NAME or file:PATH"
WHOLE_CLASS = ("class", "subclass")  # kinds that leave validation and test as well


@dataclasses.dataclass(frozen=True)
class Split:
    """Indices into the training and the test images of one `ImageSet`, each sorted."""

    spec: str  # what was asked for
    seed: int  # of the random parts
    forget: np.ndarray
    retain: np.ndarray
    validation: np.ndarray  # training images that no model is trained on
    test: np.ndarray  # what test accuracy and attacks are measured on
    note: str  # what a reader of the numbers has to know
    adjacent: tuple[int, ...] = ()  # labels kept that are close to the forgotten one

    @property
    def train(self) -> np.ndarray:
        """What the original model is trained on: forget and retain."""
        return np.sort(np.concatenate([self.forget, self.retain]))


def make_split(
    data: ImageSet, spec: str, *, seed: int = 0, validation: float = 0.1
) -> Split:
    """Divides the training images.

    Args:
      spec: ``"random:0.1"``: this share of what is not validation; ``"class:3"``:
        all images of a class, which also leaves validation and test;
        ``"subclass:cat"``: the same, by its name, the other classes of its superclass
        being adjacent; ``"file:PATH"``: indices of training images, one a line.
      seed: of the draws.
      validation: share of each class that no model is trained on.

    Raises:
      DataError: a specification that cannot be read or leaves a part empty.
    """
    if not 0 <= validation < 1:
        raise DataError(f"validation is {validation}; give a share in [0, 1)")
    kind, _, value = spec.partition(":")
    labels = data.train.labels
    size, rng = len(labels), np.random.default_rng([seed, 2509])
    test = np.arange(len(data.test))
    adjacent: tuple[int, ...] = ()
    note = f"split {spec} drawn with seed {seed}; "

    chosen = _from_file(value, size) if kind == "file" else np.array([], np.int64)
    held_out = _stratified(labels, validation, chosen, rng)
    rest = np.setdiff1d(np.arange(size), held_out)
    if kind == "random":
        count = round(_share(spec, value) * len(rest))
        forget = np.sort(rng.permutation(rest)[:count])
    elif kind in WHOLE_CLASS:
        if kind == "subclass":
            label = superclasses.label_of(data, value)
            present = np.unique(labels)  # of a request that is tuned on, not all are
            adjacent = tuple(
                x for x in superclasses.siblings(data, label) if x in present
            )
        else:
            label = _label(spec, value, data.num_classes)
        forget = rest[labels[rest] == label]
        held_out = held_out[labels[held_out] != label]
        test = test[data.test.labels != label]
        name = data.class_names[label]
        called = f"class {label}" + ("" if name == str(label) else f" ({name})")
        note += (
            f"{called} is left out of the validation and the test images "
            f"too: {len(test)} of {len(data.test)} test images remain; "
        )
        if adjacent:
            names = ", ".join(data.class_names[x] for x in adjacent)
            note += f"adjacent are the test images of its superclass ({names}); "
    elif kind == "file":
        forget = chosen
    else:
        raise DataError(f"--forget {spec!r} is not a specification; {HELP}")
    retain = np.setdiff1d(rest, forget)
    for name, part in (("forget", forget), ("retain", retain), ("test", test)):
        if not len(part):
            raise DataError(
                f"--forget {spec!r} leaves no {name} images of {size} training images; "
                f"{HELP}, and another share, class or file"
            )
    if adjacent and not np.isin(data.test.labels[test], adjacent).any():
        raise DataError(
            f"--forget {spec!r} leaves no test image of another class of its "
            "superclass; use more test images (--max-test, --validation with --tune)"
        )
    note += "the original model was trained on every forget image"
    return Split(spec, seed, forget, retain, held_out, test, note, adjacent)


def _stratified(labels, share: float, never: np.ndarray, rng) -> np.ndarray:
    """The same share of every class, without the images ``never``; sorted."""
    parts = [np.array([], np.int64)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        allowed = members[~np.isin(members, never)]
        parts.append(allowed[: int(share * len(members))])
    return np.sort(np.concatenate(parts))


def _share(spec: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        raise DataError(f"--forget {spec!r} has no share; {HELP}") from None
    if not 0 < share < 1:
        raise DataError(f"--forget {spec!r} is not a share between 0 and 1; {HELP}")
    return share


def _label(spec: str, value: str, num_classes: int) -> int:
    if not value.isdecimal() or int(value) >= num_classes:
        raise DataError(
            f"--forget {spec!r} names no class; give a number from 0 to "
            f"{num_classes - 1}"
        )
    return int(value)


def _from_file(path: str, size: int) -> np.ndarray:
    """Sorted indices of training images, one a line; blank lines are skipped."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the forget file {path!r}: {error}") from None
    found: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if not text.isdecimal() or int(text) >= size:
            raise DataError(
                f"{path}, line {number}: {text!r} is not the index of a training "
                f"image; give whole numbers from 0 to {size - 1}, one a line"
            )
        if int(text) in found:
            raise DataError(
                f"{path}, line {number}: index {text} stands in line "
                f"{found[int(text)]} already; give each index once"
            )
        found[int(text)] = number
    if not found:
        raise DataError(f"{path} has no indices; give one a line")
    return np.array(sorted(found), np.int64)
