"""Multiple choice by the log-likelihoods of the choices, as lm-evaluation-harness."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

from ofmu_jax.data.language.kinds.choices import Choice, Exam, continuations, prompt
from ofmu_jax.evals.evaluation import Evaluation, fingerprint
from ofmu_jax.evals.language.scores import TokenScores

# (context, continuation) pairs -> one `TokenScores` each.
FollowFn = Callable[[Sequence[tuple[str, str]]], Sequence[TokenScores]]


def log_likelihoods(
    rows: Sequence[Choice], exam: Exam, follow: FollowFn
) -> list[np.ndarray]:
    """log p(choice | prompt) in nats, summed over tokens: one vector for each row."""
    pairs = [
        (prompt(row, exam.style, exam.subject), text)
        for row in rows
        for text in continuations(row, exam.style)
    ]
    sums = (float(np.sum(s.log_prob, dtype=np.float64)) for s in follow(pairs))
    return [np.array([next(sums) for _ in row.choices]) for row in rows]


def chosen(rows: Sequence[Choice], scores: Sequence[np.ndarray]) -> np.ndarray:
    """1 where the right choice is the most likely one, the first of equals; else 0.

    >>> chosen([Choice("?", ("a", "b"), 1)], [np.array([-1.0, -0.5])]).tolist()
    [1.0]
    """
    found = [np.argmax(of) == row.answer for row, of in zip(rows, scores, strict=True)]
    return np.asarray(found, np.float64)


def add_choices(result: Evaluation, exam: Exam, follow: FollowFn) -> None:
    """Adds the accuracy of each set of an exam and what guessing gives.

    ``*_choice_accuracy`` (the harness's acc), in the style "texts"
    ``*_choice_accuracy_norm`` as well (acc_norm: log-likelihoods over the characters of
    a choice), ``*_choice_prob`` (of the right one among the choices, softmax of their
    log-likelihoods) and ``*_choice_chance``, the mean of 1 / number of choices.

    Args:
      follow: scores of continuations, of `continuations.continued`.
    """
    for name, rows in exam.sets.items():
        scores = log_likelihoods(rows, exam, follow)
        name = f"{name}_choice"
        result.add_mean(f"{name}_accuracy", chosen(rows, scores))
        if exam.style == "texts":
            lengths = [np.array([len(x) for x in row.choices]) for row in rows]
            each = [s / n for s, n in zip(scores, lengths, strict=True)]
            result.add_mean(f"{name}_accuracy_norm", chosen(rows, each))
        right = [
            special.softmax(of)[row.answer]
            for row, of in zip(rows, scores, strict=True)
        ]
        result.add_mean(f"{name}_prob", right)
        chance = np.mean([1 / len(row.choices) for row in rows])
        result.metrics[f"{name}_chance"] = float(chance)
        said = ((row.question, str((row.choices, row.answer))) for row in rows)
        result.fingerprints[name] = fingerprint(said)
