"""Attacks on classifiers, against numbers on paper."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats
from vision_toys import CONFIG, images, variables

from ofmu_jax.attacks.vision import relearning, u_lira
from ofmu_jax.attacks.vision.base import Attacked, Budget, Images
from ofmu_jax.data.vision.images import Labelled

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
    logits = jax.jit(relearning.resnet.predict, static_argnums=0)
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


def test_single_shadows_and_chance():
    one = u_lira.Shadows(np.array([[1.0, 5.0]]), np.array([[3.0, 5.0]]))
    found = u_lira.taken_for_unlearned(np.array([1.9, 4.0]), one)
    np.testing.assert_array_equal(found, [1, 0.5])
    # Alike in distribution: right on half of the models.
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape)
    shadows = u_lira.Shadows(draw(8, 4000), draw(8, 4000))
    calls = [u_lira.taken_for_unlearned(draw(4000), shadows) for _ in range(2)]
    assert u_lira.accuracy(*calls) == pytest.approx(0.5, abs=0.03)
    # d' = 2 apart: Φ(1) of both are right.
    shadows = u_lira.Shadows(draw(50, 4000) + 2, draw(50, 4000))
    calls = [
        u_lira.taken_for_unlearned(draw(4000) + shift, shadows) for shift in (2, 0)
    ]
    assert u_lira.accuracy(*calls) == pytest.approx(stats.norm.cdf(1), abs=0.02)
