"""``--push-to-hub``: an unlearned model goes to a repository of the Hugging Face hub.

What goes is what the deletion record names, and the record: weights, configuration,
tokenizer, card. The key of the record, states of the training and texts of rows stay.
"""

import fnmatch
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from experiments.config.common import Run
from experiments.deletion.quotes import holds, quotes
from experiments.deletion.record import (
    RECORD,
    WEIGHTS,
    DeletionError,
    exported_files,
    read_record,
)
from experiments.domains.of import evidence_of
from experiments.shell import console
from ofmu_jax.parallel.distributed import on_main

ADAPTER = "adapter/*"  # within an export, for PEFT
# Too large to look for texts in, and without any: numbers, and single tokens.
_NO_TEXT = (WEIGHTS, "*.safetensors", "tokenizer.json", "vocab*", "merges*", "*.model")


def prepare(run: Run) -> None:
    """Makes the repository, if the run shall have one: before anything is trained, so
    that a name, a token or a connection that will not do is found out now.

    Raises:
      ValueError: it cannot be made, holds something else, or is public and shall not.
    """
    if run.push_to_hub is not None:
        on_main(lambda: _opened(HfApi(), run)[0])


def push(
    run: Run, export: pathlib.Path | None, failed: bool, asked: Sequence[Run] = ()
) -> None:
    """Uploads an export, if the run shall and it forgot.

    Args:
      export: of its one unlearned model; None: there is none.
      failed: it did not forget, broke off or is of no use.
      asked: runs whose forget rows must not go; default: this one.

    Raises:
      ValueError: its files are not those of its record, or the hub refuses.
    """
    if run.push_to_hub is None:
        return
    if export is None or failed:
        console.warning(f"nothing was pushed to {run.push_to_hub}: no model forgot.")
        return
    on_main(lambda: _push(HfApi(), run, export, asked or [run]))


def _push(api: HfApi, run: Run, export: pathlib.Path, asked: Sequence[Run]) -> None:
    repository, there = _opened(api, run)
    names = list(_without_rows(asked, export, files_of(export)))
    stale = {name for name in there if fnmatch.fnmatch(name, WEIGHTS)} - {*names}
    operations = [
        *(CommitOperationAdd(name, export / name) for name in names),
        *(CommitOperationDelete(name) for name in sorted(stale)),
    ]
    try:
        api.create_commit(repository, operations, commit_message="Unlearned model")
    except Exception as error:  # whatever its HTTP client raises, too
        raise ValueError(
            f"--push-to-hub {repository}: {_line(error)} The run is finished; the same "
            "command tries again."
        ) from None
    console.result(f"Pushed: https://huggingface.co/{repository}")


def files_of(export: pathlib.Path) -> list[str]:
    """Names of what goes: what the record names, the record, adapters.

    Raises:
      DeletionError: there is no record, or a file is not as it was recorded.
    """
    recorded = read_record(export / RECORD)["model"]["files"]
    if exported_files(export) != recorded:
        raise DeletionError(
            f"the files of {export} are not those of its record; run again, which "
            "makes it anew."
        )
    beside = sorted(path for path in export.glob(ADAPTER) if path.is_file())
    adapters = [path.relative_to(export).as_posix() for path in beside]
    return [*sorted(recorded), RECORD, *adapters]


def _without_rows(
    asked: Sequence[Run], export: pathlib.Path, names: Iterable[str]
) -> Iterator[str]:
    """Those in which no forget row is quoted: a given folder may hold anything."""
    rows = (row for run in asked for row in evidence_of(run, {}).items("forget"))
    found = quotes(rows)
    for name in names:
        readable = not any(fnmatch.fnmatch(name, kind) for kind in _NO_TEXT)
        path = export / name
        if readable and holds(path.read_text("utf-8", errors="replace"), found):
            console.warning(f"{path} quotes a forget row and is not pushed.")
        else:
            yield name


def _opened(api: HfApi, run: Run) -> tuple[str, list[str]]:
    """The repository's full name and its files; it is made where there is none."""
    option = f"--push-to-hub {run.push_to_hub}"
    try:
        made = api.create_repo(
            str(run.push_to_hub), private=not run.push_public, exist_ok=True
        )
        about = api.model_info(made.repo_id)
    except Exception as error:  # whatever its HTTP client raises, too
        raise ValueError(f"{option}: {_line(error)}") from None
    if not about.private and not run.push_public:
        raise ValueError(
            f"{option}: that repository is public; add --push-public, or name another."
        )
    names = [sibling.rfilename for sibling in about.siblings or ()]
    if RECORD not in names and {*names} - {".gitattributes"}:
        raise ValueError(
            f"{option}: that repository holds something else, without a {RECORD}; "
            "name a new one."
        )
    return made.repo_id, names


def _line(error: Exception) -> str:
    """An error in one line, which ends with a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0].rstrip('.')}."
