"""Where facts come from: what was read of each version, and how many rows rest on each source."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import polars as pl

from capacity.facts.rows import rows
from capacity.facts.schema import EVIDENCE


def evidence() -> pl.DataFrame:
    """Give what was read of each version in `VERSIONS`: commit of cilium/cilium, day, its place.

    Returns
    -------
    DataFrame
        Table `EVIDENCE`: a row a version.

    Examples
    --------
    >>> evidence()["version"].to_list()[0]
    '1.14'
    """
    return rows(EVIDENCE)


@cache
def sources() -> pl.DataFrame:
    """Give every source and the number of rows of all facts files that rest on it.

    Returns
    -------
    DataFrame
        Columns source and rows [1], the source of most rows first.

    Examples
    --------
    >>> sources().columns
    ['source', 'rows']
    """
    named = sorted(
        (f for f in files("capacity.facts").iterdir() if f.name.endswith(".csv")),
        key=lambda f: f.name,
    )
    columns = [pl.read_csv(f.read_bytes(), infer_schema=False).select("source") for f in named]
    return (
        pl.concat(columns)
        .group_by("source")
        .agg(rows=pl.len().cast(pl.Int64))
        .sort("rows", "source", descending=[True, False])
    )
