"""Membership: are forget rows told from rows that no model saw?

Six attacks with open-unlearning's conventions (`ofmu_jax.evals.language.privacy`).
Scores are turned here: higher is more like a training row, so that the AUC of forget
rows against hold-out rows is 1 for a model that knows them by heart. One far below that
of the retrained model tells that rows were unlearned, as one above it tells that they
were not: what leaks is |AUC − AUC of the retrained model|.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax.attacks.base import Attack, Attacked, Found, Params, Progress, Rows
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.attacks.once import Made, once
from ofmu_jax.data.language.padding import IGNORE, Encoded, pad_right
from ofmu_jax.data.language.records import QA
from ofmu_jax.evals.language import privacy
from ofmu_jax.evals.language.scores import TokenScores, bucket_length
from ofmu_jax.losses.likelihood import cross_entropy
from ofmu_jax.losses.tokens import ApplyFn, Batch
from ofmu_jax.models.llama.nf4 import is_nf4

# (model, rows, progress) -> scores (N,), higher for rows unlike training rows
Unlike = Callable[[Attacked, Sequence[QA], Progress], np.ndarray]


def attack(unlike: Unlike) -> Callable[[Attacked, Rows, Budget, Progress], Found]:
    """The attack with this score."""

    def run(model: Attacked, rows: Rows, budget: Budget, progress: Progress) -> Found:
        both = (*rows.scored, *rows.holdout)
        scores = -np.asarray(unlike(model, both, progress), np.float64)
        count = len(rows.scored)
        return Found((0.0,), scores[None, :count], holdout=scores[None, count:])

    return run


def _by_scores(score: Callable[[TokenScores, QA], float]) -> Unlike:
    """From the token scores of each row."""

    def unlike(model: Attacked, rows: Sequence[QA], _: Progress) -> np.ndarray:
        found = _token_scores(model, rows)
        return np.array([score(*pair) for pair in zip(found, rows, strict=True)])

    return unlike


def _token_scores(model: Attacked, rows: Sequence[QA]) -> Sequence[TokenScores]:
    return _scored(model, model.params, rows, model.own)


def _scored(
    model: Attacked, params: Params, rows: Sequence[QA], made: Made | None
) -> Sequence[TokenScores]:
    """Of each row; kept in ``made``."""
    score, encode = model.subject.score_encoded, model.subject.encode
    key = "token scores", tuple(rows)
    return once(made, key, lambda: score(params, encode(rows)))


def against_reference(
    model: Attacked, rows: Sequence[QA], progress: Progress
) -> np.ndarray:
    """ℓ − ℓ of the model trained without the forget rows; 0 for that model itself."""
    itself = model.params is model.reference
    made = model.own if itself else model.common
    theirs = _scored(model, model.reference, rows, made)
    both = zip(_token_scores(model, rows), theirs, strict=True)
    return np.array([privacy.reference_score(*x) for x in both])


def grad_norms(model: Attacked, rows: Sequence[QA], progress: Progress) -> np.ndarray:
    """`grad_norm` of each row, one after the other, without its end of sequence."""
    subject, found = model.subject, []
    for number, example in enumerate(subject.encode(rows), 1):
        scored = _without_end(example) if subject.ended else example
        batch = pad_right([scored], bucket_length(len(example)), **subject.padding)
        found.append(grad_norm(subject.apply_fn, model.params, batch))
        progress(number / len(rows))
    return np.array(jax.device_get(found))


def _without_end(example: Encoded) -> Encoded:
    labels = example.labels.copy()
    labels[-1] = IGNORE
    return Encoded(example.input_ids, labels, example.prompt_length)


@functools.partial(jax.jit, static_argnums=0)
def grad_norm(apply_fn: ApplyFn, params: Params, batch: Batch) -> jax.Array:
    """Mean over the model's matrices and vectors of the L2 norm of their gradient.

    The gradient is that of the mean NLL of the labelled tokens. Each layer's are
    counted by themselves, as PyTorch has them; what is in NF4 has none.
    """
    leaves, tree = jax.tree.flatten(params, is_leaf=is_nf4)

    def loss(free: list[Any]) -> jax.Array:
        rest = iter(free)
        whole = [x if is_nf4(x) else next(rest) for x in leaves]
        return cross_entropy(apply_fn, jax.tree.unflatten(tree, whole), batch)

    stacked = [
        path[0] == jax.tree_util.DictKey("layers")
        for path, x in jax.tree.leaves_with_path(params, is_leaf=is_nf4)
        if not is_nf4(x)
    ]
    gradients = jax.grad(loss)([x for x in leaves if not is_nf4(x)])
    norms = [
        jnp.linalg.norm(
            g.astype(jnp.float32).reshape(len(g) if split else 1, -1), axis=1
        )
        for g, split in zip(gradients, stacked, strict=True)
    ]
    return jnp.mean(jnp.concatenate(norms))


def _attack(title: str, source: str, unlike: Unlike, **more) -> Attack:
    return Attack(
        f"Membership, {title}",
        source,
        "AUC",
        "one look at each row",
        attack(unlike),
        needs=("holdout",),
        **more,
    )


LOSS = _attack("loss", "1709.01604", _by_scores(lambda s, _: privacy.loss_score(s)))
ZLIB = _attack(
    "zlib", "2012.07805", _by_scores(lambda s, row: privacy.zlib_score(s, row.answer))
)
REFERENCE = _attack(
    "reference model", "2112.03570", against_reference, beside=("reference",)
)
MIN_K = _attack("min-k", "2310.16789", _by_scores(lambda s, _: privacy.min_k_score(s)))
MIN_K_PLUS_PLUS = _attack(
    "min-k++", "2404.02936", _by_scores(lambda s, _: privacy.min_k_plus_plus_score(s))
)
GRAD_NORM = _attack("gradient norm", "2402.17012", grad_norms)
