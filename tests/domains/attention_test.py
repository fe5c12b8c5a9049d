"""Which attention a run computes with, and what it says about it."""

import dataclasses

import jax
import pytest

from experiments.config.language import Demo
from experiments.domains.language import job, refuse
from experiments.domains.language.task import LanguageTask
from ofmu_jax.methods.language.ofmu import Ofmu
from ofmu_jax.models.llama.model import LlamaConfig
from ofmu_jax.unlearning.language import budgeted

EXACT = Ofmu(beta=0.1, rho=0.0, curvature="linearize")

NORM = {"penalty": "gradient_norm"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"beta": 0.0, "rho": 0.0, "curvature": "vjp"}, False),
        ({"beta": 0.1, "rho": 0.0, "curvature": "vjp"}, True),
        ({"beta": 0.1, "rho": 0.1, "curvature": "finite_difference"}, False),
        ({"beta": 0.0, "rho": 0.1, **NORM, "penalty_gradient": "exact"}, True),
        ({"beta": 0.0, "rho": 0.1, "penalty_gradient": "exact"}, False),
        ({}, False),
        ({"beta": 0.0, "rho": 0.1, **NORM, "penalty_gradient": "secant"}, False),
    ],
)
def test_which_settings_differentiate_a_gradient(options, expected):
    config = dataclasses.replace(Ofmu(), **options)
    assert Demo.specs["ofmu"].second_derivatives(config) == expected


def test_only_ofmu_does():
    assert not any(
        spec.second_derivatives(spec.config)
        for name, spec in Demo.specs.items()
        if name != "ofmu"
    )


@pytest.mark.parametrize(("beta", "attention"), [(0.0, "auto"), (0.1, "xla")])
def test_what_has_no_second_derivatives_is_not_asked_for_them(
    monkeypatch, beta, attention
):
    asked = []
    monkeypatch.setattr(
        budgeted, "of_model", lambda *args: asked.append(args[3]) or Made
    )
    run = Demo(methods=("ofmu",), ofmu=dataclasses.replace(EXACT, beta=beta))
    fields = ("tokenizer", "prompt_format", "max_length", "evaluation")
    config = LlamaConfig(num_layers=1, attention="auto")
    task = LanguageTask(config, **dict.fromkeys(fields))
    job.num_updates("ofmu", run, task)
    same = task if attention == "auto" else task.twice_differentiable
    assert asked == [same.loss_apply_fn]
    assert same.config.attention == attention


class Made:
    gradient_evaluations = 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float32"}, "cudnn computes no float32; give --attention auto"),
        ({"dtype": "bfloat16"}, "is for NVIDIA GPUs, and this is a cpu; give"),
    ],
)
def test_the_kernel_is_refused_where_it_is_not(options, message):
    with pytest.raises(ValueError, match=message):
        refuse.check_options(Demo(attention="cudnn", **options))


def test_the_kernel_is_refused_for_second_derivatives(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    run = Demo(attention="cudnn", dtype="bfloat16", ofmu=EXACT)
    with pytest.raises(ValueError, match="no second derivatives, which ofmu takes"):
        refuse.check_options(run)
    refuse.check_options(dataclasses.replace(run, methods=("npo",)))


def test_a_note_says_where_auto_does_without_it(monkeypatch, capsys):
    run = Demo(dtype="bfloat16", ofmu=EXACT)
    refuse._note_attention(run)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    refuse._note_attention(run)
    note = " ".join(capsys.readouterr().err.split())
    assert "ofmu takes second derivatives, which the fused attention kernel" in note
