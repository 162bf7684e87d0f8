"""Chunks of Prometheus' XOR encoding to samples, many at once, and their checksums.

Format: prometheus/prometheus tsdb/docs/format/chunks.md and tsdb/chunkenc/xor.go (v2.53 to v3.5):
two bytes big-endian number of samples; first time as varint and value as 64 bits; second time as
uvarint delta; then deltas of deltas of 0, 14, 17, 20 or 64 bits, and values as the XOR with the
value before.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.load.words import WORD, big_word

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

THREADS: Final = min(4, os.cpu_count() or 1)
# A sample after the second takes at least 2 bits: a count beyond that is a lie
_SAMPLES_A_BYTE: Final = 4
# Chunks below which a second thread costs more than it brings
_FEW: Final = 256
_FIRST: Final = -(1 << 63)
_LAST: Final = (1 << 63) - 1
# Castagnoli's polynomial, reflected; prometheus/prometheus tsdb/chunks/chunks.go castagnoliTable
_POLYNOMIAL: Final = 0x82F63B78


@dataclass(frozen=True, slots=True)
class Decoded:
    """Samples of chunks, one chunk's after the other's.

    `times` [ms] and `values` hold `counts[i]` samples of chunk i; `skipped[i]` NaN of it were left
    out by thinning; a chunk that is not whole ends before a sample that its bytes do not hold.
    """

    times: Integers
    values: Floats
    counts: Integers
    skipped: Integers
    is_whole: Bits


def decode(
    data: Bytes,
    begins: Integers,
    ends: Integers,
    *,
    start: int | None = None,
    end: int | None = None,
    step: int = 0,
    phase: int = 0,
) -> Decoded:
    """Decode chunks of float samples.

    Parameters
    ----------
    data
        Bytes that hold the chunks.
    begins, ends
        Where each chunk's payload (from its number of samples on, without length, encoding and
        checksum) begins and ends in `data`.
    start, end
        First and last time wanted, both included. [ms]
    step, phase
        If `step` is not 0, of each chunk only the last number of each window is kept, window
        ``(time - phase) // step``; NaN, such as stale markers, never take a number's place. [ms]

    Raises
    ------
    ValueError
        If a payload lies outside of `data`.
    """
    room = rooms(data, begins, ends)
    slots = np.cumsum(room) - room
    times, values = np.empty(room.sum(), np.int64), np.empty(room.sum(), np.float64)
    counts, skipped, is_whole = decode_into(
        data, begins, ends, slots, times, values, start=start, end=end, step=step, phase=phase
    )
    many = close(slots, counts, room, times, values)
    return Decoded(times[:many], values[:many], counts, skipped, is_whole)


def rooms(data: Bytes, begins: Integers, ends: Integers) -> Integers:
    """Give how many samples chunks hold at most; see `decode` for arguments and errors."""
    if len(begins) != len(ends) or (
        len(begins) and (begins.min() < 0 or ends.max() > len(data) or (begins > ends).any())
    ):
        raise ValueError("chunks lie outside of the data")
    most = (ends - begins) * _SAMPLES_A_BYTE
    room: Integers = np.minimum(_told(data, begins, ends), most).astype(np.int64)
    return room


def decode_into(
    data: Bytes,
    begins: Integers,
    ends: Integers,
    slots: Integers,
    times: Integers,
    values: Floats,
    *,
    start: int | None = None,
    end: int | None = None,
    step: int = 0,
    phase: int = 0,
) -> tuple[Integers, Integers, Bits]:
    """Decode chunks, each from its slot of `times` and `values` on; see `decode`.

    Parameters
    ----------
    slots
        Where the samples of each chunk begin; there is room for `rooms` of them.

    Returns
    -------
    tuple
        Columns `counts`, `skipped` and `is_whole` of `Decoded`.
    """
    begins, ends = np.ascontiguousarray(begins, np.int64), np.ascontiguousarray(ends, np.int64)
    told, room = _told(data, begins, ends), rooms(data, begins, ends)
    counts, skipped = np.zeros(len(begins), np.int64), np.zeros(len(begins), np.int64)
    is_whole = np.zeros(len(begins), np.bool_)
    wanted = (_FIRST if start is None else start, _LAST if end is None else end, step, phase)

    def run(part: tuple[int, int]) -> None:
        of_part = slice(*part)
        _decode(
            data, begins[of_part], ends[of_part], slots[of_part], room[of_part], told[of_part],
            np.array(wanted, np.int64), times, values, counts[of_part], skipped[of_part],
            is_whole[of_part],
        )  # fmt: skip

    parallel(run, np.concatenate([[0], np.cumsum(room)]))
    return counts, skipped, is_whole


def close(
    slots: Integers, counts: Integers, room: Integers, times: Integers, values: Floats
) -> int:
    """Close the gaps of chunks that gave fewer samples than their room; give how many there are.

    Slots must rise.
    """
    if not (counts == room).all():
        _close(slots, counts, times, values)
    return int(counts.sum())


def crc32c(data: Bytes, begins: Integers, ends: Integers) -> npt.NDArray[np.uint32]:
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
    sums = np.empty(len(begins), np.uint32)

    def run(part: tuple[int, int]) -> None:
        of_part = slice(*part)
        _crc32c(data, begins[of_part], ends[of_part], _TABLES, sums[of_part])

    parallel(run, np.concatenate([[0], np.cumsum(ends - begins)]))
    return sums


def parallel(run: Callable[[tuple[int, int]], None], work: Integers) -> None:
    """Run parts (first, beyond the last) of about equal work, one a thread.

    `work` is cumulative, from 0 on: one number more than there are things to do.
    """
    many = len(work) - 1
    if many < _FEW:
        run((0, many))
        return
    cuts = np.searchsorted(work, np.linspace(0, work[-1], THREADS + 1)[1:-1])
    edges = [0, *cuts.tolist(), many]
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(run, zip(edges, edges[1:], strict=False)))


def _told(data: Bytes, begins: Integers, ends: Integers) -> Integers:
    """Give how many samples the chunks say they hold; none where not even that is told."""
    is_told = ends - begins >= 2
    at = np.where(is_told, begins, 0)
    if not len(data) or not is_told.any():
        return np.zeros(len(begins), np.int64)
    high, low = data[at].astype(np.int64), data[np.minimum(at + 1, len(data) - 1)]
    return np.where(is_told, high * 256 + low, 0)


@njit(cache=True, nogil=True)
def _close(
    slots: Integers, counts: Integers, times: Integers, values: Floats
) -> None:  # pragma: no cover
    to = 0
    for chunk in range(len(counts)):
        at = slots[chunk]
        for i in range(counts[chunk]):
            times[to] = times[at + i]
            values[to] = values[at + i]
            to += 1


@njit(cache=True, nogil=True, inline="always")
def _window(data: Bytes, bit: int) -> np.uint64:  # pragma: no cover
    """Give 57 or more bits from a bit on, in the highest places; zeros beyond the data."""
    byte = bit >> 3
    word = np.uint64(0)
    if byte + WORD <= len(data):
        word = big_word(data, byte)
    else:
        for i in range(8):
            word <<= np.uint64(8)
            if byte + i < len(data):
                word |= np.uint64(data[byte + i])
    return word << np.uint64(bit & 7)


@njit(cache=True, nogil=True, inline="always")
def _word(data: Bytes, bit: int) -> np.uint64:  # pragma: no cover
    """Give 64 bits from a bit on."""
    high = _window(data, bit) >> np.uint64(32)
    return (high << np.uint64(32)) | (_window(data, bit + 32) >> np.uint64(32))


@njit(cache=True, nogil=True)
def _varint(data: Bytes, bit: int) -> tuple[np.uint64, int]:  # pragma: no cover
    """Give an unsigned varint and the bit after it; bit -1 if it has more than 10 bytes."""
    value = np.uint64(0)
    for i in range(10):
        byte = _window(data, bit) >> np.uint64(56)
        bit += 8
        value |= (byte & np.uint64(0x7F)) << np.uint64(7 * i)
        if byte < np.uint64(0x80):
            return value, bit
    return value, -1


@njit(cache=True, nogil=True)
def _decode(
    data: Bytes,
    begins: Integers,
    ends: Integers,
    slots: Integers,
    room: Integers,
    told: Integers,
    wanted: Integers,
    times: Integers,
    values: Floats,
    counts: Integers,
    skipped: Integers,
    is_whole: Bits,
) -> None:  # pragma: no cover
    start, end, step, phase = wanted
    as_bits = np.empty(1, np.uint64)
    as_value = as_bits.view(np.float64)
    sizes = (14, 17, 20, 64)
    for chunk in range(len(begins)):
        slot = slots[chunk]
        last_slot = slot + room[chunk]
        first_slot = slot
        bit, stop = begins[chunk] * 8 + 16, ends[chunk] * 8
        time = np.int64(0)
        delta = np.int64(0)
        bits = np.uint64(0)
        leading: Any = 0
        trailing: Any = 0
        window = np.int64(0)
        done = 0
        for number in range(told[chunk]):
            if number == 0:
                raw, bit = _varint(data, bit)
                if bit < 0:
                    break
                time = np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1))
                bits = _word(data, bit)
                bit += 64
            else:
                if number == 1:
                    raw, bit = _varint(data, bit)
                    if bit < 0:
                        break
                    delta = np.int64(raw)
                else:
                    head = _window(data, bit)
                    if head >> np.uint64(63) == 0:
                        bit += 1
                    else:
                        ones = 1
                        while ones < 4 and (head >> np.uint64(63 - ones)) & np.uint64(1):
                            ones += 1
                        size = sizes[ones - 1]
                        bit += ones + 1 if ones < 4 else 4
                        if size == 64:
                            delta += np.int64(_word(data, bit))
                        else:
                            change: Any = np.int64(_window(data, bit) >> np.uint64(64 - size))
                            if change > 1 << (size - 1):
                                change -= 1 << size
                            delta += change
                        bit += size
                time += delta
                head = _window(data, bit)
                if head >> np.uint64(63) == 0:
                    bit += 1
                else:
                    if (head >> np.uint64(62)) & np.uint64(1):
                        leading = np.int64((head >> np.uint64(57)) & np.uint64(31))
                        meaning: Any = np.int64((head >> np.uint64(51)) & np.uint64(63))
                        if meaning == 0:
                            meaning = 64
                        trailing = 64 - leading - meaning
                        bit += 13
                        if trailing < 0:
                            break
                    else:
                        bit += 2
                    meaning = 64 - leading - trailing
                    if meaning <= 57:
                        changed = _window(data, bit) >> np.uint64(64 - meaning)
                    else:
                        changed = _word(data, bit) >> np.uint64(64 - meaning)
                    bits ^= changed << np.uint64(trailing)
                    bit += meaning
            if bit > stop:
                break
            done += 1
            if time < start or time > end:
                continue
            as_bits[0] = bits
            if step > 0:
                if np.isnan(as_value[0]):
                    skipped[chunk] += 1
                    continue
                before, window = window, (time - phase) // step
                if slot > first_slot and window == before:
                    slot -= 1
            if slot >= last_slot:
                done -= 1
                break
            times[slot] = time
            values[slot] = as_value[0]
            slot += 1
        counts[chunk] = slot - first_slot
        is_whole[chunk] = done == told[chunk] and stop >= begins[chunk] * 8 + 16


@njit(cache=True, nogil=True)
def _crc32c(
    data: Bytes,
    begins: Integers,
    ends: Integers,
    tables: npt.NDArray[np.uint32],
    sums: npt.NDArray[np.uint32],
) -> None:  # pragma: no cover
    """Eight bytes a turn: tables[k] is what a byte does that k more bytes follow."""
    for part in range(len(begins)):
        at, end = begins[part], ends[part]
        crc = np.uint32(0xFFFFFFFF)
        while at + 8 <= end:
            mixed = np.uint32(0)
            for k in range(4):
                byte = np.uint8(crc >> np.uint32(8 * k)) ^ data[at + k]
                mixed ^= tables[7 - k, byte] ^ tables[3 - k, data[at + 4 + k]]
            crc = mixed
            at += 8
        while at < end:
            crc = (crc >> np.uint32(8)) ^ tables[0, np.uint8(crc) ^ data[at]]
            at += 1
        sums[part] = crc ^ np.uint32(0xFFFFFFFF)


def _crc_tables() -> npt.NDArray[np.uint32]:
    tables = np.zeros((8, 256), np.uint32)
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, (crc >> 1) ^ np.uint32(_POLYNOMIAL), crc >> 1).astype(np.uint32)
    tables[0] = crc
    for k in range(1, 8):
        tables[k] = (tables[k - 1] >> 8) ^ tables[0][tables[k - 1] & 0xFF]
    return tables


_TABLES: Final = _crc_tables()
