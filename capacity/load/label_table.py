"""Table series from texts, compiled: each distinct value is kept once, and columns point to it.

A block of texts is parsed alone, many at once; `LabelTable` brings the blocks together.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
from numba import njit

from capacity.load.distinct import Bytes, Hashes, Integers, Numbers, Texts, number
from capacity.load.label_scan import WIDTH, places
from capacity.load.labels import LABEL_COLUMNS, Parse, label_frame
from capacity.load.words import ZERO, copied, hashed, hashed_all, is_same, read_only

_CLUSTER: Final = LABEL_COLUMNS.index("cluster")
_METRIC: Final = LABEL_COLUMNS.index("metric")
_NEWLINE: Final = 10
# Values hold no control bytes
_SEPARATOR: Final = "\x1f"
# Of bytes that are no text
_MARK: Final = "\N{REPLACEMENT CHARACTER}"
# Series and values up to which plain Python is quicker than polars' reader and a second thread
_FEW: Final = 2_000
_NO_ROWS: Final = label_frame([])
_NO_TEXT: Final = np.zeros(1, np.uint8)


@dataclass(frozen=True, slots=True)
class Labels:
    """Columns of series: number of the value, 0 for none; `odd` ones are rows of a frame instead.

    Value i is bytes [ends[i], ends[i + 1]) of `data`.
    """

    numbers: Numbers
    data: Bytes
    ends: Integers
    odd: Integers
    mended: pl.DataFrame

    def metrics(self) -> tuple[pl.Series, Numbers]:
        """Give the distinct metrics, null for no series, and which of them each series has."""
        column = self.numbers[_METRIC]
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
    data: bytes, ends: Integers, exact: Parse, secret: int, *, knows_more: bool = False
) -> Labels:
    """Parse series as text.

    Parameters
    ----------
    data, ends
        Text i is bytes [ends[i], ends[i + 1]).
    exact
        Labels of one text that is not plain, None where it is no series.
    secret
        Of the hashes.
    knows_more
        `exact` knows more escapes than those of quote, backslash and line end; else others are
        kept as they are written.
    """
    text = np.frombuffer(data, np.uint8)
    found = places(text, ends, knows_more=knows_more)
    values = _values()
    numbers = np.empty((WIDTH, len(ends) - 1), np.uint32)
    for k in range(WIDTH):
        of = text if k < WIDTH - 1 else found.json
        if not found.ends[k].any():
            numbers[k] = 0
            continue
        hashes = _hashes(of, found.begins[k], found.ends[k], np.uint64(secret))
        numbers[k] = number(values, of, found.begins[k], found.ends[k], hashes)
    texts = [data[ends[i] : ends[i + 1]].decode("utf-8", "replace") for i in found.odd.tolist()]
    told = values.ends[: values.count + 1]
    mended = label_frame(texts, exact) if texts else _NO_ROWS
    data_ = read_only(values.data[: told[-1]])
    return Labels(numbers, data_, told, found.odd, mended)


def _values() -> Texts:
    """Give distinct values, the empty one as number 0."""
    values = Texts()
    nothing = np.zeros(1, np.int64)
    number(values, _NO_TEXT, nothing, nothing, np.zeros(1, np.uint64))
    return values


@njit(cache=True, nogil=True)
def _hashes(text: Bytes, begins: Integers, ends: Integers, secret: np.uint64) -> Hashes:
    """Hash values; one that equals that before gets its place, where it needs no look-up."""
    hashes = np.empty(len(begins), np.uint64)
    for i in range(len(begins)):
        begin, size = begins[i], ends[i] - begins[i]
        if size == 0:
            # That of `_values`; a place of no other value, as a place again is a value again
            begins[i], ends[i], hashes[i] = -1, -1, np.uint64(0)
        elif (
            i > 0
            and ends[i - 1] - begins[i - 1] == size
            and is_same(text, begins[i - 1], text, begin, size)
        ):
            begins[i], ends[i], hashes[i] = begins[i - 1], ends[i - 1], hashes[i - 1]
        else:
            hashes[i] = hashed(text, begin, begin + size, secret)
    return hashes


@dataclass(slots=True)
class LabelTable:
    """Table series so far, block after block."""

    secret: int
    values: Texts = field(default_factory=_values)
    numbers: list[Numbers] = field(default_factory=list)
    odd: list[Integers] = field(default_factory=list)
    mended: list[pl.DataFrame] = field(default_factory=list)
    count: int = 0

    def add(self, labels: Labels) -> None:
        """Append the series of a block."""
        # But the empty value, which is number 0 everywhere
        ends = labels.ends[1:]
        hashes = hashed_all(labels.data, ends, np.uint64(self.secret))
        new = number(self.values, labels.data, ends[:-1], ends[1:], hashes)
        self.numbers.append(np.concatenate([np.zeros(1, np.uint32), new])[labels.numbers])
        if len(labels.odd):
            self.odd.append(labels.odd + self.count)
            self.mended.append(labels.mended)
        self.count += labels.numbers.shape[1]

    def taken(self, cluster: str) -> tuple[pl.DataFrame, Numbers | None]:
        """Give label columns, and for each row the first one alike; None: compare them.

        All null for what is no series. Series without a label cluster are of `cluster`. The table
        is empty then.
        """
        nothing = np.zeros((WIDTH, 0), np.uint32)
        numbers = np.concatenate([nothing, *self.numbers], axis=1)
        self.numbers.clear()
        if cluster:
            name = np.frombuffer(cluster.encode(), np.uint8)
            ends = np.array([0, len(name)])
            hashes = hashed_all(name, ends, np.uint64(self.secret))
            column = numbers[_CLUSTER]
            column[column == 0] = number(self.values, name, ends[:1], ends[1:], hashes)[0]
        told, is_text = _series(self.values)
        if not self.odd:
            return _frame_and_same(told, numbers) if is_text else (_frame(told, numbers), None)
        frame = _frame(told, numbers)
        odd = np.concatenate(self.odd)
        place = np.arange(len(frame))
        place[odd] = len(frame) + np.arange(len(odd))
        mended = pl.concat(self.mended)
        if cluster:
            mended = mended.with_columns(pl.col("cluster").fill_null(cluster))
        return pl.concat([frame, mended])[place], None


def columns(data: bytes, ends: Integers, exact: Parse, *, knows_more: bool = False) -> pl.DataFrame:
    """Give the label columns of series as text; see `parsed`. All null for what is no series."""
    secret = secrets.randbits(64)
    table = LabelTable(secret)
    table.add(parsed(data, ends, exact, secret, knows_more=knows_more))
    return table.taken("")[0]


def _frame_and_same(values: pl.Series, numbers: Numbers) -> tuple[pl.DataFrame, Numbers]:
    if numbers.shape[1] < _FEW:
        return _frame(values, numbers), first_alike(numbers)
    with ThreadPoolExecutor(1) as pool:
        same = pool.submit(first_alike, numbers)
        return _frame(values, numbers), same.result()


def _frame(values: pl.Series, numbers: Numbers) -> pl.DataFrame:
    """Give columns of values; one without any takes no memory."""
    columns = dict(zip(LABEL_COLUMNS, numbers, strict=True))
    told = {key: values.gather(pl.Series(row)) for key, row in columns.items() if row.any()}
    nothing = {key: pl.lit(None, dtype=pl.String) for key in columns if key not in told}
    length = pl.Series("length", numbers[0])
    return pl.DataFrame({**told, "length": length}).with_columns(**nothing).select(LABEL_COLUMNS)


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
