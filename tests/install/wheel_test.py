"""The wheel: every file of the packages, and no generic name in site-packages."""

import importlib.util
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ("ofmu_jax", "ofmu_jax_cli", "experiments")
ALONGSIDE = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("build"), reason="`build` is absent")
def test_the_wheel_holds_the_packages_and_takes_no_other_name(tmp_path):
    source = tmp_path / "source"
    unwanted = shutil.ignore_patterns("__pycache__", "results")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=unwanted)
    for name in ALONGSIDE:
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    if "setuptools>=77" in done.stdout + done.stderr and done.returncode:
        pytest.skip("setuptools is older than 77")
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    names = {x for x in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in x}
    places = {"experiments": "ofmu_jax_cli/experiments"}
    wanted = {
        "/".join([places.get(name, name), *path.relative_to(source / name).parts])
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and not {"__pycache__", "results"} & {*path.parts}
        for path in [source / path.relative_to(ROOT)]
    }
    assert names == wanted
    assert {name.split("/")[0] for name in names} == {"ofmu_jax", "ofmu_jax_cli"}
