"""One job at a time in an output folder: two would empty each other's stages."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import TextIO

from experiments.shell import console
from ofmu_jax.parallel.distributed import on_main

NAME = ".lock"


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other jobs out of ``folder``, which is made if need be.

    The operating system takes the lock away with the process, however that ends; a
    file that is left says nothing. A folder that was made here and stays empty goes
    again. Of several processes of one job the first holds the lock.

    Raises:
      FileExistsError: another job works there.
    """
    handles: list[TextIO] = []
    made = not folder.exists()
    on_main(lambda: handles.append(_locked(folder)))
    try:
        yield
    finally:
        for handle in handles:
            (folder / NAME).unlink(missing_ok=True)
            handle.close()
            if made:
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()


def _locked(folder: pathlib.Path) -> TextIO:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # by another job
        handle.seek(0)
        owner = handle.read().strip() or "another process"
        handle.close()
        raise FileExistsError(
            f"{folder} is in use by {owner}; wait until it is done, or choose another "
            "--output-dir."
        ) from None
    except OSError as error:
        console.note(
            f"{folder} lies where files cannot be locked ({error.strerror}); start no "
            "second job there."
        )
    if not _is_at(path, handle):  # the one that held it has just removed it
        handle.close()
        return _locked(folder)
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    handle.flush()
    return handle


def _is_at(path: pathlib.Path, handle: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False
