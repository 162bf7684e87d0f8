"""Interim."""

from __future__ import annotations
from pathlib import Path
from typing import Any
import polars as pl
from capacity.export import Metrics, concat, source_row
from capacity.errors import ExportError
from capacity.load.inventories import read_inventory

__all__ = ["is_url", "read", "read_inventory"]


def is_url(s: str) -> bool:
    return "://" in s


def read(
    source: Any, *, metrics: Any = None, start: Any = None, end: Any = None, step: Any = None
) -> Metrics:
    p = Path(source)
    if not p.exists():
        raise ExportError(f"{source}: no such file")
    q = p / "metrics"
    if (q / "series.parquet").exists():
        se = pl.read_parquet(q / "series.parquet")
        sa = pl.concat(pl.read_parquet(f) for f in sorted(q.glob("samples*.parquet")))
        se = se.filter(pl.col("metric").is_in(metrics))
        sa = sa.join(se.select("series"), on="series", how="semi")
        return Metrics(se, sa, source_row(str(q), "parquet", read=len(sa), kept=len(sa)))
    from capacity.load import exposition
    from capacity.load.gather import Selection

    files = sorted(f for f in p.rglob("*.prom*") if f.is_file()) if p.is_dir() else [p]
    return exposition.read(files, Selection(tuple(metrics) if metrics else None, cluster=p.name))
