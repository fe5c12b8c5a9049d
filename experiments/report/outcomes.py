"""The verdicts of a report: on every model, on every method, on the request itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.domains import verdict
from experiments.domains.verdict import FORGETTING, KEEPING, Facts, Verdict
from experiments.report import glossary
from experiments.report.gaps import of_role

Row = Mapping[str, Any]


def with_verdicts(models: Sequence[Row]) -> list[dict[str, Any]]:
    """The models of a report, each unlearned one with its ``verdict``."""
    return [
        {**model, "verdict": _verdict(model, models).to_json()}
        if model["role"] == "unlearned"
        else {**model}
        for model in models
    ]


def methods(models: Sequence[Row]) -> list[dict[str, Any]]:
    """A verdict a method: the worst of its seeds, as no other may hide it.

    Args:
      models: `with_verdicts`.
    """
    groups: dict[tuple[str | None, str], list[Row]] = {}
    for model in models:
        if model["role"] == "unlearned":
            groups.setdefault((model.get("run"), model["method"]), []).append(model)
    return [_method(run, name, group) for (run, name), group in groups.items()]


def _method(run: str | None, name: str, group: Sequence[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {"method": name}
    for question, order in (("forgot", FORGETTING), ("kept", KEEPING)):
        answers = [model["verdict"][question] for model in group]
        word = verdict.worst((answer["word"] for answer in answers), order)
        same = [answer for answer in answers if answer["word"] == word]
        found[question] = same[0] | {"seeds": len(same)}
    found["badge"] = verdict.badge(found["forgot"]["word"], found["kept"]["word"])
    found["failed"] = any(model["verdict"]["failed"] for model in group)
    found["destroyed"] = any(model["verdict"]["destroyed"] for model in group)
    found["seeds"], found["chance"] = len(group), _chance(group[0])
    return found if run is None else {"run": run, **found}


def nothing_to_forget(models: Sequence[Row]) -> dict[str, Any] | None:
    """What shows that no target of the report knew the forget rows; None if one did.

    Args:
      models: `with_verdicts`.
    """
    unlearned = [model for model in models if model["role"] == "unlearned"]
    if any(m["verdict"]["forgot"]["word"] != verdict.NOTHING for m in unlearned):
        return None
    for model in unlearned:
        target, reference = (of_role(r, model, models) for r in ("target", "retrained"))
        assert target is not None  # without one there is no such verdict
        name = model["verdict"]["forgot"]["metric"]
        retain = name.replace("forget", "retain")
        values = {
            "target": _facts(target).value(name),
            "retrained": None if reference is None else _facts(reference).value(name),
            "retain": _facts(target).value(retain),
        }
        met = None if reference else bool(model.get("forget_target_met_before"))
        return {"metric": name, **values, "forget_target_met": met}
    return None


def _verdict(model: Row, models: Sequence[Row]) -> Verdict:
    others = (of_role(role, model, models) for role in ("target", "retrained"))
    target, reference = (None if row is None else _facts(row) for row in others)
    return verdict.verdict(_facts(model), target, reference)


def _facts(row: Row) -> Facts:
    return Facts(
        {glossary.canonical(name): value for name, value in row["metrics"].items()},
        _chance(row),
        row.get("finite") is not False,
        row.get("forget_target_met"),
        row.get("forget_target_met_before"),
    )


def _chance(row: Row) -> float:
    return row.get("chance") or 0.0
