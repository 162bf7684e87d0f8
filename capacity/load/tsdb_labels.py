"""Label sets of a block's series, as an index tells them, to the label columns of table series."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from capacity.load import label_table
from capacity.load.gather import same_labels
from capacity.load.labels import LABEL_COLUMNS, label_columns, parse_labels
from capacity.load.tsdb_index import Index
from capacity.load.words import ZERO, copied, read_only

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint32]

_NAME: Final = b"__name__"
_PLAIN: Final = re.compile(rb"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_ESCAPED: Final = re.compile(rb'[\\"\n]')
_ESCAPES: Final = {b"\\": rb"\\", b'"': rb"\"", b"\n": rb"\n"}
_OPEN, _CLOSE, _COMMA, _EQUALS, _QUOTE = b'{},="'


def label_frame(told: Sequence[tuple[Index, Mapping[str, str]]]) -> tuple[pl.DataFrame, Numbers]:
    """Give the label columns of the series of indexes, and for each row the first one alike.

    Parameters
    ----------
    told
        Series and their labels, with labels of all series of the block; a series' own one wins.
    """
    secret = secrets.randbits(64)
    table = label_table.LabelTable(secret)
    for index, external in told:
        data, ends = _texts(index, external)
        table.add(label_table.parsed(data, ends, parse_labels, secret))
    frame, same = table.taken("", is_once=False)
    if frame["metric"].null_count():
        # Series without a metric's name, and labels told twice, which no scrape has
        frame = columns_of(labels for one in told for labels in _label_sets(*one))
        same = None
    return frame, same_labels(frame) if same is None else same


def _texts(index: Index, external: Mapping[str, str]) -> tuple[Bytes, Integers]:
    """Give series as texts one after the other, and where each ends, from 0 on."""
    texts = list(index.texts)
    places = {text: at for at, text in enumerate(texts)}
    for text in (one.encode() for pair in external.items() for one in pair):
        if places.setdefault(text, len(texts)) == len(texts):
            texts.append(text)
    added = [places[one.encode()] for pair in external.items() for one in pair]
    is_name, is_metric = np.zeros((2, len(texts)), np.bool_)
    is_name[index.labels[::2]] = is_name[added[::2]] = True
    is_metric[index.labels[1::2][index.labels[::2] == places.get(_NAME, -1)]] = True
    for at in np.flatnonzero(is_metric).tolist():
        is_metric[at] = _PLAIN.fullmatch(texts[at].replace(b":", b"_")) is not None
    names = [
        _as_name(text) if is_one else b""
        for text, is_one in zip(texts, is_name.tolist(), strict=True)
    ]
    has_escapes = _ESCAPED.search(b"".join(texts)) is not None
    values = [_as_value(text) for text in texts] if has_escapes else texts
    data, ends = _written(
        np.frombuffer(b"".join(names), np.uint8), _ends(names),
        np.frombuffer(b"".join(values), np.uint8), _ends(values),
        index.labels, index.many, np.array(added, np.int64), places.get(_NAME, -1), is_metric,
    )  # fmt: skip
    return read_only(data), ends


def columns_of(labels: Iterable[Mapping[str, str]]) -> pl.DataFrame:
    """Give the label columns of label sets."""
    rows = [label_columns(one) for one in labels]
    return pl.DataFrame(rows, schema=dict.fromkeys(LABEL_COLUMNS, pl.String))


def _label_sets(index: Index, external: Mapping[str, str]) -> list[dict[str, str]]:
    texts = [text.decode("utf-8", "replace") for text in index.texts]
    told = iter([texts[n] for n in index.labels.tolist()])
    own = [{next(told): next(told) for _ in range(n)} for n in index.many.tolist()]
    return [{**external, **labels} for labels in own]


def _ends(texts: list[bytes]) -> Integers:
    return np.cumsum([0, *map(len, texts)])


def _as_name(text: bytes) -> bytes:
    return text if _PLAIN.fullmatch(text) else b'"' + _as_value(text) + b'"'


def _as_value(text: bytes) -> bytes:
    if _ESCAPED.search(text) is None:
        return text
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], text)


@njit(cache=True, nogil=True)
def _written(
    names: Bytes, name_ends: Integers, values: Bytes, value_ends: Integers, labels: Integers,
    many: Integers, added: Integers, metric: int, is_plain: npt.NDArray[np.bool_],
) -> tuple[Bytes, Integers]:  # pragma: no cover  # fmt: skip
    """Write each series as text, its metric first; give where texts end, from 0 on."""
    size, at = 0, 0
    for pair in range(len(labels) // 2):
        name, value = labels[2 * pair], labels[2 * pair + 1]
        size += name_ends[name + 1] - name_ends[name] + 4
        size += value_ends[value + 1] - value_ends[value]
    for i in range(0, len(added), 2):
        name, value = added[i], added[i + 1]
        more = name_ends[name + 1] - name_ends[name] + 4
        size += len(many) * (more + value_ends[value + 1] - value_ends[value])
    # Copying may touch some bytes behind
    out = np.empty(size + 4 * len(many) + 8, np.uint8)
    ends = np.zeros(len(many) + 1, np.int64)
    at, first = ZERO, 0
    for i in range(len(many)):
        last = first + 2 * many[i]
        known = -1
        for k in range(first, last, 2):
            if labels[k] == metric and known < 0:
                known = k
        if known >= 0 and not is_plain[labels[known + 1]]:
            known = -1
        if known >= 0:
            value = labels[known + 1]
            at = copied(values, value_ends[value], value_ends[value + 1], out, at)
        out[at] = _OPEN
        at += 1
        for k in range(first, last, 2):
            if k != known:
                at = _pair(names, name_ends, values, value_ends, labels[k], labels[k + 1], out, at)
        for k in range(0, len(added), 2):
            is_own = False
            for n in range(first, last, 2):
                is_own |= labels[n] == added[k]
            if is_own:
                continue
            at = _pair(names, name_ends, values, value_ends, added[k], added[k + 1], out, at)
        out[at] = _CLOSE
        at += 1
        ends[i + 1] = at
        first = last
    return out[:at], ends


@njit(cache=True, nogil=True)
def _pair(
    names: Bytes, name_ends: Integers, values: Bytes, value_ends: Integers, name: int, value: int,
    out: Bytes, at: int,
) -> int:  # pragma: no cover  # fmt: skip
    at = copied(names, name_ends[name], name_ends[name + 1], out, at)
    out[at], out[at + 1] = _EQUALS, _QUOTE
    at = copied(values, value_ends[value], value_ends[value + 1], out, at + 2)
    out[at], out[at + 1] = _QUOTE, _COMMA
    return at + 2
