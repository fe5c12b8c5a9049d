"""From a run to its domain."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from experiments.config.common import Run
from experiments.config.vision import Cifar
from experiments.domains.base import Domain, Evidence
from experiments.shell import compiled


def _kinds(run: Run) -> tuple[Any, Any]:
    """Imported late: a run needs the libraries of one of them."""
    if isinstance(run, Cifar):
        from experiments.domains.vision.domain import VisionDomain
        from experiments.domains.vision.evidence import VisionEvidence

        return VisionDomain, VisionEvidence
    from experiments.domains.language.domain import LanguageDomain
    from experiments.domains.language.evidence import LanguageEvidence

    return LanguageDomain, LanguageEvidence


def domain_of(run: Run) -> Domain:
    """The domain of a run, with its data and the models that were given.

    Raises:
      ValueError: options that do not go together, or data that cannot be read.
    """
    _compute(run)
    return _kinds(run)[0].of(run)


def evidence_of(run: Run, places: Mapping[str, Path | None]) -> Evidence:
    """What the records of a run are checked by.

    Args:
      places: where the files of rows lie now; None: where the run had them.

    Raises:
      ValueError: data that cannot be read.
    """
    _compute(run)
    return _kinds(run)[1].of(run, places)


def _compute(run: Run) -> None:
    """From here on products are what the run asks for (bfloat16 has one precision), and
    what XLA compiles is kept for the next start."""
    compiled.keep()
    precision = run.matmul_precision if run.dtype == "float32" else None
    jax.config.update("jax_default_matmul_precision", precision)
