"""U-LiRA (Hayes et al., arXiv 2403.01218): unlearned, or never trained on?

The attacker has shadow models: of other seeds, some that unlearned the images by the
very method under attack, some retrained without them. For each image their confidences
give two normal distributions, and the model is taken for unlearned where the first is
the likelier. On a model that forgot, that happens as often as on a retrained one.

With few shadows a variance is pooled over the images, as the likelihood-ratio attack
does (arXiv 2112.03570); with a single one of each kind the nearer of the two decides.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from ofmu_jax.attacks.base import Attack, Attacked, Found, Progress
from ofmu_jax.attacks.vision.base import Images, answers, network
from ofmu_jax.attacks.vision.budget import Budget

TINY = 1e-30  # added to what a logarithm is taken of


class Shadows(NamedTuple):
    """The same N images through S models of other seeds: `logit_confidence`."""

    unlearned: np.ndarray  # (S, N), by the method under attack
    retrained: np.ndarray  # (S, N), never trained on the images


def logit_confidence(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log p_y / (1 − p_y) of each image, (N,); 1 − p_y is summed over the others.

    >>> logit_confidence(np.array([[0.5, 0.25, 0.25]]), np.array([1])).round(4)
    array([-1.0986])
    """
    p = np.array(p, np.float64)
    rows = np.arange(len(p))
    right = p[rows, labels]
    p[rows, labels] = 0
    return np.log(right + TINY) - np.log(p.sum(1) + TINY)


def taken_for_unlearned(observed: np.ndarray, shadows: Shadows) -> np.ndarray:
    """1 where unlearned shadows make the confidence likelier, ½ where neither, (N,).

    Args:
      observed: `logit_confidence` of the model under attack, (N,).

    >>> shadows = Shadows(np.array([[3.0, 3.0]]), np.array([[0.0, 0.0]]))
    >>> taken_for_unlearned(np.array([2.0, 1.0]), shadows)
    array([1., 0.])
    """
    if min(len(kind) for kind in shadows) < 2:  # no variance is known
        deviations = 1.0, 1.0
    else:
        deviations = tuple(_pooled_deviation(kind) for kind in shadows)
    likely = [
        stats.norm.logpdf(observed, kind.mean(0), deviation)
        for kind, deviation in zip(shadows, deviations, strict=True)
    ]
    return np.heaviside(likely[0] - likely[1], 0.5)


def _pooled_deviation(values: np.ndarray) -> float:
    return max(float(np.sqrt(values.var(0, ddof=1).mean())), 1e-6)


def told_apart(unlearned: np.ndarray, retrained: np.ndarray, shadows: Shadows) -> Found:
    """Of a model of each kind, by their confidences (N,): its value is the share of
    right guesses. (Guesses are 0 and 1, whose AUC is just that.)

    A retrained model against itself has ½, the value of chance (`alike`).
    """
    guesses = [taken_for_unlearned(x, shadows)[None] for x in (unlearned, retrained)]
    return Found((float(len(shadows.unlearned)),), guesses[0], holdout=guesses[1])


def alike(count: int, shadows: int) -> Found:
    """What a retrained model is told apart from itself by: chance, whatever the guesses
    on these images, so that it adds no spread to a difference from it."""
    chance = np.full((1, count), 0.5)
    return Found((float(shadows),), chance, holdout=chance)


def u_lira(
    model: Attacked, images: Images, budget: Budget, progress: Progress
) -> Found:
    """The guesses on the model, and on the retrained one beside it."""
    retrained = model._replace(params=model.reference)
    ours, theirs = (confidence(each, images) for each in (model, retrained))
    progress(1.0)
    return told_apart(ours, theirs, model.shadows)


def confidence(model: Attacked, images: Images) -> np.ndarray:
    """`logit_confidence` of the forget images, (N,)."""
    part = images.forget
    p = answers(network(model), model.params, part, images.batch_size)
    return logit_confidence(p, part.labels)


U_LIRA = Attack(
    "U-LiRA",
    "2403.01218",
    "accuracy of telling it from a retrained model",
    "the run's other seeds as shadows, unlearned and retrained",
    u_lira,
    beside=("reference", "shadows"),
)
