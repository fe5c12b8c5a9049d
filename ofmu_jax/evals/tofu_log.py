"""Reads the evaluation logs that the authors of TOFU published."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ofmu_jax.evals.aggregates import (
    ATTACKS,
    MEMORIZATION,
    SetLosses,
    add_set,
    add_utility,
    set_metric_names,
)
from ofmu_jax.evals.evaluation import EvalOptions, Evaluation
from ofmu_jax.evals.scores import EvaluationError

SECTIONS = {
    "forget": "eval_log_forget.json",
    "retain": "eval_log.json",
    "ra": "eval_real_author_wo_options.json",
    "wf": "eval_real_world_wo_options.json",
}
FIELDS = {
    "answer": "avg_gt_loss",
    "correct": "avg_paraphrased_loss",  # in RA and WF the answer, scored once more
    "wrong": "average_perturb_loss",
    "rouge": "rougeL_recall",
}


def from_tofu_log(
    log: Mapping[str, Any] | str | os.PathLike,
    *,
    options: EvalOptions = EvalOptions(),  # noqa: B008 (frozen)
) -> Evaluation:
    """Computes the TOFU metrics from an aggregated log of locuslab/tofu.

    Args:
      log: the parsed JSON, or the path of the file; one section per evaluation set,
        each field a mapping from row number to value.
      options: how to compute.

    Returns:
      An evaluation to read, or to hand to `compare_with_reference`. What needs token
      scores is named in its `missing`.

    Raises:
      EvaluationError: a field is missing, or fields disagree on their rows.
    """
    if isinstance(log, (str, os.PathLike)):
        log = json.loads(pathlib.Path(log).read_text(encoding="utf-8"))
    if not isinstance(log, Mapping) or not set(SECTIONS.values()) & set(log):
        raise EvaluationError(
            f"not a TOFU log: none of the sections {list(SECTIONS.values())} in it"
        )
    result = Evaluation(options=options)
    for name, section in SECTIONS.items():
        if section not in log:
            result.add_missing(
                set_metric_names(name), f"the log has no section {section}"
            )
            continue
        add_set(result, name, _read_section(section, log[section]))
    reason = "a TOFU log holds no token scores and no such rows"
    result.add_missing((*MEMORIZATION, *ATTACKS), reason)
    for name in ("forget_heldout", "retain_heldout"):
        result.add_missing((f"{name}_Q_A_Prob",), reason)
    add_utility(result)
    return result


def _read_section(section: str, content: Mapping[str, Any]) -> SetLosses:
    """Losses and ROUGE of one set, rows in ascending order."""
    columns: dict[str, list] = {}
    rows: list[str] | None = None
    for name, field in FIELDS.items():
        if field not in content:
            raise EvaluationError(f"TOFU log, section {section}: no field {field!r}")
        keys = sorted(content[field], key=int)
        if rows is not None and keys != rows:
            raise EvaluationError(
                f"TOFU log, section {section}: {field!r} has other rows than "
                f"{FIELDS['answer']!r}; the log is damaged"
            )
        rows = keys
        columns[name] = [content[field][key] for key in keys]
    return SetLosses(
        answer=np.array(columns["answer"]),
        correct=np.array(columns["correct"]),
        wrong=columns["wrong"],
        rouge=np.array(columns["rouge"]),
    )
