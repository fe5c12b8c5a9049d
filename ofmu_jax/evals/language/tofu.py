"""The TOFU evaluation of one language model, from scores and generated answers."""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.evals import intervals
from ofmu_jax.evals.evaluation import EvalOptions, Evaluation, fingerprint
from ofmu_jax.evals.language import metrics, privacy
from ofmu_jax.evals.language.comparison import compare_with_reference
from ofmu_jax.evals.language.privacy import ATTACKS
from ofmu_jax.evals.language.scores import EvaluationError, TokenScores
from ofmu_jax.evals.language.sets import (
    MEMORIZATION,
    SetLosses,
    add_set,
    add_utility,
    set_metric_names,
)

ScoreFn = Callable[[Sequence[tuple[str, str]]], Sequence[TokenScores]]
GenerateFn = Callable[[Sequence[str]], Sequence[str]]

# Short name of a set, as in the names of metrics -> field of the data.
SETS = {
    "forget": "forget_eval",
    "retain": "retain_eval",
    "ra": "real_authors",
    "wf": "world_facts",
    "adjacent": "adjacent_eval",  # where a request has some
}


def evaluate_language(
    data: UnlearningData,
    *,
    score: ScoreFn,
    generate: GenerateFn | None = None,
    reference: Evaluation | None = None,
    options: EvalOptions = EvalOptions(),  # noqa: B008 (frozen)
) -> Evaluation:
    """Computes every TOFU metric of one model.

    Sets that are empty, and metrics that need what a set lacks, are named in
    `Evaluation.missing` with the reason. Forget and retain rows without a paraphrase
    take the original answer as the right text of the truth ratio, with a note. Adjacent
    rows are scored as retain rows are.

    Args:
      data: its evaluation sets are read, and nothing else of it.
      score: list of (question, answer) -> one `TokenScores` each; see
        `ofmu_jax.evals.language.scores.pair_scorer`.
      generate: list of questions -> greedy answers; None leaves out ROUGE and with
        it model utility.
      reference: evaluation of the model retrained without the forget rows.
      options: how to compute.

    Returns:
      The evaluation, compared with `reference` as `compare_with_reference` does.

    Raises:
      EvaluationError: `score` or `generate` returned too few results, or the scores
        are unusable.
    """
    result = Evaluation(options=options)
    sets = {name: getattr(data, field) for name, field in SETS.items()}
    if not sets["adjacent"]:
        del sets["adjacent"]  # nothing is missing: most requests watch no neighbours
    scored: dict[str, tuple[SetLosses, list[TokenScores]]] = {}
    for name, rows in sets.items():
        if not rows:
            result.add_missing(set_metric_names(name), f"the {SETS[name]} set is empty")
            continue
        result.fingerprints[name] = fingerprint((r.question, r.answer) for r in rows)
        scored[name] = _score_set(name, rows, score, result)
    if generate is not None:  # a model without scores has no answers to wait for
        result.generations = _generated(sets, generate)
    for name, (losses, _) in scored.items():
        losses.rouge = _rouge(name, sets[name], result)
        add_set(result, name, losses)
    forget_scores = scored["forget"][1] if "forget" in scored else []
    _add_memorization(result, forget_scores)
    _add_attacks(result, data, forget_scores, score)
    heldout = ("forget", "retain", "adjacent")[: 3 if "adjacent" in sets else 2]
    for name in (f"{part}_heldout" for part in heldout):
        _add_heldout(result, name, getattr(data, name), score)
    add_utility(result)
    return compare_with_reference(result, reference)


def _score_set(
    name: str, rows: Sequence[QA], score: ScoreFn, result: Evaluation
) -> tuple[SetLosses, list[TokenScores]]:
    """Scores answers, right texts and perturbed answers of one set in one call."""
    answers = _answers(rows)
    bare = [i for i, row in enumerate(rows, 1) if not row.perturbed_answers]
    if bare:
        names = set(set_metric_names(name))
        names -= {f"{name}_Q_A_Prob", f"{name}_Q_A_ROUGE"}
        result.add_missing(
            sorted(names),
            f"{len(bare)} of {len(rows)} {name} rows have no perturbed answers, the "
            f"first is row {bare[0]}",
        )
        scores = _call_score(score, answers)
        return SetLosses(_losses(scores)), scores
    correct = [(row.question, _correct_text(name, row)) for row in rows]
    _note_missing_paraphrases(name, rows, result)
    extra, wrong = _other_texts(name, rows)
    scores = _call_score(score, [*answers, *extra, *wrong])
    losses = _losses(scores)
    own, rest = losses[: len(rows)], iter(losses[len(rows) :].tolist())
    correct_losses = [
        loss if pair == answer else next(rest)
        for pair, answer, loss in zip(correct, answers, own, strict=True)
    ]
    wrong_losses = [[next(rest) for _ in row.perturbed_answers] for row in rows]
    found = SetLosses(own, np.array(correct_losses), wrong_losses)
    return found, scores[: len(rows)]


def _answers(rows: Sequence[QA]) -> list[tuple[str, str]]:
    return [(row.question, row.answer) for row in rows]


def _other_texts(name: str, rows: Sequence[QA]) -> tuple[list, list]:
    """Right texts that are not the answers, which are scored once, and wrong ones."""
    texts = [(row, _correct_text(name, row)) for row in rows]
    extra = [(row.question, text) for row, text in texts if text != row.answer]
    wrong = [(row.question, text) for row in rows for text in row.perturbed_answers]
    return extra, wrong


def num_texts(data: UnlearningData) -> int:
    """How many texts `evaluate_language` scores, and questions it has answered."""
    count = 0
    for name, field in SETS.items():
        rows = getattr(data, field)
        count += 2 * len(rows)
        if all(row.perturbed_answers for row in rows):
            count += sum(map(len, _other_texts(name, rows)))
    others = [data.forget_heldout, data.retain_heldout, data.adjacent_heldout]
    others += [data.holdout] if data.forget_eval else []
    return count + sum(map(len, others))


def _correct_text(name: str, row: QA) -> str:
    """The right text of the truth ratio: the paraphrase, in RA and WF the answer."""
    if name in ("ra", "wf") or row.paraphrased_answer is None:
        return row.answer
    return row.paraphrased_answer


def _note_missing_paraphrases(
    name: str, rows: Sequence[QA], result: Evaluation
) -> None:
    count = sum(row.paraphrased_answer is None for row in rows)
    if count and name not in ("ra", "wf"):
        result.notes.append(
            f"{name} truth ratio: {count} of {len(rows)} rows have no paraphrased "
            "answer, their original answer is the right text"
        )


def _generated(
    sets: Mapping[str, Sequence[QA]], generate: GenerateFn
) -> dict[str, list[str]]:
    """Greedy answers to the questions of all sets, asked for at once."""
    questions = [row.question for rows in sets.values() for row in rows]
    texts = list(generate(questions)) if questions else []
    if len(texts) != len(questions):
        raise EvaluationError(
            f"generate returned {len(texts)} texts for {len(questions)} questions; it "
            "must return one per question"
        )
    rest = iter(texts)
    return {name: [next(rest) for _ in rows] for name, rows in sets.items() if rows}


def _rouge(name: str, rows: Sequence[QA], result: Evaluation) -> np.ndarray | None:
    """ROUGE-L recall of the generated answers."""
    if name not in result.generations:
        result.add_missing((f"{name}_Q_A_ROUGE",), "no generate function was given")
        return None
    references = [row.answer.strip() for row in rows]
    return metrics.rouge_l_recall(result.generations[name], references)


def _add_memorization(result: Evaluation, scores: Sequence[TokenScores]) -> None:
    """Extraction strength (both floors) and exact memorisation of the forget rows."""
    if not scores:
        result.add_missing(MEMORIZATION, "the forget_eval set is empty")
        return
    compat = functools.partial(metrics.extraction_strength, floor="compat")
    functions = (metrics.extraction_strength, compat, metrics.exact_memorization)
    for name, function in zip(MEMORIZATION, functions, strict=True):
        result.add_mean(name, [function(s) for s in scores])


def _add_attacks(
    result: Evaluation,
    data: UnlearningData,
    forget_scores: Sequence[TokenScores],
    score: ScoreFn,
) -> None:
    """AUC of each membership-inference attack on forget against hold-out rows."""
    for field in ("forget_eval", "holdout"):
        if not getattr(data, field):
            result.add_missing(ATTACKS, f"the {field} set is empty")
            return
    pairs = [(row.question, row.answer) for row in data.holdout]
    result.fingerprints["holdout"] = fingerprint(pairs)
    members = attack_scores(data.forget_eval, forget_scores, result.options.min_k)
    others = attack_scores(
        data.holdout, _call_score(score, pairs), result.options.min_k
    )
    for name in ATTACKS:
        both = members[name], others[name]
        result.metrics[name] = privacy.auc(*both)
        result.examples[f"{name}_forget"], result.examples[f"{name}_holdout"] = both
        result.add_interval(name, intervals.bootstrap_auc(*both, **result.bootstrap))


def attack_scores(
    rows: Sequence[QA], scores: Sequence[TokenScores], k: float = privacy.MIN_K
) -> dict[str, list[float]]:
    """Per-example scores of every attack, by the name of its metric."""
    pairs = zip(scores, rows, strict=True)
    return {
        "mia_loss": [privacy.loss_score(s) for s in scores],
        "mia_zlib": [privacy.zlib_score(s, row.answer) for s, row in pairs],
        "mia_min_k": [privacy.min_k_score(s, k) for s in scores],
        "mia_min_k_plus_plus": [privacy.min_k_plus_plus_score(s, k) for s in scores],
    }


def _add_heldout(
    result: Evaluation, name: str, rows: Sequence[QA], score: ScoreFn
) -> None:
    """Probability of the answers to questions in words never trained on."""
    metric = f"{name}_Q_A_Prob"
    if not rows:
        result.add_missing((metric,), f"the {name} set is empty")
        return
    scores = _call_score(score, [(row.question, row.answer) for row in rows])
    result.add_mean(metric, metrics.probability(_losses(scores)))


def _call_score(score: ScoreFn, pairs: Sequence[tuple[str, str]]) -> list[TokenScores]:
    scores = list(score(pairs))
    if len(scores) != len(pairs):
        raise EvaluationError(
            f"score returned {len(scores)} results for {len(pairs)} pairs; it must "
            "return one per pair"
        )
    return scores


def _losses(scores: Sequence[TokenScores]) -> np.ndarray:
    return np.array([s.avg_loss for s in scores])
