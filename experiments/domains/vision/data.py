"""The images of a run, and those that methods are tuned on."""

import dataclasses

from experiments.config.vision import Cifar
from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.vision import superclasses
from ofmu_jax.data.vision.images import ImageSet, load_images
from ofmu_jax.data.vision.split import Split, make_split


def images_of(run: Cifar) -> tuple[ImageSet, Split]:
    """The images of a run and how they are divided.

    Raises:
      ValueError: data that cannot be read, or a split that does not fit them.
    """
    most = {"max_train": run.max_train, "max_test": run.max_test}
    data = load_images(run.dataset, run.data_dir, **most)
    return data, make_split(
        data, run.forget, seed=run.data_seed, validation=run.validation
    )


def validation_request(data: ImageSet, split: Split) -> tuple[ImageSet, Split]:
    """The images and the split that methods are tuned on.

    Args:
      data: all images of the run.
      split: what the run forgets and keeps; with validation images.

    Returns:
      The retain images as training images and the validation images as test images,
      and how they are divided.

    Raises:
      DataError: there are too few of them.
    """
    kind, _, value = split.spec.partition(":")
    spec = split.spec
    if kind == "class":
        spec = f"class:{(int(value) + 1) % data.num_classes}"
    elif kind == "subclass":
        label = data.class_names.index(value)
        spec = f"subclass:{data.class_names[superclasses.siblings(data, label)[0]]}"
    elif kind == "file":
        spec = f"random:{len(split.forget) / len(split.retain):.6g}"
    part = dataclasses.replace(
        data,
        train=data.train.take(split.retain),
        test=data.train.take(split.validation),
    )
    try:
        return part, make_split(part, spec, seed=split.seed, validation=0.0)
    except DataError as error:
        raise DataError(
            f"--tune sets images aside as a request of its own, and the "
            f"{len(split.retain)} retain and {len(split.validation)} validation images "
            f"are too few ({error}); give more (--max-train, --validation), or leave "
            "out --tune."
        ) from None
