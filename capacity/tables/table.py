"""What a table is, and the one check of a frame against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from capacity.errors import SchemaError

TIME: Final = pl.Datetime("ms", "UTC")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: name, polars type, unit (empty for text and keys), meaning."""

    name: str
    dtype: pl.DataType | type[pl.DataType]
    unit: str = ""
    meaning: str = ""
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table: name, columns in order, and what one row is."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pl.Schema:
        """The polars schema of the declared columns."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def empty(self) -> pl.DataFrame:
        """Give a frame of this table without rows."""
        return pl.DataFrame(schema=self.schema)


def check(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Give the frame with the table's columns in the table's order.

    Raises
    ------
    SchemaError
        If a column is missing or of another type, or null or NaN where neither may be.
    """
    missing = [c.name for c in table.columns if c.name not in frame.columns]
    if missing:
        msg = f"table {table.name}: missing columns {missing}; present: {frame.columns}"
        raise SchemaError(msg)
    if frame.columns != [c.name for c in table.columns]:
        frame = frame.select(c.name for c in table.columns)
    schema = dict(zip(frame.columns, frame.dtypes, strict=True))
    wrong = [
        f"{c.name} is {schema[c.name]}, wanted {c.dtype}"
        for c in table.columns
        if schema[c.name] != c.dtype
    ]
    if wrong:
        msg = f"table {table.name}: {'; '.join(wrong)}"
        raise SchemaError(msg)
    # Of the frame: a column that is one value for all rows takes no memory for each until asked for
    nulls = dict(zip(frame.columns, frame.null_count().row(0), strict=True)) if len(frame) else {}
    holes = [c.name for c in table.columns if not c.nullable and nulls.get(c.name)]
    holes += [
        c.name for c in table.columns if schema[c.name].is_float() and frame[c.name].is_nan().any()
    ]
    if holes:
        msg = f"table {table.name}: null or NaN in {holes}, where every row needs a value"
        raise SchemaError(msg)
    return frame
