"""Vision methods: each rule by hand, and running averages as accepted state."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.losses import vision
from ofmu_jax.methods.vision import classifier, descent, ofmu, registry
from ofmu_jax.methods.vision.boundary import nearest_class, with_one_more_class
from ofmu_jax.methods.vision.influence import influence, influence_cost, woodfisher
from ofmu_jax.methods.vision.saliency import top_share, total_gradient
from ofmu_jax.methods.vision.scrub import scrub
from ofmu_jax.methods.vision.setting import Setting
from ofmu_jax.models import resnet

RNG = np.random.default_rng(0)
CONFIG = resnet.ResNetConfig("resnet8", 3, mean=(0.5,), std=(0.25,))
SIZE, BATCH = 4, 4
CONFIGS = {name: spec.config for name, spec in registry.METHODS.items()}


def images(count: int) -> Labelled:
    pixels = RNG.integers(0, 256, (count, SIZE, SIZE, 1)).astype(np.uint8)
    return Labelled(pixels, (np.arange(count) % 3).astype(np.int32))


FORGET, RETAIN = images(6), images(12)
SETTING = Setting(
    CONFIG,
    classifier.Prepare(num_classes=3, padding=0, flip=False),
    FORGET,
    RETAIN,
    BATCH,
    budget=40.0,
    forget_target=1.0,
)


@functools.cache
def variables() -> resnet.Variables:
    init = jax.jit(resnet.init_variables, static_argnums=(0, 2))
    return init(CONFIG, jax.random.key(0), SIZE)


def stacked(part: Labelled, forget: bool, stack: int = 1, step: int = 0):
    rows = np.arange(stack * BATCH).reshape(stack, BATCH) % len(part)
    return {
        "images": part.images[rows],
        "labels": part.labels[rows],
        "forget": np.full((stack, BATCH), forget),
        "draw": np.array([[7, step + i] for i in range(stack)], np.uint32),
    }


# --- augmentation and random labels ---------------------------------------------------


def test_preparing_draws_labels_for_forget_images_only_and_afresh_each_step():
    prepare = classifier.Prepare(num_classes=1000, padding=1, flip=True)
    batch = stacked(FORGET, True, stack=2)
    batch["forget"][:, 0] = False
    found = prepare({"union": batch})["union"]
    drawn = np.asarray(found["random_labels"])
    np.testing.assert_array_equal(drawn[:, 0], batch["labels"][:, 0])
    assert (drawn[:, 1:] != batch["labels"][:, 1:]).mean() > 0.5
    assert (drawn[0, 1:] != drawn[1, 1:]).any()
    assert found["images"].dtype == np.uint8
    again = prepare({"union": batch})["union"]
    jax.tree.map(np.testing.assert_array_equal, found, again)
    # A step's draw does not depend on what it is stacked with.
    alone = prepare({"union": jax.tree.map(lambda x: x[1:], batch)})["union"]
    np.testing.assert_array_equal(alone["images"][0], found["images"][1])


# --- running averages -----------------------------------------------------------------


def test_a_descent_moves_parameters_and_averages_as_a_training_step():
    plan = descent.train(SETTING, optax.sgd(0.1))
    assert plan.method is not None
    start, batch = variables(), stacked(RETAIN, False)
    state = plan.method.init(start)
    found, _, metrics = jax.jit(plan.method.update)(start, state, {"retain": batch})

    @jax.jit
    def by_hand(start):
        def loss(params):
            logits, stats = resnet.apply(
                CONFIG, params, start.batch_stats, batch["images"][0], True
            )
            nll = vision.example_nll(logits, batch["labels"][0])
            return nll.mean(), stats

        (value, stats), slope = jax.value_and_grad(loss, has_aux=True)(start.params)
        return value, stats, jax.tree.map(lambda p, g: p - 0.1 * g, start.params, slope)

    value, stats, params = by_hand(start)
    np.testing.assert_allclose(metrics["retain_loss"], value, rtol=1e-5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, found.batch_stats, stats)
    jax.tree.map(close, found.params, params)


def test_ofmu_moves_the_averages_once_it_has_accepted_an_update():
    config = dataclasses.replace(
        CONFIGS["ofmu"], inner_steps=1, outer_steps=2, beta=0.1, rho=1e-2
    )
    plan = registry.build("ofmu", SETTING, config)
    assert plan.method is not None and plan.stream == "paired"
    assert plan.method.batches_per_update == 3
    start = variables()
    batches = {
        "forget": stacked(FORGET, True, 3),
        "retain": stacked(RETAIN, False, 3),
    }
    state = plan.method.init(start)
    found, state, metrics = jax.jit(plan.method.update)(start, state, batches)
    assert {"phi", "forget_loss", "retain_loss", "rho"} <= metrics.keys()
    # Through the two outer batches, at the parameters that the update ended with.
    stats = start.batch_stats
    forward = jax.jit(functools.partial(resnet.apply, CONFIG), static_argnums=3)
    for image in batches["retain"]["images"][1:]:
        _, stats = forward(found.params, stats, image, True)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, found.batch_stats, stats)
    # The frozen direction, ∇Φ (3 each) of the inner step and of the secant, two retain
    # gradients, two passes for the averages.
    assert plan.method.gradient_evaluations == pytest.approx(1 + 6 + 2 + 2 / 3)


# --- optimizers -----------------------------------------------------------------------


def test_sgd_is_pytorchs():
    tx = classifier.sgd(0.1, 0.5)
    theta = jnp.array([2.0])
    state = tx.init(theta)
    for gradient, momentum in ((1.0, 2.0), (3.0, 0.9 * 2 + 3 + 0.5 * 1.8)):
        updates, state = tx.update(jnp.array([gradient]), state, theta)
        np.testing.assert_allclose(updates, [-0.1 * momentum], rtol=1e-6)
        theta = theta + updates


def test_masked_weights_never_move_and_free_ones_as_without_a_mask():
    plain = classifier.sgd(0.1, 0.5)
    masked = classifier.only_where(jnp.array([1.0, 0.0]), plain)
    theta, state = jnp.array([1.0, 1.0]), masked.init(jnp.ones(2))
    free, free_state = jnp.array([1.0]), plain.init(jnp.ones(1))
    for _ in range(3):
        updates, state = masked.update(jnp.array([1.0, 1.0]), state, theta)
        theta = theta + updates
        updates, free_state = plain.update(jnp.array([1.0]), free_state, free)
        free = free + updates
    np.testing.assert_allclose(theta, [float(free[0]), 1.0], rtol=1e-6)


def test_l1_weight_follows_its_schedule():
    tx = classifier.add_l1(lambda k: 1.0 - k)
    theta, state = jnp.array([-2.0]), tx.init(jnp.zeros(1))
    first, state = tx.update(jnp.array([5.0]), state, theta)
    second, _ = tx.update(jnp.array([5.0]), state, theta)
    np.testing.assert_array_equal([first[0], second[0]], [4, 5])
    with pytest.raises(ValueError, match="needs params"):
        tx.update(jnp.array([5.0]), state)


# --- SalUn ----------------------------------------------------------------------------


def test_the_mask_takes_the_largest_magnitudes_of_the_whole_tree():
    tree = {"a": jnp.array([0.1, -5.0, 3.0]), "b": jnp.array([4.0, -0.2])}
    mask = top_share(tree, 0.4)
    np.testing.assert_array_equal(mask["a"], [0, 1, 0])
    np.testing.assert_array_equal(mask["b"], [1, 0])
    assert sum(float(m.sum()) for m in jax.tree.leaves(top_share(tree, 1.0))) == 5
    with pytest.raises(ValueError, match=r"density is 1.5; give a share"):
        top_share(tree, 1.5)


def test_the_gradient_of_a_set_is_the_sum_over_its_images():
    found = total_gradient(CONFIG, variables(), FORGET, BATCH)

    @jax.jit
    def whole(params):
        logits, _ = resnet.apply(
            CONFIG, params, variables().batch_stats, jnp.asarray(FORGET.images), False
        )
        return jnp.sum(vision.example_nll(logits, jnp.asarray(FORGET.labels)))

    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    jax.tree.map(close, found, jax.grad(whole)(variables().params))


def test_many_classes_are_relabelled_in_one_shuffle():
    many = dataclasses.replace(CONFIG, num_classes=100)

    def stream(config, **order):
        setting = SETTING._replace(config=config)
        method = dataclasses.replace(CONFIGS["random_label"], **order)
        return registry.build("random_label", setting, method).stream

    assert (stream(CONFIG), stream(many)) == ("sequential", "mixed")
    assert stream(many, order="sequential") == "sequential"


def test_salun_moves_half_of_the_weights_and_counts_its_mask():
    plan = registry.build("salun", SETTING, CONFIGS["salun"])
    assert plan.method is not None
    assert plan.setup_cost == 2  # 6 images in batches of 4
    assert plan.num_updates(40.0) == 38
    state = plan.method.init(variables())
    batch = {"union": stacked(FORGET, True)}
    found, _, _ = jax.jit(plan.method.update)(variables(), state, batch)
    moved = jax.tree.map(lambda a, b: a != b, found.params, variables().params)
    inside = jax.tree.map(lambda m, k: bool((~m | (k == 1)).all()), moved, state.frozen)
    assert all(jax.tree.leaves(inside))
    share = sum(int(m.sum()) for m in jax.tree.leaves(state.frozen)) / sum(
        m.size for m in jax.tree.leaves(state.frozen)
    )
    assert share == pytest.approx(0.5, abs=1e-3)


# --- influence ------------------------------------------------------------------------


def test_woodfisher_is_the_published_recursion():
    gradients = RNG.normal(size=(5, 3))
    v = RNG.normal(size=3)
    k, o = v.copy(), gradients[0].copy()
    for g in gradients[1:]:
        along = o @ g
        if 5 + along > 0:
            k, o = k - (k @ g) / (5 + along) * o, o - along / (5 + along) * o
    found = woodfisher(jnp.asarray(v), jnp.asarray(gradients), 5)
    np.testing.assert_allclose(found, k, rtol=1e-4, atol=1e-6)


def test_the_recursion_takes_the_gradients_of_single_images():
    from jax.flatten_util import ravel_pytree

    from ofmu_jax.methods.vision import influence as vision_influence

    start, few = variables(), RETAIN.take(np.arange(3))
    logits = classifier.logits_fn(
        CONFIG, classifier.Context(start.batch_stats), "running"
    )
    gradient = jax.jit(jax.grad(functools.partial(vision.cross_entropy, logits)))
    rows = [few.take(np.array([k])) for k in range(3)]
    flat = [
        ravel_pytree(gradient(start.params, {"images": r.images, "labels": r.labels}))
        for r in rows
    ]
    gradients = jnp.stack([g for g, _ in flat])
    v = jnp.asarray(RNG.normal(size=gradients.shape[1]).astype(np.float32))
    found = vision_influence._recursion(CONFIG, start, few, v)
    np.testing.assert_allclose(found, woodfisher(v, gradients, 3), rtol=1e-3, atol=1e-4)


def test_influence_with_unrelated_samples_is_the_gradient_difference(monkeypatch):
    from ofmu_jax.methods.vision import influence as vision_influence

    # With the recursion left out, H⁻¹ = 1: θ + α (Σ g_f − (n_f / n_r) Σ g_r) / n.
    monkeypatch.setattr(vision_influence, "_recursion", lambda c, w, d, v: v)
    config = vision_influence.Influence(alpha=2.0, samples=4)
    found = influence(config, SETTING, variables())
    g_f = total_gradient(CONFIG, variables(), FORGET, BATCH)
    g_r = total_gradient(CONFIG, variables(), RETAIN, BATCH)
    expected = jax.tree.map(
        lambda p, f, r: p + 2 * (f - 0.5 * r) / 18, variables().params, g_f, g_r
    )
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, found.params, expected)
    # 2 + 3 batches, 8 single images in quarters of a batch.
    assert influence_cost(vision_influence.Influence(samples=8), SETTING) == 2 + 3 + 2


# --- boundary -------------------------------------------------------------------------


def test_the_nearest_class_lies_beyond_an_adversarial_step():
    # Logits of a pixel x in 0 … 255: class 0 below 100, else class 1.
    logits = lambda x: jnp.stack([0 * x.ravel(), x.ravel() - 100.0], 1)
    batch = {
        "images": jnp.array([90, 40, 250], jnp.uint8).reshape(3, 1, 1, 1),
        "labels": jnp.array([0, 0, 1]),
    }
    # ε = 0.1 is 25.5 pixels: 90 → 115.5 crosses, 40 does not, 250 → 224.5 neither.
    np.testing.assert_array_equal(nearest_class(logits, batch, 0.1), [1, 0, 1])


def test_expanding_adds_a_class_and_leaves_the_others_as_they_are():
    grown = with_one_more_class(variables(), jax.random.key(3))
    plan = registry.build("boundary_expand", SETTING, CONFIGS["boundary_expand"])
    assert plan.config is not None and plan.config.num_classes == 4
    predict = jax.jit(resnet.predict, static_argnums=0)
    before = predict(CONFIG, variables(), FORGET.images)
    after = predict(plan.config, grown, FORGET.images)
    assert after.shape == (6, 4)
    np.testing.assert_allclose(after[:, :3], before, rtol=1e-5, atol=1e-6)
    assert jnp.abs(grown.params["head"]["kernel"][:, 3]).max() <= 64**-0.5


# --- SCRUB ----------------------------------------------------------------------------


def test_scrub_ascends_then_descends_and_stops_ascending():
    method = scrub(
        lambda p, b: 3.0 * p["x"],
        lambda p, b: 0.5 * p["x"] ** 2,
        optax.sgd(0.1),
        max_updates=1,
        min_steps=2,
    )
    batches = {"forget": {"z": jnp.zeros((2, 1))}, "retain": {"z": jnp.zeros((2, 1))}}
    params = {"x": jnp.array(1.0)}
    state = method.init(params)
    update = jax.jit(method.update)
    params, state, metrics = update(params, state, batches)
    np.testing.assert_allclose(params["x"], (1.0 + 0.3) * 0.9**2, rtol=1e-6)
    assert metrics["forget_loss"] == -3.0
    before = float(params["x"])
    params, state, _ = update(params, state, batches)
    np.testing.assert_allclose(params["x"], before * 0.9**2, rtol=1e-6)
    assert method.gradient_evaluations == pytest.approx(3 * 4 / 3)


# --- the registry ---------------------------------------------------------------------


def test_every_config_has_a_method_and_a_cost():
    for name in CONFIGS:
        plan = registry.build(name, SETTING, CONFIGS[name])
        assert (plan.method is None) == (name == "influence")
        if plan.method is not None:
            assert plan.num_updates(SETTING.budget) >= 1
    costs = {
        name: registry.build(name, SETTING, CONFIGS[name]).method
        for name in ("fine_tune", "boundary_shrink", "scrub")
    }
    found = {k: m.gradient_evaluations for k, m in costs.items() if m is not None}
    expected = {"fine_tune": 1, "boundary_shrink": 2 + 1 / 3, "scrub": 8 / 3 + 1 / 3}
    assert found == pytest.approx(expected)


def test_wrong_names_and_missing_targets_are_refused():
    with pytest.raises(ValueError, match="'npo' is unknown; choose one of ofmu"):
        registry.build("npo", SETTING, None)
    plan = SETTING._replace(forget_target=None)
    with pytest.raises(ValueError, match="needs a target"):
        registry.build("ofmu", plan, CONFIGS["ofmu"])
    with pytest.raises(ValueError, match="choose batch or running"):
        classifier.logits_fn(CONFIG, classifier.Context(None), "layer")  # type: ignore


def test_the_paper_setting_is_the_paper_s():
    paper = ofmu.paper_setting(CONFIGS["ofmu"])
    assert (paper.forget_loss, paper.base, paper.outer_steps) == (
        "cross_entropy",
        "outer",
        1,
    )
    # 5 inner steps of 6 gradients, an exact penalty of 18, one pass for the averages.
    plan = registry.build("ofmu", SETTING, paper)
    assert plan.method is not None
    assert plan.method.gradient_evaluations == pytest.approx(30 + 18 + 1 / 3)


@pytest.mark.parametrize("name", ["random_label", "boundary_shrink", "scrub"])
def test_a_step_moves_the_network_and_leaves_what_is_frozen(name):
    plan = registry.build(name, SETTING, CONFIGS[name])
    assert plan.method is not None
    forget, retain = stacked(FORGET, True), stacked(RETAIN, False)
    batches = {
        "forget": {"forget": forget},
        "sequential": {"union": forget},
        "paired": {"forget": forget, "retain": retain},
    }[plan.stream]
    state = plan.method.init(variables())
    frozen = jax.tree.map(np.asarray, state.frozen)
    found, state, metrics = jax.jit(plan.method.update)(variables(), state, batches)
    jax.tree.map(np.testing.assert_array_equal, state.frozen, frozen)
    assert all(np.isfinite(value) for value in metrics.values())
    for before, after in zip(variables(), found, strict=True):
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        assert any(not np.array_equal(a, b) for a, b in pairs)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))


def test_ofmu_bounds_each_image_only_where_whole_classes_are_forgotten():
    loss_of = lambda setting, **options: ofmu.forget_loss_of(
        ofmu.Ofmu(**options), setting
    )
    kept = np.array([1, 2] * 6, np.int32)
    forgotten = Labelled(FORGET.images, np.zeros(6, np.int32))
    whole = SETTING._replace(forget=forgotten, retain=Labelled(RETAIN.images, kept))
    assert loss_of(whole) == "target_cross_entropy"
    assert loss_of(SETTING) == "mean_target_cross_entropy"  # classes in both
    assert loss_of(whole, forget_loss="cross_entropy") == "cross_entropy"
