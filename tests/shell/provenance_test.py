"""What is known of the machine."""

import platform

from experiments.shell import provenance


def test_processor(tmp_path):
    path = tmp_path / "cpuinfo"
    assert provenance.processor(path) == platform.machine()
    path.write_text("processor : 0\nmodel name\t: A processor @ 2 GHz\nmodel name : B")
    assert provenance.processor(path) == "A processor @ 2 GHz"
    path.write_text(
        "cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: A\nstepping\t: 1\n"
        "processor\t: 1\nmodel\t\t: 18\n"
    )
    assert provenance.processor(path) == "A, family 25, model 17, stepping 1"
