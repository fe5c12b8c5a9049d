"""One call for a whole run, whatever the model is: `unlearn`."""

import importlib
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import jax

from ofmu_jax.data.language.records import DataError
from ofmu_jax.methods.parts.lora import Lora
from ofmu_jax.models import classifier
from ofmu_jax.models.llama.config import LlamaConfig
from ofmu_jax.models.resnet import ResNetConfig
from ofmu_jax.unlearning.options import Asked, as_arguments
from ofmu_jax.unlearning.result import Unlearned

Loss = Callable[[Any, Any], jax.Array]  # (what is given as model, batch) -> scalar


def unlearn(
    model: Any,
    forget: Any,
    retain: Any,
    *,
    method: str = "ofmu",
    loss: Loss | None = None,
    holdout: Any = None,
    gradient_evaluations: int = 600,
    batch_size: int | None = None,
    forget_target: float | Literal["auto", "chance", "none"] | None = "auto",
    checks: int = 30,
    check_rows: int = 256,
    patience: int = 15,
    seed: int = 0,
    lora: int | Lora | None = None,
    trainable: str | None = None,
    progress: bool = False,
    **options: Any,
) -> Unlearned:
    r"""Makes a model forget examples and keep others, within a budget of gradients.

    What the commands do for one method and one seed, without folders, reports and a
    retrained model: the same batches, budget, stopping rule and steps, and of a given
    checkpoint the same numbers. Nothing that is given is changed.

    **A language model.** ``model`` is a Hugging Face folder or hub name, or
    ``(config, params, tokenizer)`` as `ofmu_jax.models.huggingface.folder` reads them.
    Examples are rows as in the files of ``experiments.run request``: dictionaries with
    ``question`` and ``answer`` or with ``text``, an iterable of those such as a data
    set, or the path of a file. Methods: `ofmu_jax.methods.METHODS`. Further arguments:
    ``prompt_format="auto"``, ``max_length=512`` tokens, ``allow_overlap=False``,
    ``columns=()``, such as ``["answer=Body"]``.

    **An image classifier of ours.** ``model`` is the folder of one, or ``(config,
    variables)`` as `ofmu_jax.models.classifier` reads them. Examples are ``(images,
    labels)``: uint8 (N, H, W, C) and integers (N,). Methods:
    `ofmu_jax.methods.vision.registry.METHODS`. Further arguments: ``crop_padding=0``
    pixels and ``flip=False``, the augmentation that the model was trained with.

    **A model of your own.** ``model`` is an NNX module or any tree of parameters, and
    ``loss`` a function of it and a batch: a scalar mean, low on what the model knows.
    Examples are trees of arrays whose leaves have an entry for each along the first
    axis; a batch has the same structure. Of a module `flax.nnx.Param` is trained; all
    else, averages of BatchNorm included, stays. Methods:
    `ofmu_jax.methods.own.METHODS`.

    Args:
      model, forget, retain: see above.
      method: a name; each has the defaults of its paper or of the commands.
      loss: of a model of your own.
      holdout: examples that the model never saw; they say what a forgotten one looks
        like, in the form of the others.
      gradient_evaluations: the budget, in gradients of one batch.
      batch_size: examples; default 16 rows, 64 images or examples.
      forget_target: mean loss, in nats per token or image, at which the examples count
        as forgotten; the run ends ``patience`` checks after the best one beyond it.
        ``"chance"`` (and ``"auto"``) is the loss of ``holdout``. Without that: of
        rows, of wrong answers; of images, log of the number of classes; of models of
        your own, none. None: the whole budget is used up.
      checks: how often the stopping rule looks, evenly over the budget.
      check_rows: retain examples that it looks at, at most.
      patience: checks that do not improve, once the target is met.
      seed: of the order of the examples, of draws, and of adapters.
      lora: rank of adapters, or `ofmu_jax.methods.Lora`, that are trained in place of
        a language model's parameters and merged at the end.
      trainable: regular expression; only parameters with such a path are changed (not
        of classifiers).
      progress: show a bar.
      options: of the method, such as ``learning_rate`` or ``beta``; `TypeError` names
        those that it has.

    Returns:
      `ofmu_jax.unlearning.Unlearned`: ``params``, ``model``, ``metrics`` before and
      after, ``history``, ``save_pretrained(folder)``.

    Raises:
      TypeError: an option that the method does not have, or a model of no known kind.
      ValueError: an unknown method, a value out of range, a budget below one update,
        or data that cannot be used (`DataError`, which names the row).
      ofmu_jax.models.huggingface.weights.ModelError: a folder that cannot be read.

    Example, a model of two numbers that is to forget that y = 1 where x = (0, −1):

    >>> import jax.numpy as jnp, ofmu_jax
    >>> mse = lambda p, batch: jnp.mean((batch["x"] @ p["w"] - batch["y"]) ** 2)
    >>> examples = lambda *x: {"x": jnp.array([x]), "y": jnp.ones(1)}
    >>> run = ofmu_jax.unlearn(
    ...     {"w": jnp.array([0.9, -0.9])},
    ...     forget=examples(0.0, -1.0),
    ...     retain=examples(1.0, 0.0),
    ...     loss=mse,
    ...     method="grad_diff",
    ...     learning_rate=0.1,
    ...     gradient_evaluations=20,
    ...     forget_target=0.5,
    ... )
    >>> after = run.metrics["after"]
    >>> bool(after["forget_loss"] > 0.5), bool(after["retain_loss"] < 0.02)
    (True, True)
    """
    asked = Asked(
        method,
        gradient_evaluations,
        batch_size,
        forget_target,
        checks,
        check_rows,
        patience,
        seed,
        progress,
    )
    given = {"loss": loss, "lora": lora, "trainable": trainable, "holdout": holdout}
    options |= {name: value for name, value in given.items() if value is not None}
    # Differences of gradients do not survive what devices like best.
    precision = jax.config.values["jax_default_matmul_precision"] or "highest"
    with jax.default_matmul_precision(precision):
        try:
            return _kind(model, loss).unlearn(model, forget, retain, asked, **options)
        except DataError as error:
            raise DataError(as_arguments(str(error))) from None


def _kind(model: Any, loss: Loss | None) -> Any:
    """The module that knows such a model, imported only now: one's own models need no
    transformers.

    Raises:
      TypeError: if nothing does.
    """
    path = isinstance(model, str | pathlib.Path)
    config = model[0] if isinstance(model, tuple) and model else None
    if loss is not None:
        kind = "own"
    elif isinstance(config, ResNetConfig) or (path and classifier.is_folder(model)):
        kind = "vision.request"
    elif isinstance(config, LlamaConfig) or path:
        kind = "language.request"
    else:
        raise TypeError(
            f"model is a {type(model).__name__}: give a folder, (config, params, "
            "tokenizer) of a language model, (config, variables) of a classifier, or a "
            "model of your own with loss=."
        )
    return importlib.import_module(f"ofmu_jax.unlearning.{kind}")
