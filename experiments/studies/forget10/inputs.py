"""Model, rows and tokens: packed for another machine, and found there."""

import dataclasses
import pathlib

from experiments.config.common import Run
from experiments.config.language import Tofu
from experiments.domains import of
from experiments.domains.language.domain import LanguageDomain
from experiments.stages.files import fingerprint
from experiments.studies.forget10 import packing
from ofmu_jax.evals.language.tofu import SETS
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.unlearning.language import tokens

DATA, MODEL, TOKENS = "tofu", "model", "tokens.npz"


def unpacked(pack: pathlib.Path, run: Tofu) -> Tofu:
    """The run with the model and the rows of a pack."""
    found = packing.unpack(pack, _beside(run.output_dir))
    return dataclasses.replace(
        run, base_model=str(found / MODEL), data_dir=found / DATA
    )


def _beside(folder: pathlib.Path) -> pathlib.Path:
    """Where what a pack has is put; a run's own folder may hold no given model."""
    return folder.with_name(f"{folder.name}.inputs")


def domain_of(run: Run, *, packed: bool) -> LanguageDomain:
    """The domain of a run; of one with a pack, with the tokens that it has."""
    domain = of.domain_of(run)
    assert isinstance(domain, LanguageDomain)
    if packed:
        path = _beside(run.output_dir) / TOKENS
        known = tokens.load(path, _made_from(domain))
        domain.task.tokens.rows.update(known.rows)
        domain.task.tokens.prompts.update(known.prompts)
    return domain


def prepared(folder: pathlib.Path, domain: LanguageDomain, mib: int) -> int:
    """Writes a pack of what a run needs, its texts being encoded already.

    Returns:
      The number of parts.
    """
    run, task = domain.run, domain.task
    assert isinstance(run, Tofu) and run.data_dir is not None and run.base_model
    for field in SETS.values():
        for row in getattr(domain.data, field):
            task.prompt(row.question)
    path = run.output_dir / TOKENS
    tokens.save(path, task.tokens, _made_from(domain))
    given = huggingface.locate(run.base_model)
    data = [*run.data_dir.glob("*.json*"), *run.data_dir.glob("*.txt")]
    files = {TOKENS: path}
    files |= {f"{DATA}/{x.name}": x for x in sorted(data)}
    files |= {f"{MODEL}/{x.name}": x for x in sorted(given.iterdir()) if x.is_file()}
    return packing.pack(files, folder, mib * packing.MIB)


def _made_from(domain: LanguageDomain) -> str:
    """Fingerprint of what the ids of a text depend on, beside the text."""
    task = domain.task
    return fingerprint(
        domain.files["base_model"],
        task.prompt_format.name,
        task.max_length,
        task.interior_eot,
        *task.conventions,
    )
