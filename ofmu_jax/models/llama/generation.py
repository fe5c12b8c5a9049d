"""Generation with a key-value cache, for many prompts of many lengths.

A fixed number of rows is decoded at once. A row that has ended is given to the next
prompt; when none is left, the rows that go on are gathered into fewer. The
cache grows with the rows.
"""

from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax.models.llama import decoding
from ofmu_jax.models.llama.model import Llama, Params
from ofmu_jax.parallel.distributed import to_host
from ofmu_jax.parallel.sharding import put

SLOTS = 64  # of a new cache, at least; it grows by as much as it has
SHORTEST = 16  # that prompts are padded to
FEWEST = 16  # rows that are not worth gathering into fewer
JOINED = 8  # one row in so many has to be free before prompts are read for them
GATHERED = 4  # one row in so many has to go on before they are gathered


def greedy_generate(
    model: Llama,
    params: Params,
    input_ids_BxL,
    attention_mask_BxL,
    *,
    max_new_tokens: int,
    eos_token_ids: Sequence[int],
    pad_token_id: int,
    sharding: jax.sharding.Sharding | None = None,
) -> np.ndarray:
    """`generate` for one batch of prompts that are padded on the left.

    Args:
      input_ids_BxL: prompts.
      attention_mask_BxL: 0 on the padding, and on what is as if it were not there.
      max_new_tokens: N.
      eos_token_ids: tokens that end a row.
      pad_token_id: what follows the end.
      sharding: where to put the rows, if the parameters lie on a mesh.

    Returns:
      New tokens of shape (B, N), int32; the end-of-sequence token included.
    """
    ids, mask = (np.asarray(x, np.int32) for x in (input_ids_BxL, attention_mask_BxL))
    if not np.all(mask[:, -1] == 1):
        raise ValueError(
            "a prompt ends in padding; pad prompts on the left, so that the last "
            "column of attention_mask is 1."
        )
    found = generate(
        model,
        params,
        [row[seen == 1] for row, seen in zip(ids, mask, strict=True)],
        max_new_tokens=max_new_tokens,
        eos_token_ids=eos_token_ids,
        batch_size=len(ids),
        sharding=sharding,
    )
    tokens = np.full((len(ids), max_new_tokens), pad_token_id, np.int32)
    for row, new in zip(tokens, found, strict=True):
        row[: len(new)] = new
    return tokens


AfterRows = Callable[[int], None]


def generate(
    model: Llama,
    params: Params,
    prompts: Sequence[np.ndarray],
    *,
    max_new_tokens: int,
    eos_token_ids: Sequence[int],
    batch_size: int = 64,
    sharding: jax.sharding.Sharding | None = None,
    before_batch: Callable[[], None] = lambda: None,
    after_rows: AfterRows = lambda count: None,
    temperature: float = 0.0,
    seed: int = 0,
    least_likely: bool = False,
) -> list[np.ndarray]:
    """The most likely continuation of each prompt, token by token, or another one.

    Equals transformers' ``generate(do_sample=False)`` in float32; bfloat16 rounds in
    other places, so that near ties may fall otherwise. A row ends with the first
    end-of-sequence token.

    Args:
      prompts: token ids, at least one each.
      max_new_tokens: N, at most this many new tokens.
      eos_token_ids: tokens that end a row.
      batch_size: rows that are decoded at once, at most.
      sharding: where to put the rows, if the parameters lie on a mesh. All rows are
        then decoded to their end before others begin.
      before_batch: may raise, to end it before the next prompts are read.
      after_rows: hears of how many prompts the continuations have just ended.
      temperature: 0 takes the most likely token; otherwise each is drawn from
        softmax(logits / temperature).
      seed: of the draws, which depend on it, the place of the prompt among all and
        that of the token alone.
      least_likely: takes the least likely token instead, each time.

    Returns:
      New tokens of each prompt, int32; the end-of-sequence token included.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}.")
    if not 0 <= temperature < np.inf:
        raise ValueError(f"temperature={temperature} must be 0 or above, and finite.")
    if least_likely and temperature:
        raise ValueError(
            f"least_likely draws nothing; leave out temperature={temperature}."
        )
    choice = decoding.LeastLikely() if least_likely else None
    if temperature:
        choice = decoding.Sampling(jax.random.key(seed), jnp.float32(temperature))
    course = _Course(
        model, params, prompts, max_new_tokens, batch_size, sharding, before_batch
    )
    eos_ids = np.asarray(tuple(eos_token_ids), np.int32)
    while course.waiting:
        course.begin()
        while course.owner:
            course.decode(eos_ids, choice)
            after_rows(course.collect())
            if course.joins:
                course.join()
                course.gather()
    return course.found


class _Course:
    """Which row has which prompt; the same in every process, as all see the same."""

    def __init__(
        self, model, params, prompts, max_new_tokens, batch_size, sharding, before_batch
    ):
        self.model, self.params, self.prompts = model, params, prompts
        self.new, self.most, self.sharding = max_new_tokens, batch_size, sharding
        self.before_batch, self.joins = before_batch, sharding is None
        # Taken from the end: short ones first, and together what has about one length.
        self.waiting = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        self.found = [np.zeros(0, np.int32)] * len(prompts)
        self.owner: dict[int, int] = {}  # row -> prompt

    @property
    def few(self) -> int:
        """Rows that are free before prompts are read for them."""
        return max(1, self.size // JOINED)

    def begin(self) -> None:
        """New rows, all with new prompts."""
        count, self.size = len(self.waiting), self.most
        # Fewer than half full costs more than that some wait, and join later.
        while self.joins and self.size > FEWEST and self.size > count:
            self.size //= 2
        self.owner, batch = self._take(range(self.size))
        self.length = self._room(len(self.prompts[i]) for i in self.owner.values())
        self.state = decoding.begin(
            self.model, self.params, batch, self.length, self.new
        )
        self.count = np.zeros(self.size, np.int32)

    def _room(self, used: Iterable[int]) -> int:
        """Slots for rows that use so many, and some more."""
        return max(SLOTS, 1 << int(max(used)).bit_length())

    def _grow(self, used: Iterable[int]) -> None:
        if (length := self._room(used)) > self.length:
            self.state, self.length = decoding.widened(self.state, length), length

    def decode(self, eos_ids: np.ndarray, choice: decoding.Choice = None) -> None:
        """Until enough rows have ended, or one that goes on has no slot left."""
        stop = self.size
        if self.joins and self.waiting:
            stop += self.few - len(self.owner)
        elif self.joins and self.size > FEWEST:
            stop -= self.size // GATHERED
        self._grow(
            len(self.prompts[i]) - 1 + self.count[b] for b, i in self.owner.items()
        )
        self.state = decoding.decode(
            self.model, self.params, self.state, eos_ids, np.int32(stop), choice
        )

    def collect(self) -> int:
        """What has ended is found, and its row is free; returns how many have."""
        ended, count = to_host((self.state.ended, self.state.count))
        self.count = np.array(count)  # a copy: the state's memory is used again
        if done := [b for b in self.owner if ended[b]]:
            tokens = to_host(self.state.tokens)
            for b in done:
                self.found[self.owner.pop(b)] = np.array(tokens[b, : self.count[b]])
        return len(done)

    def join(self) -> None:
        """Free rows get the next prompts."""
        while self.waiting and self.size - len(self.owner) >= self.few:
            rows = self._free()[: self.few]
            taken, batch = self._take(rows)
            self._grow(batch.lengths)
            where = np.asarray(rows, np.int32)
            self.state = decoding.join(
                self.model, self.params, self.state, batch, where
            )
            self.owner |= taken
            self.count = np.array(to_host(self.state.count))

    def gather(self) -> None:
        """Few rows that go on are all that is left."""
        if self.waiting or self.size <= FEWEST:
            return
        if 0 < len(self.owner) <= self.size // GATHERED:
            rows = [*self.owner, *self._free()]
            self.size //= GATHERED
            rows = rows[: self.size]
            self.state = decoding.gather(self.state, np.asarray(rows, np.int32))
            self.owner = {b: i for b, i in enumerate(self.owner.values())}
            self.count = self.count[rows]

    def _free(self) -> list[int]:
        return [b for b in range(self.size) if b not in self.owner]

    def _take(self, rows: Sequence[int]) -> tuple[dict[int, int], decoding.Prompts]:
        """The next prompts, for these rows."""
        self.before_batch()
        count = min(len(rows), len(self.waiting))
        chosen = [self.waiting.pop() for _ in range(count)]
        ids = [self.prompts[i] for i in chosen]
        longest = max(map(len, ids)) - 1
        length = max(SHORTEST, 1 << max(longest - 1, 0).bit_length())
        batch = decoding.padded(ids, chosen, len(rows), length)
        if self.sharding is not None:
            batch = decoding.Prompts(*(put(x, self.sharding) for x in batch))
        return dict(zip(rows, chosen, strict=False)), batch
