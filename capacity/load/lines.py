"""Lines of text to samples by the exact grammar, one at a time: for few, and for those not plain.

Formats: prometheus/docs content/docs/instrumenting/exposition_formats.md, prometheus/OpenMetrics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.load.labels import LABEL_COLUMNS, label_frame, parse_labels

Integers = npt.NDArray[np.int64]

# No time is written beyond that, and in milliseconds any below fits 64 bits, were it in seconds
LATEST: Final = 1e15
_NO_LABELS: Final = pl.DataFrame(schema=dict.fromkeys(LABEL_COLUMNS, pl.String))
# Each text matches in one way at most: else a long one that does not is tried in millions
_DECIMAL: Final = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER: Final = rf"(?:{_DECIMAL}|[-+]?(?:[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][aA][nN]))"
_BODY: Final = r'\{(?:[^"{}\\]|"(?:[^"\\]|\\.)*")*\}'
_LINE: Final = re.compile(
    rf"(?P<head>[a-zA-Z_:][a-zA-Z0-9_:]*\s*{_BODY}\s*|{_BODY}\s*|[a-zA-Z_:][a-zA-Z0-9_:]*\s+)"
    rf"(?P<value>{_NUMBER})(?:\s+(?P<stamp>{_DECIMAL}))?(?:\s+#\s*\{{.*)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between formats of lines.

    `parse` gives the labels of a series' text, None where it is none; `knows_more` tells that it
    knows escapes beside those of quote, backslash and line end; `is_in_ms` that all times are in
    milliseconds.
    """

    format: str = "exposition"
    parse: Callable[[str], Mapping[str, str] | None] = parse_labels
    knows_more: bool = False
    is_in_ms: bool = False


TEXT: Final = Dialect()


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of a block, in order of lines; `stamps` as they are written, NaN where none is.

    `places` are bytes in the block where a sample's line begins, `texts` numbers of distinct
    series' texts; `refused` are places of lines that are neither sample nor comment.
    """

    places: Integers
    texts: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float64]
    stamps: npt.NDArray[np.float64]
    refused: Integers


@dataclass(frozen=True, slots=True)
class Told:
    """Samples of files, in the order they were told: file, series' text, value, time as written.

    `stamps` are NaN where there is none.
    """

    sources: npt.NDArray[np.uint32]
    series: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float64]
    stamps: npt.NDArray[np.float64]

    def filter(self, is_kept: npt.NDArray[np.bool_]) -> Told:
        """Give some of them."""
        return Told(
            self.sources[is_kept], self.series[is_kept], self.values[is_kept], self.stamps[is_kept]
        )


class Lines(Protocol):
    """A way to read blocks of lines; blocks are learnt in their order, `count` texts so far."""

    @property
    def count(self) -> int:
        """How many texts are known."""

    def parse(self, data: bytes, lines: int) -> Any:
        """Read a block of so many lines, each with its end; blocks may be read in parallel."""

    def learn(self, data: bytes, parsed: Any) -> Samples:
        """Give the samples of a block that was read, with the numbers of their texts."""

    def labels(self, first: int) -> Callable[[], Labels]:
        """Give what parses the labels of the texts from number `first` on; may run in parallel."""

    def add(self, labels: Any) -> None:
        """Keep labels, in order of the texts."""

    def taken(self, cluster: str) -> tuple[pl.DataFrame, npt.NDArray[np.uint32] | None]:
        """Give the label columns of all texts, null for no series, once; and the first row alike.

        None for that where it is not known. Series without a label cluster are of `cluster`.
        """


class Labels(Protocol):
    """Labels of texts that were parsed."""

    def metrics(self) -> tuple[pl.Series, npt.NDArray[np.uint32]]:
        """Give distinct metrics, null for what is no series, and which of them each series has."""


@dataclass(frozen=True, slots=True)
class ExactLabels:
    """Labels as a frame."""

    frame: pl.DataFrame

    def metrics(self) -> tuple[pl.Series, npt.NDArray[np.uint32]]:
        """Give the metric of each series."""
        return self.frame["metric"], np.arange(len(self.frame), dtype=np.uint32)


# Series as text, value, time as it is written
Sample = tuple[str, float, float]


def is_sample(line: str) -> bool:
    """Tell whether a line is a sample rather than a line of YAML (a name may end in a colon)."""
    found = _LINE.fullmatch(line.strip())
    return found is not None and not found["head"].rstrip().endswith(":")


def parse_line(line: bytes) -> Sample | str:
    r"""Read one line: a sample; or what it says otherwise, "" if nothing.

    Examples
    --------
    >>> parse_line(b'up{a="b"} 1 1795477137000\n')
    ('up{a="b"}', 1.0, 1795477137000.0)
    >>> parse_line(b"# TYPE up gauge"), parse_line(b"no")
    ('', 'no')
    """
    text = line.decode("utf-8", "replace").strip(" \t\r\n")
    if text.startswith("#"):
        return ""
    found = _LINE.fullmatch(text)
    if found is None:
        return text
    stamp = np.nan if found["stamp"] is None else float(found["stamp"])
    return text if abs(stamp) >= LATEST else (found["head"].strip(), float(found["value"]), stamp)


@dataclass(slots=True)
class ExactLines:
    """Reads lines by the grammar alone: needs no compiler, and tells what is right."""

    dialect: Dialect = TEXT
    numbers: dict[str, int] = field(default_factory=dict)
    frames: list[pl.DataFrame] = field(default_factory=lambda: [_NO_LABELS])

    @property
    def count(self) -> int:
        """How many texts are known."""
        return len(self.numbers)

    def parse(self, data: bytes, lines: int) -> list[tuple[int, Sample | str]]:  # noqa: ARG002
        """Read each line; what says nothing is left out."""
        told, at = [], 0
        for line in data.split(b"\n")[:-1]:
            if one := parse_line(line):
                told.append((at, one))
            at += len(line) + 1
        return told

    def learn(self, data: bytes, parsed: list[tuple[int, Sample | str]]) -> Samples:  # noqa: ARG002
        """Give each text its number."""
        good = [(at, one) for at, one in parsed if not isinstance(one, str)]
        texts = [self.numbers.setdefault(text, len(self.numbers)) for _, (text, _, _) in good]
        return Samples(
            np.array([at for at, _ in good], np.int64),
            np.array(texts, np.uint32),
            np.array([value for _, (_, value, _) in good], np.float64),
            np.array([stamp for _, (_, _, stamp) in good], np.float64),
            np.array([at for at, one in parsed if isinstance(one, str)], np.int64),
        )

    def labels(self, first: int) -> Callable[[], ExactLabels]:
        """Parse labels one by one."""
        texts = list(self.numbers)[first:]
        return lambda: ExactLabels(label_frame(texts, self.dialect.parse))

    def add(self, labels: ExactLabels) -> None:
        """Keep labels."""
        self.frames.append(labels.frame)

    def taken(self, cluster: str) -> tuple[pl.DataFrame, None]:
        """Give label columns."""
        return pl.concat(self.frames).with_columns(pl.col("cluster").fill_null(cluster)), None
