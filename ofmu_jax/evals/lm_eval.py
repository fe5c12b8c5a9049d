"""Models of this library in lm-evaluation-harness: every task of it runs on them.

    import lm_eval
    from ofmu_jax.evals.lm_eval import LM

    lm_eval.simple_evaluate(model=LM("runs/demo/ofmu/seed0/hf"), tasks=["wmdp_bio"])

Needs the harness: ``pip install 'ofmu-jax[lm-eval]'``. How text becomes tokens is what
the harness does for Hugging Face models; scores are the same to rounding.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

try:
    from lm_eval import utils  # pyrefly: ignore[missing-import]
    from lm_eval.api.model import TemplateLM  # pyrefly: ignore[missing-import]
    from lm_eval.models.utils import (  # pyrefly: ignore[missing-import]
        handle_stop_sequences,
        has_bos_prefix,
        normalize_gen_kwargs,
        postprocess_generated_text,
    )
except ImportError as error:
    raise ImportError(
        "ofmu_jax.evals.lm_eval needs lm-evaluation-harness, which cannot be imported "
        f"({error}); pip install 'ofmu-jax[lm-eval]'"
    ) from error

from ofmu_jax.choices import Dtype
from ofmu_jax.data.language.chat import template_of
from ofmu_jax.data.language.kinds.continuations import joined
from ofmu_jax.evals.language.shared_prompts import PromptedModel, score_answers
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.llama import generation, prompted
from ofmu_jax.models.llama.model import Llama


class LM(TemplateLM):
    """A Llama-family model as the harness asks for one.

    Attributes:
      tokenizer: of the model, from its folder.
      max_length: positions; a longer context loses its beginning.
      prefix_token_id: what stands before a text that nothing precedes.
    """

    def __init__(
        self,
        pretrained: str | pathlib.Path,
        *,
        dtype: Dtype = "float32",
        batch_size: int = 16,
        max_length: int | None = None,
        max_gen_toks: int = 256,
    ):
        """Loads a model.

        Args:
          pretrained: Hugging Face folder or hub name, such as an export of a run.
          dtype: of the parameters and the computation.
          batch_size: prompts, and continuations, at once.
          max_length: as above; default: all positions that the model has.
          max_gen_toks: new tokens, where a task does not say how many.

        Raises:
          ModelError: a folder that cannot be read.
        """
        super().__init__()
        config, self.params = huggingface.load_pretrained(pretrained, dtype=dtype)
        self.config = dataclasses.replace(config, dtype=dtype)
        self.tokenizer = huggingface.load_tokenizer(pretrained)
        self.model, self.batch_size = Llama(self.config), int(batch_size)
        self.max_length = int(max_length or self.config.max_position_embeddings)
        self.max_gen_toks = int(max_gen_toks)
        self._stops = huggingface.load_stop_ids(pretrained)
        self._prompted = PromptedModel(
            functools.partial(prompted.read, self.model),
            functools.partial(prompted.follow, self.model),
        )

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        if add_special_tokens is None:  # not once more where the text spells them out
            prefix = self.tokenizer.decode(self.prefix_token_id)
            add_special_tokens = not has_bos_prefix(string, prefix)
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, Sequence[int], Sequence[int]]],
        **kwargs: Any,
    ) -> list[tuple[float, bool]]:
        examples = [joined(before, new, self.max_length) for _, before, new in requests]
        if not examples:
            return []
        scores = score_answers(
            self._prompted, self.params, examples, batch_size=self.batch_size
        )
        found = [
            (float(np.sum(s.log_prob, dtype=np.float64)), bool(s.correct.all()))
            for s in scores
        ]
        for (pair, _, _), answer in zip(requests, found, strict=True):
            if pair is not None:
                self.cache_hook.add_partial("loglikelihood", pair, answer)
        return found

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        windows = [self._windows(request.args[0]) for request in requests]
        flat = [(None, *window) for of in windows for window in of]
        values = iter(self._loglikelihood_tokens(flat))
        found = [sum(next(values)[0] for _ in of) for of in windows]
        for request, total in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return found

    def _windows(self, text: str) -> list[tuple[list[int], list[int]]]:
        """Contexts and what follows them, of a text of any length."""
        windows = utils.get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=self.max_length,
            context_len=1,
        )
        return [utils.make_disjoint_window(window) for window in windows]

    def generate_until(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[str]:
        """Greedy texts, or drawn ones at a temperature, up to a stop sequence.

        Raises:
          ValueError: options of sampling that are not known here, or no room for a
            prompt before so many new tokens.
        """
        groups: dict[str, list[int]] = {}  # rows with the same options go together
        for row, request in enumerate(requests):
            groups.setdefault(repr(sorted(request.args[1].items())), []).append(row)
        found: list[str] = [""] * len(requests)
        for rows in groups.values():
            contexts = [requests[row].args[0] for row in rows]
            texts = self._generated(contexts, requests[rows[0]].args[1])
            for row, text in zip(rows, texts, strict=True):
                found[row] = text
                args = requests[row].args
                self.cache_hook.add_partial("generate_until", args, text)
        return found

    def _generated(self, contexts: Sequence[str], given: dict[str, Any]) -> list[str]:
        options: dict[str, Any] = dict(normalize_gen_kwargs(given, self.max_gen_toks))
        eos = self.tokenizer.decode(self.eot_token_id)
        until = handle_stop_sequences(options.pop("until", None), eos=eos)
        most = int(options.pop("max_gen_toks"))
        hot = options.pop("temperature", 0.0)
        if options.pop("do_sample", False) and options:
            raise ValueError(
                f"sampling with {', '.join(sorted(options))} is not known here; leave "
                "that out of the task's generation_kwargs (temperature alone is)"
            )
        room = self.max_length - most
        if room < 1:
            raise ValueError(
                f"max_gen_toks is {most}, and the model has {self.max_length} "
                "positions for prompt and answer; ask for fewer tokens"
            )
        prompts = [self.tok_encode(x) or [self.prefix_token_id] for x in contexts]
        new = generation.generate(
            self.model,
            self.params,
            [np.asarray(prompt[-room:], np.int32) for prompt in prompts],
            max_new_tokens=most,
            eos_token_ids=tuple({self.eot_token_id, *self._stops}),
            batch_size=self.batch_size,
            temperature=hot,
        )
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [postprocess_generated_text(text, until, None) for text in texts]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        return self.tokenizer.apply_chat_template(
            chat_history,
            chat_template=template_of(self.tokenizer),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
