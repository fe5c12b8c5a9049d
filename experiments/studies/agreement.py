"""Does a device compute what the CPU computes? OFMU's pieces on both.

An accelerator multiplies float32 matrices in fewer bits unless it is told otherwise
(``jax_default_matmul_precision``; TF32 on a GPU, bfloat16 on a TPU), which differences
of gradients feel first. Each piece is computed on the CPU in full float32 and on the
device in both, from the same parameters and rows.
"""

import concurrent.futures
import functools
import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ofmu_jax import bilevel
from ofmu_jax.losses import likelihood
from ofmu_jax.models.llama.generation import greedy_generate
from ofmu_jax.models.llama.model import Llama, LlamaConfig, init_params

CONFIG = LlamaConfig(
    vocab_size=512,
    hidden_size=128,
    intermediate_size=384,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    initializer_range=0.1,  # losses with some curvature
)
PRECISIONS = ("default", "highest")
BETA, RHO = 1.0, 0.1
Pieces = Mapping[str, Callable[[Any, Any], Any]]


def pieces(config: LlamaConfig = CONFIG) -> Pieces:
    """Name -> function of (parameters, rows), which gives what is compared."""
    model = Llama(config)

    def apply_fn(params: Any, ids: jax.Array, mask: jax.Array) -> Any:
        return model.apply({"params": params}, ids, mask)

    loss = functools.partial(likelihood.cross_entropy, apply_fn)

    def of_losses(function: Callable, **options: Any) -> Callable:
        def piece(params: Any, rows: Any) -> Any:
            forget = lambda theta: -loss(theta, rows["forget"])
            retain = lambda theta: loss(theta, rows["retain"])
            return function(params, forget, retain, beta=BETA, **options)

        return piece

    differences: dict[str, Any] = {"curvature": "finite_difference"}
    inner, outer = bilevel.inner_gradient, bilevel.outer_gradient
    return {
        "loss": lambda params, rows: loss(params, rows["forget"]),
        "gradient": lambda params, rows: jax.grad(loss)(params, rows["forget"]),
        "inner gradient": of_losses(inner),
        "inner gradient, differences": of_losses(inner, **differences),
        "outer gradient": of_losses(outer, rho=RHO),
        "outer gradient, differences": of_losses(outer, rho=RHO, **differences),
    }


def distances(config: LlamaConfig = CONFIG) -> dict[str, dict[str, float]]:
    """Piece -> precision -> ‖device − CPU‖ / ‖CPU‖ over all leaves.

    The last entry, ``"generated tokens"``, is the share of tokens that differ. All is
    compiled at once, as many programs as there are cores: that is most of the time.
    """
    cpu, device = jax.local_devices(backend="cpu")[0], jax.local_devices()[0]
    with jax.default_device(cpu):
        params = init_params(config, jax.random.key(0))
    rows = {name: _rows(config, seed) for seed, name in enumerate(("forget", "retain"))}
    host = jax.device_get(params), rows  # each program takes its own device
    ways = [(device, precision) for precision in PRECISIONS]
    ways = [(cpu, "highest"), *(way for way in ways if way != (cpu, "highest"))]
    calls: dict[str, Callable[..., Any]] = {
        name: jax.jit(piece) for name, piece in pieces(config).items()
    }
    calls["generated tokens"] = functools.partial(_generated, config)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = {
            (name, way): pool.submit(_computed, call, *way, host)
            for name, call in reversed(calls.items())  # third derivatives soon
            for way in ways
        }
        values = {key: value.result() for key, value in waiting.items()}
    found: dict[str, dict[str, float]] = {}
    for name, precision in itertools.product(calls, PRECISIONS):
        right, value = values[name, ways[0]], values[name, (device, precision)]
        tokens = name == "generated tokens"
        apart = np.mean(value != right) if tokens else distance(value, right)
        found.setdefault(name, {})[precision] = float(apart)
    return found


def _computed(call: Callable, device: jax.Device, precision: str, host: Any) -> Any:
    """Settings of a thread are its own."""
    with jax.default_device(device), jax.default_matmul_precision(precision):
        return jax.device_get(call(*jax.device_put(host)))


def distance(value: Any, right: Any) -> float:
    """‖value − right‖ / ‖right‖ of two trees, in float64."""
    wide = lambda x: np.asarray(x, np.float64)
    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(right), strict=True)
    squares = [
        (np.sum((wide(a) - wide(b)) ** 2), np.sum(wide(b) ** 2)) for a, b in pairs
    ]
    apart, size = np.sum(squares, axis=0)
    return float(np.sqrt(apart / size))


def _rows(config: LlamaConfig, seed: int, shape: tuple[int, int] = (4, 48)) -> dict:
    ids = np.random.default_rng(seed).integers(config.vocab_size, size=shape)
    ids = ids.astype(np.int32)
    return {"input_ids": ids, "labels": ids, "attention_mask": np.ones_like(ids)}


def _generated(config: LlamaConfig, params: Any, rows: Any) -> np.ndarray:
    prompt = rows["forget"]
    return greedy_generate(
        Llama(config),
        params,
        prompt["input_ids"],
        prompt["attention_mask"],
        max_new_tokens=32,
        eos_token_ids=(),
        pad_token_id=0,
    )
