"""Answers of the Prometheus HTTP API: query and query_range, from the wire or saved as files.

Format: prometheus/docs content/docs/prometheus/latest/querying/api.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from capacity.errors import ExportError
from capacity.export import Metrics, build, concat, source_row
from capacity.load.files import whole


def read_files(files: Sequence[Path], *, wanted: str | None, cluster: str) -> Metrics:
    """Read saved answers; one that cannot be read is a row of `sources` with its reason."""
    parts = []
    for file in files:
        try:
            parts.append(parse(whole(file), str(file), wanted=wanted, cluster=cluster))
        except ExportError as error:
            reason = str(error).removeprefix(f"{file}: ")
            row = source_row(str(file), "prometheus answer", reason=reason)
            parts.append(build([], [], [], [], cluster=cluster, sources=row))
    return concat(parts)


def parse(data: bytes, source: str, *, wanted: str | None = None, cluster: str) -> Metrics:
    """Give the series of one answer.

    Raises
    ------
    ExportError
        If it is no answer, or the answer is an error or holds no series.
    """
    labels, points = _result(data, source)
    if wanted is not None:
        import re

        name = re.compile(wanted)
        chosen = [i for i, one in enumerate(labels) if name.search(one.get("__name__", ""))]
        labels, points = [labels[i] for i in chosen], [points[i] for i in chosen]
    sizes = [len(one) for one in points]
    times = np.fromiter((p[0] for one in points for p in one), np.float64, sum(sizes))
    values = pl.Series([p[1] for one in points for p in one], dtype=pl.String)
    told = values.cast(pl.Float64, strict=False)
    bad = told.null_count()
    kept = told.is_not_null()
    series = pl.Series(np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes))
    stamps = pl.Series(np.rint(times * 1000).astype(np.int64))
    reason = f"{bad} values are no numbers, e.g. {values.filter(~kept)[0]!r}" if bad else None
    row = source_row(
        source, "prometheus answer", read=len(values), kept=len(values) - bad, reason=reason
    )
    return build(
        labels, series.filter(kept), stamps.filter(kept), told.filter(kept),
        cluster=cluster, sources=row,
    )  # fmt: skip


def _result(data: bytes, source: str) -> tuple[list[dict[str, str]], list[list[Any]]]:
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ExportError(
            f"{source}: is no whole JSON ({error}); export it again: it may have been cut off"
        ) from None
    if not isinstance(answer, dict) or "status" not in answer:
        raise ExportError(f"{source}: is no answer of a Prometheus API: it has no status")
    if answer["status"] != "success":
        raise ExportError(f"{source}: Prometheus says: {answer.get('error', answer['status'])}")
    body = answer.get("data") or {}
    kind = body.get("resultType") if isinstance(body, dict) else None
    found = body.get("result") if isinstance(body, dict) else None
    try:
        if kind == "matrix":
            return [one["metric"] for one in found], [one.get("values", []) for one in found]
        if kind == "vector":
            return [one["metric"] for one in found], [[one["value"]] for one in found]
        if kind == "scalar":
            return [{}], [[found]]
    except (KeyError, TypeError):
        raise ExportError(f"{source}: a series of the answer has no metric or values") from None
    raise ExportError(f"{source}: holds a {kind or 'list'}, wanted is a matrix or vector of series")
