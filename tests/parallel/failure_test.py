"""What one process fails at, as the others hear of it; whole jobs: `processes_test`."""

import threading

import jax
import pytest
from jax._src import distributed

from ofmu_jax.parallel import failure


class Coordinator:
    """Keeps keys for three processes; each has a client of its own."""

    def __init__(self):
        self.keys = {}

    def key_value_set(self, key, text, allow_overwrite=False):
        assert allow_overwrite
        self.keys[key] = text

    def key_value_dir_get(self, folder):
        return [(k, v) for k, v in self.keys.items() if k.startswith(folder + "/")]


@pytest.fixture
def coordinator(monkeypatch):
    """This is process 1 of three."""
    found = Coordinator()
    for name, seconds in (("POLL", 0.001), ("GRACE", 0.05), ("PATIENCE", 0.3)):
        monkeypatch.setattr(failure, name, seconds)
    monkeypatch.setattr(distributed.global_state, "client", found)
    monkeypatch.setattr(distributed.global_state, "process_id", 1)
    monkeypatch.setattr(distributed.global_state, "num_processes", 3)
    return found


def watched(coordinator) -> list[str]:
    told: list[str] = []
    end = lambda: told.append("ended")
    failure._watch(coordinator, threading.Event(), told.append, end)
    return told


def test_alone_there_is_nobody_to_tell():
    failure.tell("a reason")
    failure.watch(pytest.fail, end=pytest.fail)
    assert not [t for t in threading.enumerate() if t.name.endswith("(_watch)")]


def test_the_first_that_failed_is_named_and_it_hears_that_all_know(coordinator):
    coordinator.keys = {"ofmu_jax/failed/2": "x", "ofmu_jax/failed/0": "no disk"}
    assert watched(coordinator) == ["process 0 of the job failed: no disk", "ended"]
    assert coordinator.keys["ofmu_jax/heard/1"] == ""


def test_one_that_has_failed_as_well_speaks_for_itself(coordinator):
    coordinator.keys = {
        "ofmu_jax/failed/0": "the same",
        "ofmu_jax/failed/1": "the same",
    }
    assert watched(coordinator) == []


def test_where_the_coordinator_is_gone_the_thread_ends(coordinator, monkeypatch):
    def gone(folder):
        raise jax.errors.JaxRuntimeError("UNAVAILABLE")

    monkeypatch.setattr(coordinator, "key_value_dir_get", gone)
    assert watched(coordinator) == []


@pytest.mark.parametrize("heard", [True, False])
def test_who_tells_waits_for_the_others_but_not_for_ever(coordinator, heard):
    if heard:
        coordinator.keys = {"ofmu_jax/heard/0": "", "ofmu_jax/failed/2": "too"}
    begun = failure.time.monotonic()
    failure.tell("no memory")
    assert coordinator.keys["ofmu_jax/failed/1"] == "no memory"
    waited = failure.time.monotonic() - begun >= failure.PATIENCE
    assert waited != heard
