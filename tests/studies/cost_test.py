"""What is timed, the tables and the file; times themselves are not tested."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import benchmark
from experiments.studies import cost, measuring, pieces, registries
from experiments.studies.measuring import Case, Cost
from experiments.studies.shapes import Shape, start, token_batches
from ofmu_jax import bilevel, methods
from ofmu_jax.losses import likelihood
from ofmu_jax.methods.vision.registry import METHODS as VISION
from ofmu_jax.models import resnet

LITTLE = Shape(length=8, batch_size=2, inner_steps=1, rounds=1)


@pytest.fixture(scope="module")
def language():
    return registries.language(LITTLE)


def test_every_method_is_there_and_gradient_ascent_is_the_unit(language):
    titles = list(language)
    assert titles[0] == "gradient_ascent"
    assert {title.partition(",")[0] for title in titles} == set(methods.METHODS)
    assert {"ofmu", "ofmu, neither term", "ofmu, paper"} <= set(titles)


def test_counts_are_the_methods_own(language):
    counted = {
        name: case.method.gradient_evaluations for name, case in language.items()
    }
    # As published: one gradient, two, and for OFMU's recipe 1 + 3 of plain gradients;
    # in the paper's setting 5 inner steps of 6, and an exact penalty of 18.
    expected = {"gradient_ascent": 1, "grad_diff": 2, "ofmu": 4, "ofmu, paper": 48}
    assert {name: counted[name] for name in expected} == expected


@pytest.mark.parametrize("name", ["ofmu", "npo", "idk_dpo", "rmu", "pdu", "undial"])
def test_batches_hold_what_a_step_looks_for(language, name):
    """Traced, not compiled: a batch that lacks something raises."""
    method, params, batches = language[name]
    state = jax.eval_shape(method.init, params)
    new, _, _ = jax.eval_shape(method.update, params, state, batches)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, params)


def test_every_method_of_images_is_there():
    cases, without = registries.images(
        Shape("resnet8", batch_size=2, image_size=8, rounds=1)
    )
    assert without == ["influence", "ssd", "fisher"]
    assert next(iter(cases)) == "gradient_ascent"
    assert {x.partition(",")[0] for x in (*cases, *without)} == set(VISION)
    for name in ("ofmu", "random_label", "boundary_expand", "scrub"):
        method, variables, batches = cases[name]
        state = jax.eval_shape(method.init, variables)
        new, _, _ = jax.eval_shape(method.update, variables, state, batches)
        assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, variables)


def test_a_single_step_is_a_step_along_its_gradient():
    """On a quadratic: ∇Φ and ∇F as `bilevel` has them, up and down."""
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.normal(size=4), jnp.float32) for _ in range(2))
    loss = lambda theta, rows: jnp.sum((theta * theta - rows) ** 2)
    theta = jnp.arange(1.0, 5.0)
    batches = {"forget": a[None], "retain": b[None]}
    forget, retain = (lambda x, c=c: loss(x, c) for c in (a, b))
    up = bilevel.inner_gradient(theta, forget, retain, beta=pieces.BETA)
    down = bilevel.outer_gradient(theta, forget, retain, beta=pieces.BETA, rho=0.5)
    for rho, step in ((0.0, up), (0.5, -down)):
        method = pieces.single_step(loss, "vjp", rho)
        new, _, _ = method.update(theta, method.init(theta), batches)
        np.testing.assert_allclose(new, theta + pieces.RATE * step, rtol=1e-5)
    assert pieces.counted("finite_difference") == 4.0


def test_exact_second_derivatives_take_attention_that_has_them(monkeypatch):
    """The fused kernel, for which another stands, is asked for by first order alone."""
    calls, plain = [], jax.nn.dot_product_attention

    def fused(*arrays, mask, implementation):
        calls.append(implementation)
        return plain(*arrays, mask=mask, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", fused)
    shape = Shape(
        dtype="bfloat16", attention="cudnn", length=8, batch_size=2, inner_steps=1
    )
    expected = {
        pieces.ASCENT: {"cudnn"},
        pieces.INNER: set(),
        "OFMU, T = 1: linearize, secant": set(),
        "OFMU, T = 1: no similarity, no penalty": {"cudnn"},
        "OFMU, T = 1: frozen direction, differences, secant": {"cudnn"},
    }
    config, known = shape.config(), pieces.pieces(shape)
    params = jax.eval_shape(lambda: start(config))
    assert not calls
    for name, kinds in expected.items():
        method = known[name]
        batches = token_batches(shape, config, method.batches_per_update)
        state = jax.eval_shape(method.init, params)
        jax.eval_shape(method.update, params, state, batches)
        assert set(calls) == kinds, name
        calls.clear()


def test_equal_arrays_are_kept_once():
    known = measuring.Known()
    zeros, ones = known(jnp.zeros(3)), known(jnp.ones(3))
    assert known(jnp.zeros(3)) is zeros and known(jnp.ones(3)) is ones
    assert known(jnp.zeros(3, jnp.int32)) is not zeros


def test_a_round_runs_everything_once_in_turn():
    said = []
    runs = {name: lambda name=name: said.append(name) for name in "ab"}
    times = measuring.interleaved(runs, rounds=3)
    assert said == ["a", "b"] * 4  # one round to warm up
    said.clear()
    assert len(measuring.interleaved(runs, 1, woken={"b"})["b"]) == 1
    assert said == ["a", "b", "a", "b", "b"]
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_what_is_measured_has_the_method_s_counts():
    loss = lambda theta, rows: jnp.sum((theta - rows) ** 2)
    method = methods.weighted_difference(loss, loss, optax.sgd(0.1))
    batches = {part: jnp.ones((1, 2)) for part in ("forget", "retain")}
    calls = []
    costs, beside = measuring.measured(
        {"difference": Case(method, jnp.zeros(2), batches)},
        2,
        {"other": lambda: calls.append(1)},
    )
    assert costs["difference"].counted == method.gradient_evaluations == 2
    assert costs["difference"].updates == 1
    assert costs["difference"].seconds > 0 and beside["other"] > 0
    assert len(calls) == 1 + 2 * 2  # once in the first place, and woken each time


def test_the_table_is_in_multiples_of_its_first_row():
    found = {
        "gradient_ascent": Cost(1, 1, 1.0, 0.5, 100)._asdict(),
        "ofmu": Cost(4, 2, 2.5, 3.0, 250)._asdict(),
        "influence": None,
    }
    cells = [list(column.cells) for column in cost.table("tiny", found).columns]
    assert [column[1] for column in cells] == ["ofmu", "4", "6.0", "3.0", "2.5", "2.5"]
    assert [column[2] for column in cells] == ["influence", *"—————"]


def test_the_table_beside_pytorch_has_its_time_over_ours():
    ours = {name: 0.1 for names in cost.ALIKE.values() for name in names}
    theirs = {"PyTorch eager: gradient ascent": 0.25}
    found = {
        "ours": ours,
        "theirs": theirs,
        "failed": {"torch.compile: GradDiff": "no"},
    }
    shown = cost.torch_table("tiny", found)
    cells = [next(iter(column.cells)) for column in shown.columns]
    assert cells == ["gradient ascent", "100.0", "250.0", "—", "2.50", "—"]
    assert str(shown.caption).startswith("torch.compile: GradDiff: no")


def test_of_a_part_what_is_named_is_timed_beside_the_unit(monkeypatch):
    costs = lambda cases, rounds: (
        {name: Cost(1, 1, 1.0, 1.0, 1) for name in cases},
        {},
    )
    monkeypatch.setattr(cost, "measured", costs)
    cases = dict.fromkeys(("unit", "a", "b"))
    assert list(cost.timed(LITTLE, cases, ["c"], ["b"])) == ["unit", "b"]
    assert list(cost.timed(LITTLE, cases, ["c"], [])) == ["unit", "a", "b", "c"]
    with pytest.raises(ValueError, match="--only 'd' is none of what"):
        cost.timed(LITTLE, cases, [], ["d"])


def test_images_beside_pytorch_go_up_and_leave_running_averages_out():
    """θ + η ∇L by hand for gradient ascent; GradDiff goes the other way of it."""
    shape = Shape("resnet8", batch_size=2, image_size=8)
    cases = pieces.of_images(shape)
    method, params, batches = cases[pieces.ASCENT]
    new, _, _ = jax.jit(method.update)(params, method.init(params), batches)
    config = resnet.ResNetConfig("resnet8", pieces.CLASSES)
    stats = resnet.init_variables(config, jax.random.key(1), 8).batch_stats
    images, labels = (batches["forget"][name][0] for name in ("images", "labels"))

    def log_likelihood(theta):
        logits, _ = resnet.apply(config, theta, stats, images, True)
        return jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(2), labels])

    slope = jax.jit(jax.grad(log_likelihood))(params)
    right = jax.tree.map(lambda p, g: p - pieces.RATE * g, params, slope)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5)
    jax.tree.map(close, new, right)
    assert cases["GradDiff"].method.gradient_evaluations == 2


def test_what_is_written_is_what_was_found(tmp_path, monkeypatch, capsys):
    costs = {"gradient ascent": Cost(1, 1, 1.0, 0.5, 100)}
    monkeypatch.setattr(cost, "measured", lambda cases, rounds: (costs, {}))
    monkeypatch.setattr(cost, "cases_of", lambda shape, names: {})
    output = tmp_path / "found.json"
    words = ["--parts", "pieces", "--models", "tiny", "small", "--output", str(output)]
    before = jax.config.values["jax_enable_compilation_cache"]
    try:
        assert benchmark.main(words) == 0
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
    found = json.loads(output.read_text())
    values = costs["gradient ascent"]._asdict()
    assert found["models"] == {
        name: {"pieces": {"gradient ascent": values}} for name in ("tiny", "small")
    }
    assert found["environment"]["cores"] >= 1 and found["shape"]["length"] == 64
    assert output.with_suffix(".svg").read_text().count("<svg") == 1
    assert "500.0 ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "tiny", "nowhere"], "--model 'nowhere' is no folder"),
    ],
)
def test_wrong_words_are_refused_at_once(words, said, capsys):
    assert benchmark.main(words) == 2
    assert said in capsys.readouterr().err


def test_pieces_of_a_loss_agree_with_likelihood():
    """Gradient ascent of the pieces is ascent on the mean NLL."""
    shape = Shape(length=8, batch_size=2, inner_steps=1)
    method, params, batches = cost.cases_of(shape, [pieces.ASCENT])[pieces.ASCENT]
    rows = jax.tree.map(lambda x: x[0], batches["forget"])
    apply_fn = pieces.forward(shape.config())
    gradient = jax.jit(jax.grad(likelihood.cross_entropy, argnums=1), static_argnums=0)
    new, _, _ = jax.jit(method.update)(params, method.init(params), batches)
    step = jax.tree.map(lambda a, b: a - b, new, params)
    expected = jax.tree.map(lambda g: pieces.RATE * g, gradient(apply_fn, params, rows))
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7)
    jax.tree.map(close, step, expected)
