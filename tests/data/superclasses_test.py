"""One class of a superclass forgotten, the others of it watched; on paper."""

import dataclasses

import numpy as np
import pytest

from experiments.config.vision import Cifar, resolved
from experiments.domains.vision.data import validation_request
from experiments.domains.vision.task import VisionTask
from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.vision.images import CLASSES, load_images
from ofmu_jax.data.vision.split import make_split
from ofmu_jax.data.vision.superclasses import SUPERCLASSES, siblings
from ofmu_jax.evals.vision.metrics import Predictions, evaluate_vision

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()


@pytest.fixture(scope="module")
def digits():
    return load_images("digits", None, max_train=400, max_test=100)


def test_superclasses_divide_the_classes():
    for name, groups in SUPERCLASSES.items():
        members = [member for group in groups.values() for member in group]
        assert len(members) == len(set(members)) == CLASSES[name], name
        assert min(map(len, groups.values())) > 2  # tuning forgets a second one
    assert {len(group) for group in SUPERCLASSES["cifar100"].values()} == {5}
    both = SUPERCLASSES["cifar10"]
    assert sorted([*both["animals"], *both["vehicles"]]) == CIFAR10


def test_the_real_class_names(data_dir):
    folder = data_dir / "tensorflow_datasets" / "cifar10"
    if not folder.is_dir():
        pytest.skip(f"CIFAR-10 is not at {folder}")
    (found,) = folder.rglob("label.labels.txt")
    assert found.read_text().split() == CIFAR10


def test_a_subclass_is_its_class_with_neighbours(digits):
    """The digit 8 is of the loops: 0, 6, 8, 9."""
    split, plain = (
        make_split(digits, spec, seed=3) for spec in ("subclass:8", "class:8")
    )
    for name in ("forget", "retain", "validation", "test"):
        np.testing.assert_array_equal(getattr(split, name), getattr(plain, name))
    assert (split.adjacent, plain.adjacent) == ((9, 0, 6), ())
    assert "adjacent are the test images of its superclass (9, 0, 6)" in split.note
    assert "class 8 is left out" in split.note
    run = resolved(Cifar(forget="subclass:8"))
    sets = VisionTask(run, digits, split).sets
    assert set(sets["adjacent"].labels) == {0, 6, 9}
    expected = np.isin(digits.test.labels, [0, 6, 9]).sum()
    assert len(sets["adjacent"]) == expected
    assert "adjacent" not in VisionTask(run, digits, plain).sets


def test_tuning_forgets_another_one_of_the_superclass(digits):
    split = make_split(digits, "subclass:8")
    part, other = validation_request(digits, split)
    assert other.spec == "subclass:9"
    assert set(part.train.labels[other.forget]) == {9}
    assert other.adjacent == (0, 6)  # not 8, of which nothing is left
    assert 8 not in part.train.labels


def test_what_cannot_be_watched_is_refused(digits):
    with pytest.raises(
        DataError, match="names no class of digits; its classes are 0, 1"
    ):
        make_split(digits, "subclass:cat")
    other = dataclasses.replace(digits, name="made up")
    with pytest.raises(DataError, match="no superclasses of made up are known; use cl"):
        make_split(other, "subclass:8")
    assert siblings(other, 8) == ()
    few = dataclasses.replace(
        digits, test=digits.test.take(np.flatnonzero(digits.test.labels == 1))
    )
    with pytest.raises(DataError, match="leaves no test image of another class of its"):
        make_split(few, "subclass:8")


def test_adjacent_accuracy_and_its_gap():
    """Test labels 0 1 1 2, of which 1 is adjacent; the model has one of two right."""
    sure = lambda *labels: np.eye(3)[list(labels)]
    labels = {
        "forget_labels": np.array([2, 2]),
        "retain_labels": np.array([0, 1, 1, 0]),
        "test_labels": np.array([0, 1, 1, 0]),
    }
    model = Predictions(sure(0, 1), sure(0, 1, 1, 0), sure(0, 1, 0, 0), **labels)
    score = lambda **more: evaluate_vision(model, untrained_forget=sure(0, 1), **more)
    found, intervals = score(adjacent=(1,))
    assert found["adjacent_accuracy"] == 0.5
    low, high = intervals["adjacent_accuracy"]
    assert low == pytest.approx(0.0945, abs=1e-3) and high == pytest.approx(1 - low)
    assert "adjacency_gap" not in found
    retrained = found | {"adjacent_accuracy": 0.75}
    found, _ = score(adjacent=(1,), reference=retrained)
    assert found["adjacency_gap"] == -0.25 and found["average_gap"] == 0
    plain, _ = score(reference=retrained)
    assert not [name for name in plain if "adjacen" in name]
