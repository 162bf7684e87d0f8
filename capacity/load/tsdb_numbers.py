"""Numbers and texts of variable length in files of Prometheus' database, each read in two ways."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from capacity.load.checksums import Bytes


class IndexFaultError(Exception):
    """An index that cannot be read; the text says what was found and wanted."""


def string_at(table: bytes, at: int) -> tuple[bytes, int]:
    """Give a text that stands behind its length, and the place after it."""
    size, at = uvarint_at(table, at)
    if at + size > len(table):
        raise IndexFaultError("is damaged: a text runs beyond its table")
    return table[at : at + size], at + size


def uvarint_at(table: bytes, at: int) -> tuple[int, int]:
    """Give an unsigned varint, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(table):
            raise IndexFaultError("is damaged: a number runs beyond its table")
        byte = table[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise IndexFaultError("is damaged: a number has more than 10 bytes")


def varint_at(table: bytes, at: int) -> tuple[int, int]:
    """Give a signed varint, and the place after it."""
    value, at = uvarint_at(table, at)
    return (value >> 1) ^ -(value & 1), at


@njit(cache=True, nogil=True)
def uvarint(data: Bytes, at: int, end: int) -> tuple[Any, int]:  # pragma: no cover
    """Give an unsigned varint and the place after it; -1 where it is none or goes beyond `end`."""
    value = np.uint64(0)
    for i in range(10):
        if at < 0 or at >= end or at >= len(data):
            return np.int64(0), -1
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(127)) << np.uint64(7 * i)
        if byte < np.uint64(128):
            return np.int64(value), at
    return np.int64(0), -1


@njit(cache=True, nogil=True)
def varint(data: Bytes, at: int, end: int) -> tuple[Any, int]:  # pragma: no cover
    """Give a signed varint and the place after it; as `uvarint` does."""
    raw, at = uvarint(data, at, end)
    bits = np.uint64(raw)
    return np.int64(bits >> np.uint64(1)) ^ -np.int64(bits & np.uint64(1)), at
