"""Vision methods: each rule by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from vision_toys import (
    BATCH,
    CONFIG,
    CONFIGS,
    FORGET,
    ONE_SHOT,
    RETAIN,
    RNG,
    SETTING,
    stacked,
    variables,
)

from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.losses import vision
from ofmu_jax.methods.vision import classifier, ofmu, registry
from ofmu_jax.methods.vision.boundary import nearest_class, with_one_more_class
from ofmu_jax.methods.vision.influence import influence, influence_cost, woodfisher
from ofmu_jax.methods.vision.saliency import top_share, total_gradient
from ofmu_jax.methods.vision.scrub import scrub
from ofmu_jax.models import resnet

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
        assert (plan.method is None) == (name in ONE_SHOT)
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
