"""An image classifier: a ResNet learns the digits, and is to forget the threes.

    python docs/examples/classifier.py OUT

OUT is a folder that `ofmu_jax.models.classifier.load` reads.
"""

import sys

import jax
import numpy as np

import ofmu_jax
from ofmu_jax.data.streams import named
from ofmu_jax.data.vision.batches import image_batches
from ofmu_jax.data.vision.images import load_digits
from ofmu_jax.methods.vision import descent
from ofmu_jax.methods.vision.classifier import Prepare
from ofmu_jax.methods.vision.setting import Setting
from ofmu_jax.models import resnet


def trained(config: resnet.ResNetConfig, digits, updates: int) -> resnet.Variables:
    """A network that knows the training images."""
    prepare = Prepare(10, digits.crop_padding, digits.flip)
    setting = Setting(config, prepare, digits.train, digits.train, 64, budget=updates)
    plan = descent.train(setting, 0.1, 5e-4, updates)
    batches = named(image_batches([(digits.train, False)], 64, seed=0), "retain")
    init = jax.jit(resnet.init_variables, static_argnums=(0, 2))
    start = init(config, jax.random.key(0), digits.image_size)
    return ofmu_jax.training.run(
        plan.method, start, batches, num_updates=updates
    ).params


def main(out: str, updates: int = 120, **options):
    """The run, whose model lies in the folder ``out``."""
    digits = load_digits()
    config = resnet.ResNetConfig("resnet8", 10, digits.mean, digits.std)
    threes = digits.train.labels == 3
    some = lambda where: digits.train.take(np.flatnonzero(where))
    run = ofmu_jax.unlearn(
        (config, trained(config, digits, updates)),  # or the folder of a classifier
        forget=some(threes),  # or (images, labels)
        retain=some(~threes),
        crop_padding=digits.crop_padding,
        **{"gradient_evaluations": 200, **options},
    )
    print(run)  # NLL and accuracy of both, before and after
    run.save_pretrained(out)
    return run


if __name__ == "__main__":
    main(*sys.argv[1:])
