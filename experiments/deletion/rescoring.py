"""An exported model scored again, and how far its metrics are from recorded ones."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.config.language import LanguageRun
from experiments.domains.language import rows
from experiments.domains.language.task import LanguageTask
from experiments.stages.files import fingerprint
from ofmu_jax.data.language import prompts
from ofmu_jax.data.language.records import UnlearningData
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.llama.config import LlamaConfig


class Rescoring:
    """Scores exported models as their run did; each reference is scored once."""

    def __init__(self):
        self._tasks: dict[str, LanguageTask] = {}
        self._references: dict[str, Evaluation] = {}

    def evaluation(
        self,
        folder: pathlib.Path,
        run: LanguageRun,
        data: UnlearningData,
        reference: pathlib.Path | None = None,
    ) -> Evaluation:
        """The evaluation of an exported model.

        Args:
          folder: of the export.
          run: whose conventions are used.
          data: the rows.
          reference: export of the retrained model, scored again as well.

        Raises:
          ValueError: a folder that cannot be read, or a model that has no scores.
        """
        against = None
        if reference is not None:
            key = fingerprint(reference, run.evaluation, run.dtype, run.max_length)
            if key not in self._references:
                self._references[key] = self._scored(reference, run, data, None)
            against = self._references[key]
        return self._scored(folder, run, data, against)

    def _scored(
        self,
        folder: pathlib.Path,
        run: LanguageRun,
        data: UnlearningData,
        against: Evaluation | None,
    ) -> Evaluation:
        config, params = huggingface.load_pretrained(folder, dtype="float32")
        config = dataclasses.replace(config, dtype=run.dtype)
        return rows.evaluated(self._task(folder, config, run), params, data, against)

    def _task(
        self, folder: pathlib.Path, config: LlamaConfig, run: LanguageRun
    ) -> LanguageTask:
        """One task for all models with the same conventions: compiled once."""
        tokenizer = huggingface.load_tokenizer(folder)
        key = fingerprint(
            config,
            tokenizer.backend_tokenizer.to_str(),
            [run.prompt_format, run.max_length, run.evaluation],
        )
        if key not in self._tasks:
            self._tasks[key] = LanguageTask(
                config,
                tokenizer,
                prompts.format_for(tokenizer, run.prompt_format),
                min(run.max_length, config.max_position_embeddings),
                run.evaluation,
            )
        return self._tasks[key]


def tolerance(folder: pathlib.Path) -> float:
    """How far a metric may be off: an export in 16 bits is a rounded model.

    In float32 another machine may sum in another order, which moves the last digits
    and, seldom, a greedy answer.
    """
    kind = str(huggingface.load_config(folder).dtype or "float32")
    return 1e-3 if kind.endswith("float32") else 5e-2


def differences(
    recorded: Mapping[str, Any], found: Mapping[str, Any], limit: float
) -> str:
    """Names the values that differ; "" if none does.

    >>> differences({"a": 1.0, "b": [0.0, 2.0]}, {"a": 1.001, "b": [0.0, 3.0]}, 0.01)
    'b is [0, 3], recorded [0, 2]'
    """
    names = sorted(recorded.keys() | found.keys())
    wrong = [
        f"{name} is {_shown(found.get(name))}, recorded {_shown(recorded.get(name))}"
        for name in names
        if not _near(recorded.get(name), found.get(name), limit)
    ]
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return "; ".join(wrong[:3]) + more


def _near(recorded: Any, found: Any, limit: float) -> bool:
    if recorded is None or found is None:
        return False
    if isinstance(found, list):
        pairs = zip(recorded, found, strict=False)
        return len(recorded) == len(found) and all(_near(a, b, limit) for a, b in pairs)
    return math.isclose(recorded, found, rel_tol=limit, abs_tol=limit)


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:.4g}"
