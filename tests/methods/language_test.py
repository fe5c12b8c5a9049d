"""Every registered method takes one step that NumPy has computed beforehand.

The model is a bigram table, the loss of each method is written out in NumPy as a
function of the table, and its gradient there is a central difference.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import losses_toys as toys
import numpy as np
import optax
import pytest
from losses_toys import FORGET, REFUSAL, RETAIN, log_sigmoid, log_softmax

from ofmu_jax import methods
from ofmu_jax.losses.representation import control_vector
from ofmu_jax.training import loop

RATE = 0.1
START = toys.TABLE["table"]
# What reference NLLs are is the business of the caller: not those at the start.
REFERENCE, REFUSAL_REFERENCE = np.array([3.0, 2.0]), np.array([1.0, 4.0])
BATCHES = jax.tree.map(
    lambda x: jnp.asarray(x)[None],
    {
        "forget": FORGET
        | {
            "reference_nll": REFERENCE.astype(np.float32),
            "target_nll": np.array([3.0, 5.0], np.float32),
            "alternative": REFUSAL,
            "alternative_reference_nll": REFUSAL_REFERENCE.astype(np.float32),
        },
        "retain": RETAIN,
    },
)
SETTING = methods.Setting(
    toys.bigram, optax.sgd(RATE), hidden_fn=toys.bigram, budget=12
)


def nll(table):
    return toys.mean_nll(table, RETAIN)


def ascent(table):
    return -toys.mean_nll(table, FORGET)


def npo(table):
    return -2 / 0.1 * log_sigmoid(0.1 * (toys.sums(table, FORGET) - REFERENCE)).mean()


def simnpo(table):
    per_token = toys.sums(table, FORGET) / [3, 2]
    return -2 / 4.5 * log_sigmoid(4.5 * per_token).mean()


def dpo(table):
    forget = toys.sums(table, FORGET) - REFERENCE
    refusal = toys.sums(table, REFUSAL) - REFUSAL_REFERENCE
    return -2 / 0.1 * log_sigmoid(0.1 * (forget - refusal)).mean()


def reweighted(weight):
    """Gradient ascent with weights of the probabilities at the start."""
    w = weight(np.exp(np.concatenate(toys.log_probs(START, FORGET))))
    return lambda table: (w * np.concatenate(toys.log_probs(table, FORGET))).mean()


def against(targets, table, skip=0):
    """Cross-entropy against a target for each (previous, true) pair of tokens."""
    losses = []
    for ids, labels in zip(FORGET["input_ids"], FORGET["labels"], strict=True):
        pairs = zip(ids[:-1], labels[1:], strict=True)
        scored = [(i, y) for i, y in pairs if y != -100]
        for i, y in scored[skip:]:
            losses.append(-targets(i, y) @ log_softmax(table)[i])
    return np.mean(losses)


def undial_target(previous, true):
    z = START[previous].copy()
    z[true] -= 10.0
    return np.exp(log_softmax(z))


def ceu_target(previous, true):
    p = np.exp(log_softmax(START)[previous])
    p[true] = 0
    return p / p.sum()


def margin(table):
    used = np.concatenate(
        [
            i[:-1][y[1:] != -100]
            for i, y in zip(FORGET["input_ids"], FORGET["labels"], strict=True)
        ]
    )
    z = table[used]
    return ((z.max(-1) - z.mean(-1)) ** 2).mean()


def rmu(table, *, steering, everywhere=False):
    control = np.asarray(control_vector(jax.random.key(0), 4, steering))
    rows = []
    for ids, labels in zip(FORGET["input_ids"], FORGET["labels"], strict=True):
        used = ids if everywhere else ids[labels != -100]
        rows.append(((table[used] - control) ** 2).mean())
    return np.mean(rows)


def blurred(forget, gamma, alpha):
    """The direction itself, for it is the gradient of no loss."""
    g_f, g_r = gradient(forget), gradient(nll)
    return gamma * g_f + alpha * (g_r - (g_f * g_r).sum() / (g_f**2).sum() * g_f)


def projected(g, other):
    """g without what of it opposes the other."""
    return g - min((g * other).sum(), 0) / (other**2).sum() * other


def pcgrad(forget, gamma, alpha):
    f, r = gamma * gradient(forget), alpha * gradient(nll)
    return projected(f, r) + projected(r, f)


def gru(forget, gamma, alpha):
    return gamma * projected(gradient(forget), gradient(nll))


def ngdiff(forget, gamma, alpha):
    f, r = gradient(forget), gradient(nll)
    return gamma * f / np.sqrt((f**2).sum()) + alpha * r / np.sqrt((r**2).sum())


def hamu(forget, gamma, alpha):
    """With c = ½ and one tensor, of the length of g_r."""
    f, r = gradient(forget), gradient(nll)
    norm_f, norm_r = np.sqrt((f**2).sum()), np.sqrt((r**2).sum())
    if (f * r).sum() >= norm_f * norm_r / 2:
        return r
    across = r - (f * r).sum() / norm_f**2 * f
    across *= np.sqrt(0.75) * norm_r / np.sqrt((across**2).sum())
    return norm_r / 2 * f / norm_f + across


def sharp(loss, table, radius):
    g = toys.numeric_gradient(loss, table)
    return toys.numeric_gradient(loss, table + radius * g / np.sqrt((g**2).sum()))


def saul(forget, gamma, alpha):
    """Two steps: the forget rows have less than 4 nats, so that λ = μ (4 − L_f)."""
    weight = 1e-3 * (4 + forget(START))
    moved = START - RATE * weight * sharp(forget, START, 1e-3)
    return (START - moved) / RATE + sharp(nll, moved, 1e-3)


def npo_sam(forget, gamma, alpha):
    return gamma * sharp(forget, START, 1e-2) + alpha * gradient(nll)


# What is no gradient of one loss.
RULES = {
    "blur": blurred,
    "pcgrad": pcgrad,
    "gru": gru,
    "ngdiff": ngdiff,
    "hamu": hamu,
    "saul": saul,
    "npo_sam": npo_sam,
}
gradient = functools.partial(toys.numeric_gradient, table=START)
zero = lambda table: 0.0  # KL and RMU's retain loss have no gradient at the start

# name -> (γ, forget loss, α, retain loss, gradient evaluations)
EXPECTED = {
    "gradient_ascent": (1, ascent, 0, zero, 1),
    "grad_diff": (1, ascent, 1, nll, 2),
    "kl_minimization": (1, ascent, 1, zero, 2 + 1 / 3),
    "npo": (1, npo, 1, nll, 2),
    "simnpo": (0.125, simnpo, 1, nll, 2),
    "idk_dpo": (1, dpo, 1, nll, 3),
    "rmu": (1, functools.partial(rmu, steering=2.0), 1, zero, 2 + 1 / 3),
    "undial": (1, functools.partial(against, undial_target), 0, zero, 1 + 1 / 3),
    "wga": (1, reweighted(lambda p: p), 1, nll, 2),
    "satimp": (0.1, reweighted(lambda p: p**5 * (1 - p)), 1, nll, 2),
    "ceu": (1, functools.partial(against, ceu_target, skip=1), 0, zero, 1),
    "pdu": (1, margin, 1, nll, 2),
    "blur": (1, npo, 1, nll, 2),
    "blur_rmu": (
        1,
        functools.partial(rmu, steering=6.5, everywhere=True),
        800,
        zero,
        2 + 1 / 3,
    ),
    "pcgrad": (1, ascent, 1, nll, 2),
    "gru": (1, ascent, 1, nll, 2),
    "ngdiff": (1, ascent, 1, nll, 2),
    "hamu": (1, ascent, 1, nll, 2),
    "saul": (1, ascent, 1, nll, 4),
    "npo_sam": (1, npo, 1, nll, 3),
    "altpo": (1, dpo, 2, nll, 3),
}


def start():
    return {"table": jnp.asarray(START, jnp.float32)}


def one_step(method):
    params, state, metrics = jax.jit(method.update)(
        start(), method.init(start()), BATCHES
    )
    return np.asarray(params["table"], np.float64), state, metrics


def test_every_method_is_expected_here():
    assert set(EXPECTED) | {"ofmu"} == set(methods.METHODS)


@pytest.mark.parametrize("name", EXPECTED)
def test_one_step_by_hand(name):
    gamma, forget, alpha, retain, cost = EXPECTED[name]
    method = methods.build(name, SETTING)
    table, _, metrics = one_step(method)
    if name in RULES:
        direction = RULES[name](forget, gamma, alpha)
    else:
        direction = gamma * gradient(forget) + alpha * gradient(retain)
    np.testing.assert_allclose((START - table) / RATE, direction, rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(metrics["forget_loss"], forget(START), rtol=1e-4)
    assert method.gradient_evaluations == pytest.approx(cost)
    assert method.batches_per_update == 1


@pytest.mark.parametrize("name", ["npo", "undial", "rmu", "blur"])
def test_kl_retain_pulls_back_once_the_model_has_moved(name):
    """Two steps: the second sees the KL to the start, and the frozen model stays."""
    spec = methods.METHODS[name]
    config = dataclasses.replace(spec.config.loss, retain="kl", alpha=2.0, gamma=0.0)
    method = methods.build(name, SETTING, config)
    assert method.gradient_evaluations == pytest.approx(
        2 + 1 / 3 + (name == "undial") / 3
    )
    moved = START + np.random.default_rng(1).normal(size=START.shape)
    state = method.init(start())
    params = {"table": jnp.asarray(moved, jnp.float32)}
    params, state, metrics = jax.jit(method.update)(params, state, BATCHES)

    def kl(table):
        used = np.array([1, 0, 1, 3, 3])  # the tokens before the scored ones
        log_p0, log_p = log_softmax(START)[used], log_softmax(table)[used]
        return (np.exp(log_p0) * (log_p0 - log_p)).sum(-1).mean()

    np.testing.assert_allclose(metrics["retain_loss"], kl(moved), rtol=1e-4)
    if name != "blur":  # which projects
        np.testing.assert_allclose(
            (moved - params["table"]) / RATE,
            2 * toys.numeric_gradient(kl, moved),
            rtol=1e-3,
            atol=3e-5,
        )


def test_rmu_retain_pulls_hidden_states_back():
    config = dataclasses.replace(
        methods.METHODS["rmu"].config.loss, gamma=0.0, alpha=3.0
    )
    method = methods.build("rmu", SETTING, config)
    state = method.init(start())
    params = jax.tree.map(lambda x: x + 1.0, start())
    moved, _, metrics = jax.jit(method.update)(params, state, BATCHES)
    np.testing.assert_allclose(metrics["retain_loss"], 1.0, rtol=1e-5)
    # Rows of 2 and 3 labelled tokens, D = 4: token 0 once among 2, token 2 once in
    # either, token 3 twice among 3; the derivative of (x + 1)² at 0 is 2.
    weight = np.array([1 / 2, 0, 1 / 2 + 1 / 3, 2 / 3]) / 2 / 4 * 2
    step = (np.asarray(params["table"]) - moved["table"]) / RATE
    np.testing.assert_allclose(
        step, np.tile(3 * weight[:, None], (1, 4)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_no_parameters_are_constants_of_the_program(name):
    method = methods.build(name, SETTING)
    state = method.init(start())
    jaxpr = jax.make_jaxpr(method.update)(start(), state, BATCHES)
    assert sum(np.size(c) for c in jaxpr.consts) == 0


@pytest.mark.parametrize("name", EXPECTED)
def test_runs_in_the_loop_with_donation(name):
    method = methods.build(name, SETTING)
    params = start()
    result = loop.run(method, params, [BATCHES] * 3, num_updates=3)
    assert result.finite
    assert not np.allclose(result.params["table"], START)
    np.testing.assert_allclose(params["table"], START, rtol=1e-6)


@pytest.mark.parametrize("name", EXPECTED)
def test_search_space_names_fields_and_holds_the_default(name):
    spec = methods.METHODS[name]
    for field, span in spec.search.items():
        config = spec.config
        if field.startswith("loss."):
            config, field = config.loss, field.removeprefix("loss.")
        assert span.low <= getattr(config, field) <= span.high, field
        tuned = dataclasses.replace(config, **{field: span.at(0.3)})
        methods.build(name, SETTING, tuned)


def after_one_update(name, batches, **settings):
    """The table, with the method's own optimizer, AdamW."""
    config = dataclasses.replace(methods.METHODS[name].config, **settings)
    method = methods.build(name, SETTING._replace(optimizer=None), config)
    params, _, _ = jax.jit(method.update)(start(), method.init(start()), batches)
    return np.asarray(params["table"], np.float64)


# All have their optimizer from one place: a sum, a frozen model, a multiplier.
@pytest.mark.parametrize("name", ["npo", "rmu", "saul"])
def test_the_first_step_is_a_quarter_of_four_steps_of_warm_up(name):
    """In float32, where a step of the published 1e-5 would drown."""
    after = lambda steps: after_one_update(
        name, BATCHES, learning_rate=0.1, warmup_steps=steps
    )
    whole = after(0) - START
    assert np.abs(whole).max() > 0.05
    np.testing.assert_allclose(after(4) - START, whole / 4, rtol=1e-4, atol=1e-6)


def test_ofmus_outer_steps_warm_up():
    """AdamW's first step has the rate in every entry, whatever the gradient is."""
    rate, settings = 0.1, {"inner_learning_rate": 1e-6, "outer_steps": 1, "rho": 0.0}
    batches = jax.tree.map(lambda x: jnp.concatenate([x, x]), BATCHES)
    whole, part = (
        after_one_update(
            "ofmu", batches, outer_learning_rate=rate, outer_warmup_steps=n, **settings
        )
        for n in (0, 4)
    )
    moved = np.abs(whole - START) > rate / 2  # what retain rows have a gradient of
    assert moved.any()
    np.testing.assert_allclose(np.abs(whole - part)[moved], 0.75 * rate, rtol=1e-3)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match=r"is unknown \(did you mean grad"):
        methods.build("gradascent", SETTING)
    with pytest.raises(ValueError, match="decoder layer 7"):
        methods.build("rmu", SETTING._replace(hidden_fn=None))
    with pytest.raises(ValueError, match=r"Setting\.budget"):
        methods.build("pdu", SETTING._replace(budget=None))
    with pytest.raises(ValueError, match="needs a NpoConfig, but got a GradDiff"):
        methods.build("npo", SETTING, methods.METHODS["grad_diff"].config)
    with pytest.raises(ValueError, match="retain='hiden' is unknown"):
        config = dataclasses.replace(methods.METHODS["npo"].config.loss, retain="hiden")
        methods.build("npo", SETTING, config)
    with pytest.raises(ValueError, match="empty"):
        methods.Range(2.0, 1.0)
