"""The model, the batch and the rounds of what is timed."""

import dataclasses
import functools
from typing import Annotated, Any, Literal

import jax
import numpy as np

from experiments.planning.architectures import architecture
from ofmu_jax.bounds import Bound, Count
from ofmu_jax.losses.tokens import ApplyFn
from ofmu_jax.models.llama.config import COMPUTATION
from ofmu_jax.models.llama.model import Llama, LlamaConfig, init_params

TINY = LlamaConfig(
    vocab_size=1024,
    hidden_size=96,
    intermediate_size=288,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=24,
)
# The architecture that is held against PyTorch on a CPU: 1.5M parameters.
SMALL = LlamaConfig(
    vocab_size=2048,
    hidden_size=128,
    intermediate_size=384,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
)
CLASSES = 10  # of images
OWN = {"tiny": TINY, "small": SMALL}


@dataclasses.dataclass(frozen=True)
class Shape:
    """The model and the batch that are timed."""

    model: str = "tiny"
    """tiny, small (1.5M), or an architecture that experiments.plan knows, such as
    llama-3.2-1b."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters are float32."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass recomputes: none of a layer; dots: all but the products
    with weights; full: everything."""
    attention: Literal["auto", "xla", "cudnn"] = "xla"
    """Of what takes first derivatives alone (second ones are always taken by xla);
    cudnn: a fused kernel; auto: that where it can run, else xla."""
    scan_layers: bool | None = None
    """A loop over layers, or each written out; default: a loop of 8 or more."""
    length: Annotated[int, Bound(2)] = 64
    image_size: Annotated[int, Bound(8)] = 32
    """Pixels across, for models of images."""
    batch_size: Count = 8
    inner_steps: Count = 5
    """T of the pieces that have an inner loop."""
    rounds: Count = 9
    """Every piece is timed once a round; the median over rounds counts."""

    @property
    def tokens(self) -> int:
        """Tokens that one gradient reads."""
        return self.batch_size * self.length

    def config(self) -> LlamaConfig:
        """The architecture.

        Raises:
          ModelError: if no architecture has that name.
        """
        found = OWN.get(self.model) or architecture(self.model)
        how = {name: getattr(self, name) for name in COMPUTATION}
        return dataclasses.replace(found, **how)


def start(config: LlamaConfig) -> Any:
    """Random parameters, which no attention kernel has a say in."""
    config = dataclasses.replace(config, attention="xla")
    return jax.jit(functools.partial(init_params, config))(jax.random.key(0))


def forward(config: LlamaConfig, *, twice: bool = False) -> ApplyFn:
    """(parameters, ids, mask) -> logits; ``twice``: can be differentiated twice."""
    if twice:
        config = dataclasses.replace(config, attention="xla")
    model = Llama(config)

    def apply_fn(params: Any, ids: jax.Array, mask: jax.Array) -> Any:
        return model.apply({"params": params}, ids, mask)

    return apply_fn


def token_batches(shape: Shape, config: LlamaConfig, count: int) -> dict[str, Any]:
    """So many random forget and retain batches, leaves (S, B, L)."""
    rng = np.random.default_rng(0)

    def batch() -> dict[str, np.ndarray]:
        size = (count, shape.batch_size, shape.length)
        ids = rng.integers(config.vocab_size, size=size, dtype=np.int32)
        return {"input_ids": ids, "labels": ids, "attention_mask": np.ones_like(ids)}

    return jax.device_put({"forget": batch(), "retain": batch()})
