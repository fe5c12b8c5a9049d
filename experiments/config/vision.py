"""Configuration of the vision command; the text after each field is its help."""

import dataclasses
import pathlib
from typing import Annotated, Any, ClassVar, Literal

import tyro

from experiments.config.common import MOST_ROWS, BatchSize, Run, group_of, names_of
from ofmu_jax.attacks.vision.budget import Budget
from ofmu_jax.bounds import Bound, Count, NotNegative, NotNegativeInt, Positive
from ofmu_jax.methods.vision.registry import METHODS

VisionMethods: Any = group_of("VisionMethods", METHODS)
ModelName = Literal["auto", "resnet8", "resnet18", "resnet20", "resnet50", "resnet56"]
DEFAULTS, ATTACKED = VisionMethods(), Budget()
# For the small network on digits: the best of 0.013, 0.05 and 0.1 for forgetting a
# class, one seed. At the rates of ResNet-18 these two hardly move it.
DIGITS_RATES = {"random_label": 0.1, "salun": 0.1}

# What is filled in where it is not given.
DIGITS_SIZES = {"epochs": 12, "batch_size": 64, "unlearn_epochs": 5.0}
CIFAR_SIZES = {"epochs": 182, "batch_size": 256, "unlearn_epochs": 10.0}


@dataclasses.dataclass(frozen=True)
class Cifar(Run):
    """Unlearn images from a classifier: CIFAR, or digits that are built in."""

    specs: ClassVar = METHODS
    attacks_in: ClassVar = "ofmu_jax.attacks.vision.registry"
    group: ClassVar = "method"
    export_folder: ClassVar = "model"
    everyday: ClassVar = (
        *("dataset", "data_dir", "forget", "methods", "seeds", "model"),
        *("epochs", "unlearn_epochs", "tune", "attacks", "output_dir"),
    )

    output_dir: pathlib.Path = pathlib.Path("runs/cifar")
    dataset: Literal["digits", "cifar10", "cifar100"] = "digits"
    """digits are built in; cifar10 and cifar100 need --data-dir."""
    data_dir: pathlib.Path | None = None
    """Folder with the prepared TFDS files of CIFAR; digits need none."""
    forget: str = "class:3"
    """random:SHARE of the training images, class:NUMBER, subclass:NAME (a class, the
    others of its superclass being scored on their own), or file:PATH with indices."""
    methods: Annotated[tuple[str, ...], names_of(METHODS)] = (
        "ofmu",
        "fine_tune",
        "gradient_ascent",
        "salun",
    )
    data_seed: NotNegativeInt = 0
    """Of the split, which is the same for every model of the run."""
    share_models: bool = True
    """One original and one retrained model, of the first seed, for all seeds."""
    model: ModelName = "auto"
    """auto: resnet8 for digits, resnet18 for CIFAR."""
    validation: Annotated[float, Bound(0, 1, below=True)] = 0.1
    """Share of the training images of each class that no model is trained on."""
    max_train: Count | None = None
    """Use so many training images, evenly spaced: a smaller run."""
    max_test: Count | None = None
    """Use so many test images, evenly spaced."""
    epochs: Count | None = None
    """Of training the original and the retrained model; digits 12, CIFAR 182."""
    batch_size: Annotated[int, Bound(2, MOST_ROWS)] | None = None
    """Of training and unlearning; digits 64, CIFAR 256."""
    learning_rate: Positive = 0.1
    """Of training: SGD, × 0.1 after half and after three quarters of it."""
    weight_decay: NotNegative = 5e-4
    unlearn_epochs: Positive | None = None
    """Budget of every method alike: as many gradients of one batch as so many passes
    over the training images take; digits 5, CIFAR 10."""
    forget_target: str = "auto"
    """NLL the forget images must reach: reference, heldout, chance, none or nats;
    auto: reference. With none every method uses up its budget, as published."""
    checks: Count = 10
    """How often the stopping rule looks, evenly over the budget."""
    patience: Count = 5
    """Checks that do not improve, once the target is met, before it stops."""
    check_rows: Count = 1000
    """Images of each set in a check, at most."""
    attack_rows: Count | None = None
    """Images a side in the membership attack; default: as many as test images."""
    eval_batch_size: BatchSize = 256
    grid_images: NotNegativeInt = 8
    """Forget images in the picture of predictions; 0: no picture."""
    attacks: tuple[str, ...] = ()
    """Attacks on every model: relearn (forget images of every class are taught again),
    u-lira (is it told from a retrained one?), or all."""
    tune: NotNegativeInt = 0
    """Trials per method, on images that are not reported; 0: none."""
    rates: Literal["auto", "published"] = "auto"
    """auto: on digits, random_label and salun step at 0.1 unless told otherwise;
    published: every rate that is not given is that of ResNet-18 on CIFAR-10."""
    attack: Budget = ATTACKED
    method: Annotated[VisionMethods, tyro.conf.arg(name="")] = DEFAULTS


def resolved(run: Cifar) -> Cifar:
    """The configuration with what depends on the data set filled in.

    Raises:
      ValueError: for values that contradict each other or cannot be.
    """
    small = run.dataset == "digits"
    sizes: dict[str, Any] = DIGITS_SIZES if small else CIFAR_SIZES
    model = run.model
    if model == "auto":
        model = "resnet8" if small else "resnet18"
    fresh = dataclasses.replace(
        run,
        model=model,
        **{name: v for name, v in sizes.items() if getattr(run, name) is None},
        method=_with_rates(run) if small and run.rates == "auto" else run.method,
    )
    fresh.check()
    if fresh.tune and fresh.forget_target == "heldout":
        raise ValueError(
            "--tune scores on the validation images and --forget-target heldout aims "
            "at them; use another target."
        )
    if fresh.tune and not fresh.validation:
        raise ValueError("--tune needs validation images; set --validation above 0.")
    if fresh.forget.startswith("file:") and fresh.max_train is not None:
        raise ValueError(
            "--forget file:… names images of the whole training set; leave out "
            "--max-train."
        )
    return fresh


def _with_rates(run: Cifar) -> VisionMethods:
    """The methods with the rates for digits where none was given or taken over."""
    changed: dict[str, Any] = {}
    for name, rate in DIGITS_RATES.items():
        config = getattr(run.method, name)
        default = config.learning_rate == getattr(DEFAULTS, name).learning_rate
        given = f"{name}.learning_rate" in run.explicit
        taken = run.tuned_from is not None and name not in run.tuned_except
        if default and not given and not taken:
            changed[name] = dataclasses.replace(config, learning_rate=rate)
    return dataclasses.replace(run.method, **changed)
