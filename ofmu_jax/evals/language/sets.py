"""From the losses of one evaluation set to its metrics; shared by all sources."""

import dataclasses

import numpy as np

from ofmu_jax.evals import intervals
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.evals.language import metrics

MEMORIZATION = (
    "extraction_strength",
    "extraction_strength_compat",
    "exact_memorization",
)


@dataclasses.dataclass
class SetLosses:
    """Losses of one evaluation set in nats per token, one entry per row."""

    answer: np.ndarray  # of the answer as trained; shape (N,)
    correct: np.ndarray | None = None  # of the right text in the truth ratio; (N,)
    wrong: list[list[float]] | None = None  # of the perturbed answers; N lists
    rouge: np.ndarray | None = None  # ROUGE-L recall of the generated answers; (N,)


def set_metric_names(name: str) -> list[str]:
    """Names of the metrics of one set: "forget", "retain", "ra" or "wf"."""
    if name == "forget":
        ratio = ["forget_truth_ratio", "forget_truth_ratio_prob_mean"]
    else:
        ratio = [f"{name}_Truth_Ratio"]
    options = [f"{name}_Q_A_Prob_normalised"] if name in ("ra", "wf") else []
    return [f"{name}_Q_A_Prob", *options, f"{name}_Q_A_ROUGE", *ratio]


def add_set(result: Evaluation, name: str, losses: SetLosses) -> None:
    """Adds the metrics of one set; those without losses must be named missing."""
    result.add_mean(f"{name}_Q_A_Prob", metrics.probability(losses.answer))
    if losses.rouge is not None:
        result.add_mean(f"{name}_Q_A_ROUGE", losses.rouge)
    if losses.correct is None or losses.wrong is None:
        return
    if name in ("ra", "wf"):
        result.add_mean(
            f"{name}_Q_A_Prob_normalised",
            metrics.probability_w_options(losses.answer, losses.wrong),
        )
    variant = result.options.truth_ratio
    ratios = metrics.truth_ratio(losses.correct, losses.wrong, variant)
    if name != "forget":
        kept = metrics.true_better(ratios, variant)
        result.add_mean(f"{name}_Truth_Ratio", kept, raw=ratios)
        return
    folded = metrics.closer_to_1_better(ratios, variant)
    result.add_mean("forget_truth_ratio", folded, raw=ratios)
    result.add_mean(
        "forget_truth_ratio_prob_mean",
        metrics.truth_ratio(losses.correct, losses.wrong, "prob_mean"),
    )


def add_utility(result: Evaluation) -> None:
    """Adds model utility, or names the terms it lacks."""
    absent = [name for name in metrics.UTILITY_TERMS if name not in result.metrics]
    if absent:
        result.add_missing(("model_utility",), f"needs {', '.join(absent)}")
        return
    result.metrics["model_utility"] = metrics.model_utility(result.metrics)
    variant = result.options.truth_ratio
    terms = {name: result.examples[name] for name in metrics.UTILITY_TERMS}
    for name, values in terms.items():
        if name.endswith("Truth_Ratio"):
            terms[name] = metrics.true_better(values, variant).tolist()
    groups = {name: name.partition("_")[0] for name in terms}
    result.intervals["model_utility"] = intervals.bootstrap_utility(
        terms, groups=groups, **result.bootstrap
    )
