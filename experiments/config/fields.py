"""Fields of a configuration by their paths; ``loss.x`` is x of its loss."""

import dataclasses
from collections.abc import Mapping
from typing import Any


def with_values(config: Any, values: Mapping[str, Any]) -> Any:
    """The configuration with some fields replaced; ``loss.x`` is x of its loss."""
    for path, value in values.items():
        name, _, rest = path.partition(".")
        if rest:
            value = with_values(getattr(config, name), {rest: value})
        config = dataclasses.replace(config, **{name: value})
    return config


def value_of(config: Any, field: str) -> Any:
    """A field of the configuration; ``loss.x`` is x of its loss."""
    for part in field.split("."):
        config = getattr(config, part)
    return config
