"""PyTorch's process, for which a script stands that keeps to the same lines."""

import sys

import pytest

from experiments import benchmark
from experiments.studies import against
from experiments.studies.shapes import Shape

ANSWERS = """#!/bin/sh
echo '["fine", "broken"]'
while read -r name; do
  echo "$name" >> "$0.log"
  if [ "$name" = broken ]; then echo "no kernel for it"; else echo; fi
done
"""
DIES = """#!/bin/sh
echo '["one", "two"]'
read -r name
exit 3
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    def install(text):
        path = tmp_path / "python"
        path.write_text(text)
        path.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(path))
        return path

    return install


def test_updates_run_when_they_are_told_to(child):
    log = child(ANSWERS).with_suffix(".log")
    with against.torch_updates(Shape()) as (calls, failed):
        assert (list(calls), failed) == (["fine"], {"broken": "no kernel for it"})
        calls["fine"]()
        calls["fine"]()
        said = log.read_text().split()
    assert said == ["fine", "broken", "fine", "fine"]  # each once to warm up


def test_a_process_that_ends_is_told(child):
    child(DIES)
    with against.torch_updates(Shape()) as (calls, failed):
        assert calls == {}
        expected = {
            n: f"PyTorch's process ended with 3 in {n}." for n in ("one", "two")
        }
        assert failed == expected


def test_pytorch_that_is_not_there_is_one_line(child, capsys, tmp_path):
    child("#!/bin/sh\necho 'No module named torch' >&2\nexit 1\n")
    words = ["--against", "torch", "--output", str(tmp_path / "found.json")]
    assert benchmark.main(words) == 2
    said = capsys.readouterr().err
    assert "PyTorch does not run here (No module named torch): install" in said
