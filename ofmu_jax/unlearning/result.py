"""What `unlearn` returns: the parameters, what became of the model, how to keep it."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from ofmu_jax.training import Run

Metrics = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Unlearned:
    """A finished run of `unlearn`.

    Attributes:
      method: its name.
      params: of the unlearned model, in the form in which they were given or read. Of
        a folder whose files are in 16 bits they are rounded to that, as written.
      model: what was given, with these parameters: an NNX module, or what `unlearn`
        takes for a language model or a classifier; None for parameters of one's own.
      metrics: ``{"before": {...}, "after": {...}}`` with ``forget_…`` and
        ``retain_…``. Language models: ``nll``, mean nats per token of an answer, and
        ``prob``, the mean over rows of exp(−nll). Classifiers: ``nll`` and
        ``accuracy``. One's own models: ``loss``. All forget rows, at most
        ``check_rows`` retain rows.
      forget_target: mean loss at which rows count as forgotten; None: there was none.
      gradient_evaluations: what it cost, in gradients of one batch.
      run: what the loop left: why it ended, and after how many updates.
    """

    method: str
    params: Any = dataclasses.field(repr=False)
    model: Any = dataclasses.field(repr=False)
    metrics: Mapping[str, Metrics]
    forget_target: float | None
    gradient_evaluations: float
    run: Run = dataclasses.field(repr=False)
    save: Callable[[pathlib.Path], None] | None = dataclasses.field(
        default=None, repr=False
    )

    @property
    def history(self) -> list[dict[str, float]]:
        """A row for each update: its number, losses, norms of gradients."""
        return self.run.metrics

    @property
    def checks(self) -> list[dict[str, float]]:
        """A row for each look of the stopping rule, the first before any update."""
        return self.run.checks

    @property
    def stopped(self) -> str:
        """Why it ended, in words; where a number was not finite, this says so, and
        the parameters are the last good ones."""
        return self.run.stopped

    def save_pretrained(self, folder: str | pathlib.Path) -> None:
        """Writes the model as a folder that must not exist yet.

        A language model: a Hugging Face folder; of one that was given as a folder all
        its other files are copied, and tensors have the dtypes that they have there.
        A classifier: what `ofmu_jax.models.classifier.load` reads.

        Raises:
          FileExistsError: if the folder exists.
          TypeError: for a model of one's own, which has no format.
        """
        if self.save is None:
            raise TypeError(
                "a model of your own has no folder format; write run.params with "
                "ofmu_jax.training.checkpoint.save(folder, run.params)."
            )
        self.save(pathlib.Path(folder))

    def __str__(self) -> str:
        before, after = self.metrics["before"], self.metrics["after"]
        changes = ", ".join(f"{k} {before[k]:.3g} → {after[k]:.3g}" for k in before)
        return f"{self.method}: {changes}; {self.stopped}"
