"""Bytes of the files of a block: mapped where they are local, fetched as needed from a store."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from capacity.errors import ExportError
from capacity.load import object_store
from capacity.load.object_store import Bytes, Integers, Need


def opened(path: Path) -> tuple[Bytes, Need]:
    """Give the bytes of a file, and what to call before some of them are used.

    Raises
    ------
    ExportError
        If it cannot be read; what is called may raise it, too.
    """
    if not object_store.is_remote(path):
        return read(path), _all_there
    try:
        return object_store.opened(path)
    except OSError as error:
        raise ExportError(f"{path.name}: cannot be read: {error.strerror or error}") from None


def _all_there(begins: Integers, ends: Integers) -> None:
    """Do nothing: the kernel reads what is used."""


def read(path: Path) -> Bytes:
    """Give the bytes of a file; those of a local one are not in memory before they are used.

    Raises
    ------
    ExportError
        If it cannot be read.
    """
    try:
        if not path.stat().st_size:
            return np.frombuffer(b"", np.uint8)
        if object_store.is_remote(path):
            return object_store.whole(path)
        with path.open("rb") as file:
            # As numpy's memmap, which takes ten times as long to set up
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except OSError as error:
        raise ExportError(f"{path.name}: cannot be read: {error.strerror}") from None
