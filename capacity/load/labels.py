"""Series as text, ``name{a="b"}``, to metric and labels: all at once, or one exactly.

Grammar: prometheus/docs content/docs/instrumenting/exposition_formats.md (0.0.4) and
prometheus/OpenMetrics specification (1.0); names in quotes are those of Prometheus 3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from capacity.export import OWN_COLUMNS
from capacity.tables import SERIES

LABEL_COLUMNS: Final = tuple(name for name in SERIES.schema if name != "series")
_NAME: Final = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*", re.ASCII)
_PAIR: Final = re.compile(
    r'\s*(?:(?P<plain>[a-zA-Z_][a-zA-Z0-9_]*)|"(?P<quoted>(?:[^"\\]|\\.)*)")\s*'
    r'(?P<value>=\s*"(?:[^"\\]|\\.)*")?\s*(?:,|$)',
    re.ASCII,
)
_ESCAPE: Final = re.compile(r"\\(.)")
_UNESCAPED: Final = {"\\": "\\", '"': '"', "n": "\n"}
# Stands for a quote of JSON while values are still split at quotes; never in a plain text
_QUOTE: Final = "\x02"
# Escapes, and what JSON would have to escape: such texts are parsed one by one
_NOT_PLAIN: Final = r"[\\\x00-\x1f]"
# Stands for an empty value, which is the same as no label
_HOLE: Final = "\x03"
_QUOTED_NAME: Final = r'[{,]\s*""'


def parse_labels(text: str) -> dict[str, str] | None:
    r"""Labels of one series, metric name as ``__name__``; None where the text is no series.

    An empty value is the same as no label, as in Prometheus.

    Examples
    --------
    >>> parse_labels('up{job="a", path="C:\\\\x",empty=""}')
    {'__name__': 'up', 'job': 'a', 'path': 'C:\\x'}
    >>> parse_labels('up{job="a"') is None
    True
    """
    named = _NAME.match(text)
    labels = {"__name__": named[1]} if named else {}
    rest = text[named.end() :] if named else text.lstrip()
    body = rest.rstrip()
    if not body:
        return labels or None
    if not (body.startswith("{") and body.endswith("}")):
        return None
    body, at = body[1:-1].rstrip(), 0
    while at < len(body):
        pair = _PAIR.match(body, at)
        if pair is None:
            return None
        name, value = pair["plain"] or pair["quoted"], pair["value"]
        if value is None:
            # A quoted text alone is the metric name
            if pair["plain"] is not None:
                return None
            name, value = "__name__", pair["quoted"]
        else:
            value = value[1:].lstrip()[1:-1]
        name, value = _unescaped(name), _unescaped(value)
        if not name or name in labels:
            return None
        labels[name] = value
        at = pair.end()
    return {k: v for k, v in labels.items() if v} if labels.get("__name__") else None


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda found: _UNESCAPED.get(found[1], found[0]), text)


def label_columns(labels: Mapping[str, str]) -> dict[str, str | None]:
    """Give the label columns of table series; cluster is null where no label tells it."""
    rest = {k: labels[k] for k in sorted(labels) if k != "__name__" and k not in OWN_COLUMNS}
    return {
        "metric": labels.get("__name__", ""),
        **{name: labels.get(name) or None for name in OWN_COLUMNS},
        "labels": json.dumps(rest, ensure_ascii=False),
    }


def label_frame(texts: pl.Series) -> pl.DataFrame:
    """Parse many series.

    Parameters
    ----------
    texts
        Such as ``up{job="a"}``; no nulls.

    Returns
    -------
    DataFrame
        The label columns of table series, in the order of `texts`; all null where a text is no
        series. `parse_labels` gives the same for one.

    Notes
    -----
    Texts of one shape (metric and label names in order) differ in their values only. A shape is
    parsed once and says where in the text, split at quotes, the values and the metric stand; the
    columns are then gathered from there.
    """
    frame = _with_shape(texts)
    # Names in quotes cannot be told from values by their place
    is_odd = texts.str.contains(_NOT_PLAIN) | frame["shape"].str.contains(_QUOTED_NAME)
    if frame["text"].str.contains(_HOLE, literal=True).any():
        # A hole that is in the text and not in its shape became part of a value
        inside, outside = (frame[c].str.count_matches(_HOLE, literal=True) for c in frame.columns)
        is_odd |= inside != outside
    if not is_odd.any():
        return _shaped(frame)
    rows = [_one(text) for text in texts.filter(is_odd)]
    one_by_one = pl.DataFrame(rows, schema=dict.fromkeys(LABEL_COLUMNS, pl.String))
    both = pl.concat([_shaped(frame.filter(~is_odd)), one_by_one])
    return both[pl.concat([(~is_odd).arg_true(), is_odd.arg_true()]).arg_sort()]


def _one(text: str) -> dict[str, str | None]:
    labels = parse_labels(text)
    return dict.fromkeys(LABEL_COLUMNS) if labels is None else label_columns(labels)


def _with_shape(texts: pl.Series) -> pl.DataFrame:
    """Put a hole in place of empty values, and in the shape nothing in place of the others."""
    text = pl.col("text")
    if texts.str.contains('""', literal=True).any():
        # Between two values stand a comma and a name: two quotes in a row enclose nothing
        text = text.str.replace_all(r'=\s*""', f"={_HOLE}")
    frame = pl.DataFrame({"text": texts}).select(text)
    return frame.with_columns(shape=pl.col("text").str.replace_all('"[^"]*"', '""'))


def _shaped(frame: pl.DataFrame) -> pl.DataFrame:
    """Parse texts without escapes by their shapes."""
    shapes = _shapes(frame["shape"].unique())
    frame = frame.join(shapes, on="shape", how="left", maintain_order="left")
    # Pieces of the shape and of the text stand in one list, so that one gather interleaves them
    pieces = pl.concat_str("pieces", "text", separator='"').str.split('"')
    values = frame.select("metric", "order", *OWN_COLUMNS, pieces=pieces)
    return values.select(
        *(
            pl.col("pieces").list.get(pl.col(name), null_on_oob=True).alias(name)
            for name in ("metric", *OWN_COLUMNS)
        ),
        labels=pl.col("pieces")
        .list.gather(pl.col("order"))
        .list.join("")
        .str.replace_all(_QUOTE, '"', literal=True),
    )


def _shapes(shapes: pl.Series) -> pl.DataFrame:
    """Give for each shape the text pieces of its JSON and where everything stands."""
    schema: dict[str, Any] = {
        "shape": pl.String,
        "pieces": pl.String,
        "order": pl.List(pl.UInt32),
        **dict.fromkeys(("metric", *OWN_COLUMNS), pl.UInt32),
    }
    return pl.DataFrame([_shape(shape) for shape in shapes], schema=schema)


def _shape(shape: str) -> dict[str, Any]:
    # Numbered values tell where each label's value stands in the text, split at quotes
    numbers = iter(range(1, 2 * shape.count('"'), 2))
    numbered = re.sub('""', lambda _: f'"{next(numbers)}"', shape)
    labels = parse_labels(numbered.replace(_HOLE, '""'))
    if labels is None:
        return {"shape": shape}
    metric = labels.pop("__name__")
    rest = sorted(k for k in labels if k not in OWN_COLUMNS)
    keys = [f"{_QUOTE}{key}{_QUOTE}: {_QUOTE}" for key in rest]
    before = ["{" + key if i == 0 else f"{_QUOTE}, {key}" for i, key in enumerate(keys)]
    pieces = [*before, f"{_QUOTE}}}" if rest else "{}", metric]
    order = [at for i, key in enumerate(rest) for at in (i, len(pieces) + int(labels[key]))]
    own: dict[str, int] = {k: len(pieces) + int(labels[k]) for k in OWN_COLUMNS if k in labels}
    is_told = '"' in shape and metric.isdigit()
    return {
        "shape": shape,
        "pieces": '"'.join(pieces),
        "order": [*order, len(rest)],
        "metric": len(pieces) + int(metric) if is_told else len(pieces) - 1,
        **own,
    }
