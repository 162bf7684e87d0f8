"""Answers of the Prometheus HTTP API (query, query_range): from the wire, or saved as files.

Format: prometheus/prometheus docs/querying/api.md, "Range vectors", "Instant vectors", "Scalars".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from capacity.errors import ExportError
from capacity.export import Metrics
from capacity.load.documents import collector_paused
from capacity.load.files import whole
from capacity.load.gather import Selection, Source, assemble
from capacity.load.labels import LABEL_COLUMNS, label_columns
from capacity.load.runs import Runs, in_order
from capacity.telling import few

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FORMAT: Final = "prometheus-json"
# In the beginning of a saved answer, whatever the order of its keys
_MARKS: Final = re.compile(
    rb'\{\s*"status"\s*:\s*"(?:success|error)"|"resultType"\s*:|"errorType"\s*:'
)
_WANTED: Final = "wanted is the answer of /api/v1/query_range or /api/v1/query"
# Bytes of an answer from which on compiled code is worth its loading
_MUCH: Final = 100_000


@dataclass(frozen=True, slots=True)
class Answer:
    """Series of one answer: labels, and the points of each in their order.

    `counts` says how many of `times` [ms] and `values` are of each series. `refused` counts points
    that are no number or histograms, `why` says the first; `notes` are the warnings of the server,
    such as partial responses.
    """

    labels: tuple[Mapping[str, str], ...]
    counts: Integers
    times: Integers
    values: Floats
    refused: int = 0
    why: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> pl.DataFrame:
        """Series (index into labels), time [ms] and value of each point."""
        series = np.repeat(np.arange(len(self.counts), dtype=np.uint32), self.counts)
        return pl.DataFrame({"series": series, "time": self.times, "value": self.values})


def is_answer(beginning: bytes) -> bool:
    """Tell whether the beginning of a file is that of a saved answer.

    >>> is_answer(b'{"status":"success","data":{}}'), is_answer(b'{"apiVersion":"v1"}')
    (True, False)
    """
    return beginning.lstrip()[:1] == b"{" and _MARKS.search(beginning[:4096]) is not None


def read(paths: Sequence[Path], selection: Selection) -> Metrics:
    """Read saved answers; one that cannot be read is a row of table sources with its reason.

    Notes
    -----
    Memory: about 10 times the largest file, and 28 byte a sample.
    """
    sources = [Source(str(path), FORMAT) for path in paths]
    answers: list[tuple[int, Answer]] = []
    for index, path in enumerate(paths):
        try:
            with collector_paused():
                answer = parse(whole(path), str(path))
        except ExportError as error:
            sources[index].refuse(str(error).removeprefix(f"{path}: "), count=0)
            continue
        answers.append((index, _named(answer, path)))
    return joined(answers, sources, selection)


def _named(answer: Answer, path: Path) -> Answer:
    """Name series that have no metric name, as results of expressions have none, by the file."""
    nameless = sum("__name__" not in labels for labels in answer.labels)
    if not nameless:
        return answer
    name = re.sub(r"\W+", "_", path.name.split(".")[0], flags=re.ASCII)
    labels = tuple({"__name__": name, **labels} for labels in answer.labels)
    note = f"{nameless} series without a metric name are called {name}, as the file"
    return replace(answer, labels=labels, notes=(*answer.notes, note))


def joined(
    answers: Sequence[tuple[int, Answer]],
    sources: Sequence[Source],
    selection: Selection,
    *,
    is_joined: bool = False,
) -> Metrics:
    """Make Metrics of answers, each with the index of its source; a later one wins.

    Where a sample is told by several answers of one source it is the same sample, counted once.
    See `runs.in_order` for `is_joined`.
    """
    label_rows: list[Mapping[str, str | None]] = []
    numbers: dict[tuple[tuple[str, str], ...], int] = {}
    parts = []
    for index, answer in answers:
        mapping = []
        for labels in answer.labels:
            number = numbers.setdefault(tuple(sorted(labels.items())), len(label_rows))
            if number == len(label_rows):
                label_rows.append(label_columns(labels))
            mapping.append(number)
        series = np.array(mapping, np.int64)
        parts.append(Runs(index, series, answer.counts, answer.times, answer.values))
        for fault in answer.why:
            sources[index].refuse(fault, count=0)
        sources[index].refused += answer.refused
        sources[index].notes += [n for n in answer.notes if n not in sources[index].notes]
    schema = dict.fromkeys(LABEL_COLUMNS, pl.String)
    series_table = pl.DataFrame(label_rows, schema=schema)
    is_wanted = series_table.select(selection.wants(pl.col("metric"))).to_series()
    samples = in_order(parts, is_joined=is_joined)
    if not is_wanted.all():
        samples = samples.filter(is_wanted.gather(samples["series"]))
    return assemble(series_table, samples, sources, selection)


def parse(data: bytes, where: str) -> Answer:
    """Read one answer.

    Parameters
    ----------
    data
        JSON.
    where
        File or URL, for messages.

    Raises
    ------
    ExportError
        If it is not whole JSON, no answer, or an error of the server.

    Examples
    --------
    >>> text = b'{"status":"success","data":{"resultType":"scalar","result":[1.5,"7"]}}'
    >>> parse(text, "x").points.row(0)
    (0, 1500, 7.0)
    """
    if len(data) > _MUCH:
        # Compiled code takes half a second to load
        from capacity.load import matrix

        if (found := matrix.read(data)) is not None:
            labels = tuple(_plain(one) for one in found.labels)
            notes = _notes(found.envelope)
            return Answer(labels, found.counts, found.times, found.values, notes=notes)
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ExportError(
            f"{where}: is no whole JSON (offset {error.pos} of {len(data)}: {error.msg}); it was "
            "cut off or is something else: export it again"
        ) from None
    if not isinstance(answer, dict) or "status" not in answer:
        raise ExportError(f"{where}: is no answer of a Prometheus API; {_WANTED}")
    return answer_of(answer, where)


def answer_of(answer: Mapping[str, Any], where: str) -> Answer:
    """Give the series of an answer that is parsed already; see `parse`."""
    if answer["status"] != "success":
        raise ExportError(f"{where}: Prometheus says: {error_text(answer)}")
    body = answer.get("data")
    if not isinstance(body, dict) or "resultType" not in body:
        raise ExportError(f"{where}: holds no samples: it answers another question; {_WANTED}")
    if body["resultType"] == "string":
        raise ExportError(f"{where}: holds a string, which has no number; {_WANTED}")
    try:
        return _points(str(body["resultType"]), body.get("result"), _notes(answer))
    except (TypeError, ValueError, KeyError, AttributeError, pl.exceptions.PolarsError):
        raise ExportError(
            f"{where}: its result is no {body['resultType']} as Prometheus gives it; {_WANTED}"
        ) from None


def error_text(answer: Mapping[str, Any]) -> str:
    """Give an error answer in words."""
    words = [str(answer[key]) for key in ("errorType", "error") if answer.get(key)]
    return ": ".join(words) or f"status {answer.get('status')!r}"


def _notes(answer: Mapping[str, Any]) -> tuple[str, ...]:
    notes = []
    # prometheus/prometheus web/api/v1/api.go, Response: infos since v2.53
    for key, verb in (("warnings", "warns"), ("infos", "says")):
        told = answer.get(key) or []
        notes += [f"server {verb}: {text}" for text in (told if isinstance(told, list) else [told])]
    # Thanos and VictoriaMetrics tell in their own words that stores did not answer
    if answer.get("isPartial"):
        notes.append("server warns: partial response")
    return tuple(notes)


def _points(kind: str, result: Any, notes: tuple[str, ...]) -> Answer:
    if kind == "matrix":
        labels = [one["metric"] for one in result]
        groups = [one.get("values") or [] for one in result]
    elif kind == "vector":
        labels = [one["metric"] for one in result]
        groups = [[one["value"]] if "value" in one else [] for one in result]
    elif kind == "scalar":
        labels, groups = [{}], [[result]]
    else:
        raise ValueError(kind)
    native = sum(len(one.get("histograms") or ()) or "histogram" in one for one in result
                 if isinstance(one, dict))  # fmt: skip
    flat = list(chain.from_iterable(chain.from_iterable(groups)))
    counts = np.array([len(group) for group in groups], np.int64)
    if len(flat) != 2 * counts.sum():
        raise ValueError("a point is not a pair")
    points = pl.DataFrame({"time": _milliseconds(flat[0::2]), "value": _numbers(flat[1::2])})
    is_good = ~points.select(pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()
    bad = int((~is_good).sum())
    if bad:
        series = np.repeat(np.arange(len(counts)), counts)
        counts = np.bincount(series[is_good], minlength=len(counts))
        points = points.drop_nulls()
    why = ["a value or time is no number"] if bad else []
    if native:
        why.append(
            f"{native} native histograms{_of_names(result)} are not read; scrape classic ones"
        )
    plain = tuple(_plain(one) for one in labels)
    times, values = points["time"].to_numpy(), points["value"].to_numpy()
    return Answer(plain, counts, times, values, bad + native, tuple(why), notes)


def _of_names(result: list[Any]) -> str:
    """Tell the metrics of native histograms, where the server does."""
    told = [
        one for one in result if isinstance(one, dict) and {"histogram", "histograms"} & one.keys()
    ]
    names = {str(one["metric"].get("__name__") or "") for one in told} - {""}
    return f" of {few(names)}" if names else ""


def _plain(labels: Mapping[str, Any]) -> dict[str, str]:
    """Give labels as texts; an empty one is the same as none."""
    return {str(k): str(v) for k, v in labels.items() if v != ""}


def _milliseconds(times: list[Any]) -> pl.Series:
    seconds = pl.Series(times, dtype=pl.Float64)
    return (seconds * 1000).round().cast(pl.Int64, strict=False)


def _numbers(values: list[Any]) -> pl.Series:
    """Prometheus writes numbers as text, so that NaN and +Inf can be told; others do not."""
    try:
        texts = pl.Series(values, dtype=pl.String)
    except TypeError:
        texts = pl.Series([str(value) for value in values], dtype=pl.String)
    return texts.cast(pl.Float64, strict=False)
