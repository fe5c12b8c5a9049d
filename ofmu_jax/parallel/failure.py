"""What one process of a job alone cannot go on from: the others hear of it, and end.

They may wait for it in a collective, where no Python runs. So each has a thread that
asks the job's coordinator, which lies in process 0, whether any has failed.
"""

import atexit
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
from jax._src import distributed as _distributed  # its store of keys is not public

POLL = 1.0  # seconds between questions
GRACE = 3.0  # seconds in which a process that has heard may fail by itself
PATIENCE = 10.0  # seconds, at most, until the others have heard
LAST = 1.0  # seconds that process 0 ends after the others
_FAILED, _HEARD = "ofmu_jax/failed", "ofmu_jax/heard"


def tell(reason: str) -> None:
    """Tells the other processes that this one cannot go on; alone it does nothing.

    Returns when all have heard: one that vanished before would be an error of its own
    in their collectives. The caller then ends its process, without JAX's end, which
    would wait for the others.
    """
    if (client := _client()) is not None:
        _note(client, _FAILED, reason)
        _outlive(client)


def watch(heard: Callable[[str], None], end: Callable[[], object]) -> None:
    """From here on it is heard, in a thread, if another process fails.

    Args:
      heard: gets which and why; what fails in this process from then on follows from
        it. It is not called where this one has failed before, by itself.
      end: called later, ends this process without JAX's end.
    """
    if (client := _client()) is None:
        return
    stop = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(client, stop, heard, end), daemon=True
    )
    thread.start()
    # Before JAX leaves the job, which is registered earlier and so runs later.
    atexit.register(lambda: (stop.set(), thread.join()))


def _watch(
    client: Any,
    stop: threading.Event,
    heard: Callable[[str], None],
    end: Callable[[], object],
) -> None:
    try:
        while not stop.wait(POLL):
            if not (failed := _noted(client, _FAILED)):
                continue
            if stop.wait(GRACE) or _index() in _noted(client, _FAILED):
                return
            number, reason = min(failed.items())
            heard(f"process {number} of the job failed: {reason}")
            _note(client, _HEARD, "")
            _outlive(client)
            end()
            return
    except jax.errors.JaxRuntimeError:
        return  # there is no coordinator any more: JAX ends the process


def _outlive(client: Any) -> None:
    """Waits until all others have failed or heard, but not for ever."""
    others = set(range(_distributed.global_state.num_processes)) - {_index()}
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE:
        if others <= _noted(client, _FAILED).keys() | _noted(client, _HEARD).keys():
            break
        time.sleep(0.1)
    if _index() == 0:  # the coordinator goes last: JAX aborts who has lost it
        time.sleep(LAST)


def _client() -> Any:
    """Of the coordinator; None outside a job."""
    return _distributed.global_state.client


def _index() -> int:
    return _distributed.global_state.process_id


def _note(client: Any, kind: str, text: str) -> None:
    client.key_value_set(f"{kind}/{_index()}", text, allow_overwrite=True)


def _noted(client: Any, kind: str) -> dict[int, str]:
    """Number of a process -> its text."""
    found = client.key_value_dir_get(kind)
    return {int(key.rpartition("/")[2]): text for key, text in found}
