"""Chunks of Prometheus' XOR encoding to samples.

Format: prometheus/prometheus tsdb/docs/format/chunks.md and tsdb/chunkenc/xor.go (v2.53 to v3.5):
two bytes big-endian number of samples; first time as varint and value as 64 bits; second time as
uvarint delta; then deltas of deltas of 0, 14, 17, 20 or 64 bits, and values as the XOR with the
value before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.load.threads import parallel
from capacity.load.words import ZERO, big_word, leading_zeros, read_only

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.bool_]

# A sample after the second takes at least 2 bits: a count beyond that is a lie
_SAMPLES_A_BYTE: Final = 4
_FIRST: Final = -(1 << 63)
_LAST: Final = (1 << 63) - 1
# Bytes behind a chunk that may be looked at before its end is: first time, value, delta, and words
_SLACK: Final = 64
# Words below this begin with eight samples that are as the one before, or more
_STILL: Final = np.uint64(1 << 48)
# So many bits of a word are those of the chunk, wherever in a byte it begins
_SURE: Final = 57
# Bits of a number without its sign; larger ones than those of infinity are NaN
_UNSIGNED: Final = np.uint64((1 << 63) - 1)
_INFINITE: Final = np.uint64(0x7FF << 52)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Samples of chunks, one chunk's after the other's.

    `times` [ms] and `values` hold `counts[i]` samples of chunk i; a chunk that is not whole ends
    before a sample that its bytes do not hold.
    """

    times: Integers
    values: Floats
    counts: Integers
    is_whole: Bits


def decode(
    data: Bytes,
    begins: Integers,
    ends: Integers,
    *,
    start: int | None = None,
    end: int | None = None,
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

    Raises
    ------
    ValueError
        If a payload lies outside of `data`.
    """
    if len(begins) != len(ends) or (
        len(begins) and (begins.min() < 0 or ends.max() > len(data) or (begins > ends).any())
    ):
        raise ValueError("chunks lie outside of the data")
    begins, ends = np.ascontiguousarray(begins, np.int64), np.ascontiguousarray(ends, np.int64)
    data = read_only(data)
    room = rooms(data, begins, ends)
    slots = np.cumsum(room) - room
    times, values = np.empty(room.sum(), np.int64), np.empty(room.sum(), np.float64)
    counts, is_whole = decode_into(data, begins, ends, slots, times, values, start=start, end=end)
    many = close(slots, counts, room, times, values)
    return Decoded(times[:many], values[:many], counts, is_whole)


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
) -> tuple[Integers, Bits]:
    """Decode chunks that lie in the data, each from its slot of `times` and `values` on.

    Parameters
    ----------
    slots
        Where the samples of each chunk begin; there is room for `rooms` of them.

    Returns
    -------
    tuple
        Columns `counts` and `is_whole` of `Decoded`.
    """
    counts, is_whole = np.zeros(len(begins), np.int64), np.zeros(len(begins), np.bool_)
    wanted = np.array((_FIRST if start is None else start, _LAST if end is None else end), np.int64)

    def run(part: slice) -> None:
        _decode(
            data, begins[part], ends[part], slots[part], wanted, times, values.view(np.uint64),
            counts[part], is_whole[part],
        )  # fmt: skip

    parallel(run, ends - begins)
    return counts, is_whole


def close(
    slots: Integers, counts: Integers, room: Integers, times: Integers, values: Floats
) -> int:
    """Close the gaps of chunks that gave fewer samples than their room; give how many there are.

    Slots must rise.
    """
    if not (counts == room).all():
        _close(slots, counts, times, values)
    return int(counts.sum())


@njit(cache=True, nogil=True)
def told_of(data: Bytes, begin: int, end: int) -> int:  # pragma: no cover
    """Give how many samples a chunk says it holds; none where not even that is told."""
    if end - begin < 2:
        return 0
    return int(np.int64(data[begin]) << 8 | np.int64(data[begin + 1]))


@njit(cache=True, nogil=True)
def room_of(data: Bytes, begin: int, end: int) -> int:  # pragma: no cover
    """Give how many samples a chunk holds at most."""
    return min(told_of(data, begin, end), (end - begin) * _SAMPLES_A_BYTE)


@njit(cache=True, nogil=True)
def rooms(data: Bytes, begins: Integers, ends: Integers) -> Integers:  # pragma: no cover
    """Give how many samples chunks that lie in the data hold at most."""
    room = np.empty(len(begins), np.int64)
    for chunk in range(len(begins)):
        room[chunk] = room_of(data, begins[chunk], ends[chunk])
    return room


@njit(cache=True, nogil=True)
def _close(
    slots: Integers, counts: Integers, times: Integers, values: Floats
) -> None:  # pragma: no cover
    """Close the gaps of chunks that gave fewer samples than their room; slots rise."""
    to = 0
    for chunk in range(len(counts)):
        at = slots[chunk]
        for i in range(counts[chunk]):
            times[to] = times[at + i]
            values[to] = values[at + i]
            to += 1


@njit(cache=True, nogil=True)
def _decode(
    data: Bytes,
    begins: Integers,
    ends: Integers,
    slots: Integers,
    wanted: Integers,
    times: Integers,
    bits: Words,
    counts: Integers,
    is_whole: Bits,
) -> None:  # pragma: no cover
    start, end = wanted
    for chunk in range(len(begins)):
        slot = slots[chunk]
        done, _, _ = chunk_into(data, begins[chunk], ends[chunk], times, bits, slot)
        is_whole[chunk] = (
            done == told_of(data, begins[chunk], ends[chunk]) and ends[chunk] - begins[chunk] >= 2
        )
        to = slot
        for i in range(slot, slot + done):
            if start <= times[i] <= end:
                times[to], bits[to] = times[i], bits[i]
                to += 1
        counts[chunk] = to - slot


@njit(cache=True, nogil=True)
def chunk_into(
    data: Bytes, begin: int, end: int, times: Integers, bits: Words, slot: int
) -> tuple[int, bool, bool]:  # pragma: no cover
    """Decode one chunk into its slot, where there is room for `room_of` it.

    Gives the number of samples, whether their times rise, and whether all values are numbers.
    """
    if end + _SLACK > len(data):
        # Words are read without a look at where the data ends
        padded = np.zeros(end - begin + _SLACK, np.uint8)
        # No slice is assigned to another: numba would compile a message of unlike lengths, for 2 s
        for i in range(end - begin):
            padded[i] = data[begin + i]
        return _samples(padded, ZERO, end - begin, times, bits, slot)
    return _samples(data, begin, end, times, bits, slot)


@njit(cache=True, nogil=True, inline="always")
def _window(data: Bytes, bit: int) -> np.uint64:  # pragma: no cover
    """Give 57 or more bits from a bit on, in the highest places, and zeros."""
    word: np.uint64 = big_word(data, bit >> 3) << np.uint64(bit & 7)
    return word


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
def _change(data: Bytes, bit: int) -> tuple[Any, int]:  # pragma: no cover
    """Give a delta of deltas that is not 0, and the bit after it."""
    head = _window(data, bit)
    if head >> np.uint64(62) == np.uint64(0b10):
        begin, size = 2, 14
    elif head >> np.uint64(61) == np.uint64(0b110):
        begin, size = 3, 17
    elif head >> np.uint64(60) == np.uint64(0b1110):
        begin, size = 4, 20
    else:
        return np.int64(_word(data, bit + 4)), bit + 68
    change = np.int64((head << np.uint64(begin)) >> np.uint64(64 - size))
    if change > 1 << (size - 1):
        change -= 1 << size
    return change, bit + begin + size


@njit(cache=True, nogil=True)
def _samples(
    data: Bytes, begin: int, end: int, times: Integers, bits: Words, slot: int
) -> tuple[int, bool, bool]:  # pragma: no cover
    """Do what `chunk_into` does, with slack behind the chunk.

    One word holds what tells how long a sample is; where its XOR begins and how long it is are
    chosen without branches, which a processor could not foretell.
    """
    room = room_of(data, begin, end)
    bit, stop = begin * 8 + 16, end * 8
    if room == 0:
        return 0, True, True
    raw, bit = _varint(data, bit)
    time: Any = np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1))
    if bit < 0 or bit + 64 > stop:
        return 0, True, True
    value = _word(data, bit)
    bit += 64
    times[slot], bits[slot] = time, value
    is_number: Any = (value & _UNSIGNED) <= _INFINITE
    is_rising: Any = True
    if room == 1:
        return 1, is_rising, is_number
    raw, bit = _varint(data, bit)
    delta: Any = np.int64(raw)
    if bit < 0:
        return 1, is_rising, is_number
    lead: Any = 0
    size: Any = 64
    many: Any = 0
    done: Any = 1
    while done < room:
        head = _window(data, bit)
        if done > 1:
            if head < _STILL:
                many = min(
                    leading_zeros(head | np.uint64(128)) >> 1, room - done, (stop - bit) >> 1
                )
                if many <= 0:
                    break
                is_rising &= 0 < delta < 1 << 48 and time + delta * many > time
                for k in range(many):
                    time += delta
                    times[np.uint64(slot + done + k)] = time
                    bits[np.uint64(slot + done + k)] = value
                done += many
                bit += 2 * many
                continue
            if np.int64(head) < 0:
                later, bit = _change(data, bit)
                delta += later
                head = _window(data, bit)
            else:
                head <<= np.uint64(1)
                bit += 1
        is_other = np.int64(head >> np.uint64(63))
        is_new = head >> np.uint64(62) == np.uint64(3)
        told = np.int64((head >> np.uint64(51)) & np.uint64(63))
        lead = np.int64((head >> np.uint64(57)) & np.uint64(31)) if is_new else lead
        size = (told if told > 0 else 64) if is_new else size
        trail = 64 - lead - size
        if trail < 0:
            break
        bit += int(1 + is_other + (11 if is_new else 0))
        many = size if is_other else 0
        if many <= _SURE:
            # A shift by 64 would be none
            change = (_window(data, bit) >> np.uint64(1)) >> np.uint64(63 - many)
        else:
            change = _word(data, bit) >> np.uint64(64 - many)
        bit += many
        if bit > stop:
            break
        value ^= change << np.uint64(trail)
        is_rising &= time + delta > time
        time += delta
        is_number &= (value & _UNSIGNED) <= _INFINITE
        times[np.uint64(slot + done)] = time
        bits[np.uint64(slot + done)] = value
        done += 1
    return done, is_rising, is_number
