"""The model card of an export: README.md, where hubs and people look first.

It is made of what was measured and of the given model's own card, whose terms hold for
what is made of it. The deletion record hashes it with the other files.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from experiments.config.common import Run
from experiments.deletion.quotes import quotes, without
from experiments.deletion.record import KEY, Unlearned, key_id, key_of
from experiments.deletion.summary import happened
from experiments.domains.base import Evidence, Model, Origin
from experiments.report import glossary
from experiments.report.summary import number
from experiments.stages.files import to_json, write_text
from experiments.stages.stage import CARD, RECORD
from ofmu_jax.evals.evaluation import Evaluation

# Behind it: what the given model's card says. Of a card that has it, only that is kept.
MARK = "<!-- What the card of the model before says: -->"
_SIGNS = "↑ higher is better, ↓ lower; →ref as in a model that never saw the rows."
_NO_PROOF = "No measurement proves that nothing of the rows is left in the model."


def leave_card(
    run: Run,
    evidence: Evidence,
    model: Model,
    others: Mapping[str, Model | None],
    made: Unlearned | None = None,
) -> None:
    """Writes the card into a model's export, unless it is there.

    Args:
      others: name of a column -> a model that the numbers are held against.
      made: of an unlearned model, what its record tells.
    """
    origin = evidence.origin(model)
    known = quotes(evidence.items("forget"))
    text, dropped = without(origin.card.rpartition(MARK)[2].strip(), known)
    path = model.folder / run.export_folder / CARD
    if not origin.what and origin.card and not dropped:
        return  # the given model with its own card
    told = list(_told(run, evidence, origin, model, others, made))
    told += [f"## The model before\n\n{MARK}", text] if text else [MARK]
    data = _metadata(origin, evidence.name, model)
    content = f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(told) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        write_text(path, content)


def _metadata(origin: Origin, data: str, model: Model) -> ModelCardData:
    """What hubs read: terms, kind, results."""
    evaluation = model.evaluation
    assert evaluation is not None
    return ModelCardData(
        **origin.metadata,
        tags=["ofmu_jax", "machine-unlearning", *_own_tag(model)],
        model_name=f"{origin.base or data}, {model.name}",
        eval_results=[
            EvalResult(
                task_type=str(origin.metadata["pipeline_tag"]),
                dataset_type="deletion-request",
                dataset_name=data,
                metric_type=name,
                metric_name=glossary.metric(name).label,
                metric_value=evaluation.metrics[name],
                metric_args=_ends(evaluation, name),
            )
            for name in _shown(evaluation)
        ],
    )


def _own_tag(model: Model) -> list[str]:
    return [model.name] if model.role == "unlearned" else []


def _shown(evaluation: Evaluation) -> list[str]:
    names = glossary.ordered(evaluation.metrics)
    return [name for name in names if not glossary.metric(name).minor]


def _ends(evaluation: Evaluation, name: str) -> dict[str, Any] | None:
    ends = evaluation.intervals.get(name)
    if ends is None:
        return None
    return {"interval": list(ends), "confidence": evaluation.options.confidence}


def _told(
    run: Run,
    evidence: Evidence,
    origin: Origin,
    model: Model,
    others: Mapping[str, Model | None],
    made: Unlearned | None,
) -> Iterator[str]:
    """The paragraphs of the card but those of the given model's."""
    base = origin.base or f"A model of {evidence.name}"
    what = origin.what or "as it was given"
    yield f"# {base}, {what}"
    counts = [len(evidence.items(part)) for part in ("forget", "retain")]
    if made is None:
        yield f"A yardstick of a deletion request ({evidence.name}): {model.role}."
    else:
        title, source = (
            getattr(run.specs[made.method], k) for k in ("title", "source")
        )
        yield (
            f"{title} ({source}) was to make this model forget {counts[0]} of "
            f"{sum(counts)} items ({evidence.name}), and to keep the others."
        )
        yield f"## What came of it\n\n{_sentence(happened(_as_record(made)))}"
    yield f"## How to load it\n\n```python\n{origin.program}\n```"
    yield f"## Metrics\n\n{_table(model, others)}"
    if made is not None:
        yield f"## Method and options\n\n{_method(run, made)}"
    limits = "\n".join(f"- {line}" for line in _limits(evidence, origin, model, made))
    yield f"## Limits\n\n{limits}"
    if made is not None:
        yield f"## The deletion record\n\n{_record(run, made, counts)}"


def _as_record(made: Unlearned) -> dict[str, Any]:
    told = {"outcome": made.outcome, "training": {"stopped": None, **made.training}}
    return told | ({} if made.attacks is None else {"attacks": made.attacks})


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _table(model: Model, others: Mapping[str, Model | None]) -> str:
    """A row a metric: this model with its interval, and what it is held against."""
    evaluation = model.evaluation
    assert evaluation is not None
    columns = {name: of.evaluation for name, of in others.items() if of is not None}
    share = f"{evaluation.options.confidence:.0%}"
    heads = ["metric", f"this model ({share} interval over rows)", *columns]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for name in _shown(evaluation):
        about = glossary.metric(name)
        ours, ends = number(evaluation.metrics[name]), evaluation.intervals.get(name)
        if ends is not None:
            ours += f" ({number(ends.low)} – {number(ends.high)})"
        theirs = [
            number(of.metrics.get(name)) if of else "—" for of in columns.values()
        ]
        lines.append([f"{about.label} {about.sign}", ours, *theirs])
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n{_SIGNS}"


def _method(run: Run, made: Unlearned) -> str:
    options = {
        "method": made.method,
        "seed": made.seed,
        "options": to_json(run.config_of(made.method)),
        "updates": made.training.get("updates"),
        "gradient_evaluations": made.training.get("gradient_evaluations"),
    }
    return f"```json\n{json.dumps(options, indent=1, ensure_ascii=False)}\n```"


def _limits(
    evidence: Evidence, origin: Origin, model: Model, made: Unlearned | None
) -> Iterator[str]:
    if made is not None:
        yield _NO_PROOF
        yield "The numbers are of one seed; intervals are over rows, not over seeds."
        if made.attacks is None:
            yield "No attack was tried on it."
    elif model.role == "target":
        yield "It knows the rows that are to be forgotten."
    evaluation = model.evaluation
    assert evaluation is not None
    for why in dict.fromkeys(evaluation.missing.values()):
        names = ", ".join(k for k, v in evaluation.missing.items() if v == why)
        yield f"Not measured, as {why}: {names}."
    yield from (*evaluation.notes, *evidence.notes())
    if origin.base is not None and "license" not in origin.metadata:
        yield f"The card of {origin.base} names no licence; its terms hold here too."


def _record(run: Run, made: Unlearned, counts: list[int]) -> str:
    code = made.training.get("code") or {}
    commit = code.get("git_commit")
    version = f"ofmu_jax {code.get('ofmu_jax')}{f' at {commit}' if commit else ''}"
    key = key_id(key_of(run.output_dir, create=True))
    return (
        f"`{RECORD}` has a keyed hash of each of the {counts[0]} forgotten and one of "
        f"the {counts[1]} kept items (key {key}), the SHA-256 of every file here, "
        f"the metrics above and what made them ({version}), under a seal. Whoever has "
        f"the rows and the key, which is not part of this folder (`{KEY}` of the "
        "run), checks it with `python -m experiments.verify`."
    )
