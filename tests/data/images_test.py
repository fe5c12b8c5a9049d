"""Images: digits, CIFAR from TFDS, splits, augmentation and batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.vision.augment import augment
from ofmu_jax.data.vision.batches import image_batches, paired_image_batches
from ofmu_jax.data.vision.images import ImageSet, Labelled, load_digits, load_images
from ofmu_jax.data.vision.split import make_split


def toy(size: int = 40, test: int = 12, classes: int = 4) -> ImageSet:
    """Images whose first pixel is their index, labels 0 1 2 3 0 1 …"""

    def part(count: int) -> Labelled:
        images = np.zeros((count, 2, 2, 1), np.uint8)
        images[:, 0, 0, 0] = np.arange(count)
        return Labelled(images, (np.arange(count) % classes).astype(np.int32))

    names = tuple("abcd"[:classes])
    return ImageSet(
        "toy", part(size), part(test), classes, (0.0,), (1.0,), names, 1, False
    )


# --- data sets ----------------------------------------------------------------------


def test_digits_are_scikit_learns():
    digits, source = load_digits(), datasets.load_digits()
    # Image 0 is training image 0; image 3 is test image 0.
    np.testing.assert_allclose(
        digits.train.images[0, ..., 0] / 255, source.images[0] / 16, atol=0.002
    )
    assert digits.test.labels[0] == source.target[3]
    assert len(digits.train) + len(digits.test) == 1797
    share = digits.train.images / 255
    assert digits.mean[0] == pytest.approx(share.mean(), abs=1e-4)
    assert digits.std[0] == pytest.approx(share.std(), abs=1e-4)
    assert not digits.flip


def test_limits_take_evenly_spaced_images():
    digits = load_images("digits", max_train=100, max_test=10)
    assert (len(digits.train), len(digits.test)) == (100, 10)
    whole = load_digits()
    np.testing.assert_array_equal(digits.train.images[-1], whole.train.images[-1])
    with pytest.raises(DataError, match="max_train is 5; give at least 10"):
        load_images("digits", max_train=5)


def test_cifar_10_without_tensorflow(data_dir):
    pytest.importorskip("tensorflow_datasets")
    if not (data_dir / "tensorflow_datasets" / "cifar10").is_dir():
        pytest.skip(f"no prepared cifar10 in {data_dir}")
    import sys

    cifar = load_images("cifar10", data_dir, max_train=20, max_test=10)
    assert cifar.train.images.shape == (20, 32, 32, 3)
    assert cifar.test.labels.dtype == np.int32
    assert cifar.class_names[3] == "cat"
    assert (cifar.crop_padding, cifar.flip, cifar.num_classes) == (4, True, 10)
    assert 60 < cifar.train.images.mean() < 180
    assert "tensorflow" not in sys.modules


def test_data_that_is_not_there_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match="cifar10 needs --data-dir"):
        load_images("cifar10")
    with pytest.raises(DataError, match="there is no cifar100 in"):
        load_images("cifar100", tmp_path)
    with pytest.raises(DataError, match="dataset 'mnist' is unknown"):
        load_images("mnist")
    (tmp_path / "cifar10").mkdir()
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(DataError, match="cannot be read as a TFDS data source"):
        load_images("cifar10", tmp_path)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="uint8"):
        Labelled(np.zeros((2, 2, 2, 1)), np.zeros(2, np.int32))
    with pytest.raises(DataError, match="one label for each image"):
        Labelled(np.zeros((2, 2, 2, 1), np.uint8), np.zeros(3, np.int32))


# --- splits -------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["random:0.25", "class:2", "file"])
def test_parts_are_disjoint_and_the_original_is_trained_on_all_of_forget(
    spec, tmp_path
):
    if spec == "file":
        (tmp_path / "forget.txt").write_text("7\n3\n\n11\n")
        spec = f"file:{tmp_path / 'forget.txt'}"
    data = toy()
    split = make_split(data, spec, seed=5, validation=0.2)
    parts = (split.forget, split.retain, split.validation)
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    np.testing.assert_array_equal(
        split.train, np.sort(np.concatenate([split.forget, split.retain]))
    )
    assert set(split.forget) <= set(split.train)
    assert not set(split.forget) & set(split.retain)
    again = make_split(data, spec, seed=5, validation=0.2)
    for name in ("forget", "retain", "validation", "test"):
        np.testing.assert_array_equal(getattr(split, name), getattr(again, name))
    assert "seed 5" in split.note and "trained on every forget image" in split.note


def test_random_forgetting_takes_a_share_of_what_is_not_validation():
    split = make_split(toy(), "random:0.25", validation=0.2)
    # 40 images, 10 a class: 2 of each class are held out, 32 are left.
    assert [len(p) for p in (split.validation, split.forget, split.retain)] == [
        8,
        8,
        24,
    ]
    np.testing.assert_array_equal(np.bincount(split.validation % 4), [2, 2, 2, 2])
    other = make_split(toy(), "random:0.25", seed=1, validation=0.2)
    assert not np.array_equal(split.forget, other.forget)


def test_class_forgetting_leaves_test_and_validation_without_the_class_and_says_so():
    data = toy()
    split = make_split(data, "class:2", validation=0.2)
    assert set(data.train.labels[split.forget]) == {2}
    for part in (data.train.labels[split.retain], data.train.labels[split.validation]):
        assert 2 not in part
    assert 2 not in data.test.labels[split.test]
    assert len(split.test) == 9
    assert "class 2 (c) is left out" in split.note
    assert "9 of 12 test images remain" in split.note


def test_listed_images_are_forgotten_exactly_and_never_held_out(tmp_path):
    path = tmp_path / "forget.txt"
    path.write_text("\n".join(map(str, range(0, 40, 4))))  # all of class 0
    split = make_split(toy(), f"file:{path}", validation=0.5)
    np.testing.assert_array_equal(split.forget, np.arange(0, 40, 4))
    assert len(split.validation) == 15  # half of the three other classes


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("random:1.5", "not a share between 0 and 1"),
        ("random:some", "has no share"),
        ("random:0.001", "leaves no forget images"),
        ("class:4", "a number from 0 to 3"),
        ("class:cat", "names no class"),
        ("some", "not a specification; use random:SHARE"),
        ("file:absent.txt", "cannot read the forget file"),
    ],
)
def test_specifications_that_cannot_be_are_refused(spec, message):
    with pytest.raises(DataError, match=message):
        make_split(toy(), spec)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n40\n", "line 2: '40' is not the index"),
        ("x", "line 1: 'x' is not the index"),
        ("1\n2\n1\n", "line 3: index 1 stands in line 1 already"),
        ("\n", "has no indices"),
        ("\n".join(map(str, range(40))), "leaves no retain images"),
    ],
)
def test_forget_files_that_cannot_be_are_refused(text, message, tmp_path):
    path = tmp_path / "forget.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        make_split(toy(), f"file:{path}")
    with pytest.raises(DataError, match=r"a share in \[0, 1\)"):
        make_split(toy(), "class:1", validation=1.0)


# --- augmentation -------------------------------------------------------------------


def test_augmentation_is_a_shift_and_a_mirror_image_from_the_key_alone():
    image = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3, 1)
    images = jnp.asarray(np.repeat(image, 64, 0))
    run = jax.jit(augment, static_argnames=("padding", "flip"))
    found = np.asarray(run(jax.random.key(0), images, padding=1, flip=True))
    wide = np.pad(image[0, ..., 0], 1)
    allowed = [
        view[i : i + 3, j : j + 3].tobytes()
        for view in (wide, wide[:, ::-1])
        for i in range(3)
        for j in range(3)
    ]
    seen = {x[..., 0].tobytes() for x in found}
    assert seen <= set(allowed)
    assert len(seen) > 12  # of 18
    np.testing.assert_array_equal(
        found, run(jax.random.key(0), images, padding=1, flip=True)
    )
    same = augment(jax.random.key(0), images, padding=0, flip=False)
    np.testing.assert_array_equal(same, images)


# --- batches ------------------------------------------------------------------------


def values(batch) -> list[int]:
    return batch["images"][..., 0, 0, 0].ravel().tolist()


def test_an_epoch_of_several_sets_takes_them_one_after_another():
    data = toy().train
    forget, retain = data.take(np.arange(3)), data.take(np.arange(3, 9))
    stream = image_batches([(forget, True), (retain, False)], 3, seed=0)
    batches = [next(stream) for _ in range(6)]
    assert batches[0]["images"].shape == (1, 3, 2, 2, 1)
    assert sorted(values(batches[0])) == [0, 1, 2]
    assert sorted(values(batches[1]) + values(batches[2])) == [3, 4, 5, 6, 7, 8]
    assert sorted(values(batches[3])) == [0, 1, 2]
    assert [b["forget"].all() for b in batches[:3]] == [True, False, False]
    assert [b["draw"].tolist() for b in batches] == [[[0, i]] for i in range(6)]
    for batch in batches:
        assert batch["labels"].ravel().tolist() == [v % 4 for v in values(batch)]


def test_mixed_sets_are_one_shuffle():
    data = toy().train
    parts = [(data.take(np.arange(4)), True), (data.take(np.arange(4, 20)), False)]
    batch = next(image_batches(parts, 20, seed=1, mixed=True))
    assert sorted(values(batch)) == list(range(20))
    flags = batch["forget"].ravel()
    assert flags.sum() == 4 and not flags[:4].all()
    assert [v < 4 for v in values(batch)] == flags.tolist()


def test_pairs_walk_both_sets_by_themselves_and_resume():
    data = toy().train
    sets = (data.take(np.arange(4)), data.take(np.arange(4, 16)))
    stream = paired_image_batches(*sets, 4, seed=2, num_stack=3)
    first = next(stream)
    assert first["forget"]["images"].shape == (3, 4, 2, 2, 1)
    assert sorted(values(first["retain"])) == list(range(4, 16))
    assert sorted(values(first["forget"])) == sorted(list(range(4)) * 3)
    assert first["retain"]["draw"].tolist() == [[2, 0], [2, 1], [2, 2]]
    state = stream.get_state()
    second = next(stream)
    again = paired_image_batches(*sets, 4, seed=2, num_stack=3)
    again.set_state(state)
    jax.tree.map(np.testing.assert_array_equal, next(again), second)
    assert values(second["retain"]) != values(first["retain"])


def test_batches_that_cannot_be_are_refused():
    data = toy().train
    with pytest.raises(DataError, match="the forget set is empty"):
        image_batches([(data.take(np.arange(0)), True)], 2, 0)
    with pytest.raises(DataError, match="batch_size is 0"):
        image_batches([(data, False)], 0, 0)
    with pytest.raises(DataError, match="seed is -1"):
        image_batches([(data, False)], 2, -1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.labels = None
