"""Rows of the facts files, with the types that are declared of them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import polars as pl

from capacity.facts.versions import VERSIONS, minor
from capacity.tables import Table, check


@cache
def rows(table: Table) -> pl.DataFrame:
    """Rows of a table's file with the declared types; empty cells are null."""
    text = files("capacity.facts").joinpath(f"{table.name}.csv").read_bytes()
    return check(pl.read_csv(text, schema=table.schema), table)


@cache
def valid(table: Table, version: str | None) -> pl.DataFrame:
    """Rows of a table that hold for a version: all where None."""
    all_rows = rows(table)
    if version is None:
        return all_rows
    wanted = VERSIONS.index(minor(version))
    known = {v: i for i, v in enumerate(VERSIONS)}
    since, until = (
        pl.col(c).replace_strict(known, return_dtype=pl.Int64) for c in ("since", "until")
    )
    return all_rows.filter((since <= wanted) & (wanted <= until))
