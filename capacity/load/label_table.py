"""Table series from texts, compiled: each distinct value is kept once, and columns point to it.

A block of texts is parsed alone, many at once; `LabelTable` brings the blocks together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
from numba import njit

from capacity.load.distinct import Bytes, Integers, Numbers, Texts, number
from capacity.load.label_parse import METRIC, WIDTH
from capacity.load.label_scan import scanned
from capacity.load.labels import LABEL_COLUMNS, Parse, label_frame
from capacity.load.threads import THREADS
from capacity.load.words import ZERO, copied, hashed_all, read_only

_Each = Callable[..., Iterable[Any]]

_CLUSTER: Final = LABEL_COLUMNS.index("cluster")
_NEWLINE: Final = 10
# Values hold no control bytes
_SEPARATOR: Final = "\x1f"
# Of bytes that are no text
_MARK: Final = "\N{REPLACEMENT CHARACTER}"
# Series and values up to which plain Python is quicker than polars' reader and a second thread
_FEW: Final = 2_000
_NO_ROWS: Final = label_frame([])
_NO_TEXT: Final = read_only(np.zeros(1, np.uint8))


@dataclass(frozen=True, slots=True)
class Labels:
    """Columns of series: number of the value, 0 for none; `odd` ones are rows of a frame instead.

    Value i is bytes [ends[i], ends[i + 1]) of `data`; so are `names` and `sets`, see Scanned.
    """

    numbers: Numbers
    data: Bytes
    ends: Integers
    odd: Integers
    mended: pl.DataFrame
    names: tuple[Bytes, Integers]
    sets: tuple[Bytes, Integers]
    has_escapes: bool

    def metrics(self) -> tuple[pl.Series, Numbers]:
        """Give the distinct metrics, null for no series, and which of them each series has."""
        column = self.numbers[METRIC]
        is_metric = np.zeros(len(self.ends), np.bool_)
        is_metric[column] = True
        is_metric[0] = False
        named = np.flatnonzero(is_metric)
        data = self.data.tobytes()
        told = [data[self.ends[i] : self.ends[i + 1]].decode("utf-8", "replace") for i in named]
        codes = np.zeros(len(self.ends), np.uint32)
        codes[named] = np.arange(1, len(named) + 1)
        found = codes[column]
        found[self.odd] = len(named) + 1 + np.arange(len(self.odd))
        names = pl.Series([None, *told, *self.mended["metric"]], dtype=pl.String)
        return names, found


def parsed(
    text: Bytes, ends: Integers, exact: Parse, secret: int, *, knows_more: bool = False
) -> Labels:
    """Parse series as text.

    Parameters
    ----------
    text, ends
        Text i is bytes [ends[i], ends[i + 1]).
    exact
        Labels of one text that is not plain, None where it is no series.
    secret
        Of the hashes.
    knows_more
        `exact` knows more escapes than those of quote, backslash and line end; else others are
        kept as they are written.
    """
    found = scanned(text, ends, _values(), secret, knows_more=knows_more)
    odd = found.odd.tolist()
    texts = [text[ends[i] : ends[i + 1]].tobytes().decode("utf-8", "replace") for i in odd]
    return Labels(
        found.numbers, *found.values.since(0), found.odd,
        label_frame(texts, exact) if texts else _NO_ROWS,
        found.names.since(0), found.sets.since(0), found.has_escapes,
    )  # fmt: skip


def _values() -> Texts:
    """Give distinct values, the empty one as number 0."""
    values = Texts()
    nothing = np.zeros(1, np.int64)
    number(values, _NO_TEXT, nothing, nothing, np.zeros(1, np.uint64))
    return values


@dataclass(slots=True)
class LabelTable:
    """Table series so far, block after block."""

    secret: int
    values: Texts = field(default_factory=_values)
    names: Texts = field(default_factory=Texts)
    sets: Texts = field(default_factory=Texts)
    numbers: list[tuple[Numbers, Numbers]] = field(default_factory=list)
    odd: list[Integers] = field(default_factory=list)
    mended: list[pl.DataFrame] = field(default_factory=list)
    has_escapes: bool = False
    count: int = 0

    def add(self, labels: Labels) -> None:
        """Append the series of a block."""
        # But the empty value, which is number 0 everywhere
        new = self._learnt(self.values, labels.data, labels.ends[1:])
        self.numbers.append((labels.numbers, np.concatenate([np.zeros(1, np.uint32), new])))
        self._learnt(self.names, *labels.names)
        self._learnt(self.sets, *labels.sets)
        self.has_escapes |= labels.has_escapes
        if len(labels.odd):
            self.odd.append(labels.odd + self.count)
            self.mended.append(labels.mended)
        self.count += labels.numbers.shape[1]

    def _learnt(self, texts: Texts, data: Bytes, ends: Integers) -> Numbers:
        hashes = hashed_all(data, ends, np.uint64(self.secret))
        return number(texts, data, ends[:-1], ends[1:], hashes)

    def taken(self, cluster: str, *, is_once: bool) -> tuple[pl.DataFrame, Numbers | None]:
        """Give label columns, and for each row the first one alike; None: compare them.

        All null for what is no series. Series without a label cluster are of `cluster`. The table
        is empty then. `is_once` tells that no text was told twice.
        """
        with ThreadPoolExecutor(THREADS) as pool:
            # A thread that is not used is not started
            each: _Each = map if self.count < _FEW else pool.map
            numbers = np.zeros((WIDTH, self.count), np.uint32)
            _ = [*each(self._fill, numbers, range(WIDTH))]
            self.numbers.clear()
            if cluster:
                name = np.frombuffer(cluster.encode(), np.uint8)
                column = numbers[_CLUSTER]
                # One may be told there and not here
                is_once &= not column.any()
                column[column == 0] = self._learnt(self.values, name, np.array([0, len(name)]))[0]
            told, is_text = _series(self.values)
            is_known = is_text and not self.odd
            same = self._same(numbers, is_once=is_once) if is_known else None
            frame = _frame(told, numbers, each)
        if not self.odd:
            return frame, same
        odd = np.concatenate(self.odd)
        place = np.arange(len(frame))
        place[odd] = len(frame) + np.arange(len(odd))
        mended = pl.concat(self.mended)
        if cluster:
            mended = mended.with_columns(pl.col("cluster").fill_null(cluster))
        return pl.concat([frame, mended])[place], None

    def _same(self, numbers: Numbers, *, is_once: bool) -> Numbers:
        # Where each set of names is written in one way, texts that differ are sets that differ
        is_once &= not self.has_escapes and self.names.count == self.sets.count
        if is_once and numbers[METRIC].all():
            return np.arange(self.count, dtype=np.uint32)
        return first_alike(numbers)

    def _fill(self, column: Numbers, k: int) -> None:
        """Fill in numbers of the values of one column, which are 0 so far."""
        start = 0
        for numbers, new in self.numbers:
            end = start + numbers.shape[1]
            if numbers[k].any():
                # Numbers are those of values; what is not checked needs no copy
                new.take(numbers[k], out=column[start:end], mode="clip")
            start = end


def _frame(values: pl.Series, numbers: Numbers, each: _Each) -> pl.DataFrame:
    """Give columns of values; one without any takes no memory."""
    columns = {key: row for key, row in zip(LABEL_COLUMNS, numbers, strict=True) if row.any()}
    told = each(lambda row: values.gather(pl.Series(row)), columns.values())
    nothing = {key: pl.lit(None, dtype=pl.String) for key in LABEL_COLUMNS if key not in columns}
    length = pl.Series("length", numbers[0])
    frame = pl.DataFrame({**dict(zip(columns, told, strict=True)), "length": length})
    return frame.with_columns(**nothing).select(LABEL_COLUMNS)


def _series(values: Texts) -> tuple[pl.Series, bool]:
    """Give values, the empty one as null, and whether all are UTF-8: marks stand for the rest."""
    ends = values.ends[: values.count + 1]
    if values.count < _FEW:
        data, edges = values.data[: ends[-1]].tobytes(), ends[1:].tolist()
        texts = [
            data[begin:end].decode("utf-8", "replace")
            for begin, end in zip(edges, edges[1:], strict=False)
        ]
        is_text = not any(_MARK in text for text in texts)
        return pl.Series("value", [None, *texts], dtype=pl.String), is_text
    out = np.empty(int(ends[-1]) + values.count, np.uint8)
    rows = out[: _in_lines(values.data, ends, out)].tobytes()
    is_text = True
    if not rows.isascii():
        try:
            rows.decode()
        except UnicodeDecodeError:
            rows, is_text = rows.decode("utf-8", "replace").encode(), False
    schema = {"value": pl.String}
    told = pl.read_csv(rows, has_header=False, separator=_SEPARATOR, quote_char=None, schema=schema)
    return pl.concat([pl.Series("value", [None], dtype=pl.String), told["value"]]), is_text


@njit(cache=True, nogil=True)
def _in_lines(data: Bytes, ends: Integers, out: Bytes) -> int:
    """Write all values but the empty one, a line each; give how much is written."""
    at = ZERO
    for i in range(1, len(ends) - 1):
        at = copied(data, ends[i], ends[i + 1], out, at)
        out[at] = _NEWLINE
        at += 1
    return at


@njit(cache=True, nogil=True)
def first_alike(numbers: Numbers) -> Numbers:
    """Give for each column the first one that is the same: a hash table as that of distinct.py."""
    width, count = numbers.shape
    size = 2
    while size < 2 * count:
        size *= 2
    slots, mask = np.zeros(size, np.uint32), np.uint64(size - 1)
    same = np.empty(count, np.uint32)
    for i in range(count):
        state = np.uint64(width)
        for k in range(width):
            state = (state ^ np.uint64(numbers[k, i])) * np.uint64(0x9E3779B97F4A7C15)
            state ^= state >> np.uint64(29)
        slot = state & mask
        same[i] = i
        while slots[slot] != 0:
            other = np.int64(slots[slot]) - 1
            is_alike = True
            for k in range(width):
                if numbers[k, other] != numbers[k, i]:
                    is_alike = False
                    break
            if is_alike:
                same[i] = other
                break
            slot = (slot + np.uint64(1)) & mask
        if same[i] == i:
            slots[slot] = i + 1
    return same
