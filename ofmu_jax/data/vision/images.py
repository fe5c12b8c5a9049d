"""Labelled images in memory: CIFAR from TFDS folders, and the built-in digits.

An `ImageSet` holds all training and all test images of a data set as uint8 arrays,
with the pixel statistics that the network normalises with. `images_split` divides
one into what is forgotten, kept and held out; `images_batches` streams it.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.order import evenly_spaced

CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100}
DATASETS = tuple(CLASSES)
# Mean and standard deviation per channel of pixels in 0 … 1, of the training images.
CIFAR_STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
}


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images (N, H, W, C), uint8, and their labels (N,), int32."""

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise DataError(
                f"images are {self.images.dtype}{self.images.shape}; give uint8 "
                "(N, H, W, C)"
            )
        if self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"{len(self.images)} images have labels of shape {self.labels.shape}; "
                "give one label for each image"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Labelled:
        """The images at ``indices``, in that order."""
        return Labelled(self.images[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """A data set: its two published parts and how its pixels are distributed."""

    name: str
    train: Labelled
    test: Labelled
    num_classes: int
    mean: tuple[float, ...]  # per channel, of pixels in 0 … 1
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    crop_padding: int  # of the random crop in training
    flip: bool  # whether a mirror image is an image of the same class

    @property
    def image_size(self) -> int:
        """Height of the (square) images."""
        return self.train.images.shape[1]

    def limited(self, max_train: int | None, max_test: int | None) -> ImageSet:
        """At most so many images of each part, evenly spaced over it."""
        parts = {}
        for name, most in _limits(self.num_classes, max_train, max_test).items():
            part = getattr(self, name)
            if most is not None and most < len(part):
                part = part.take(evenly_spaced(len(part), most))
            parts[name] = part
        return dataclasses.replace(self, **parts)


def _limits(
    num_classes: int, max_train: int | None, max_test: int | None
) -> dict[str, int | None]:
    """How many images of each part at most; one of each class is the least."""
    limits = {"train": max_train, "test": max_test}
    for name, most in limits.items():
        if most is not None and most < num_classes:
            raise DataError(
                f"max_{name} is {most}; give at least {num_classes}, one image per "
                "class"
            )
    return limits


def load_images(
    name: str,
    data_dir: pathlib.Path | None = None,
    *,
    max_train: int | None = None,
    max_test: int | None = None,
) -> ImageSet:
    """The data set ``name``; only as many images as asked for are decoded.

    Args:
      name: ``"digits"``, ``"cifar10"`` or ``"cifar100"``.
      data_dir: of CIFAR: the TFDS folder that holds ``<name>/<version>/``, or a folder
        with ``tensorflow_datasets/`` in it.
      max_train: keep this many training images, evenly spaced; None: all.
      max_test: the same for test images.

    Raises:
      DataError: an unknown name, or a folder that is missing or not prepared.
    """
    if name == "digits":
        return load_digits().limited(max_train, max_test)
    if name in CIFAR_STATISTICS:
        if data_dir is None:
            raise DataError(
                f"{name} needs --data-dir, the folder of its prepared TFDS files; or "
                "use the built-in --dataset digits"
            )
        return _load_cifar(name, pathlib.Path(data_dir), max_train, max_test)
    raise DataError(f"dataset {name!r} is unknown; choose one of {', '.join(DATASETS)}")


@functools.cache
def load_digits() -> ImageSet:
    """scikit-learn's 1,797 handwritten digits, 8×8 grey, real scans (UCI, CC BY 4.0).

    Every fourth image is a test image. Mirrored digits are other signs, so training
    shifts them by a pixel but does not flip them.

    >>> digits = load_digits()
    >>> len(digits.train), len(digits.test), digits.train.images.shape[1:]
    (1348, 449, (8, 8, 1))
    """
    from sklearn import datasets

    # The bundled file is the same in every release; 0 … 16 becomes 0 … 255.
    found: Any = datasets.load_digits()
    pixels = np.round(found["images"] * (255 / 16)).astype(np.uint8)[..., None]
    everything = Labelled(pixels, found["target"].astype(np.int32))
    place = np.arange(len(everything))
    train = everything.take(place[place % 4 != 3])
    share = train.images / 255
    return ImageSet(
        "digits",
        train,
        everything.take(place[place % 4 == 3]),
        CLASSES["digits"],
        (round(float(share.mean()), 4),),
        (round(float(share.std()), 4),),
        tuple(map(str, range(10))),
        crop_padding=1,
        flip=False,
    )


def _load_cifar(
    name: str, data_dir: pathlib.Path, max_train: int | None, max_test: int | None
) -> ImageSet:
    limits = _limits(CLASSES[name], max_train, max_test)
    source, labels = _open(name, data_dir)
    mean, std = CIFAR_STATISTICS[name]
    train, test = (_decode(source[part], most) for part, most in limits.items())
    return ImageSet(
        name, train, test, CLASSES[name], mean, std, labels, crop_padding=4, flip=True
    )


def _open(name: str, data_dir: pathlib.Path) -> tuple[Any, tuple[str, ...]]:
    """Random access to the parts of a prepared TFDS folder, and its class names."""
    inside = data_dir / "tensorflow_datasets"
    folder = inside if (inside / name).is_dir() else data_dir
    if not (folder / name).is_dir():
        raise DataError(
            f"there is no {name} in {data_dir}: expected {folder / name}/<version>/ as "
            f"tfds.builder('{name}', file_format='array_record').download_and_prepare()"
            " writes it"
        )
    import tensorflow_datasets as tfds  # late: it takes seconds

    try:
        builder = tfds.builder(name, data_dir=str(folder))
        source = builder.as_data_source()
        labels = tuple(builder.info.features["label"].names)
    except Exception as error:  # tfds raises types of many libraries
        raise DataError(
            f"{folder / name} cannot be read as a TFDS data source: {error}; prepare "
            "it with file_format='array_record'"
        ) from error
    return source, labels


def _decode(source: Any, most: int | None, chunk: int = 1000) -> Labelled:
    indices = evenly_spaced(len(source), len(source) if most is None else most)
    starts = range(0, len(indices), chunk)
    chunks = (indices[start : start + chunk].tolist() for start in starts)
    rows = [row for wanted in chunks for row in source.__getitems__(wanted)]
    labels = np.asarray([row["label"] for row in rows], np.int32)
    return Labelled(np.stack([row["image"] for row in rows]), labels)
