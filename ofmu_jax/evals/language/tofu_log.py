"""Reads the evaluation logs that the authors of TOFU published."""

import json
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ofmu_jax.evals.evaluation import EvalOptions, Evaluation, fingerprint
from ofmu_jax.evals.language.privacy import ATTACKS
from ofmu_jax.evals.language.scores import EvaluationError
from ofmu_jax.evals.language.sets import (
    MEMORIZATION,
    SetLosses,
    add_set,
    add_utility,
    set_metric_names,
)

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
TEXTS = "generated_text"  # of each row: prompt, generated answer, true answer
# What the authors put around a question: Llama-2's template, and Phi's.
_TEMPLATES = (r"\[INST\] (.*) \[/INST\]", r"Question: (.*)\nAnswer: ?")


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
      An evaluation to read, or to hand to `compare_with_reference`, which refuses logs
      of another split. What needs token scores is named in its `missing`.

    Raises:
      EvaluationError: naming the section and field: missing, empty, with other rows
        than the section's other fields, or with a value that is no finite number.
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
        if TEXTS in log[section]:
            result.fingerprints[name] = _fingerprint(log[section][TEXTS])
    reason = "a TOFU log holds no token scores and no such rows"
    result.add_missing((*MEMORIZATION, *ATTACKS), reason)
    for name in ("forget_heldout", "retain_heldout"):
        result.add_missing((f"{name}_Q_A_Prob",), reason)
    add_utility(result)
    return result


def _read_section(section: str, content: Mapping[str, Any]) -> SetLosses:
    """Losses and ROUGE of one set, rows in ascending order."""
    columns: dict[str, list] = {}
    rows: list[str] = []
    where = f"TOFU log, section {section}"
    for name, field in FIELDS.items():
        if field not in content:
            raise EvaluationError(f"{where}: no field {field!r}")
        keys = _sorted(content[field])
        if not keys:
            raise EvaluationError(f"{where}: {field!r} is empty; the log is damaged")
        if rows and keys != rows:
            raise EvaluationError(
                f"{where}: {field!r} has other rows than {FIELDS['answer']!r}; the log "
                "is damaged"
            )
        rows = keys
        columns[name] = [content[field][key] for key in keys]
        for key, value in zip(keys, columns[name], strict=True):
            found = value if name == "wrong" else [value]
            if not (isinstance(found, list) and found and all(map(_finite, found))):
                raise EvaluationError(
                    f"{where}: row {key} of {field!r} is {value!r}; give finite numbers"
                )
    wrong = columns.pop("wrong")
    return SetLosses(wrong=wrong, **{k: np.array(v) for k, v in columns.items()})


def _sorted(column: Mapping[str, Any]) -> list[str]:
    return sorted(column, key=int)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _fingerprint(texts: Mapping[str, list[str]]) -> str:
    """That of an evaluation of the same rows: questions without their template."""
    rows = (texts[key] for key in _sorted(texts))
    return fingerprint((_question(prompt), truth) for prompt, _, truth in rows)


def _question(prompt: str) -> str:
    found = (re.fullmatch(template, prompt, re.DOTALL) for template in _TEMPLATES)
    return next((match[1] for match in found if match), prompt)
