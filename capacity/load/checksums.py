"""CRC-32 of Castagnoli, of many parts at once: that of blocks, logs and remote read."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.load.threads import parallel
from capacity.load.words import WORD, read_only, word

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Sums = npt.NDArray[np.uint32]

# Castagnoli's polynomial, reflected; prometheus/prometheus tsdb/chunks/chunks.go castagnoliTable
_POLYNOMIAL: Final = 0x82F63B78


def crc32c(data: Bytes, begins: Integers, ends: Integers) -> Sums:
    """Give the CRC-32 (Castagnoli) of each part of the data.

    Raises
    ------
    ValueError
        If a part lies outside of `data`.

    Examples
    --------
    >>> whole = np.frombuffer(b"123456789", np.uint8)  # check value of the Rocksoft catalog
    >>> hex(crc32c(whole, np.array([0]), np.array([9]))[0])
    '0xe3069283'
    """
    if len(begins) and (begins.min() < 0 or ends.max() > len(data) or (begins > ends).any()):
        raise ValueError("parts lie outside of the data")
    sums, data = np.empty(len(begins), np.uint32), read_only(data)

    def run(part: slice) -> None:
        _sums(data, begins[part], ends[part], TABLES, sums[part])

    parallel(run, ends - begins)
    return sums


@njit(cache=True, nogil=True)
def _sums(
    data: Bytes, begins: Integers, ends: Integers, tables: Sums, sums: Sums
) -> None:  # pragma: no cover
    for part in range(len(begins)):
        sums[part] = crc_of(data, begins[part], ends[part], tables)


@njit(cache=True, nogil=True)
def crc_of(data: Bytes, begin: int, end: int, tables: Sums) -> np.uint32:  # pragma: no cover
    """Give the sum of [begin, end), which lies in the data; `tables` are TABLES.

    Eight bytes a turn: tables[k] is what a byte does that k more bytes follow.
    """
    crc = np.uint64(0xFFFFFFFF)
    low, eight = np.uint64(255), np.uint64(8)
    at = begin
    while at + WORD <= end:
        mixed = word(data, at) ^ crc
        crc = np.uint64(0)
        for k in range(WORD):
            crc ^= np.uint64(tables[7 - k, mixed & low])
            mixed >>= eight
        at += WORD
    while at < end:
        crc = (crc >> eight) ^ np.uint64(tables[0, (crc ^ np.uint64(data[at])) & low])
        at += 1
    return np.uint32(crc ^ np.uint64(0xFFFFFFFF))


def _tables() -> Sums:
    tables = np.zeros((8, 256), np.uint32)
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, (crc >> 1) ^ np.uint32(_POLYNOMIAL), crc >> 1).astype(np.uint32)
    tables[0] = crc
    for k in range(1, 8):
        tables[k] = (tables[k - 1] >> 8) ^ tables[0][tables[k - 1] & 0xFF]
    return tables


TABLES: Final = _tables()
