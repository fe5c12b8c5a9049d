"""A linear probe: do the layers still know a right answer from a wrong one?

It learns on facts that are kept, so that it teaches nothing of those to be forgotten:
directions w in the residual stream at an answer's end along which right answers to
kept questions lie above wrong ones (Bradley and Terry's model on differences, which
what a question is about drops out of). Then right and wrong answers to the forgotten
questions are held against them.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression

from ofmu_jax.attacks.base import Attack, Attacked, Found, Params, Progress, Rows
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.data.language.padding import Encoded, pad_right
from ofmu_jax.data.language.records import QA
from ofmu_jax.evals.language.scores import EvaluationError, bucket_length
from ofmu_jax.models.llama import streams
from ofmu_jax.models.llama.config import LlamaConfig


def probe(model: Attacked, rows: Rows, budget: Budget, progress: Progress) -> Found:
    """The share of wrong answers that lie below the right one; 0.5 is chance.

    One probe a layer; the layer is the one that is best on kept rows which its probe
    did not learn from.
    """
    asked = rows.contrasted
    kept = [row for row in rows.contrasts if row.perturbed_answers][: budget.probe_rows]
    if len(kept) < 2:
        raise EvaluationError(
            f"a probe learns on one kept row and is tried on another, and {len(kept)} "
            "has wrong answers; give retained rows perturbed_answer"
        )
    learnt = differences(model, kept)  # of each row: (N, wrong answers, D)
    progress(0.5)
    tested = differences(model, asked)
    half = len(kept) // 2
    layers = range(model.subject.config.num_layers)
    found = [
        np.mean(above(fit(learnt[:half], layer), learnt[half:], layer))
        for layer in layers
    ]
    best = int(np.argmax(found))
    score = above(fit(learnt, best), tested, best)
    said = f"layer {best + 1}, right on {found[best]:.0%} of kept rows held back"
    return Found((0.0,), score[None], said=said)


def fit(rows: Sequence[np.ndarray], layer: int) -> np.ndarray:
    """A direction along which right answers lie above wrong ones, shape (D,).

    Args:
      rows: right minus wrong answers of each row, (N, wrong answers, D).
    """
    x = np.concatenate([row[layer] for row in rows])
    scale = np.maximum(np.sqrt(np.mean(x**2, axis=0)), 1e-6)
    both = np.concatenate([x, -x]) / scale
    labels = np.repeat([1, 0], len(x))
    model = LogisticRegression(fit_intercept=False, C=0.1, max_iter=1000)
    return model.fit(both, labels).coef_[0] / scale


def above(w_D: np.ndarray, rows: Sequence[np.ndarray], layer: int) -> np.ndarray:
    """Of each row, the share of wrong answers that lie below the right one: (R,)."""
    return np.array([np.mean(row[layer] @ w_D > 0) for row in rows])


def differences(model: Attacked, rows: Sequence[QA]) -> list[np.ndarray]:
    """The stream at the right answer's end minus that at each wrong one's, of every
    layer: (N, wrong answers, D) for each row."""
    right = [row.paraphrased_answer or row.answer for row in rows]
    texts = [
        QA(row.question, text)
        for row, first in zip(rows, right, strict=True)
        for text in (first, *row.perturbed_answers)
    ]
    ends = _ends(model, model.subject.encode(texts))
    counts = [1 + len(row.perturbed_answers) for row in rows]
    parts = np.split(ends, np.cumsum(counts)[:-1], axis=1)
    return [part[:, :1] - part[:, 1:] for part in parts]


def _ends(model: Attacked, examples: Sequence[Encoded]) -> np.ndarray:
    """The streams at the last token before the end of sequence, (N, texts, D)."""
    subject = model.subject
    size, length = subject.batch_size, bucket_length(max(map(len, examples)))
    found = []
    for start in range(0, len(examples), size):
        chosen = [*examples[start : start + size]]
        chosen += [examples[0]] * (size - len(chosen))
        batch = pad_right(chosen, length, **subject.padding)
        last_B = np.array([len(example) - 2 for example in chosen])
        ids, mask = batch["input_ids"], batch["attention_mask"]
        found.append(_at(subject.config, model.params, ids, mask, last_B))
    joined = np.concatenate(jax.device_get(found), axis=1)
    return joined[:, : len(examples)]


@functools.partial(jax.jit, static_argnums=0)
def _at(config: LlamaConfig, params: Params, ids_BxL, mask_BxL, last_B) -> jax.Array:
    """The streams at one place of each row, (N, B, D), float32."""
    rows = jnp.arange(len(last_B))
    kept = lambda x_BxLxD: x_BxLxD[rows, last_B].astype(jnp.float32)
    return streams.residuals(config, params, ids_BxL, mask_BxL, kept)


PROBE = Attack(
    "Linear probe",
    "2310.06824",
    "wrong answers below the right one",
    "a direction learnt on {probe_rows} kept rows at most",
    probe,
    needs=("contrasts", "contrasted"),
    asks=True,
)
