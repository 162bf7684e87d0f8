"""Lines of cilium-dbg's large texts counted many at once: connections, and rows of many tables.

What numpy does not recognize as plain is left to a regular expression, a line at a time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]

CONNECTION: Final = re.compile(rb"(\S+) (?:IN|OUT) (\S+) ")
# The next endpoint's number stands at the end of a table of policies
ENDPOINT: Final = b"Endpoint ID: "
# Text that is looked at at once: its columns fit the processor's cache. [byte]
_BLOCK: Final = 1 << 20
_NEWLINE, _SPACE, _COLON = b"\n :"
_OTHER_BLANKS: Final = (b"\t", b"\r", b"\v", b"\f")
# An address without port, or [address]:port, or address:port: what has two colons is IPv6
V6: Final = 2


def connections(text: bytes) -> tuple[Counter[tuple[bool, bool]], list[bytes]]:
    r"""Count connections by (is IPv6, is TCP); give the lines that are none.

    >>> connections(b"TCP IN 10.0.0.1:80 -> x\nICMP OUT [::1]:0 -> y\nno\n")
    (Counter({(False, True): 1, (True, False): 1}), [b'no\n'])
    """
    many: Counter[tuple[bool, bool]] = Counter()
    odd: list[bytes] = []
    for block in _blocks(text):
        data = np.frombuffer(block, np.uint8)
        starts, ends = _lines(data)
        is_plain = np.zeros(len(starts), np.bool_)
        if not any(blank in block for blank in _OTHER_BLANKS):
            is_plain, is_v6, is_tcp = _plain(data, starts, ends)
            pairs = np.bincount(2 * is_v6[is_plain] + is_tcp[is_plain], minlength=4).tolist()
            for pair, count in enumerate(pairs):
                if count:
                    many[pair > 1, pair % 2 == 1] += count
        rest = zip(starts[~is_plain].tolist(), ends[~is_plain].tolist(), strict=True)
        for line in (block[start : end + 1] for start, end in rest):
            if match := CONNECTION.match(line):
                many[match[2].count(b":") >= V6, match[1] == b"TCP"] += 1
            elif line.strip():
                odd.append(line)
    return many, odd


def _blocks(text: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(text):
        end = text.find(b"\n", start + _BLOCK) + 1 or len(text)
        yield text[start:end]
        start = end


def _lines(data: npt.NDArray[np.uint8]) -> tuple[Integers, Integers]:
    """Give where lines begin, and where their ends stand."""
    ends = np.flatnonzero(data == _NEWLINE)
    starts = np.concatenate([np.zeros(1, np.int64), ends + 1])
    if starts[-1] == len(data):
        return starts[:-1], ends
    return starts, np.append(ends, len(data))


def _plain(
    data: npt.NDArray[np.uint8], starts: Integers, ends: Integers
) -> tuple[Bits, Bits, Bits]:
    """Tell which lines are connections, and of these which are of IPv6 and of TCP."""
    spaces = np.append(np.flatnonzero(data == _SPACE), [len(data)] * 3)
    at = np.searchsorted(spaces, starts)
    first, second, third = (spaces[at + i] for i in range(3))
    is_plain = (first > starts) & (third < ends) & (third > second + 1)
    # Places of lines that are not plain are not looked at
    first, second = np.where(is_plain, first, 0), np.where(is_plain, second, 0)
    begins = np.where(is_plain, starts, 0)
    is_in = (second - first == 3) & _reads(data, first + 1, b"IN")
    is_out = (second - first == 4) & _reads(data, first + 1, b"OUT")
    is_plain &= is_in | is_out
    colons = np.flatnonzero(data == _COLON)
    many = np.searchsorted(colons, third) - np.searchsorted(colons, second)
    is_tcp = (first - begins == 3) & _reads(data, begins, b"TCP")
    return is_plain, many >= V6, is_tcp


def _reads(data: npt.NDArray[np.uint8], places: Integers, wanted: bytes) -> Bits:
    """Tell where a text stands at a place."""
    told = np.ones(len(places), np.bool_)
    for i, letter in enumerate(wanted):
        told &= data[np.minimum(places + i, len(data) - 1)] == letter
    return told


def sections(text: bytes, start: bytes) -> Iterator[tuple[str, int | None]]:
    """Give the rest of each line that starts so, and the lines of the table below; None: none."""
    marks = [0] if text.startswith(start) else []
    at = text.find(b"\n" + start)
    while at >= 0:
        marks.append(at + 1)
        at = text.find(b"\n" + start, at + 1)
    if not marks:
        return
    counts = _rows(text, marks)
    for at, end, rows in zip(marks, [*marks[1:], len(text)], counts, strict=True):
        # The line that starts so is counted, too
        rows -= 1
        stop = text.find(b"\n", at, end)
        head = text[at : end if stop < 0 else stop]
        name = head.removeprefix(start).strip().decode("utf-8", "replace")
        begins = b"" if stop < 0 else text[stop + 1 : min(end, stop + 41)]
        is_off = begins.startswith(b"Cache is disabled")
        is_none = begins.startswith(b"Cache is empty") or rows < 1
        yield name, None if is_off else 0 if is_none else rows - 1


def _rows(text: bytes, marks: list[int]) -> list[int]:
    """Count the lines from each mark to the next that begin with no blank.

    More labels of one policy entry stand below it, in lines that begin with blanks.
    """
    data = np.frombuffer(text, np.uint8)
    starts = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(data == _NEWLINE) + 1])
    starts = starts[starts < len(data)]
    first = data[starts]
    is_row = first > _SPACE
    for at in np.flatnonzero(first == ENDPOINT[0]).tolist():
        place = int(starts[at])
        is_row[at] = text[place : place + len(ENDPOINT)] != ENDPOINT
    of_mark = np.searchsorted(marks, starts[is_row], side="right") - 1
    return np.bincount(of_mark[of_mark >= 0], minlength=len(marks)).tolist()  # type: ignore[no-any-return]
