"""Disks that take no more, and names that cannot be used: each as one line."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator

# Full; over a quota; over the largest size of a file; read-only.
CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

_REMEDIES = {
    errno.EFBIG: "Raise the limit on the size of a file (ulimit -f)",
    errno.EROFS: "Make the disk writable",
}

PATTERN = ("*", "?", "[", "\\")


def check_name(path: str | pathlib.Path, option: str = "") -> None:
    """Refuses a path in which Orbax would see a pattern, and find nothing.

    Args:
      path: as it is from the root on: it may be named from within such a folder.
      option: what the message says before it.

    Raises:
      ValueError: if it has one of `PATTERN`.
    """
    full = str(pathlib.Path(path).absolute())
    if found := [mark for mark in PATTERN if mark in full]:
        raise ValueError(
            f"{option}{full} has {' and '.join(found)} in its name, where checkpoints "
            "would be written and not found again (Orbax reads a pattern); choose a "
            f"folder without any of {' '.join(PATTERN)}."
        )


def code(error: BaseException | None) -> int | None:
    """Which of `CODES` an error is about, of Python, Orbax, TensorStore, safetensors.

    >>> code(OSError(errno.ENOSPC, "No space left on device")) == errno.ENOSPC
    True
    >>> code(ValueError("I/O error: Read-only file system (os error 30)")) == 30
    True
    >>> code(OSError(errno.EACCES, "Permission denied"))
    """
    if isinstance(error, OSError) and error.errno in CODES:
        return error.errno
    found = [number for number in CODES if os.strerror(number) in str(error)]
    return found[0] if found else None


class DiskError(OSError):
    """Something could not be written; the message says what, where, and the way out."""


@contextlib.contextmanager
def writing(what: str, path: pathlib.Path, size: int | None = None) -> Iterator[None]:
    """Within it a disk that takes no more is a `DiskError`; other errors are as before.

    Its body must leave what was there before as it was, and nothing half written.

    Args:
      what: is written, such as "the checkpoint".
      path: where.
      size: bytes that it takes at most, if that is known.

    Raises:
      DiskError: with the errno of the cause.
    """
    try:
        yield
    except DiskError:
        raise
    except Exception as error:
        number = code(error)
        if number is None:
            raise
        raise full(what, path, number, size) from error


@contextlib.contextmanager
def replacing(what: str, path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file to write in place of another, whose name it takes at the end; on an error
    the other stays as it was, and nothing else is left.

    Raises:
      DiskError: as `writing`.
    """
    partial = path.with_name(path.name + ".partial")
    with writing(what, path):
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def full(
    what: str, path: pathlib.Path, number: int, size: int | None = None
) -> DiskError:
    """The error of a disk that takes no more."""
    there = next(above for above in path.absolute().parents if above.is_dir())
    bytes_free = f"{shutil.disk_usage(there).free:,}"
    takes = "" if size is None else f"it takes up to {size:,} bytes and "
    why = os.strerror(number)
    remedy = _REMEDIES.get(number, "Make room")
    made = DiskError(
        f"no room for {what} {path} ({why}): {takes}{bytes_free} are free in "
        f"{path.parent}; what was there before is intact. {remedy} and run the same "
        "command again: it goes on from there."
    )
    made.errno = number
    return made
