"""One step of gradient ascent in PyTorch: same model, batch, precision and optimizer.

``python -m experiments.studies.torch_times SHAPE`` with a `Shape` as JSON, in a process
of its own, as two frameworks do not share an accelerator's memory. Prints JSON.
"""

import contextlib
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from experiments.studies.cost import Shape
from ofmu_jax.models.huggingface.config import config_to_hf


def measure(shape: Shape) -> dict[str, float]:
    """Name of the way -> median seconds of an update."""
    import torch  # pyrefly: ignore[missing-import]
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    config = config_to_hf(shape.config())
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config)
        ids = torch.randint(config.vocab_size, (shape.batch_size, shape.length))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, maximize=True)
    if shape.remat != "none":
        model.gradient_checkpointing_enable()
    low = torch.autocast(device, torch.bfloat16)
    cast = contextlib.nullcontext() if shape.dtype == "float32" else low

    def step(forward: Callable[..., Any]) -> None:
        optimizer.zero_grad(set_to_none=True)
        with cast:
            loss = forward(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    def seconds(forward: Callable[..., Any]) -> float:
        times = []
        for _ in range(shape.rounds + 2):
            start = time.perf_counter()
            step(forward)
            times.append(time.perf_counter() - start)
        return statistics.median(times[2:])  # the first ones choose their kernels

    return {
        "PyTorch eager": seconds(model),
        "torch.compile": seconds(torch.compile(model)),
    }


def main() -> int:
    """Prints the times of the shape on the command line."""
    shape = Shape(**json.loads(sys.argv[1]))
    print(json.dumps(measure(shape)))
    return 0


def as_argument(shape: Shape) -> str:
    """The shape as `main` reads it."""
    return json.dumps(dataclasses.asdict(shape))


if __name__ == "__main__":
    sys.exit(main())
