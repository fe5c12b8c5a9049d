"""Looking inside: what the layers still hold of an answer that is no longer said.

Suffixes as in `ofmu_jax.models.llama.model`; N layers, K places of a row.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax.attacks.base import Attack, Attacked, Found, Params, Progress, Rows
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.attacks.once import once
from ofmu_jax.data.language.padding import Encoded, pad_right
from ofmu_jax.data.language.records import QA
from ofmu_jax.evals.language import depth
from ofmu_jax.evals.language.scores import bucket_length
from ofmu_jax.evals.language.spans import Entities, told, within
from ofmu_jax.models.llama import streams
from ofmu_jax.models.llama.config import LlamaConfig

PLACES = 8  # their number is rounded up to a multiple of it


class Told(NamedTuple):
    """Rows of a batch, and the tokens that tell their facts."""

    ids_BxL: np.ndarray  # int32
    mask_BxL: np.ndarray  # int32
    places_BxK: np.ndarray  # int32: what predicts these tokens, one place before each
    tokens_BxK: np.ndarray  # int32
    weights_BxK: np.ndarray  # float32: of their mean; 0 where there is none

    @property
    def where_BxL(self) -> np.ndarray:
        """The places, bool."""
        where = np.zeros(self.ids_BxL.shape, bool)
        rows, columns = np.nonzero(self.weights_BxK)
        where[rows, self.places_BxK[rows, columns]] = True
        return where


def told_tokens(
    decode, example: Encoded, row: QA, entities: Entities, ended: bool = True
) -> np.ndarray:
    """Places of the tokens that tell a row's fact: its entity, else its new words.

    Args:
      decode: token ids to text.
      ended: whether there is an end of sequence.
    """
    answer = example.input_ids[example.prompt_length : len(example) - ended]
    pieces = [decode(answer[: i + 1]) for i in range(len(answer))]
    held = within(pieces, row.answer, told(row, entities))
    if not np.any(held):  # a tokenizer that writes the text in another way
        held = np.ones(len(answer), bool)
    return example.prompt_length + np.flatnonzero(held)


def batches(model: Attacked, rows: Sequence[QA], entities: Entities) -> Iterator[Told]:
    """The rows in their order, ``batch_size`` at a time, the last ones with blanks."""
    subject = model.subject
    examples = subject.encode(rows)
    decode = functools.partial(subject.tokenizer.decode, skip_special_tokens=True)
    told_of = [
        told_tokens(decode, *pair, entities, subject.ended)
        for pair in zip(examples, rows, strict=True)
    ]
    size = subject.batch_size
    length = bucket_length(max(map(len, examples)))
    most = -(-max(map(len, told_of)) // PLACES) * PLACES
    for start in range(0, len(rows), size):
        chosen = examples[start : start + size]
        places = told_of[start : start + size]
        blank = size - len(chosen)
        batch = pad_right([*chosen, *chosen[:1] * blank], length, **subject.padding)
        at, weights = np.zeros((2, size, most))
        for i, found in enumerate(places):
            at[i, : len(found)] = found
            weights[i, : len(found)] = 1 / len(found)
        at = at.astype(np.int32)
        tokens = np.take_along_axis(batch["input_ids"], at, axis=1)
        yield Told(
            batch["input_ids"],
            batch["attention_mask"],
            np.maximum(at - 1, 0),
            tokens,
            weights.astype(np.float32),
        )


@functools.partial(jax.jit, static_argnums=0)
def lens(config: LlamaConfig, params: Params, batch: Told) -> jax.Array:
    """Mean log-probability of each row's told tokens, decoded after each layer.

    Returns:
      Nats a token, shape (N, B), float32; the last layer's are the model's own.
    """
    kept = functools.partial(_log_prob, config, params, batch)
    return streams.residuals(config, params, batch.ids_BxL, batch.mask_BxL, kept)


@functools.partial(jax.jit, static_argnums=0)
def exchanged(
    config: LlamaConfig, params: Params, other: Params, batch: Told, where_BxL
) -> jax.Array:
    """The same by the last layer alone, where after one layer, each in turn, the
    streams that predict these tokens are those of another model: (N, B)."""
    ids, mask = batch.ids_BxL, batch.mask_BxL
    own, others = (streams.residuals(config, p, ids, mask) for p in (params, other))
    last_NxBxLxD = streams.exchanged(config, params, own, others, where_BxL, mask)
    # One layer's logits at a time.
    return jax.lax.map(
        functools.partial(_log_prob, config, params, batch), last_NxBxLxD
    )


def _log_prob(
    config: LlamaConfig, params: Params, batch: Told, x_BxLxD: jax.Array
) -> jax.Array:
    """Mean log-probability of the told tokens by this stream, decoded: (B,)."""
    x_BxKxD = jnp.take_along_axis(x_BxLxD, batch.places_BxK[..., None], axis=1)
    log_p = jax.nn.log_softmax(streams.decoded(config, params, x_BxKxD))
    chosen = jnp.take_along_axis(log_p, batch.tokens_BxK[..., None], -1)[..., 0]
    return jnp.sum(chosen * batch.weights_BxK, -1)


def logit_lens(
    model: Attacked, rows: Rows, budget: Budget, progress: Progress
) -> Found:
    """Log-probability of what tells the fact, decoded after each layer."""
    config, found = model.subject.config, []
    for batch in _told(model, rows):
        found.append(lens(config, model.params, batch))
        progress(len(found) * model.subject.batch_size / len(rows.scored))
    scores_NxR = _joined(found, len(rows.scored))
    layers = tuple(float(i) for i in range(1, len(scores_NxR) + 1))
    return Found(layers, scores_NxR, before=scores_NxR[-1])


def depth_score(
    model: Attacked, rows: Rows, budget: Budget, progress: Progress
) -> Found:
    """1 − unlearning depth score: 1 tells as much as the target inside, 0 nothing that
    the retrained model does not."""
    told, count = _told(model, rows), len(rows.scored)

    def exchange(other: Params, done: float) -> np.ndarray:
        found = []
        for number, batch in enumerate(told, 1):
            streams = model.target, other, batch, batch.where_BxL
            found.append(exchanged(model.subject.config, *streams))
            progress(done + number / len(told) / 2)
        return _joined(found, count)

    def yardsticks() -> tuple[np.ndarray, np.ndarray]:
        full = [lens(model.subject.config, model.target, batch)[-1:] for batch in told]
        return _joined(full, count)[0], exchange(model.reference, 0.0)

    # For all models beside these: no number in it is of the one under attack.
    full, retained = once(model.common, _key("depth", rows), yardsticks)
    itself = model.params is model.reference
    unlearned = retained if itself else exchange(model.params, 0.5)
    score = depth.unlearning_depth(full - retained, full - unlearned)
    held = np.isfinite(score)
    said = (
        f"{held.sum()} of {count} rows have a layer of the target that holds the fact"
    )
    # Where none does there is nothing to find; the same rows for all models.
    return Found((0.0,), np.where(held, 1 - score, 0.0)[None], said=said)


def _told(model: Attacked, rows: Rows) -> list[Told]:
    """All batches, of which no number is of a model."""
    make = lambda: list(batches(model, rows.scored, rows.entities))
    return once(model.common, _key("told", rows), make)


def _key(name: str, rows: Rows) -> tuple:
    """What is kept under: it depends on the rows and on their entities."""
    return name, rows.scored, frozenset(rows.entities.items())


def _joined(found: Sequence[jax.Array], count: int) -> np.ndarray:
    """(…, rows) of all batches, without the blank rows at the end."""
    return np.concatenate(jax.device_get(list(found)), axis=-1)[..., :count]


LENS = Attack(
    "Logit lens",
    "2605.24614",
    "log-probability of what tells the fact, nats a token",
    "one look at each row",
    logit_lens,
    axis="layer",
)
DEPTH = Attack(
    "Depth of what is left",
    "2605.24614",
    "1 − unlearning depth score",
    "streams of each layer put into the target",
    depth_score,
    beside=("reference", "target"),
)
