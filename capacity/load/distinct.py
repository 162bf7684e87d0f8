"""Distinct texts, numbered in the order they first come, compiled: a hash table that only grows.

Equal hashes are compared byte by byte, so that no two texts are taken for one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.load.words import copied, is_same

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]

# Slots a text, at least: at most two of three are taken, so that a search is short
_SLOTS: Final = 1.5
_FIRST: Final = 1 << 10


@dataclass(slots=True)
class Texts:
    """The texts so far: text i is bytes [ends[i], ends[i + 1]) of `data`, `count` of them.

    `slots` holds by hash the number of a text plus one, 0 where it is free.
    """

    count: int = 0
    data: Bytes = field(default_factory=lambda: np.empty(_FIRST * 64, np.uint8))
    ends: Integers = field(default_factory=lambda: np.zeros(_FIRST + 1, np.int64))
    hashes: Hashes = field(default_factory=lambda: np.empty(_FIRST, np.uint64))
    slots: Numbers = field(default_factory=lambda: np.zeros(2 * _FIRST, np.uint32))

    def since(self, first: int) -> tuple[bytes, Integers]:
        """Give the texts from number `first` on, one after the other, and where each ends.

        The second one begins with 0.
        """
        ends = self.ends[first : self.count + 1]
        return self.data[ends[0] : ends[-1]].tobytes(), ends - ends[0]


def number(texts: Texts, text: Bytes, begins: Integers, ends: Integers, hashes: Hashes) -> Numbers:
    """Give the number of each text [begin, end); new ones are learnt.

    Parameters
    ----------
    texts
        What is known, and is added to.
    text
        What the places are of.
    begins, ends, hashes
        Places and words.hashed of each; the same place again is the same text.
    """
    numbers = np.empty(len(begins), np.uint32)
    row = 0
    while row < len(begins):
        row, texts.count = _number(
            text, begins, ends, hashes, numbers, row,
            texts.data, texts.ends, texts.hashes, texts.slots, texts.count,
        )  # fmt: skip
        if row < len(begins):
            _grow(texts, int(ends[row] - begins[row]))
    return numbers


def _grow(texts: Texts, size: int) -> None:
    """Make room in proportion to what is there; large arrays are lengthened without a copy."""
    if texts.count == len(texts.hashes):
        most = texts.count + texts.count // 4 + _FIRST
        # Nothing else refers to the arrays: what is given of them is copied
        texts.hashes.resize(most, refcheck=False)
        texts.ends.resize(most + 1, refcheck=False)
        if _SLOTS * most > len(texts.slots):
            # Twice as many are enough: there are at least as many slots as texts
            texts.slots = np.zeros(2 * len(texts.slots), np.uint32)
            _place(texts.hashes, texts.slots, texts.count)
    used = int(texts.ends[texts.count])
    if used + size > len(texts.data):
        texts.data.resize(used + max(size, used // 4, _FIRST), refcheck=False)


@njit(cache=True, nogil=True)
def _place(hashes: Hashes, slots: Numbers, count: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for i in range(count):
        slot = hashes[i] & mask
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = i + 1


@njit(cache=True, nogil=True)
def _number(
    text: Bytes, begins: Integers, ends: Integers, hashes: Hashes, numbers: Numbers, row: int,
    data: Bytes, data_ends: Integers, known: Hashes, slots: Numbers, count: int,
) -> tuple[int, int]:  # fmt: skip
    """Give numbers until there is no room for a new text; return the next row and the count."""
    mask = np.uint64(len(slots) - 1)
    last = np.int64(numbers[row - 1]) if row > 0 else -1
    while row < len(begins):
        begin, end, hash = begins[row], ends[row], hashes[row]
        if row > 0 and begins[row - 1] == begin:
            numbers[row] = last
            row += 1
            continue
        size = end - begin
        # Scrapes tell series in the same order again and again
        at = last + 1
        slot = hash & mask
        if not (
            at < count
            and known[at] == hash
            and data_ends[at + 1] - data_ends[at] == size
            and is_same(data, data_ends[at], text, begin, size)
        ):
            at = -1
            while slots[slot] != 0:
                other = np.int64(slots[slot]) - 1
                if (
                    known[other] == hash
                    and data_ends[other + 1] - data_ends[other] == size
                    and is_same(data, data_ends[other], text, begin, size)
                ):
                    at = other
                    break
                slot = (slot + np.uint64(1)) & mask
        if at < 0:
            used = data_ends[count]
            if count == len(known) or used + size > len(data):
                break
            copied(text, begin, end, data, used)
            known[count], data_ends[count + 1] = hash, used + size
            slots[slot] = count + 1
            at = count
            count += 1
        numbers[row] = at
        last = at
        row += 1
    return row, count
