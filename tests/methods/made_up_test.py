"""A new method is one new file and its line in the registry, in either domain.

Both commands are run from a copy of the sources that has a made-up method more.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import experiments

ROOT = pathlib.Path(experiments.__file__).parent.parent
LANGUAGE = '''
"""Made up: the squared distance of each row's log-likelihood from a floor."""

import dataclasses

import jax.numpy as jnp

from ofmu_jax.bounds import Positive
from ofmu_jax.losses.accumulation import rows
from ofmu_jax.losses.tokens import sequence_nll
from ofmu_jax.methods.base import Range
from ofmu_jax.methods.language.setting import GradDiffConfig, baseline, plain


@dataclasses.dataclass(frozen=True)
class MadeUpConfig(GradDiffConfig):
    """γ (NLL − floor)² + α R."""

    gamma: Positive = 0.5
    floor: Positive = 9.0
    """Nats of a row at which it counts as forgotten."""


def squared(apply_fn, params, batch, *, floor):
    nll, _ = sequence_nll(apply_fn, params, batch)
    return jnp.mean(jnp.square(nll - floor))


SPEC = baseline(
    "Made up for text",
    "0000.00000",
    MadeUpConfig(),
    plain(squared, "floor", mean_over=rows),
    {"gamma": Range(0.1, 1.0)},
)
'''
VISION = '''
"""Fine-tuning by another name."""

import dataclasses

from ofmu_jax.methods.base import Spec
from ofmu_jax.methods.vision.descent import RATE, Descent, descent
from ofmu_jax.methods.vision.setting import Plan


@dataclasses.dataclass(frozen=True)
class MadeUp(Descent):
    """Fine-tuning by another name."""


build = lambda config, setting: Plan(descent(setting, Descent.sgd, config))
SPEC = Spec("Made up for images", "0000.00000", MadeUp(), build, RATE)
'''
DEMO = """demo --people 4 --forget-people 1 --seeds 0 --tune 2 --no-export
--model-size.hidden-size 8 --model-size.intermediate-size 16 --model-size.num-layers 1
--model-size.num-heads 1 --model-size.num-kv-heads 1 --model-size.vocab-size 600
--train.epochs 1 --budget.gradient-evaluations 4 --budget.checks 1
--evaluation.max-new-tokens 2 --evaluation.max-rows 2 --evaluation.bootstrap 10
--methods made_up --made-up.learning-rate 1e-3"""
CIFAR = """cifar --max-train 60 --max-test 40 --epochs 1 --batch-size 16 --seeds 0
--unlearn-epochs 1 --checks 1 --eval-batch-size 60 --grid-images 0
--methods invented --invented.learning-rate 0.02"""


def add(root: pathlib.Path, domain: str, name: str, source: str) -> None:
    """The method's file, and its line in the registry with an import."""
    folder = root / "ofmu_jax" / "methods" / domain
    (folder / "made_up.py").write_text(source)
    registry = folder / "registry.py"
    text = registry.read_text()
    for line, more in (
        (f"from ofmu_jax.methods.{domain} import (\n", "    made_up,\n"),
        ('    "ofmu": ofmu.SPEC,\n', f'    "{name}": made_up.SPEC,\n'),
    ):
        assert line in text
        text = text.replace(line, line + more)
    registry.write_text(text)


@pytest.mark.slow
def test_runs_tunes_and_reports_by_its_name(tmp_path):
    for package in ("ofmu_jax", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__", "*.svg")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    add(tmp_path, "language", "made_up", LANGUAGE)
    add(tmp_path, "vision", "invented", VISION)
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(tmp_path)}}
    started = []
    for command in (DEMO, CIFAR):
        words = [sys.executable, "-m", "experiments.run", *command.split()]
        words += ["--output-dir", command.split()[0]]
        started.append(subprocess.Popen(words, **options))
    # So small a model has nothing to forget, or forgets nothing: status 3.
    assert all(process.wait(timeout=300) in (0, 3) for process in started)
    found = {}
    for name, title in (("demo", "Made up for text"), ("cifar", "Made up for images")):
        assert title in (tmp_path / name / "report.html").read_text()
        found[name] = json.loads((tmp_path / name / "report.json").read_text())
    first, second = (t["config"] for t in found["demo"]["tuning"]["made_up"])
    assert first["learning_rate"] == 1e-3
    assert first["loss"]["gamma"] == 0.5 != second["loss"]["gamma"]
    assert found["cifar"]["recipe"]["method"]["invented"]["learning_rate"] == 0.02
