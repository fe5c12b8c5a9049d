"""Files are whole or as they were; values become JSON."""

import json
import math
import pathlib

import numpy as np
import pytest

from experiments.stages import files


def test_a_crash_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "found.json"
    files.write_json(path, {"a": 1})

    def fails(self, to):
        raise OSError("the power went")

    monkeypatch.setattr(pathlib.Path, "replace", fails)
    with pytest.raises(OSError, match="power"):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_what_is_not_finite_is_null_and_named():
    value = {"a": (1, np.float32("nan")), "b": {"c": -math.inf}, "d": np.arange(2)}
    lost = []
    found = files.finite(value, lost)
    assert found == {"a": [1, None], "b": {"c": None}, "d": [0, 1]}
    assert lost == ["a[1]", "b.c"]
    assert files.finite(value) == found


def test_values_without_json_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\[0\] is <object"):
        files.finite({"a": [object()]})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x", math.nan, allow_nan=False)
    assert list(tmp_path.iterdir()) == []
