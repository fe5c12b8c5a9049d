"""The metrics of a report: label, goal, and what each says to people new to them."""

import dataclasses
from typing import Literal

Goal = Literal["reference", "higher", "lower", "zero", "unknown"]

# Sign beside a column's name -> what it says.
GOALS: dict[Goal, tuple[str, str]] = {
    "reference": ("→ref", "as in the retrained model"),
    "higher": ("↑", "higher is better"),
    "lower": ("↓", "lower is better"),
    "zero": ("→0", "as close to 0 as possible"),
    "unknown": ("", "not in the glossary"),
}


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric: ``label`` for tables, ``text`` for people new to the field."""

    name: str
    label: str
    goal: Goal
    text: str = ""
    minor: bool = False  # a variant or a derived number: left out of the bar charts

    @property
    def sign(self) -> str:
        """Sign of the goal, such as ``↑``."""
        return GOALS[self.goal][0]

    @property
    def goal_text(self) -> str:
        """The goal in words."""
        return GOALS[self.goal][1]


_PROB = "Probability per token (geometric mean) that the model gives the right answer"
_KNOWN = "Retrained models give such answers some probability too, by guessing alone."
_ATTACK = (
    "how well an attacker tells forget rows from rows never seen, as an area under the "
    "curve: 1 = perfectly memorised, 0.5 = chance; far below 0.5 gives it away as well."
)

METRICS = (
    Metric(
        "forget_heldout_Q_A_Prob",
        "forget, held-out",
        "reference",
        f"{_PROB} to questions about forgotten facts, asked in words it was never "
        f"trained on. {_KNOWN}",
    ),
    Metric(
        "forget_Q_A_Prob",
        "forget prob.",
        "reference",
        f"{_PROB} to the questions that were to be forgotten. {_KNOWN}",
    ),
    Metric(
        "forget_accuracy",
        "forget accuracy",
        "reference",
        "Share of forget examples classified correctly; unlearning accuracy is 1 minus "
        "this.",
    ),
    Metric(
        "retain_heldout_Q_A_Prob",
        "retain, held-out",
        "higher",
        f"{_PROB} to questions about kept facts, asked in words it was never trained "
        "on: knowledge, not the memory of a sentence.",
    ),
    Metric(
        "retain_Q_A_Prob",
        "retain prob.",
        "higher",
        f"{_PROB} to the questions that were to be kept.",
    ),
    Metric(
        "retain_accuracy",
        "retain accuracy",
        "higher",
        "Share of kept examples classified correctly.",
    ),
    Metric(
        "test_accuracy",
        "test accuracy",
        "higher",
        "Share of test examples classified correctly.",
    ),
    Metric(
        "unlearning_accuracy",
        "UA",
        "reference",
        "Unlearning accuracy: share of forget examples classified wrongly.",
    ),
    Metric(
        "mia_confidence",
        "MIA",
        "reference",
        "Share of forget examples that an attack on the confidence takes for ones "
        "that were never trained on.",
    ),
    Metric(
        "average_gap",
        "average gap",
        "lower",
        "Mean distance from the retrained model in UA, retain accuracy, test accuracy "
        "and MIA.",
    ),
    Metric(
        "overall_gap",
        "overall gap",
        "lower",
        "The number methods are ranked by: distance of the forget probability (of "
        "images: accuracy) from the retrained model's, plus what is lost of its model "
        "utility (of images: test accuracy) or of its retain probability (accuracy), "
        "whichever is more; held-out questions first. 0 = forgets and keeps like the "
        "retrained model.",
    ),
    Metric(
        "forget_gap",
        "forget gap",
        "lower",
        "Distance of the forget probability (of images: accuracy) from the retrained "
        "model's, on held-out questions where there are any.",
        minor=True,
    ),
    Metric("run_time_minutes", "minutes", "lower", "Wall time of the whole method."),
    Metric(
        "zrf",
        "ZRF",
        "reference",
        "1 minus the mean Jensen–Shannon divergence between the predictions on forget "
        "examples and those of an untrained network.",
        minor=True,
    ),
    Metric(
        "forget_js_divergence",
        "forget JS divergence",
        "lower",
        "Mean Jensen–Shannon divergence between the predictions on forget examples and "
        "the retrained model's.",
        minor=True,
    ),
    Metric(
        "model_utility",
        "model utility",
        "higher",
        "Harmonic mean of probability, ROUGE and truth ratio on retain rows, real "
        "authors and world facts; one of them at 0 makes it 0.",
    ),
    Metric(
        "forget_truth_ratio",
        "truth ratio",
        "reference",
        "Whether the model prefers the true answer to invented ones: 1 = cannot tell "
        "them apart, 0 = one of them is far likelier.",
    ),
    Metric(
        "forget_quality_ks",
        "forget quality D",
        "lower",
        "Kolmogorov–Smirnov distance between the truth ratios of this model and of the "
        "retrained one: 0 = same distribution, 1 = fully apart.",
    ),
    Metric(
        "forget_quality",
        "forget quality p",
        "higher",
        "p-value of that distance. Above 0.05 no difference was found, which is no "
        "proof that there is none; small forget sets give coarse values. A mean of "
        "p-values over seeds is no p-value.",
    ),
    Metric(
        "extraction_strength",
        "extraction",
        "reference",
        "Share of an answer that the model completes word for word from its beginning.",
    ),
    Metric(
        "exact_memorization",
        "exact memor.",
        "reference",
        "Share of answer tokens that are the model's first choice, given those before.",
    ),
    Metric(
        "forget_Q_A_ROUGE",
        "forget ROUGE",
        "reference",
        "Overlap (ROUGE-L recall) of generated and true answers on forget questions.",
    ),
    Metric(
        "retain_Q_A_ROUGE",
        "retain ROUGE",
        "higher",
        "Overlap (ROUGE-L recall) of generated and true answers on retain questions.",
    ),
    Metric(
        "retain_Truth_Ratio",
        "retain truth r.",
        "higher",
        "How far the true answer is preferred to invented ones on retain rows.",
    ),
    Metric("mia_loss", "MIA loss", "reference", f"By the loss: {_ATTACK}"),
    Metric("mia_zlib", "MIA zlib", "reference", f"By loss per zipped byte: {_ATTACK}"),
    Metric(
        "mia_min_k", "MIA min-k", "reference", f"By the least likely tokens: {_ATTACK}"
    ),
    Metric(
        "mia_min_k_plus_plus",
        "MIA min-k++",
        "reference",
        f"By the least likely tokens, normalised: {_ATTACK}",
    ),
    Metric(
        "privleak",
        "privleak",
        "zero",
        "Difference of the min-k attack to the retrained model's, in percent of the "
        "latter.",
    ),
    Metric(
        "indistinguishable_from_reference",
        "like retrained",
        "higher",
        "1 if an equivalence test shows that truth ratio and forget probability differ "
        "from the retrained model's by less than its margin, else 0.",
        minor=True,
    ),
)
