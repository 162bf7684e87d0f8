"""A lock on an output folder: two runs at once would overwrite each other's index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from capacity.errors import SettingsError
from capacity.writing import told

_LOCK: Final = ".lock"


@contextmanager
def locked(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder; the system frees it when the process ends, however it ends.

    Parameters
    ----------
    folder
        Made where it is not there.
    wait
        How long to wait for another run. [s]

    Raises
    ------
    SettingsError
        If another run holds it longer, or the folder cannot be written.
    """
    if find_spec("filelock") is None:
        raise SettingsError("reports need `pip install 'cilium-capacity[report]'`")
    from filelock import FileLock, Timeout

    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=wait)
        try:
            lock.acquire()
        except Timeout:
            raise SettingsError(
                f"{folder}: another run is at work there; wait for it (--wait 30m), or name "
                "another folder"
            ) from None
    try:
        yield
    finally:
        lock.release()
