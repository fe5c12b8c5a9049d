"""The architecture of a model of the Llama family."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax

from ofmu_jax.choices import Dtype

# What of a layer is kept for the backward pass. "none": everything; "dots": products
# with weights, so that attention is recomputed; "full": the input of the layer.
REMAT: dict[str, Callable | None] = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}

# A program grows with every layer that is written out; a loop stacks what its backward
# pass needs, and slices it again, which few layers do not repay.
SCANNED = 8
Attention = Literal["auto", "xla", "cudnn"]
ATTENTION = get_args(Attention)
Remat = Literal["none", "dots", "full"]
COMPUTATION = ("dtype", "remat", "attention", "scan_layers")  # fields of `LlamaConfig`


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama 3's scaling of the rotary frequencies (``rope_type: llama3``)."""

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Architecture; names follow transformers. Hashable, so it can be static."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int = 32
    head_dim: int = 128
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    qkv_bias: bool = False
    output_bias: bool = False  # of the attention's output projection
    mlp_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None  # tokens, the current one included
    max_position_embeddings: int = 4096
    initializer_range: float = 0.02
    dtype: Dtype = "float32"  # of the computation; parameters are float32
    remat: Remat = "none"  # what the backward pass recomputes, see `REMAT`
    attention: Attention = "xla"  # how it is computed, see `attention.attend`
    scan_layers: bool | None = None  # a loop over them; None: see `scanned`

    @property
    def computation(self) -> dict[str, Any]:
        """The fields that say how it is computed; the others are what is computed."""
        return {name: getattr(self, name) for name in COMPUTATION}

    @property
    def scanned(self) -> bool:
        """Whether the layers are a loop in the program, or written out one by one."""
        if self.scan_layers is None:
            # XLA on a CPU recomputes nothing that is not in a loop.
            return self.num_layers >= SCANNED or self.remat != "none"
        return self.scan_layers

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_layers")
        for name in (*sizes, "num_heads", "num_kv_heads", "head_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("rms_norm_eps", "rope_theta"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name}={value} must be above 0, and finite.")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} is not a multiple of "
                f"num_kv_heads={self.num_kv_heads}."
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even for rotary pairs.")
        if self.remat not in REMAT:
            raise ValueError(
                f"remat={self.remat!r} is unknown; choose one of {tuple(REMAT)}."
            )
        if self.attention not in ATTENTION:
            raise ValueError(
                f"attention={self.attention!r} is unknown; choose one of {ATTENTION}."
            )
