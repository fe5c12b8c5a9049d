"""Updates in PyTorch: same model, batch, precision and optimizer, each when it is told.

``python -m experiments.studies.torch_times SHAPE REMAT …`` with a `Shape` as JSON, in a
process of its own, as two frameworks do not share an accelerator's memory. It prints
the names of its updates as JSON; then each name on stdin is run once, and answered by
an empty line, or by what went wrong. `against` talks to it.
"""

import contextlib
import functools
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
    size = (shape.batch_size, shape.length)
    with torch.device(device):
        forget, retain = (torch.randint(config.vocab_size, size) for _ in range(2))
    low = torch.autocast(device, torch.bfloat16)
    base: Any = None

    def model_of(remat: str, attention: str) -> Any:
        """All on the same numbers, so that memory holds them once."""
        nonlocal base
        with torch.device(device):
            made = transformers.AutoModelForCausalLM.from_config(
                config, attn_implementation=attention
            ).train()
        if remat != "none":
            options = {"use_reentrant": False}
            made.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        if base is None:
            base = made
        else:
            made.load_state_dict(base.state_dict(), assign=True)
            made.tie_weights()
        return made

    def ready(model: Any, forward: Any, gradients: Callable) -> Callable[[], None]:
        """One step of SGD along what ``gradients`` gives."""
        parameters = list(model.parameters())
        optimizer = torch.optim.SGD(parameters, lr=RATE)

        def run() -> None:
            with contextlib.nullcontext() if shape.dtype == "float32" else low:
                found = gradients(forward, parameters, forget, retain)
            for parameter, gradient in zip(parameters, found, strict=True):
                parameter.grad = gradient
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if device == "cuda":
                torch.cuda.synchronize()

        return run

    found: Updates = {}
    for remat in remats:
        model = model_of(remat, "sdpa")
        suffix = f", remat {remat}" if remat != "none" else ""
        for way, forward in ((EAGER, model), (COMPILED, torch.compile(model))):
            for name, gradients in ((ASCENT, ascent), ("GradDiff", difference)):
                found[f"{way}: {name}{suffix}"] = ready(model, forward, gradients)
    if exact:
        model = model_of("none", "eager")  # fused attention is differentiable once
        inner = functools.partial(inner_gradient, beta=BETA)
        outer = functools.partial(outer_gradient, beta=BETA, rho=RHO)
        up = lambda *arguments: [-g for g in inner(*arguments)]
        found[f"{EAGER}: {INNER}"] = ready(model, model, up)
        found[f"{EAGER}: {OUTER}"] = ready(model, model, outer)
    return found


def ascent(forward: Any, parameters: Any, forget: Any, retain: Any) -> Any:
    """−∇L_f."""
    return _gradient(-mean_nll(forward, forget), parameters)


def difference(forward: Any, parameters: Any, forget: Any, retain: Any) -> Any:
    """∇L_r − ∇L_f."""
    loss = mean_nll(forward, retain) - mean_nll(forward, forget)
    return _gradient(loss, parameters)


def _gradient(loss: Any, parameters: Any, **options: Any) -> Any:
    import torch  # pyrefly: ignore[missing-import]

    return torch.autograd.grad(loss, parameters, **options)


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
    loss = mean_nll(forward, forget)
    g_f = _gradient(loss, parameters, create_graph=True)
    g_r = _gradient(mean_nll(forward, retain), parameters, create_graph=True)
    dot = lambda a, b: sum((x * y).sum() for x, y in zip(a, b, strict=True))
    cosine = dot(g_f, g_r) * (dot(g_f, g_f) * dot(g_r, g_r)) ** -0.5
    return _gradient(loss - beta * cosine, parameters, create_graph=graph)


def outer_gradient(
    forward: Callable[..., Any],
    parameters: Sequence[Any],
    forget: Any,
    retain: Any,
    beta: float,
    rho: float,
) -> Any:
    """∇F of F = L_r + ρ‖∇Φ‖², a third derivative."""
    gradient = inner_gradient(forward, parameters, forget, retain, beta, graph=True)
    penalty = rho * sum((g**2).sum() for g in gradient)
    return _gradient(mean_nll(forward, retain) + penalty, parameters)


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
