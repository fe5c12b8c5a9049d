"""The four JSON Schemas, printed and written."""

import json

import jsonschema
import pytest

from experiments import schema
from experiments.config.language import Demo
from experiments.stages.files import to_json

NAMES = ("config", "report", "record", "sequence")


def test_all_are_written_as_they_are_made(tmp_path, capsys):
    assert schema.main(["--output-dir", str(tmp_path / "made")]) == 0
    paths = [tmp_path / "made" / f"{name}.schema.json" for name in NAMES]
    assert capsys.readouterr().out.split() == list(map(str, paths))
    for name, path in zip(NAMES, paths, strict=True):
        found = json.loads(path.read_text())
        assert found == schema.schema_of(name)
        assert found["$id"] == f"urn:ofmu-jax:schema:{name}:1"
    # An editor's use: a slip of the pen is found.
    check = jsonschema.Draft202012Validator(json.loads(paths[0].read_text()))
    right = {"command": "demo", **to_json({"seeds": Demo().seeds})}
    assert not list(check.iter_errors(right))
    assert list(check.iter_errors(right | {"sedes": [0]}))


def test_one_is_printed(capsys):
    assert schema.main(["record"]) == 0
    assert json.loads(capsys.readouterr().out) == schema.schema_of("record")
    assert schema.main([]) == 2
    assert "error: name a schema (config, report, " in capsys.readouterr().err


def test_a_folder_that_cannot_be(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert schema.main(["config", "--output-dir", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_no_such_schema(capsys):
    with pytest.raises(SystemExit) as stop:
        schema.main(["reports"])
    assert stop.value.code == 2
