"""One job at a time in an output folder: two would empty each other's stages."""

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator

import filelock

from experiments.shell import console
from ofmu_jax import _disk
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
      ValueError: the name of the folder is a pattern.
    """
    _disk.check_name(folder, "--output-dir ")
    locks: list[filelock.BaseFileLock] = []
    made = not folder.exists()
    on_main(lambda: locks.append(_locked(folder)))
    try:
        yield
    finally:
        for lock in locks:
            (folder / NAME).unlink(missing_ok=True)
            lock.release()
            if made:
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()


def _locked(folder: pathlib.Path) -> filelock.BaseFileLock:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    path.touch()  # a folder that cannot be written to is an error of its own
    # A soft lock would outlive a process that is killed.
    lock = filelock.FileLock(
        path, blocking=False, fallback_to_soft=False, on_acquired=_sign
    )
    try:
        lock.acquire()
    except filelock.Timeout:
        owner = ""
        with contextlib.suppress(FileNotFoundError):
            owner = path.read_text(encoding="utf-8").strip()
        raise FileExistsError(
            f"{folder} is in use by {owner or 'another process'}; wait until it is "
            "done, or choose another --output-dir."
        ) from None
    except OSError as error:
        console.note(
            f"{folder} lies where files cannot be locked ({error.strerror}); start no "
            "second job there."
        )
    return lock


def _sign(handle: int) -> None:
    """Writes into the lock's file who holds it."""
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
