"""Lines of text to samples, compiled: where the series stands, its hash, value and time.

Only plain lines are read here; any other is left to the exact grammar (lines.py), and both say the
same (tests/load/test_lines.py). Compiled code checks no index: each is compared with the end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.load import floats
from capacity.load.distinct import Numbers, Texts, number
from capacity.load.label_table import Labels, LabelTable, parsed
from capacity.load.lines import LATEST, TEXT, Dialect, Samples, parse_line
from capacity.load.words import (
    NO,
    YES,
    ZERO,
    byte,
    codes,
    compiled,
    found,
    hashed,
    hashed_all,
    is_same,
    line_end,
)

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_NEWLINE, _RETURN, _SPACE, _TAB, _SIGN, _OPEN, _CLOSE, _QUOTE, _ESCAPE = codes(b'\n\r \t#{}"\\')
# Rows of `places`: the line; the series' text; that of a value that float() must read, else 0
_LINE, _BEGIN, _END, _HARD, _HARD_END = range(5)
_VALUE, _STAMP = range(2)


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples of a block: bytes [begins, ends) are the series' text, stamp is NaN if none.

    A series that is told again in the next line has the same `begins`. `lines` are where the lines
    begin, and `odd` where those do that the exact grammar must read.
    """

    lines: Integers
    begins: Integers
    ends: Integers
    hashes: Hashes
    values: Floats
    stamps: Floats
    odd: Integers


@dataclass(slots=True)
class CompiledLines:
    """Reads plain lines compiled and the others by the grammar; says what ExactLines says.

    `secret` are 64 bits that nobody foresees, so that no input makes many equal hashes.
    """

    dialect: Dialect = TEXT
    texts: Texts = field(default_factory=Texts)
    secret: int = field(default_factory=lambda: secrets.randbits(64))
    table: LabelTable = field(init=False)

    def __post_init__(self) -> None:
        self.table = LabelTable(self.secret)

    @property
    def count(self) -> int:
        """How many texts are known."""
        return self.texts.count

    def parse(self, data: bytes, lines: int) -> Rows:
        """Read the plain lines."""
        return scan(data, lines, self.secret)

    def learn(self, data: bytes, told: Rows) -> Samples:
        """Give each text its number; lines that are not plain are read before."""
        text = np.frombuffer(data, np.uint8)
        numbers = number(self.texts, text, told.begins, told.ends, told.hashes)
        nothing = np.empty(0, np.int64)
        plain = Samples(told.lines, numbers, told.values, told.stamps, nothing)
        return self._with_odd(plain, data, told.odd.tolist()) if len(told.odd) else plain

    def _with_odd(self, plain: Samples, data: bytes, odd: list[int]) -> Samples:
        told = [(at, parse_line(data[at : data.index(b"\n", at)])) for at in odd]
        good = [(at, one) for at, one in told if not isinstance(one, str)]
        heads = [text.encode() for _, (text, _, _) in good]
        stops = np.cumsum([0, *map(len, heads)])
        text = np.frombuffer(b"".join(heads), np.uint8)
        hashes = hashed_all(text, stops, np.uint64(self.secret))
        numbers = number(self.texts, text, stops[:-1], stops[1:], hashes)
        places = np.concatenate([plain.places, np.array([at for at, _ in good], np.int64)])
        order = np.argsort(places)
        values, stamps = (np.array([one[i] for _, one in good], np.float64) for i in (1, 2))
        return Samples(
            places[order],
            np.concatenate([plain.texts, numbers])[order],
            np.concatenate([plain.values, values])[order],
            np.concatenate([plain.stamps, stamps])[order],
            np.array([at for at, one in told if isinstance(one, str) and one], np.int64),
        )

    def labels(self, first: int) -> Callable[[], Labels]:
        """Parse labels."""
        data, ends = self.texts.since(first)
        dialect = self.dialect
        return lambda: parsed(data, ends, dialect.parse, self.secret, knows_more=dialect.knows_more)

    def add(self, labels: Labels) -> None:
        """Keep labels."""
        self.table.add(labels)

    def taken(self, cluster: str) -> tuple[pl.DataFrame, Numbers | None]:
        """Give label columns, and the first row alike; the texts are gone then."""
        self.texts = Texts()
        return self.table.taken(cluster, is_once=True)


def scan(data: bytes, lines: int, secret: int) -> Rows:
    """Read the plain ones of so many lines, each with its end."""
    places, numbers = np.empty((5, lines), np.int64), np.empty((2, lines))
    hashes, odd = np.empty(lines, np.uint64), np.empty(lines, np.int64)
    text = np.frombuffer(data, np.uint8)
    count, odds = _scan(text, np.uint64(secret), places, hashes, numbers, odd)
    starts, begins, ends, hard, hard_ends = places[:, :count]
    values, stamps = numbers[:, :count]
    for row in np.flatnonzero(hard).tolist():
        values[row] = float(data[hard[row] : hard_ends[row]])
    return Rows(starts, begins, ends, hashes[:count], values, stamps, odd[:odds])


@compiled
def _scan(
    text: Bytes, secret: np.uint64, places: Integers, hashes: Hashes, numbers: Floats, odd: Integers
) -> tuple[int, int]:
    """Fill the columns; give how many samples and how many odd lines there are."""
    rows, odds, at = ZERO, 0, ZERO
    while at < len(text) and rows + odds < len(hashes):
        line, at = at, _over_blanks(text, at)
        if at >= len(text) or byte(text, at) == _NEWLINE:
            at += 1
            continue
        if byte(text, at) == _SIGN:
            at = line_end(text, at) + 1
            continue
        end = _series(text, at, secret, rows, places, hashes)
        at = _numbers(text, end, rows, places, numbers) if end > at else 0
        if at > 0:
            places[_LINE, rows] = line
            rows += 1
        else:
            at = line_end(text, line)
            odd[odds] = line
            odds += 1
        # Behind a number stands the end of the line, or an exemplar
        at = line_end(text, at) + 1
    return rows, odds


@compiled
def _over_blanks(text: Bytes, at: int) -> int:
    while at < len(text) and (
        byte(text, at) == _SPACE or byte(text, at) == _TAB or byte(text, at) == _RETURN
    ):
        at += 1
    return at


@compiled
def _series(
    text: Bytes, at: int, secret: np.uint64, row: int, places: Integers, hashes: Hashes
) -> int:
    """Place the series of a line, and hash it; give where it ends, 0 if it is not plain."""
    if row > 0:
        before = int(places[_BEGIN, row - 1])
        size = int(places[_END, row - 1]) - before
        if _is_again(text, before, size, at):
            places[_BEGIN, row], places[_END, row] = before, before + size
            hashes[row] = hashes[row - 1]
            return at + size
    end = _head_end(text, at)
    if end > at:
        places[_BEGIN, row], places[_END, row] = at, end
        hashes[row] = hashed(text, at, end, secret)
    return end


@compiled
def _is_again(text: Bytes, begin: int, size: int, at: int) -> bool:
    """Tell whether the series of the line before stands here again."""
    if at + size >= len(text) or byte(text, begin + size - 1) != byte(text, at + size - 1):
        return False
    # A text that ends in a brace is whole; a name alone may go on
    after = byte(text, at + size)
    if byte(text, begin + size - 1) != _CLOSE and after != _SPACE and after != _TAB:
        return False
    return is_same(text, begin, text, at, size)


@compiled
def _head_end(text: Bytes, at: int) -> int:
    """Give where a series' text ends: behind its brace, else behind its name; 0 if neither.

    Whether it is the text of a series is asked when its labels are parsed, once.
    """
    begin = at
    while at < len(text) and byte(text, at) > _SPACE and byte(text, at) != _OPEN:
        at += 1
    name = at
    while at < len(text) and (byte(text, at) == _SPACE or byte(text, at) == _TAB):
        at += 1
    if at >= len(text):
        return 0
    if byte(text, at) != _OPEN:
        return name if begin < name < at else 0
    while at < len(text):
        at = found(text, at + 1, len(text), _QUOTE, _CLOSE, _NEWLINE)
        if at >= len(text) or byte(text, at) == _NEWLINE:
            return 0
        if byte(text, at) == _CLOSE:
            return at + 1
        at = _quotes_end(text, at)
    return 0


@compiled
def _quotes_end(text: Bytes, at: int) -> int:
    """Give where the quotes close that open at `at`; the end of the text if not in this line."""
    while True:
        at = found(text, at + 1, len(text), _QUOTE, _ESCAPE, _NEWLINE)
        if at >= len(text) or byte(text, at) == _NEWLINE:
            return len(text)
        if byte(text, at) == _QUOTE:
            return at
        # What an escape stands before is neither quote nor escape
        at += 1
        if at >= len(text) or byte(text, at) == _NEWLINE:
            return len(text)


@compiled
def _numbers(text: Bytes, at: int, row: int, places: Integers, numbers: Floats) -> int:
    """Read value and time of a line; give where they end, 0 if it is not plain or too late."""
    begin = _over_blanks(text, at)
    kind, value, end = floats.number(text, begin, YES)
    if kind == floats.BAD:
        return 0
    is_hard = kind == floats.HARD
    numbers[_VALUE, row], numbers[_STAMP, row] = value, np.nan
    places[_HARD, row] = begin if is_hard else 0
    places[_HARD_END, row] = end if is_hard else 0
    at = _over_blanks(text, end)
    if end < at < len(text) and byte(text, at) != _NEWLINE and byte(text, at) != _SIGN:
        kind, stamp, end = floats.number(text, at, NO)
        if kind != floats.GOOD or abs(stamp) >= LATEST:
            return 0
        numbers[_STAMP, row] = stamp
        at = _over_blanks(text, end)
    if at >= len(text) or byte(text, at) == _NEWLINE:
        return at
    if at > end and byte(text, at) == _SIGN:
        at = _over_blanks(text, at + 1)
        return at if at < len(text) and byte(text, at) == _OPEN else 0
    return 0
