"""Attacks on classifiers, against numbers on paper."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats
from vision_toys import CONFIG, images, variables

from ofmu_jax.attacks import recovery
from ofmu_jax.attacks.base import Attacked
from ofmu_jax.attacks.vision import relearning, u_lira
from ofmu_jax.attacks.vision.base import Images, network
from ofmu_jax.attacks.vision.budget import Budget
from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.methods.vision.boundary import with_one_more_class
from ofmu_jax.models import resnet

# --- relearning -----------------------------------------------------------------------


def numbered(labels) -> Labelled:
    """Images that tell their number by a pixel."""
    pixels = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Labelled(pixels, np.array(labels, np.int32))


def test_what_is_taught_is_not_scored():
    forget, retain = numbered([2] * 9), numbered([0] * 5 + [1] * 8)
    budget = Budget(relearn_images=(1, 3, 6))
    taught, scored = relearning.lessons(Images(forget, retain), budget)
    # Of 9, 5 and 8 images at most 4, 2 and 4.
    counts = [np.bincount(part.labels).tolist() for part in taught]
    assert counts == [[1, 1, 1], [2, 3, 3], [2, 4, 4]]
    assert len(scored) == 5
    seen = {int(x) for x in taught[-1].take(taught[-1].labels == 2).images.ravel()}
    assert seen.isdisjoint({int(x) for x in scored.images.ravel()})
    larger, smaller = (
        {(int(x), int(y)) for x, y in zip(t.images.ravel(), t.labels, strict=True)}
        for t in (taught[1], taught[0])
    )
    assert smaller < larger  # one curve: the same images and more


def test_classes_that_are_kept_in_part_are_taught_by_forget_images():
    forget, retain = numbered([0, 0, 1, 1]), numbered([0] * 6 + [1] * 6)
    retain = Labelled(retain.images + np.uint8(100), retain.labels)
    (taught,), scored = relearning.lessons(
        Images(forget, retain), Budget(relearn_images=(5,))
    )
    assert taught.images.max() < 100
    assert sorted(taught.labels) == [0, 1] and sorted(scored.labels) == [0, 1]


def coloured(labels) -> Labelled:
    """Images whose brightness is their label."""
    pixels = np.zeros((len(labels), 4, 4, 1), np.uint8)
    pixels += (np.array(labels) * 100).astype(np.uint8).reshape(-1, 1, 1, 1)
    return Labelled(pixels, np.array(labels, np.int32))


def test_a_class_comes_back_and_the_model_stays_as_it_was():
    start = variables()
    before = jax.tree.map(np.asarray, start)
    budget = Budget(relearn_images=(1, 2), relearn_updates=40, relearn_rate=0.05)
    budget = dataclasses.replace(budget, relearn_batch=6)
    sets = Images(coloured([2] * 6), coloured([0, 1] * 4), batch_size=4)
    told = []
    found = relearning.relearn(Attacked(CONFIG, start), sets, budget, told.append)
    assert found.at == (1.0, 2.0) and found.scores.shape == (2, 4)
    assert found.before is not None
    logits = jax.jit(resnet.predict, static_argnums=0)
    right = np.argmax(logits(CONFIG, start, sets.forget.images[:4]), 1) == 2
    np.testing.assert_array_equal(found.before, right)
    np.testing.assert_array_equal(found.scores, 1)  # one image tells all: all are alike
    assert told[-1] == 1 and told == sorted(told)
    jax.tree.map(np.testing.assert_array_equal, start, before)


def test_a_model_that_breaks_tells_nothing():
    budget = Budget(relearn_images=(2,), relearn_updates=3, relearn_rate=1e30)
    sets = Images(images(6), images(6))
    attacked = Attacked(CONFIG, variables())
    found = relearning.relearn(attacked, sets, budget, lambda share: None)
    np.testing.assert_array_equal(found.scores, 0)
    assert found.said == "1 trained models were not finite"


# --- U-LiRA ---------------------------------------------------------------------------


def test_confidences_are_log_odds():
    p = np.array([[0.2, 0.8], [1.0, 0.0]])
    found = u_lira.logit_confidence(p, np.array([1, 0]))
    assert found[0] == pytest.approx(np.log(4))
    assert found[1] == pytest.approx(-np.log(1e-30))
    assert p[0, 1] == 0.8  # not written into


def test_the_likelier_kind_decides():
    # Variances (2, 2) and (8, 8): pooled 2 and 8, means 1 and 4 of each image.
    shadows = u_lira.Shadows(
        np.array([[0.0, 0.0], [2.0, 2.0]]), np.array([[2.0, 2.0], [6.0, 6.0]])
    )
    observed = np.array([2.0, 3.0])
    ours, theirs = stats.norm(1, 2**0.5), stats.norm(4, 8**0.5)
    expected = ours.pdf(observed) > theirs.pdf(observed)
    np.testing.assert_array_equal(expected, [True, False])
    found = u_lira.taken_for_unlearned(observed, shadows)
    np.testing.assert_array_equal(found, expected)


def test_the_variance_is_pooled_over_images():
    # Alone the second image would have variance 0 in both kinds.
    shadows = u_lira.Shadows(
        np.array([[-1.0, 0.0], [1.0, 0.0]]), np.array([[2.0, 4.0], [4.0, 4.0]])
    )
    assert u_lira._pooled_deviation(shadows.unlearned) == pytest.approx(1.0)
    found = u_lira.taken_for_unlearned(np.array([1.4, 2.0]), shadows)
    np.testing.assert_array_equal(found, [1, 0.5])


def test_of_single_shadows_the_nearer_decides():
    one = u_lira.Shadows(np.array([[1.0, 5.0]]), np.array([[3.0, 5.0]]))
    found = u_lira.taken_for_unlearned(np.array([1.9, 4.0]), one)
    np.testing.assert_array_equal(found, [1, 0.5])


def test_models_are_told_apart_as_far_as_they_differ():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape)

    def value(apart):
        shadows = u_lira.Shadows(draw(50, 4000) + apart, draw(50, 4000))
        found = u_lira.told_apart(draw(4000) + apart, draw(4000), shadows)
        return recovery.value(found, 0)

    assert value(0) == pytest.approx(0.5, abs=0.03)
    assert value(2) == pytest.approx(stats.norm.cdf(1), abs=0.02)  # d' = 2


def test_guesses_on_both_kinds_count_alike():
    shadows = u_lira.Shadows(np.full((1, 4), 2.0), np.zeros((1, 4)))
    unlearned, retrained = np.array([2.0, 2, 2, 0]), np.array([0.0, 2, 0, 2])
    found = u_lira.told_apart(unlearned, retrained, shadows)
    # Three of four unlearned and two of four retrained ones are recognised.
    assert recovery.value(found, 0) == (3 / 4 + 2 / 4) / 2
    itself = u_lira.told_apart(retrained, retrained, shadows)
    assert recovery.value(itself, 0) == recovery.value(u_lira.alike(4, 1), 0) == 0.5


def test_chance_adds_no_spread_to_a_difference():
    """All guesses right: 1 − ½ in every resample, as those of the retrained model
    against itself would not be."""
    shadows = u_lira.Shadows(np.full((1, 6), 2.0), np.zeros((1, 6)))
    retrained = np.array([0.0, 0, 0, 2, 2, 2])
    right = u_lira.told_apart(np.full(6, 2.0), np.zeros(6), shadows)
    chance = recovery.recovery([recovery.Trio(right, u_lira.alike(6, 1))])
    itself = u_lira.told_apart(retrained, retrained, shadows)
    spread = recovery.recovery([recovery.Trio(right, itself)])
    assert chance.interval == (0.5, 0.5) and spread.interval != (0.5, 0.5)


def test_u_lira_compares_with_the_retrained_model_beside():
    start, sets = variables(), Images(images(6), images(6), batch_size=4)
    raised = start.params["head"]["bias"].at[0].add(9.0)
    other = {**start.params, "head": {**start.params["head"], "bias": raised}}
    model = Attacked(CONFIG, start._replace(params=other), reference=start)
    observed = [
        u_lira.confidence(model._replace(params=p), sets) for p in (model.params, start)
    ]
    shadows = u_lira.Shadows(*(x[None] for x in observed))
    attacked = model._replace(shadows=shadows)
    found = u_lira.u_lira(attacked, sets, Budget(), lambda share: None)
    assert recovery.value(found, 0) == 1  # its shadows are the models themselves
    assert u_lira.U_LIRA.lacks(sets, model) == "it needs a shadows model"
    assert u_lira.U_LIRA.lacks(sets, attacked) is None


def test_a_head_with_one_more_class_is_attacked_as_it_is():
    grown = with_one_more_class(variables(), jax.random.key(0))
    assert network(Attacked(CONFIG, grown)).num_classes == 4
    sets = Images(images(6), images(6))
    assert len(u_lira.confidence(Attacked(CONFIG, grown), sets)) == 6
