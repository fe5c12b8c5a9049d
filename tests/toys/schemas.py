"""What a run left, against the schemas that say what it has."""

import functools
import json

import jsonschema

from experiments.schema import schema_of

NAMES = {
    "config.json": "config",
    "report.json": "report",
    "deletion.json": "record",
    "sequence.json": "sequence",
}


@functools.cache
def validator(name):
    schema = schema_of(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check(folder):
    """Checks every file that has a schema; how many of each there are.

    The config.json of a model is none of them.
    """
    found = dict.fromkeys(NAMES, 0)
    for path in folder.rglob("*.json"):
        exported = path.parent.name in ("hf", "model") and path.name == "config.json"
        if path.name in NAMES and not exported:
            validator(NAMES[path.name]).validate(json.loads(path.read_text()))
            found[path.name] += 1
    return {name: count for name, count in found.items() if count}
