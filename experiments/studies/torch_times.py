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
from experiments.studies.shapes import CLASSES, Shape
from ofmu_jax.models.huggingface.config import config_to_hf
from ofmu_jax.models.resnet import SHAPES, ResNetConfig

EAGER, COMPILED = "PyTorch eager", "torch.compile"
Updates = dict[str, Callable[[], Any]]


def updates(shape: Shape, remats: Sequence[str], *, exact: bool) -> Updates:
    """Name -> one update, of all on the same random model and rows.

    ``torch.compile`` has no double backward: what is ``exact`` runs in eager mode.
    """
    import torch  # pyrefly: ignore[missing-import]

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if shape.model in SHAPES:
        return _first_order(shape, *_images(shape, device), "")
    return _language(shape, device, remats, exact=exact)


def _language(
    shape: Shape, device: str, remats: Sequence[str], *, exact: bool
) -> Updates:
    import torch  # pyrefly: ignore[missing-import]
    import transformers

    config = config_to_hf(shape.config())
    size = (shape.batch_size, shape.length)
    with torch.device(device):
        rows = [torch.randint(config.vocab_size, size) for _ in range(2)]
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

    found: Updates = {}
    for remat in remats:
        suffix = f", remat {remat}" if remat != "none" else ""
        found |= _first_order(shape, model_of(remat, "sdpa"), mean_nll, rows, suffix)
    if exact:
        model = model_of("none", "eager")  # fused attention is differentiable once
        loss = functools.partial(mean_nll, model)
        inner = functools.partial(inner_gradient, beta=BETA)
        outer = functools.partial(outer_gradient, beta=BETA, rho=RHO)
        up = lambda *arguments: [-g for g in inner(*arguments)]
        found[f"{EAGER}: {INNER}"] = _ready(shape, model, loss, up, rows)
        found[f"{EAGER}: {OUTER}"] = _ready(shape, model, loss, outer, rows)
    return found


def _images(shape: Shape, device: str) -> tuple[Any, Callable, list[Any]]:
    """A network in training mode, its loss of (network, rows), and two batches."""
    import torch  # pyrefly: ignore[missing-import]

    from experiments.studies.torch_resnet import Network

    config = ResNetConfig(shape.model, CLASSES)
    with torch.device(device):
        model = Network(config).train()
        size = (shape.batch_size, 3, shape.image_size, shape.image_size)
        labels = (shape.batch_size,)
        rows = [
            (255 * torch.rand(size), torch.randint(CLASSES, labels)) for _ in range(2)
        ]
    loss = lambda forward, batch: torch.nn.functional.cross_entropy(
        forward(batch[0]), batch[1]
    )
    return model, loss, rows


def _first_order(
    shape: Shape, model: Any, loss: Callable, rows: list[Any], suffix: str
) -> Updates:
    """Gradient ascent and GradDiff, eager and compiled."""
    import torch  # pyrefly: ignore[missing-import]

    found: Updates = {}
    for way, forward in ((EAGER, model), (COMPILED, torch.compile(model))):
        for name, gradients in ((ASCENT, ascent), ("GradDiff", difference)):
            of = functools.partial(loss, forward)
            found[f"{way}: {name}{suffix}"] = _ready(shape, model, of, gradients, rows)
    return found


def _ready(
    shape: Shape, model: Any, loss: Callable, gradients: Callable, rows: list[Any]
) -> Callable[[], None]:
    """One step of SGD along what ``gradients`` gives."""
    import torch  # pyrefly: ignore[missing-import]

    parameters = list(model.parameters())
    device = parameters[0].device.type
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    low = torch.autocast(device, torch.bfloat16)

    def run() -> None:
        with contextlib.nullcontext() if shape.dtype == "float32" else low:
            found = gradients(loss, parameters, *rows)
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()

    return run


Loss = Callable[[Any], Any]  # of a batch


def ascent(loss: Loss, parameters: Any, forget: Any, retain: Any) -> Any:
    """−∇L_f."""
    return _gradient(-loss(forget), parameters)


def difference(loss: Loss, parameters: Any, forget: Any, retain: Any) -> Any:
    """∇L_r − ∇L_f."""
    return _gradient(loss(retain) - loss(forget), parameters)


def _gradient(loss: Any, parameters: Any, **options: Any) -> Any:
    import torch  # pyrefly: ignore[missing-import]

    return torch.autograd.grad(loss, parameters, **options)


def mean_nll(forward: Callable[..., Any], ids: Any) -> Any:
    """Mean NLL of all tokens but each row's first."""
    return forward(input_ids=ids, labels=ids, use_cache=False).loss


def inner_gradient(
    loss: Loss,
    parameters: Sequence[Any],
    forget: Any,
    retain: Any,
    beta: float,
    *,
    graph: bool = False,
) -> Any:
    """∇Φ of Φ = L_f − β cos(∇L_f, ∇L_r), differentiable itself where ``graph``."""
    forgets = loss(forget)
    g_f = _gradient(forgets, parameters, create_graph=True)
    g_r = _gradient(loss(retain), parameters, create_graph=True)
    dot = lambda a, b: sum((x * y).sum() for x, y in zip(a, b, strict=True))
    cosine = dot(g_f, g_r) * (dot(g_f, g_f) * dot(g_r, g_r)) ** -0.5
    return _gradient(forgets - beta * cosine, parameters, create_graph=graph)


def outer_gradient(
    loss: Loss,
    parameters: Sequence[Any],
    forget: Any,
    retain: Any,
    beta: float,
    rho: float,
) -> Any:
    """∇F of F = L_r + ρ‖∇Φ‖², a third derivative."""
    gradient = inner_gradient(loss, parameters, forget, retain, beta, graph=True)
    penalty = rho * sum((g**2).sum() for g in gradient)
    return _gradient(loss(retain) + penalty, parameters)


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
