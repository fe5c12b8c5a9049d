"""Relearning: k images a class, and whether the other forget images come back.

The taught images of a class that is forgotten are forget images, those of the others
retain images, so that a model gains nothing by saying one class to everything. What is
scored was never taught. A model that was retrained learns from the k images what they
teach; one that only hides is reminded of the rest.
"""

import functools

import numpy as np

from ofmu_jax.attacks.base import Attack, Attacked, Found, Progress
from ofmu_jax.attacks.vision.base import Images, answers, network
from ofmu_jax.attacks.vision.budget import Budget
from ofmu_jax.data.vision.batches import image_batches
from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.evals.language.scores import EvaluationError
from ofmu_jax.methods.vision.classifier import Prepare
from ofmu_jax.methods.vision.descent import Descent, descent
from ofmu_jax.methods.vision.setting import Setting
from ofmu_jax.models.resnet import ResNetConfig, Variables
from ofmu_jax.training.loop import run


def lessons(images: Images, budget: Budget) -> tuple[list[Labelled], Labelled]:
    """What is taught for each number of images a class, and the forget images that are
    taught in none of them.

    Of no class more than half of the images is taught, rounded down.
    """
    rng = np.random.default_rng([budget.seed, 20])
    most, kept = max(budget.relearn_images), np.ones(len(images.forget), bool)
    chosen: list[tuple[Labelled, np.ndarray]] = []  # of each class
    for label in np.union1d(images.forget.labels, images.retain.labels):
        forgotten = bool(np.isin(label, images.forget.labels))
        part = images.forget if forgotten else images.retain
        rows = rng.permutation(np.flatnonzero(part.labels == label))
        rows = rows[: min(most, len(rows) // 2)]
        chosen.append((part, rows))
        if forgotten:
            kept[rows] = False
    taught = [
        _joined([part.take(rows[:k]) for part, rows in chosen])
        for k in budget.relearn_images
    ]
    return taught, images.forget.take(np.flatnonzero(kept))


def _joined(parts: list[Labelled]) -> Labelled:
    return Labelled(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def relearn(
    model: Attacked, images: Images, budget: Budget, progress: Progress
) -> Found:
    """Accuracy on forget images that are not taught, after k images of every class."""
    taught, scored = lessons(images, budget)
    score = functools.partial(_right, network(model), scored, images.batch_size)
    scores, broken = [], 0
    for number, part in enumerate(taught):
        on_update = lambda done, metrics, number=number: progress(
            (number + done / budget.relearn_updates) / len(taught)
        )
        try:
            scores.append(score(_taught(model, part, budget, on_update)))
        except (EvaluationError, FloatingPointError):
            scores.append(np.zeros(len(scored)))  # it answers nothing any more
            broken += 1
    said = f"{broken} trained models were not finite" if broken else ""
    at = tuple(map(float, budget.relearn_images))
    return Found(at, np.stack(scores), score(model.params), said=said)


def _taught(model: Attacked, part: Labelled, budget: Budget, on_update) -> Variables:
    config = network(model)
    as_it_is = Prepare(config.num_classes, padding=0, flip=False)
    size, updates = budget.relearn_batch, budget.relearn_updates
    setting = Setting(config, as_it_is, part, part, size, updates)
    recipe = Descent(budget.relearn_rate, weight_decay=0.0)
    batches = image_batches([(part, False)], size, budget.seed)
    found = run(
        descent(setting, Descent.sgd, recipe),
        model.params,
        ({"retain": batch} for batch in batches),
        num_updates=updates,
        check_every=updates,
        on_update=on_update,
    )
    if not found.finite:
        raise FloatingPointError(found.stopped)
    return found.params


def _right(
    config: ResNetConfig, part: Labelled, batch_size: int, variables: Variables
) -> np.ndarray:
    """1 where the most probable class is the label, (N,)."""
    p = answers(config, variables, part, batch_size)
    return (p.argmax(1) == part.labels).astype(np.float64)


RELEARN = Attack(
    "Relearning",
    "2410.08827",
    "accuracy on forget images that are not taught",
    "{relearn_images} images a class; SGD, lr {relearn_rate:g}, {relearn_updates} "
    "updates of {relearn_batch}, seed {seed}",
    relearn,
    axis="images a class",
    least=2,
)
