"""The deletion record: what was forgotten, from what, how, and with what result.

It lies in the exported folder of every unlearned model, as ``deletion.json``, and
holds no text of a row. A plain hash of a row would give it away to whoever can guess
it (a name, a date of birth), and so would a salt that lies beside the hash. So rows
are hashed with a key, HMAC-SHA256, and the key stays behind in ``OUT/deletion.key``:
with the key and the rows anyone can check the record, with the record alone nobody can
test a guess. `experiments.verify` checks all of it.
"""

import contextlib
import dataclasses
import datetime
import fnmatch
import functools
import hashlib
import hmac
import json
import os
import pathlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.config.common import Run
from experiments.deletion.names import name_of
from experiments.domains.base import Evidence
from experiments.shell import console, provenance
from experiments.stages.files import plain, sha256, to_json, write_json
from experiments.stages.hashes import file_hashes
from experiments.stages.stage import CARD, RECORD
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.training.checkpoint import sync

SCHEMA, VERSION = "ofmu_jax.deletion", 1
KEY = "deletion.key"
WEIGHTS = "*.safetensors*"
_TRAINING = ("stopped", "finite", "updates", "update", "gradient_evaluations")
_TRAINING += ("seconds", "forget_target")


class DeletionError(ValueError):
    """A record or a key that cannot be used; the message says why and what to do."""


def key_of(folder: pathlib.Path, *, create: bool = False) -> bytes:
    """The key of a run's hashes, from ``deletion.key`` in its folder.

    Args:
      folder: the run's, or the path of the key file itself.
      create: draw one, readable by its owner alone, where there is none. Whoever
        wants a key of their own puts the file there before the run.

    Raises:
      DeletionError: no key, or one of less than 16 bytes.
    """
    path = folder / KEY if folder.is_dir() else folder
    if create and not path.exists():
        new = path.with_name(f".{path.name}.new")  # never an empty key, were it cut off
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(new, flags, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        sync(new)
        new.rename(path)
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise DeletionError(
            f"the key {path} cannot be read ({error.strerror}); give the file that the "
            "run left: --key-file."
        ) from None
    if len(key) < 16:
        raise DeletionError(
            f"the key {path} has {len(key)} bytes, which can be guessed; give at least "
            "16 random ones."
        )
    _warn_of(path, key)
    return key


@functools.cache
def _warn_of(path: pathlib.Path, key: bytes) -> None:
    """Says once what makes a key no secret."""
    if path.stat().st_mode & 0o077:
        console.warning(f"others can read the key {path}; chmod 600 it.")
    if len(set(key)) < 8:
        console.warning(
            f"the key {path} has {len(set(key))} different bytes and can be guessed; "
            "give at least 16 random ones, before the run."
        )


def digest(key: bytes, value: Any) -> str:
    """HMAC-SHA256 of a value's canonical JSON: sorted names, no spaces, UTF-8.

    >>> digest(b"k", {"b": 1, "a": "é"}) == digest(b"k", {"a": "é", "b": 1})
    True
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=plain
    )
    return hmac.new(key, text.encode("utf-8"), hashlib.sha256).hexdigest()


def row_hashes(key: bytes, rows: Sequence[Any]) -> list[str]:
    """The hash of each row (or image), which is a JSON value, in order."""
    return [digest(key, row) for row in rows]


def set_hash(key: bytes, rows: Sequence[Any]) -> str:
    """One hash of the rows, whatever their order.

    >>> a, b = {"question": "a?"}, {"question": "b?"}
    >>> set_hash(b"k", [a, b]) == set_hash(b"k", [b, a]) != set_hash(b"k", [a, a])
    True
    """
    return digest(key, sorted(row_hashes(key, rows)))


def key_id(key: bytes) -> str:
    """Tells keys apart without telling them."""
    return digest(key, f"{SCHEMA} key")[:16]


def seal(key: bytes, record: Mapping[str, Any]) -> str:
    """A hash of the whole record but itself: without the key nobody can renew it."""
    return digest(key, {k: v for k, v in record.items() if k != "seal"})


@dataclasses.dataclass(frozen=True)
class Unlearned:
    """An unlearned model with what it was made from."""

    method: str
    seed: int
    folder: pathlib.Path  # of its export
    identity: str  # fingerprint of everything its weights and metrics come from
    training: Mapping[str, Any]
    evaluation: Evaluation
    base: str | pathlib.Path  # before unlearning: as given, or the run's own export
    reference: pathlib.Path | None  # export of the retrained model
    outcome: Mapping[str, Any]  # what happened: `experiments.domains.verdict`
    attacks: Mapping[str, Any] | None = None  # what they found; None: there were none


def leave_record(run: Run, evidence: Evidence, model: Unlearned) -> None:
    """Writes ``deletion.json`` into the export, unless it is there and is up to date.

    Raises:
      DeletionError: the run's key cannot be used.
    """
    key = key_of(run.output_dir, create=True)
    path = model.folder / RECORD
    # It comes from the rows as well, so it is hashed with the key too.
    made_from = model.identity, parent_of(model.base), card_of(model.folder)
    identity = digest(key, [SCHEMA, VERSION, *made_from])
    with contextlib.suppress(DeletionError):
        if read_record(path).get("identity") == identity:
            return
    content = make_record(run, evidence, model, key) | {"identity": identity}
    write_json(path, content | {"seal": seal(key, content)})


def make_record(
    run: Run, evidence: Evidence, model: Unlearned, key: bytes
) -> dict[str, Any]:
    """The content of ``deletion.json``, as JSON values."""
    forget, retain = (evidence.items(part) for part in ("forget", "retain"))
    parent = parent_of(model.base)
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "forget": {
            "data": evidence.name,
            "rows": len(forget),
            "hash": "HMAC-SHA256 of canonical JSON",
            "key_id": key_id(key),
            "fields": list(evidence.fields),
            "row_hashes": row_hashes(key, forget),
            "set_hash": set_hash(key, forget),
        },
        "retain": {"rows": len(retain), "set_hash": set_hash(key, retain)},
        "files": list(evidence.files()),
        "method": {
            "name": model.method,
            "config": to_json(run.config_of(model.method)),
        },
        "seed": model.seed,
        "run": choices_of(run),
        "outcome": dict(model.outcome),
        "training": {name: model.training.get(name) for name in _TRAINING},
        "model": {
            "files": exported_files(model.folder),
            **evidence.export(model.folder),
        },
        "base": _source(run, model.base),
        **({} if parent is None else {"parent": parent}),
        "reference": model.reference and _source(run, model.reference),
        "evaluation": {
            "metrics": model.evaluation.metrics,
            "intervals": {k: list(v) for k, v in model.evaluation.intervals.items()},
            "missing": model.evaluation.missing,
            "notes": model.evaluation.notes,
        },
        **({} if model.attacks is None else {"attacks": dict(model.attacks)}),
        "code": model.training.get("code") or provenance.code(),
        "notes": _notes(evidence, model),
    }


def read_record(path: pathlib.Path) -> dict[str, Any]:
    """A record of this version.

    Raises:
      DeletionError: absent, not JSON, or of another schema or version.
    """
    if path.exists() and not path.is_file():  # reading it might never end
        raise DeletionError(f"{path} is no file.")
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise DeletionError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise DeletionError(f"{path} is not JSON ({error}).") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise DeletionError(f"{path} is no deletion record (schema {SCHEMA!r}).")
    if record.get("version") != VERSION:
        raise DeletionError(
            f"{path} is a record of version {record.get('version')!r}; this code reads "
            f"version {VERSION}."
        )
    return record


def parent_of(base: str | pathlib.Path) -> dict[str, str] | None:
    """What names the record of the model before unlearning; None: it has none."""
    path = huggingface.locate(base) / RECORD
    return {"sha256": sha256(path)} if path.is_file() else None


def card_of(folder: pathlib.Path) -> str | None:
    """SHA-256 of an export's model card; None: it has none."""
    return sha256(folder / CARD) if (folder / CARD).is_file() else None


def exported_files(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of an export's files, but for the record itself."""
    return file_hashes(folder, lambda name: name != RECORD)


def weight_files(folder: str | pathlib.Path) -> dict[str, str]:
    """SHA-256 of the files that hold a model's weights."""
    return file_hashes(folder, lambda name: fnmatch.fnmatch(name, WEIGHTS))


def choices_of(run: Run) -> dict[str, Any]:
    """The run's choices but those of the methods and where it is.

    Files and folders by their names alone: the record goes to whoever gets the model.
    """
    choices = run.without_methods()
    del choices["output_dir"]
    return to_json({field: name_of(value) for field, value in choices.items()})


def _notes(evidence: Evidence, model: Unlearned) -> list[str]:
    notes = ["No text of a row is in this record; rows are hashed with a key."]
    broke = ["Training broke off: see training.stopped."]
    finite = model.training.get("finite", True)
    return [*notes, *evidence.notes(), *([] if finite else broke)]


def _source(run: Run, source: str | pathlib.Path) -> dict[str, Any]:
    """Where a model is (inside the run's folder: relative to it, else its name or that
    of the hub) and its weights."""
    inside = isinstance(source, pathlib.Path)
    name = source.relative_to(run.output_dir).as_posix() if inside else name_of(source)
    return {"source": name, "in_output_dir": inside, "files": weight_files(source)}
