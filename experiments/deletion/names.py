"""Files and folders as records name them: a record goes to whoever gets the model."""

import dataclasses
import os
import pathlib
from typing import Any

from ofmu_jax.data.language.rows import hub


def name_of(value: Any) -> Any:
    """The last part of a path, or of a text that is the place of one here; of several
    or of a group of options that of each."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: name_of(getattr(value, field.name)) for field in fields}
    if isinstance(value, tuple | list):
        return type(value)(map(name_of, value))
    if isinstance(value, pathlib.PurePath):
        return hub.label(value)
    if isinstance(value, str):
        if value.startswith(hub.PREFIX):
            return hub.label(value)
        kind, colon, place = value.rpartition(":")  # as in file:PATH
        if os.sep in place and os.path.exists(place):  # whatever the text
            return f"{kind}{colon}{pathlib.Path(place).name}"
    return value
