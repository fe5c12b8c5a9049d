"""What a reader of a run's report has to know before the numbers."""

from collections.abc import Sequence

from experiments.config.language import LanguageRun
from experiments.domains.language import rows
from experiments.pipeline.language import TARGET, Model
from experiments.report.words import BROKEN


def remarks(run: LanguageRun, models: Sequence[Model]) -> list[str]:
    """Models that broke or were left as they were, and where refusals are from."""
    found = [] if "idk_dpo" not in run.methods else [taught(run)]
    target: Model | None = None
    for model in models:
        if model.name == TARGET:
            target = model
        elif model.role == "unlearned" and target is not None:
            found += _outcome(model, target)
    return found


def taught(run: LanguageRun) -> str:
    """Which refusals IdkDPO teaches."""
    texts, path = rows.refusals_of(run)
    if path is not None:
        return f"idk_dpo teaches the {len(texts)} refusals of {path}, one for each row."
    return (
        f"idk_dpo teaches the {len(texts)} refusals that are built in, one for each "
        "row (TOFU's own has 100: idontknow.txt or idontknow.jsonl in --data-dir, or "
        "--refusals-file)."
    )


def _outcome(model: Model, target: Model) -> list[str]:
    if model.evaluation is None or target.evaluation is None:
        return []
    ours, theirs = model.evaluation.metrics, target.evaluation.metrics
    who = f"{model.name}, seed {model.seed}"
    if not model.record.get("finite", True):
        return [f"{who} broke off and is no result: {model.record.get('stopped')}."]
    if ours == theirs:
        return [
            f"{who} left the model as it was: not one metric differs from the target's."
        ]
    name = "retain_Q_A_Prob"
    if name in ours and ours[name] < BROKEN * theirs.get(name, 0.0):
        return [
            f"{who} broke the model: {ours[name]:.3f} is left of a retain probability "
            f"of {theirs[name]:.3f}; its other numbers say nothing about forgetting."
        ]
    return []
