"""`ofmu_jax.unlearn` on image classifiers: the numbers of the commands, folders."""

import math

import jax
import numpy as np
import pytest
import vision_toys as toys

from ofmu_jax import training, unlearn
from ofmu_jax.data.language.records import DataError
from ofmu_jax.methods.vision import registry
from ofmu_jax.models import classifier
from ofmu_jax.unlearning.vision.look import Look
from ofmu_jax.unlearning.vision.rows import plan_batches


def pairs(part):
    return part.images, part.labels


MODEL = toys.CONFIG, toys.variables()
SETS = pairs(toys.FORGET), pairs(toys.RETAIN)


def test_fine_tuning_takes_the_steps_of_its_plan():
    """As `experiments` runs the plan: its batches, budget and stopping rule."""
    options = dict(learning_rate=0.05, batch_size=4, checks=2, seed=5)
    run = unlearn(MODEL, *SETS, method="fine_tune", gradient_evaluations=3, **options)
    setting = toys.SETTING._replace(budget=3.0, seed=5, forget_target=math.log(3))
    plan = registry.build(
        "fine_tune", setting, registry.METHODS["fine_tune"].config.__class__(0.05)
    )
    found = training.run(
        plan.method,
        plan.start(MODEL[1]),
        plan_batches(plan, setting),
        num_updates=3,
        check=Look(toys.CONFIG, {"forget": toys.FORGET, "retain": toys.RETAIN}, 256, 8),
        check_every=2,
        stopping=training.StoppingRule(math.log(3), 15),
    )
    assert run.forget_target == math.log(3)  # of three classes
    assert run.history == found.metrics
    jax.tree.map(np.testing.assert_array_equal, run.params, found.params)
    assert run.gradient_evaluations == 3


def test_a_folder_comes_back_as_one(tmp_path):
    """Dampening in one step, which costs what its Fisher information does."""
    names = ("a", "b", "c")
    classifier.save(tmp_path / "given", *MODEL, class_names=names)
    run = unlearn(tmp_path / "given", *SETS, method="ssd", batch_size=4)
    assert (run.run.updates, run.history, run.stopped) == (1, [], "one step")
    plan = registry.build("ssd", toys.SETTING)
    assert run.gradient_evaluations == plan.setup_cost > 0
    assert run.metrics["after"].keys() == run.metrics["before"].keys()
    run.save_pretrained(tmp_path / "out")
    config, variables = classifier.load(tmp_path / "out")
    assert (config, classifier.load_config(tmp_path / "out")[1]) == (toys.CONFIG, names)
    jax.tree.map(np.testing.assert_array_equal, variables, run.params)


def test_what_images_refuse():
    with pytest.raises(DataError, match=r"give uint8 \(N, H, W, C\)"):
        unlearn(MODEL, (np.zeros((2, 4, 4, 1)), [0, 1]), SETS[1])
    with pytest.raises(TypeError, match="lora= is no option of salun"):
        unlearn(MODEL, *SETS, method="salun", lora=2)
    with pytest.raises(ValueError, match="than gradient_evaluations= allows"):
        unlearn(MODEL, *SETS, method="ofmu", gradient_evaluations=1)
