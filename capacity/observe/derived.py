"""Targets (one quantity of one thing on one node) that are made from other targets."""

from __future__ import annotations

import polars as pl


def derived(
    rows: pl.DataFrame, targets: pl.DataFrame, new_rows: pl.DataFrame, new: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Add derived rows and targets; `new` has the columns of targets, its numbers unused so far."""
    return (
        pl.concat([rows, new_rows.select(rows.columns)]),
        pl.concat([targets, new.select(targets.columns)]),
    )


def renumbered(new: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """Give new targets numbers that no target has."""
    return new.with_row_index("target", offset=len(targets))
