"""The evaluation's answers and scores in PyTorch: same weights, prompts and texts.

As open-unlearning computes them: `generate` of prompts padded on the left, and one
forward pass over texts padded on the right to the longest of a batch.
"""

import functools
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.domains.language import handed_back
from experiments.domains.language.task import LanguageTask, Params
from ofmu_jax.data.language.prompts import IGNORE, Encoded, pad_left, pad_right


class Other:
    """A model of transformers with the weights of a task."""

    def __init__(self, task: LanguageTask, params: Params):
        import torch  # pyrefly: ignore[missing-import]
        import transformers

        self.torch, self.task = torch, task
        self.versions = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        with tempfile.TemporaryDirectory() as folder:
            handed_back.write(task, pathlib.Path(folder) / "hf", params)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                pathlib.Path(folder) / "hf",
                dtype=getattr(torch, task.config.dtype),
                attn_implementation="sdpa",
            )
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: Any = model.eval().to(self.device)
        self._long = functools.partial(
            torch.tensor, dtype=torch.long, device=self.device
        )

    def answers(self, sets: Sequence[Sequence[np.ndarray]], size: int) -> list[str]:
        """Greedy answers to prompts, ``size`` at a time."""
        found: list[str] = []
        options = {
            "do_sample": False,
            "max_new_tokens": self.task.evaluation.max_new_tokens,
            "eos_token_id": list(self.task.eos_ids),
            "pad_token_id": self.task.pad_id,
        }
        for prompts in sets:
            for start in range(0, len(prompts), size):
                chosen = prompts[start : start + size]
                longest = max(map(len, chosen))
                batch = pad_left(chosen, longest, **self.task.padding)
                with self.torch.inference_mode():
                    ids = self.model.generate(
                        self._long(batch["input_ids"]),
                        attention_mask=self._long(batch["attention_mask"]),
                        **options,
                    )
                new = ids[:, longest:].cpu().numpy()
                found += self.task.decode([self._until_end(row) for row in new])
        return found

    def _until_end(self, row: np.ndarray) -> np.ndarray:
        ends = np.flatnonzero(np.isin(row, self.task.eos_ids))
        return row[: ends[0]] if len(ends) else row

    def losses(self, sets: Sequence[Sequence[Encoded]], size: int) -> list[float]:
        """Mean negative log-likelihood a token of texts, ``size`` at a time."""
        found: list[float] = []
        for texts in sets:
            for start in range(0, len(texts), size):
                chosen = texts[start : start + size]
                longest = max(map(len, chosen))
                batch = pad_right(chosen, longest, **self.task.padding)
                ids, mask, labels = (
                    self._long(batch[name])
                    for name in ("input_ids", "attention_mask", "labels")
                )
                with self.torch.inference_mode():
                    logits = self.model(ids, attention_mask=mask).logits[:, :-1]
                    labels = labels[:, 1:]
                    nll = self.torch.nn.functional.cross_entropy(
                        logits.transpose(1, 2).float(),
                        labels,
                        ignore_index=IGNORE,
                        reduction="none",
                    )
                found += (nll.sum(1) / (labels != IGNORE).sum(1)).tolist()
        return found
