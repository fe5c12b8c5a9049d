"""A language model with its tokenizer: encode, score, generate."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, cast

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from experiments.config.language import EvalConfig
from experiments.domains.language.mesh import fresh_params
from experiments.domains.language.tokens import Tokens
from experiments.shell import signals
from ofmu_jax.data.language import batches, prompts
from ofmu_jax.data.language.padding import InteriorEot
from ofmu_jax.data.language.records import QA, DataError
from ofmu_jax.evals.language.scores import TokenScores
from ofmu_jax.evals.language.shared_prompts import PromptedModel, score_answers
from ofmu_jax.losses.tokens import ApplyFn, Projected
from ofmu_jax.models.llama import generation, nf4, prompted
from ofmu_jax.models.llama.model import (
    Llama,
    LlamaConfig,
    Place,
    anywhere,
    hidden_states,
    init_params,
)
from ofmu_jax.parallel import sharding
from ofmu_jax.training import placement

Params = Any


@dataclasses.dataclass(frozen=True)
class LanguageTask:
    """What does not change from stage to stage: architecture, tokens, conventions."""

    config: LlamaConfig
    tokenizer: Any
    prompt_format: prompts.PromptFormat
    max_length: int
    evaluation: EvalConfig
    source: str | None = None  # the given model that an export hands back
    mesh: Mesh | None = None  # None: one device
    loss_chunk: int = 0  # positions of a row whose logits are there at once; 0: all
    declared_stops: tuple[int, ...] = ()  # eos ids of the given generation config
    quantized: bool = False  # the parameters are those of `nf4.quantized`

    @functools.cached_property
    def tokens(self) -> Tokens:
        """Of what was tokenised already: no text is twice."""
        return Tokens({}, {})

    @functools.cached_property
    def model(self) -> Llama:
        return Llama(self.config, self._place)

    @property
    def _place(self) -> Place:
        return anywhere if self.mesh is None else placement.rows_stay(self.mesh)

    @functools.cached_property
    def twice_differentiable(self) -> "LanguageTask":
        """The same with attention whose derivatives can be differentiated."""
        config = dataclasses.replace(self.config, attention="xla")
        return dataclasses.replace(self, config=config)

    @functools.cached_property
    def apply_fn(self):
        """(params, input_ids, attention_mask) -> logits; one object, so that what is
        compiled for it is compiled once."""

        def apply(params, input_ids, attention_mask) -> jax.Array:
            logits = self.model.apply({"params": params}, input_ids, attention_mask)
            return cast(jax.Array, logits)

        return apply

    @functools.cached_property
    def prompted(self) -> PromptedModel:
        """The same for scores: a prompt is read once for all its answers."""
        return PromptedModel(
            functools.partial(prompted.read, self.model),
            functools.partial(prompted.follow, self.model),
        )

    @functools.cached_property
    def loss_apply_fn(self) -> ApplyFn:
        """The same for losses, which may leave the logits to be made by chunks."""
        if not self.loss_chunk:
            return self.apply_fn

        def apply(params, input_ids, attention_mask) -> Projected:
            variables = {"params": params}
            hidden, head = self.model.apply(
                variables, input_ids, attention_mask, without_head=True
            )
            return Projected(hidden, cast(jax.Array, head), self.loss_chunk)

        return apply

    @functools.cached_property
    def hidden_fn_of(self):
        """From a layer to (params, input_ids, attention_mask) -> its output, BxLxD."""
        return lambda layer: functools.partial(
            hidden_states, self.config, layer, place=self._place
        )

    @property
    def pad_id(self) -> int:
        return prompts.pad_id_of(self.tokenizer, self.declared_stops)

    @property
    def interior_eot(self) -> InteriorEot:
        """Which keys are hidden, in training, scores and answers alike."""
        return self.evaluation.interior_eot

    @property
    def padding(self) -> dict[str, Any]:
        """How rows and prompts are padded: ``pad_id`` and ``interior_eot``."""
        return {"pad_id": self.pad_id, "interior_eot": self.interior_eot}

    @property
    def batch_size(self) -> int:
        """Of scores and answers."""
        return self.evaluation.batch_size

    @property
    def max_new_tokens(self) -> int:
        """Of an answer."""
        return self.evaluation.max_new_tokens

    @functools.cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends an answer; generation stops at each."""
        return prompts.stop_ids(self.tokenizer, self.prompt_format, self.declared_stops)

    @property
    def ended(self) -> bool:
        """Whether a token ends an answer: none ends a passage of a document."""
        return self.prompt_format.ended

    @property
    def after_eos(self) -> Literal["cut", "compat"]:
        """What is scored behind an answer, see `prompts.encode`."""
        return "compat" if self.interior_eot == "compat" else "cut"

    @functools.cached_property
    def conventions(self) -> tuple[Any, ...]:
        """What prompts and answers have of the given folder, where that is not what
        the tokenizer says alone: part of what is done again when it changes."""
        found: list[Any] = []
        if self.eos_ids != (self.tokenizer.eos_token_id,):
            found.append(self.eos_ids)
        if self.prompt_format != prompts.PROMPT_FORMATS[self.prompt_format.name]:
            found.append(self.prompt_format.system_prompt)  # of the rows
        ours, published = (
            prompts.encode_prompt(
                self.tokenizer, "?", self.prompt_format, after_eos=after_eos
            ).tolist()
            for after_eos in (self.after_eos, "compat")
        )
        return (*found, ours) if ours != published else tuple(found)

    @functools.cached_property
    def shard(self) -> batches.Shard:
        """Which blocks of a batch's rows this process makes."""
        return batches.WHOLE if self.mesh is None else placement.host_shard(self.mesh)

    @property
    def row_sharding(self) -> NamedSharding | None:
        """Where the rows of a batch lie."""
        return None if self.mesh is None else placement.row_sharding(self.mesh)

    def outline(self) -> Params:
        """Shapes of the parameters, and where they lie if there is a mesh."""
        shapes = jax.eval_shape(lambda: init_params(self.config, jax.random.key(0)))
        if self.quantized:  # the rest as published models have it
            shapes = nf4.outline(shapes, "bfloat16")
        return shapes if self.mesh is None else sharding.outline(shapes, self.mesh)

    def init_params(self, seed: int) -> Params:
        """Fresh parameters of a model trained from scratch, made where they lie."""
        return fresh_params(self.config, self.mesh)(jax.random.key(seed))

    def encode(self, rows: Sequence[QA]) -> list[prompts.Encoded]:
        """Token ids and labels of question-answer rows.

        Raises:
          DataError: naming the row: too long, a control token spelled out, or a token
            that the model has no embedding for.
        """
        encoded = prompts.encode_rows(
            self.tokenizer,
            rows,
            self.prompt_format,
            self.max_length,
            positions=self.source and self.config.max_position_embeddings,
            declared_stops=self.declared_stops,
            after_eos=self.after_eos,
            known=self.tokens.rows,
        )
        for number, example in enumerate(encoded, 1):
            if (largest := int(example.input_ids.max())) >= self.config.vocab_size:
                raise DataError(
                    f"row {number}: token id {largest}, and the model has only "
                    f"{self.config.vocab_size} embeddings; give the tokenizer that "
                    "belongs to the model"
                )
        return encoded

    def score(
        self, params: Params, pairs: Sequence[tuple[str, str]]
    ) -> list[TokenScores]:
        """Per-token scores of (question, answer) pairs."""
        examples = self.encode([QA(question, answer) for question, answer in pairs])
        return self.score_encoded(params, examples)

    def score_encoded(
        self, params: Params, examples: Sequence[prompts.Encoded]
    ) -> list[TokenScores]:
        """Per-token scores of rows that are encoded already."""
        found = score_answers(
            self.prompted,
            params,
            examples,
            batch_size=self.batch_size,
            sharding=self.row_sharding,
            before_batch=signals.pause,
            **self.padding,
        )
        if self.ended:
            return found
        return [dataclasses.replace(scores, ended=False) for scores in found]

    def prompt(self, question: str) -> np.ndarray:
        """Token ids of a question, up to where the answer begins."""
        known = self.tokens.prompts
        if question not in known:
            known[question] = prompts.encode_prompt(
                self.tokenizer, question, self.prompt_format, after_eos=self.after_eos
            )
        return known[question]

    def generate(
        self,
        params: Params,
        questions: Sequence[str],
        temperature: float = 0.0,
        seed: int = 0,
        after_rows: generation.AfterRows = lambda count: None,
    ) -> list[str]:
        """Answers, cut at the first token of `eos_ids`: greedy, or drawn."""
        asked = [self.prompt(question) for question in questions]
        options = {"temperature": temperature, "seed": seed, "after_rows": after_rows}
        return self.continued(params, asked, **options)

    def continued(
        self,
        params: Params,
        beginnings: Sequence[np.ndarray],
        temperature: float = 0.0,
        seed: int = 0,
        least_likely: bool = False,
        after_rows: generation.AfterRows = lambda count: None,
    ) -> list[str]:
        """What follows these token ids, cut at the first token of `eos_ids`: greedy,
        drawn, or the least likely."""
        found = generation.generate(
            self.model,
            params,
            [prompts.attended(ids, **self.padding) for ids in beginnings],
            max_new_tokens=self.max_new_tokens,
            eos_token_ids=self.eos_ids,
            batch_size=self.batch_size,
            sharding=self.row_sharding,
            before_batch=signals.pause,
            after_rows=after_rows,
            temperature=temperature,
            seed=seed,
            least_likely=least_likely,
        )
        return self.decode(found)

    def decode(self, rows: Sequence[np.ndarray]) -> list[str]:
        """Texts of new tokens, without the one that ends them."""
        said = [row[~np.isin(row, self.eos_ids)] for row in rows]  # one, at the end
        return [
            text.strip()
            for text in self.tokenizer.batch_decode(said, skip_special_tokens=True)
        ]
