"""The metrics that need a reference: the model retrained without the forget rows."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from ofmu_jax.evals import intervals
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.evals.language import privacy
from ofmu_jax.evals.language.privacy import ATTACKS
from ofmu_jax.evals.language.scores import EvaluationError

GAPS = tuple(f"{name}_gap" for name in ATTACKS)
PAIRED = ("forget_truth_ratio_prob_mean", "forget_Q_A_Prob")
# Metrics that `compare_with_reference` sets, apart from privleak.
COMPARISONS = (
    "forget_quality",
    "forget_quality_ks",
    *(f"{name}_{what}" for name in PAIRED for what in ("difference", "equivalence_p")),
    "indistinguishable_from_reference",
    *GAPS,
)
ADJACENT, ADJACENCY_GAP = "adjacent_Q_A_Prob", "adjacency_gap"
CHANCE_NOTE = "privleak: no AUC of a reference, 0.5 taken as the field does for TOFU"


def compare_with_reference(
    evaluation: Evaluation, reference: Evaluation | None
) -> Evaluation:
    """Adds the metrics that need the model retrained without the forget rows.

    forget_quality (p of the KS test) and forget_quality_ks (D); privleak; the
    distance ``|AUC − AUC_reference|`` of every attack; and, on rows paired one to one,
    mean differences with the p-value of an equivalence test, summed up in
    indistinguishable_from_reference (1 or 0). Where adjacent rows were scored,
    adjacency_gap: their mean answer probability less the retrained model's, with a
    paired interval over rows; below 0 the neighbours of what is forgotten were lost.

    Args:
      evaluation: the unlearned model; it is not changed.
      reference: the retrained model, evaluated on the same rows; None names the
        metrics as missing, and privleak takes 0.5 for the AUC of the reference.

    Returns:
      A copy of `evaluation` with those metrics.

    Raises:
      EvaluationError: the two were computed on other forget rows or with another
        truth ratio.
    """
    result = _without_comparison(evaluation)
    _add_privleak(result, reference)
    if reference is None:
        reason = "no evaluation of a retrained reference model was given"
        gap = (ADJACENCY_GAP,) if ADJACENT in result.metrics else ()
        result.add_missing((*COMPARISONS, *gap), reason)
        return result
    _check_comparable(evaluation, reference)
    _add_forget_quality(result, reference)
    _add_equivalence(result, reference)
    _add_adjacency_gap(result, reference)
    for name, gap in zip(ATTACKS, GAPS, strict=True):
        if name in result.metrics and name in reference.metrics:
            distance = abs(result.metrics[name] - reference.metrics[name])
            result.metrics[gap] = distance
        else:
            result.add_missing((gap,), f"not both models have {name}")
    return result


def _without_comparison(evaluation: Evaluation) -> Evaluation:
    """A copy without what an earlier comparison left."""
    gone, kept = {*COMPARISONS, "privleak", ADJACENCY_GAP}, {}
    for field in ("metrics", "intervals", "missing"):
        values = getattr(evaluation, field)
        kept[field] = {name: x for name, x in values.items() if name not in gone}
    notes = [note for note in evaluation.notes if note != CHANCE_NOTE]
    return dataclasses.replace(evaluation, notes=notes, **kept)


def _check_comparable(evaluation: Evaluation, reference: Evaluation) -> None:
    """Refuses to compare other rows, or other definitions of the truth ratio."""
    for name in ("truth_ratio", "min_k"):
        ours, theirs = (getattr(e.options, name) for e in (evaluation, reference))
        if ours != theirs:
            raise EvaluationError(
                f"the reference was evaluated with {name}={theirs!r}, the model with "
                f"{ours!r}; evaluate both alike"
            )
    for name in ("forget", "holdout", "adjacent"):
        prints = [e.fingerprints.get(name) for e in (evaluation, reference)]
        if None not in prints and prints[0] != prints[1]:
            raise EvaluationError(
                f"the reference was evaluated on other {name} rows than the model; "
                "evaluate both on the same split"
            )


def _add_forget_quality(result: Evaluation, reference: Evaluation) -> None:
    """The KS test between the two models' truth ratios."""
    name = "forget_truth_ratio"
    if name not in result.examples or name not in reference.examples:
        who = "the model" if name not in result.examples else "the reference"
        reason = f"{who} has no {name}"
        result.add_missing(("forget_quality", "forget_quality_ks"), reason)
        return
    test = privacy.forget_quality(result.examples[name], reference.examples[name])
    result.metrics["forget_quality"] = test.p_value
    result.metrics["forget_quality_ks"] = test.statistic


def _add_equivalence(result: Evaluation, reference: Evaluation) -> None:
    """Paired differences, and whether all of them are shown to be small."""
    options, equivalent = result.options, []
    for name in PAIRED:
        ours, theirs = (e.examples.get(name) for e in (result, reference))
        names = (f"{name}_difference", f"{name}_equivalence_p")
        if ours is None or theirs is None or len(ours) != len(theirs) or len(ours) < 2:
            reason = f"{name} is not at hand for the same two or more rows of both"
            result.add_missing((*names, "indistinguishable_from_reference"), reason)
            continue
        margin, alpha = options.equivalence_margin, options.equivalence_alpha
        test = intervals.equivalence_test(ours, theirs, margin=margin, alpha=alpha)
        result.metrics[names[0]] = test.difference
        result.metrics[names[1]] = test.p_value
        interval = intervals.paired_bootstrap(ours, theirs, **result.bootstrap)
        result.add_interval(names[0], interval)
        equivalent.append(test.equivalent)
    if len(equivalent) == len(PAIRED):
        # Both must hold (intersection–union test), so the level needs no correction.
        result.metrics["indistinguishable_from_reference"] = float(all(equivalent))


def _add_adjacency_gap(result: Evaluation, reference: Evaluation) -> None:
    """Mean probability of the adjacent answers, less the retrained model's."""
    ours, theirs = (e.examples.get(ADJACENT) for e in (result, reference))
    if ours is None:
        return
    if theirs is None:
        reason = f"the reference has no {ADJACENT}"
        result.add_missing((ADJACENCY_GAP,), reason)
        return
    gap = np.mean(np.asarray(ours) - np.asarray(theirs))
    result.metrics[ADJACENCY_GAP] = float(gap)
    interval = intervals.paired_bootstrap(ours, theirs, **result.bootstrap)
    result.add_interval(ADJACENCY_GAP, interval)


def _add_privleak(result: Evaluation, reference: Evaluation | None) -> None:
    """Privacy leakage of the min-k attack, against chance without a reference."""
    if "mia_min_k" not in result.metrics:
        result.add_missing(("privleak",), result.missing.get("mia_min_k", "no min-k"))
        return
    known: Mapping[str, float] = reference.metrics if reference is not None else {}
    if "mia_min_k" not in known:
        result.notes.append(CHANCE_NOTE)
    auc_reference = known.get("mia_min_k", 0.5)
    result.metrics["privleak"] = privacy.privleak(
        result.metrics["mia_min_k"], auc_reference
    )
