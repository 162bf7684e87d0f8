"""What `promtool tsdb dump` prints: a line a sample, series after series, times in milliseconds.

Format: prometheus/prometheus cmd/promtool/tsdb.go formatSeriesSet and model/labels Labels.String
(v2.42 to v3.5): names and values in quotes are written by Go's strconv.Quote. Lines are read as
those of a scrape; `promtool tsdb dump-openmetrics` prints OpenMetrics, which exposition.py reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from capacity.export import Metrics
from capacity.load import exposition
from capacity.load.gather import Selection
from capacity.load.labels import parse_labels
from capacity.load.lines import Dialect

FORMAT: Final = "dump"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
# Labels are sorted by name, so that some may stand before that of the metric
_FIRST_LINE: Final = re.compile(
    rf"\{{(?:(?:[a-zA-Z_]\w*|{_QUOTED})={_QUOTED}, )*__name__={_QUOTED}", re.ASCII
)
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))"
)
# go.dev/ref/spec, Rune literals
_NAMED: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\",
    '"': '"',
}  # fmt: skip


def is_dump(beginning: bytes) -> bool:
    r"""Tell whether the beginning of a file looks like a dump.

    >>> is_dump(b'{__name__="up", job="a"} 1 1700000000000\n'), is_dump(b'up{job="a"} 1\n')
    (True, False)
    """
    line = beginning.lstrip().split(b"\n", 1)[0].decode("utf-8", "replace")
    return _FIRST_LINE.match(line) is not None


def read(paths: Sequence[Path], selection: Selection) -> Metrics:
    """Read dumps; a sample of a native histogram is refused by name.

    Parameters
    ----------
    paths
        Files, plain or packed.
    selection
        Wanted metrics and times.
    """
    return exposition.read(paths, selection, DIALECT)


def _labels(text: str) -> dict[str, str] | None:
    return parse_labels(text, _unquoted)


def _unquoted(text: str) -> str:
    """Give a text without Go's escapes; bytes that are no UTF-8 become marks."""
    if "\\" not in text:
        return text
    parts, end = [], 0
    for found in _ESCAPE.finditer(text):
        octet, short, long, octal, other = found.groups()
        parts.append(text[end : found.start()].encode("utf-8", "replace"))
        if octet or octal:
            parts.append(bytes([int(octet, 16) if octet else int(octal, 8) & 0xFF]))
        elif short or long:
            number = int(short or long, 16)
            parts.append(chr(number if number < 0x110000 else 0xFFFD).encode("utf-8", "replace"))
        else:
            parts.append(_NAMED.get(other, found[0]).encode("utf-8", "replace"))
        end = found.end()
    parts.append(text[end:].encode("utf-8", "replace"))
    return b"".join(parts).decode("utf-8", "replace")


DIALECT: Final = Dialect(FORMAT, _labels, knows_more=True, is_in_ms=True)
