"""The formats a simulation's metrics are written in: each as the tool it is named after would.

Prometheus' own tool makes blocks of the OpenMetrics text, so that this format is right is not for
us to say; a file of each format is read back to the same series and samples by tests.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import which
from typing import Final

import polars as pl

from capacity.errors import SettingsError
from capacity.export import OWN_COLUMNS, Metrics

_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
# Of both tools that make blocks this one comes with Prometheus
_PROMTOOL: Final = "promtool"


def openmetrics(metrics: Metrics, folder: Path) -> None:
    """Write OpenMetrics 1.0 with times in seconds; one family after the other."""
    lines = _lines(metrics, _text, pl.format("{}.{}", _second(), _thousandths()))
    heads = pl.concat_str(pl.lit("# TYPE "), "metric", pl.lit(" unknown\n"))
    is_first = pl.col("metric") != pl.col("metric").shift(1)
    head = pl.when(is_first.fill_null(value=True)).then(heads).otherwise(pl.lit(""))
    _write(lines.select(pl.concat_str(head, "line")), folder / "metrics.om", b"# EOF\n")


def text(metrics: Metrics, folder: Path) -> None:
    """Write the text format 0.0.4 with times in milliseconds, as /federate answers."""
    _write(_lines(metrics, _text, _millisecond()).select("line"), folder / "federate.prom")


def dump(metrics: Metrics, folder: Path) -> None:
    """Write what `promtool tsdb dump` prints."""
    _write(_lines(metrics, _dumped, _millisecond()).select("line"), folder / "dump.txt")


def answer(metrics: Metrics, folder: Path) -> None:
    """Write the answer of query_range: a matrix, as JSON."""
    point = pl.format('[{}.{},"{}"]', _second(), _thousandths(), "value")
    points = metrics.samples.group_by("series", maintain_order=True).agg(point=point)
    told = points.join(_labeled(metrics, json.dumps), on="series", maintain_order="left")
    values = pl.col("point").list.join(",")
    rows = told.select(
        pl.concat_str(pl.lit('{"metric":'), "text", pl.lit(',"values":['), values, pl.lit("]}"))
    )
    body = ",\n".join(rows.to_series())
    whole = f'{{"status":"success","data":{{"resultType":"matrix","result":[\n{body}\n]}}}}\n'
    (folder / "query_range.json").write_text(whole, encoding="utf-8")


def csv(metrics: Metrics, folder: Path) -> None:
    """Write one sample a row, as CSV."""
    _rows(metrics).write_csv(folder / "metrics.csv", datetime_format="%Y-%m-%dT%H:%M:%S%.3fZ")


def parquet(metrics: Metrics, folder: Path) -> None:
    """Write one sample a row, as Parquet."""
    _rows(metrics).write_parquet(folder / "metrics.parquet", compression="zstd")


def blocks(metrics: Metrics, folder: Path) -> None:
    """Write blocks of Prometheus' database; promtool makes them of OpenMetrics text.

    Raises
    ------
    SettingsError
        If promtool is not installed, or refuses.
    """
    if which(_PROMTOOL) is None:
        raise SettingsError(
            "format blocks: needs promtool, which comes with Prometheus (Debian: prometheus)"
        )
    openmetrics(metrics, folder)
    source = folder / "metrics.om"
    command = [_PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", str(source), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    source.unlink()
    if done.returncode:
        raise SettingsError(f"format blocks: promtool refused: {done.stderr.strip()[-300:]}")


# Format → how a folder of it is written; the first format, tables, is what write() writes itself
WRITERS: Final[Mapping[str, Callable[[Metrics, Path], None]]] = {
    "openmetrics": openmetrics,
    "text": text,
    "dump": dump,
    "json": answer,
    "csv": csv,
    "parquet": parquet,
    "blocks": blocks,
}


def _rows(metrics: Metrics) -> pl.DataFrame:
    told = metrics.series.join(metrics.samples, on="series", maintain_order="left_right")
    return told.select("time", "metric", *OWN_COLUMNS, "labels", "value")


def _labels(row: Mapping[str, str | None]) -> dict[str, str]:
    own = {name: value for name in OWN_COLUMNS if (value := row[name])}
    told: dict[str, str] = {**own, **json.loads(row["labels"] or "{}")}
    return {name: told[name] for name in sorted(told)}


def _pairs(labels: Mapping[str, str], separator: str) -> str:
    return separator.join(f'{k}="{v.translate(_ESCAPES)}"' for k, v in labels.items())


def _text(labels: Mapping[str, str]) -> str:
    rest = {k: v for k, v in labels.items() if k != "__name__"}
    return f"{labels['__name__']}{{{_pairs(rest, ',')}}}"


def _dumped(labels: Mapping[str, str]) -> str:
    return f"{{{_pairs(labels, ', ')}}}"


def _labeled(metrics: Metrics, form: Callable[[dict[str, str]], str]) -> pl.DataFrame:
    """Give series, metric and text of each series, in order of the metric."""
    series = metrics.series.sort("metric", "series")
    texts = [form({"__name__": row["metric"], **_labels(row)}) for row in series.to_dicts()]
    return series.select("series", "metric", text=pl.Series(texts, dtype=pl.String))


def _lines(metrics: Metrics, form: Callable[[dict[str, str]], str], time: pl.Expr) -> pl.DataFrame:
    """Give metric and line of each sample, all of one series and of one metric together."""
    told = _labeled(metrics, form).join(metrics.samples, on="series", maintain_order="left_right")
    return told.select("metric", line=pl.concat_str("text", "value", time, separator=" "))


def _write(lines: pl.DataFrame, path: Path, end: bytes = b"") -> None:
    with path.open("wb") as file:
        lines.write_csv(file, include_header=False, quote_style="never")
        file.write(end)


def _millisecond() -> pl.Expr:
    return pl.col("time").dt.epoch("ms").cast(pl.String)


def _second() -> pl.Expr:
    return (pl.col("time").dt.epoch("ms") // 1000).cast(pl.String)


def _thousandths() -> pl.Expr:
    return (pl.col("time").dt.epoch("ms") % 1000).cast(pl.String).str.zfill(3)
