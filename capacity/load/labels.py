"""Series as text, ``name{a="b"}``, to metric and labels, exactly; label_table.py does many at once.

Grammar: prometheus/docs content/docs/instrumenting/exposition_formats.md (0.0.4) and
prometheus/OpenMetrics specification (1.0); names in quotes are those of Prometheus 3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import polars as pl

from capacity.export import OWN_COLUMNS
from capacity.tables import SERIES

LABEL_COLUMNS: Final = tuple(name for name in SERIES.schema if name != "series")
Parse = Callable[[str], Mapping[str, str] | None]
_NAME: Final = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*", re.ASCII)
_PAIR: Final = re.compile(
    r'\s*(?:(?P<plain>[a-zA-Z_][a-zA-Z0-9_]*)|"(?P<quoted>(?:[^"\\]|\\.)*)")\s*'
    r'(?:(?P<value>=\s*"(?:[^"\\]|\\.)*")\s*)?(?:,|$)',
    re.ASCII,
)
_ESCAPE: Final = re.compile(r"\\(.)")
_UNESCAPED: Final = {"\\": "\\", '"': '"', "n": "\n"}


def unescaped(text: str) -> str:
    """Give a value without its escapes: those of quote, backslash and line end; others stay."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda found: _UNESCAPED.get(found[1], found[0]), text)


def parse_labels(text: str, unescape: Callable[[str], str] = unescaped) -> dict[str, str] | None:
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
        name, value = unescape(name), unescape(value)
        if not name or name in labels:
            return None
        labels[name] = value
        at = pair.end()
    return {k: v for k, v in labels.items() if v} if labels.get("__name__") else None


def label_columns(labels: Mapping[str, str]) -> dict[str, str | None]:
    """Give the label columns of table series; cluster is null where no label tells it."""
    rest = {k: labels[k] for k in sorted(labels) if k != "__name__" and k not in OWN_COLUMNS}
    return {
        "metric": labels.get("__name__", ""),
        **{name: labels.get(name) or None for name in OWN_COLUMNS},
        "labels": json.dumps(rest, ensure_ascii=False),
    }


def label_frame(texts: Iterable[str], parse: Parse = parse_labels) -> pl.DataFrame:
    """Give the label columns of series as text; all null for a text that is no series."""
    told = (parse(text) for text in texts)
    rows = [dict.fromkeys(LABEL_COLUMNS) if one is None else label_columns(one) for one in told]
    return pl.DataFrame(rows, schema=dict.fromkeys(LABEL_COLUMNS, pl.String))
