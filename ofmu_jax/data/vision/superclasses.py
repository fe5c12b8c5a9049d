"""Which classes belong together: superclasses of each data set."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources

from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.vision.images import ImageSet

# Data set -> superclass -> names of its classes.
SUPERCLASSES: Mapping[str, Mapping[str, Sequence[str]]] = tomllib.loads(
    resources.files("ofmu_jax.data.vision")
    .joinpath("superclasses.toml")
    .read_text("utf-8")
)


def label_of(data: ImageSet, name: str) -> int:
    """The label of a class, by its name.

    Raises:
      DataError: no class has it, or it is of no superclass.
    """
    if name not in data.class_names:
        raise DataError(
            f"--forget subclass:{name} names no class of {data.name}; its classes are "
            f"{', '.join(data.class_names)}"
        )
    if not siblings(data, data.class_names.index(name)):
        raise DataError(
            f"--forget subclass:{name}: no superclasses of {data.name} are known; use "
            "class:NUMBER"
        )
    return data.class_names.index(name)


def siblings(data: ImageSet, label: int) -> tuple[int, ...]:
    """Labels of the other classes of a class's superclass, in the order of the list;
    () where none is known.

    The first is the one after it, the last the one before.
    """
    name = data.class_names[label]
    for members in SUPERCLASSES.get(data.name, {}).values():
        if name in members:
            place = members.index(name)
            others = (*members[place + 1 :], *members[:place])
            return tuple(data.class_names.index(other) for other in others)
    return ()
