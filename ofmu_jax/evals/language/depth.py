"""The unlearning depth score (arXiv 2605.24614): how deep a fact is erased."""

import numpy as np

THRESHOLD = 0.05  # nats: a layer above it holds the fact


def unlearning_depth(
    retained_NxR, unlearned_NxR, threshold: float = THRESHOLD
) -> np.ndarray:
    r"""1 where every layer that held a fact lost it, 0 where none did; shape (R,).

    Streams of another model are put into the full one after layer ℓ, in the places that
    predict the fact; Δ_ℓ is what its mean log-probability loses by it. Layers that hold
    the fact are those where Δ is above the threshold for the retrained model's streams.

    .. math:: UDS = \frac{\sum_ℓ Δ_ℓ · \min(\max(Δ'_ℓ / Δ_ℓ, 0), 1)}{\sum_ℓ Δ_ℓ}

    over these layers, with Δ' for the unlearned model's. NaN for a row without any, as
    the published mean leaves it out.

    Args:
      retained_NxR: Δ with the streams of the retrained model; N layers, R rows.
      unlearned_NxR: Δ' with those of the unlearned one.

    >>> print(unlearning_depth([[1.0], [3.0], [0.01]], [[1.0], [0.0], [5.0]]))
    [0.25]
    """
    retained, unlearned = (
        np.asarray(x, np.float64) for x in (retained_NxR, unlearned_NxR)
    )
    weight = np.where(retained > threshold, retained, 0.0)
    total = weight.sum(0)
    erased = np.clip(unlearned, 0.0, weight).sum(0)  # Δ · clip(Δ' / Δ, 0, 1)
    return np.where(total > 0, erased / np.where(total > 0, total, 1.0), np.nan)
