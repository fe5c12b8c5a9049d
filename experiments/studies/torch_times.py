"""Updates in PyTorch: same model, batch, precision and optimizer, each when it is told.

``python -m experiments.studies.torch_times SHAPE REMAT …`` with a `Shape` as JSON, in a
process of its own, as two frameworks do not share an accelerator's memory. It prints
the names of its updates as JSON; then each name on stdin is run once, and answered by
an empty line, or by what went wrong. `against` talks to it.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from experiments.studies.pieces import ASCENT, BETA, INNER, OUTER, RATE, RHO
from experiments.studies.shapes import Shape
from ofmu_jax.models.huggingface.config import config_to_hf

EAGER, COMPILED = "PyTorch eager", "torch.compile"
Updates = dict[str, Callable[[], Any]]


def updates(shape: Shape, remats: Sequence[str], *, exact: bool) -> Updates:
    """Name -> one update, of all on the same random model and rows.

    ``torch.compile`` has no double backward: what is ``exact`` runs in eager mode.
    """
    import torch  # pyrefly: ignore[missing-import]
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    config = config_to_hf(shape.config())
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config).train()
        size = (shape.batch_size, shape.length)
        forget, retain = (torch.randint(config.vocab_size, size) for _ in range(2))
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    low = torch.autocast(device, torch.bfloat16)

    def cast():
        return contextlib.nullcontext() if shape.dtype == "float32" else low

    def moved(gradients: Sequence[Any], sign: float = 1.0) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient if sign > 0 else -gradient
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def ascent(forward: Callable[..., Any]) -> None:
        with cast():
            loss = -mean_nll(forward, forget)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def difference(forward: Callable[..., Any]) -> None:
        with cast():
            loss = mean_nll(forward, retain) - mean_nll(forward, forget)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def inner(forward: Callable[..., Any]) -> None:
        with cast():
            found = inner_gradient(forward, parameters, forget, retain, BETA)
        moved(found, -1.0)

    def outer(forward: Callable[..., Any]) -> None:
        with cast():
            found = outer_gradient(forward, parameters, forget, retain, BETA, RHO)
        moved(found)

    def ready(step: Callable, forward: Callable, remat: str, kind: str) -> Callable:
        def run() -> None:
            model.set_attn_implementation(kind)
            if remat == "none":
                model.gradient_checkpointing_disable()
            else:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            step(forward)
            if device == "cuda":
                torch.cuda.synchronize()

        return run

    found: Updates = {}
    compiled = {remat: torch.compile(model) for remat in remats}
    for remat in remats:
        for way, forward in ((EAGER, model), (COMPILED, compiled[remat])):
            for name, step in ((ASCENT, ascent), ("GradDiff", difference)):
                full = f"{way}: {name}" + (
                    f", remat {remat}" if remat != "none" else ""
                )
                found[full] = ready(step, forward, remat, "sdpa")
    if exact:
        # Fused attention cannot be differentiated twice.
        found[f"{EAGER}: {INNER}"] = ready(inner, model, "none", "eager")
        found[f"{EAGER}: {OUTER}"] = ready(outer, model, "none", "eager")
    return found


def mean_nll(forward: Callable[..., Any], ids: Any) -> Any:
    """Mean NLL of all tokens but each row's first."""
    return forward(input_ids=ids, labels=ids, use_cache=False).loss


def inner_gradient(
    forward: Callable[..., Any],
    parameters: Sequence[Any],
    forget: Any,
    retain: Any,
    beta: float,
    *,
    graph: bool = False,
) -> Any:
    """∇Φ of Φ = L_f − β cos(∇L_f, ∇L_r), differentiable itself where ``graph``."""
    import torch  # pyrefly: ignore[missing-import]

    loss = mean_nll(forward, forget)
    g_f = torch.autograd.grad(loss, parameters, create_graph=True)
    other = mean_nll(forward, retain)
    g_r = torch.autograd.grad(other, parameters, create_graph=True)
    dot = lambda a, b: sum((x * y).sum() for x, y in zip(a, b, strict=True))
    cosine = dot(g_f, g_r) * (dot(g_f, g_f) * dot(g_r, g_r)) ** -0.5
    phi = loss - beta * cosine
    return torch.autograd.grad(phi, parameters, create_graph=graph)


def outer_gradient(
    forward: Callable[..., Any],
    parameters: Sequence[Any],
    forget: Any,
    retain: Any,
    beta: float,
    rho: float,
) -> Any:
    """∇F of F = L_r + ρ‖∇Φ‖², a third derivative."""
    import torch  # pyrefly: ignore[missing-import]

    gradient = inner_gradient(forward, parameters, forget, retain, beta, graph=True)
    penalty = rho * sum((g**2).sum() for g in gradient)
    return torch.autograd.grad(mean_nll(forward, retain) + penalty, parameters)


def main() -> int:
    """Serves the updates of the shape on the command line until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # which libraries may print to
    arguments = json.loads(sys.argv[1])
    shape = Shape(**arguments.pop("shape"))
    found = updates(shape, **arguments)
    print(json.dumps(list(found)), file=answers, flush=True)
    for line in sys.stdin:
        problem = ""
        try:
            found[line.strip()]()
        except (RuntimeError, NotImplementedError) as error:  # no memory, no kernel
            problem = str(error).strip().splitlines()[0]
        print(problem, file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
