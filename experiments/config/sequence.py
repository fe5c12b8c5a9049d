"""Requests one after another, as runs of one request each."""

import dataclasses
import pathlib
import re
from typing import Any, NamedTuple, TypeGuard

from experiments.config.language import Request
from ofmu_jax.data.language.rows import hub

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")


class Link(NamedTuple):
    """One request in the lineage of a method and a seed."""

    run: Request  # an ordinary run, of one method, one seed and one file
    number: int  # of the request, from 1

    @property
    def export(self) -> pathlib.Path:
        """Where its model lies, which the next one starts from."""
        return export_in(self.run.output_dir, self.run.methods[0], self.run.seeds[0])


def export_in(folder: pathlib.Path, method: str, seed: int) -> pathlib.Path:
    """The export of a request's model, in the folder of its run."""
    return folder / method / f"seed{seed}" / Request.export_folder


def is_sequence(run: Any) -> TypeGuard[Request]:
    """Whether a run has several requests: several files, or a folder of them."""
    if not isinstance(run, Request):
        return False
    return isinstance(run.forget_file, tuple) or _is_several(run.forget_file)


def _is_several(path: pathlib.Path) -> bool:
    return path.is_dir() and not hub.is_saved(path)


def files_of(run: Request) -> tuple[pathlib.Path, ...]:
    """The forget files in their order; of a folder, by their names.

    Raises:
      ValueError: a folder without such a file.
    """
    if isinstance(run.forget_file, tuple):
        return run.forget_file
    if not _is_several(run.forget_file):
        return (run.forget_file,)
    found = sorted(p for p in run.forget_file.iterdir() if _suffix(p) in SUFFIXES)
    if not found:
        raise ValueError(
            f"--forget-file {run.forget_file} is a folder without a file that ends in "
            f"{' or '.join(SUFFIXES)}; put one file a request there."
        )
    return tuple(found)


def _suffix(path: pathlib.Path) -> str:
    """What a name ends in, less that of an archive."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def lineage(run: Request, method: str, seed: int) -> list[Link]:
    """The requests of a method and a seed: each starts from the export before it, and
    keeps the retain rows but those of itself and of all before it.

    >>> files = pathlib.Path("a.jsonl"), pathlib.Path("b.jsonl")
    >>> run = Request(output_dir=pathlib.Path("out"), forget_file=files, model="m")
    >>> first, second = (link.run for link in lineage(run, "npo", 0))
    >>> first.model, second.model
    ('m', 'out/npo/seed0/01-a/npo/seed0/hf')
    >>> [path.name for path in second.forgotten_files]
    ['a.jsonl', 'b.jsonl']
    """
    files, links, model = files_of(run), [], run.model
    spared = tuple(name for name in run.tuned_except if name == method)
    for number, file in enumerate(files, 1):
        stem = re.sub(r"[^\w.-]+", "-", file.stem)
        name = f"{number:02d}-{stem}"
        one = dataclasses.replace(
            run,
            output_dir=run.output_dir / method / f"seed{seed}" / name,
            methods=(method,),
            seeds=(seed,),
            tuned_except=spared,
            model=model,
            forget_file=file,
            forgotten_files=run.forgotten_files + files[:number],
            push_to_hub=None,  # the last alone is
            push_public=False,
        )
        links.append(Link(one, number))
        model = str(links[-1].export)
    return links
