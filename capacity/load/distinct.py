"""Distinct texts, numbered in the order they first come, compiled: a hash table that only grows.

Texts of equal hashes are compared byte by byte, so that no two texts are taken for one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from capacity.load.words import (
    ONE,
    compiled,
    copied,
    hashed,
    is_same,
    leading_zeros,
    read_only,
    touch,
)

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]

_Kind = TypeVar("_Kind", np.uint8, np.int64)

# Slots a text, at least: at most two of three are taken, so that a search is short
_SLOTS: Final = 1.5
_FIRST: Final = 1 << 10
_HALF: Final = np.uint64(32)
_LOW: Final = np.uint64((1 << 32) - 1)
# A slot is in the processor's cache by the time its text is looked up
_AHEAD: Final = 8


class Table(NamedTuple):
    """Arrays of Texts, for compiled code; `many` holds how many there are.

    `told` is `data` that is not written to: what reads is compiled for that kind alone.
    """

    data: Bytes
    told: Bytes
    ends: Integers
    slots: Hashes
    many: Integers


@dataclass(slots=True)
class Texts:
    """The texts so far: text i is bytes [ends[i], ends[i + 1]) of `data`, `count` of them.

    A slot holds the upper half of a hash, which tells its place, and the number of a text plus one;
    0 where it is free. So slots are in the order of the hashes, and twice as many are filled from
    first to last without a look at anything else.
    """

    data: Bytes = field(default_factory=lambda: np.empty(_FIRST * 64, np.uint8))
    ends: Integers = field(default_factory=lambda: np.zeros(_FIRST + 1, np.int64))
    slots: Hashes = field(default_factory=lambda: np.zeros(2 * _FIRST, np.uint64))
    counted: Integers = field(default_factory=lambda: np.zeros(1, np.int64))

    @property
    def count(self) -> int:
        """How many texts there are."""
        return int(self.counted[0])

    def table(self) -> Table:
        """Give the arrays; they are others once it has grown."""
        return Table(self.data, read_only(self.data), self.ends, self.slots, self.counted)

    def since(self, first: int) -> tuple[Bytes, Integers]:
        """Give the texts from number `first` on, one after the other, and where each ends.

        The second one begins with 0. What is there does not change when texts are added.
        """
        ends = self.ends[first : self.count + 1]
        return read_only(self.data[ends[0] : ends[-1]]), ends - ends[0]

    def grow(self, more: int, size: int) -> None:
        """Make room for so many texts and bytes, and for as many as there are.

        New memory is asked for: numpy fills what it lengthens with zeros, in small pages.
        """
        count = self.count
        if count + more >= len(self.ends):
            self.ends = _longer(self.ends, count + 1, count + more + _FIRST)
            slots = len(self.slots)
            while _SLOTS * len(self.ends) > slots:
                slots *= 2
            if slots > len(self.slots):
                before, self.slots = self.slots, np.zeros(slots, np.uint64)
                _moved(before, self.slots)
        used = int(self.ends[count])
        if used + size > len(self.data):
            self.data = _longer(self.data, used, max(size, used, _FIRST))


def _longer(array: npt.NDArray[_Kind], used: int, more: int) -> npt.NDArray[_Kind]:
    made = np.empty(used + more, array.dtype)
    made[:used] = array[:used]
    return made


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
        row = _number(text, begins, ends, hashes, numbers, row, texts.table())
        if row < len(begins):
            texts.grow(1, int(ends[row] - begins[row]))
    return numbers


@compiled
def _moved(slots: Hashes, to: Hashes) -> None:
    """Put what is in slots into more of them."""
    shift, mask = _shift(to), np.uint64(len(to) - 1)
    for one in slots:
        if one != 0:
            slot = (one >> _HALF) >> shift
            while to[slot] != 0:
                slot = (slot + np.uint64(1)) & mask
            to[slot] = one


@compiled
def _shift(slots: Hashes) -> np.uint64:
    """Give how many bits of half a hash do not tell the slot."""
    return np.uint64(leading_zeros(np.uint64(len(slots))) - 31)


@compiled
def has_room(table: Table, more: int, size: int) -> bool:
    """Tell whether so many texts of so many bytes in all can be added."""
    count = table.many[0]
    return bool(count + more < len(table.ends) and table.ends[count] + size <= len(table.data))


@compiled
def _found(
    table: Table, text: Bytes, begin: int, size: int, hash: np.uint64
) -> tuple[int, np.uint64]:
    """Give the number of a text, below 0 if it is not known, and the slot where it belongs."""
    data, ends, slots = table.told, table.ends, table.slots
    tag, mask = hash >> _HALF, np.uint64(len(slots) - 1)
    slot = tag >> _shift(slots)
    while slots[slot] != 0:
        if slots[slot] >> _HALF == tag:
            other = int(np.int64(slots[slot] & _LOW)) - 1
            if ends[other + 1] - ends[other] == size and is_same(
                data, ends[other], text, begin, size
            ):
                return other, slot
        slot = (slot + np.uint64(1)) & mask
    return -1, slot


@compiled
def learnt(table: Table, text: Bytes, begin: int, end: int, hash: np.uint64) -> int:
    """Give the number of a text, for which there is room."""
    at, slot = _found(table, text, begin, end - begin, hash)
    if at < 0:
        at = table.many[0]
        copied(text, begin, end, table.data, table.ends[at])
        _add(table, slot, table.ends[at] + end - begin, hash)
    return at


@compiled
def written(table: Table, end: int, secret: np.uint64) -> int:
    """Give the number of a text that was written behind all others, up to `end` of `data`."""
    begin = table.ends[table.many[0]]
    hash = hashed(table.told, begin, end, secret)
    at, slot = _found(table, table.told, begin, end - begin, hash)
    if at < 0:
        at = table.many[0]
        _add(table, slot, end, hash)
    return at


@compiled
def _add(table: Table, slot: np.uint64, end: int, hash: np.uint64) -> None:
    table.many[0] += 1
    table.ends[table.many[0]] = end
    table.slots[slot] = hash & ~_LOW | np.uint64(table.many[0])


@compiled
def _number(
    text: Bytes, begins: Integers, ends: Integers, hashes: Hashes, numbers: Numbers, row: int,
    table: Table,
) -> int:  # fmt: skip
    """Give numbers until there is no room for a new text; return the next row."""
    data, data_ends, slots = table.told, table.ends, table.slots
    shift = _shift(slots) + _HALF
    last = np.int64(numbers[row - 1]) if row > 0 else -1
    while row < len(begins):
        begin, size = begins[row], ends[row] - begins[row]
        if row > 0 and begins[row - 1] == begin:
            numbers[row] = last
            row += 1
            continue
        # Scrapes tell series in the same order again and again
        at = last + 1
        if not (
            at < table.many[0]
            and data_ends[at + 1] - data_ends[at] == size
            and is_same(data, data_ends[at], text, begin, size)
        ):
            if not has_room(table, ONE, size):
                break
            if row + _AHEAD < len(hashes):
                touch(slots, hashes[row + _AHEAD] >> shift)
            at = learnt(table, text, begin, begin + size, hashes[row])
        numbers[row] = at
        last = at
        row += 1
    return row
