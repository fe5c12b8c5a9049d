"""Two processes with two devices each, on loopback, against one process."""

import json

import distributed_worker
import numpy as np
import pytest
from processes import WORKER, job

from ofmu_jax.parallel import distributed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "order"),
    [
        ("data=2,fsdp=2", [0, 0, 1, 1]),
        ("data=2,fsdp=2", [0, 1, 1, 0]),
        ("fsdp=2,tensor=2", [0, 0, 1, 1]),
    ],
)
def test_two_processes_are_one_program(tmp_path, spec, order):
    alone = distributed_worker.train(None, tmp_path / "alone")
    options = [spec, json.dumps(order), str(tmp_path)]
    job(lambda address, n: [str(WORKER), "train", address, n, *options])
    first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in "01")
    assert first["devices"] == [2, 4]
    assert first["metrics"] == second["metrics"]  # known to both, and the same
    assert first["table"] == second["table"]
    np.testing.assert_allclose(first["table"], alone["table"], rtol=1e-4, atol=1e-5)
    for found, expected in zip(first["metrics"], alone["metrics"], strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)
    assert first["told"] == second["told"] == {"by": 0}
    assert first["error"].startswith("ZeroDivisionError")
    assert second["error"].startswith("OtherProcessError: ZeroDivisionError")


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["data=4", "fsdp=2,tensor=2"])
def test_two_processes_evaluate_as_one(tmp_path, spec):
    """Both run the same programs in the same order, or neither would end."""
    alone = distributed_worker.evaluate(None)
    options = [spec, str(tmp_path)]
    job(lambda address, n: [str(WORKER), "answer", address, n, *options])
    first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in "01")
    assert first == second
    assert first["tokens"] == alone["tokens"]
    assert len({len(row) for row in first["tokens"]}) > 1  # some end before others
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=1e-5)


# The processes of the devices of a mesh, as jax.make_mesh orders those of TPU slices
# with hosts of 2 x 2 chips; and, at the end, hosts that share some of their rows.
SLICES = [
    ("fsdp=16", [0, 0, 1, 1, 1, 1, 0, 2, 3, 3, 3, 3, 2, 2, 2, 0]),  # v5e:4x4
    ("data=4,fsdp=4", [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]),  # v5e:4x4
    ("fsdp=16", [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]),  # v4:2x2x4
    ("fsdp=8,tensor=2", [0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 1, 1, 2, 2, 3, 3]),  # v4:2x2x4
    ("fsdp=8,tensor=2", [0, 0, 0, 1, 0, 1, 1, 2, 2, 2, 1, 3, 2, 3, 3, 3]),
    ("fsdp=4,tensor=4", [0, 1, 2, 3, 3, 0, 1, 2, 2, 3, 0, 1, 1, 2, 3, 0]),
]


@pytest.mark.slow
def test_rows_go_where_the_batch_has_them(tmp_path):
    options = [json.dumps(SLICES), str(tmp_path)]
    command = lambda address, n: [str(WORKER), "lay", address, n, *options]
    job(command, count=4, devices=4)
    found = [json.loads((tmp_path / f"{n}.json").read_text()) for n in "0123"]
    assert found[0][0]["blocks"] == [0, 1, 6, 15]
    assert found[3][4]["blocks"] == [5, 6, 7]
    for of_case in zip(*found, strict=True):
        for x in of_case:
            assert x["rows"] == [list(range(x["count"]))] * 2


def test_alone_there_is_nothing_to_join(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    assert not distributed.initialize()
    assert distributed.is_main()
    nothing = object()
    assert distributed.on_main(lambda: nothing) is nothing


def test_counted_processes_need_a_coordinator(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    with pytest.raises(ValueError, match="--coordinator"):
        distributed.initialize(None, 2, 0)
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    with pytest.raises(ValueError, match="--coordinator"):
        distributed.initialize()
