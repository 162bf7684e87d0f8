"""Tables for people and for programs: one frame as a terminal table, JSON, or CSV."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import polars as pl
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from capacity.tables import Table

Output = Literal["table", "json", "csv"]
_UNKNOWN: Final = "–"
_PIPE_WIDTH: Final = 200


def show(
    frame: pl.DataFrame,
    output: Output,
    *,
    columns: Sequence[str] | None = None,
    of: Table | None = None,
    title: str | None = None,
    console: Console | None = None,
) -> None:
    """Print a frame to standard output; `columns` thins out the terminal table only.

    Where `of` declares the frame, heads of the terminal table tell units.
    """
    out = console or _console()
    if output == "json":
        print_json(frame.to_dicts(), out)
    elif output == "csv":
        out.file.write(frame.write_csv())
    else:
        _table(frame.select(columns) if columns else frame, of, title, out)


def _console() -> Console:
    """Give standard output; into a pipe or file a table is as wide as it needs."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)


def print_json(value: Any, console: Console | None = None) -> None:
    """Print a value as JSON; times in RFC 3339."""
    out = console or _console()
    out.file.write(json.dumps(value, indent=2, ensure_ascii=False, default=_isoformat) + "\n")


def _isoformat(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _table(frame: pl.DataFrame, of: Table | None, title: str | None, console: Console) -> None:
    units = {column.name: column.unit for column in of.columns} if of else {}
    # Text, not markup: label values come from outside and may hold brackets
    table = RichTable(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for name, dtype in frame.schema.items():
        table.add_column(
            _head(name, units.get(name, "")), justify="right" if dtype.is_numeric() else "left",
            overflow="fold",
        )  # fmt: skip
    for row in frame.iter_rows():
        table.add_row(*(Text(cell(value)) for value in row))
    console.print(table)


def _head(name: str, unit: str) -> Text:
    """Write a head, the unit on a line below; a plain number has none."""
    return Text(name.replace("_", " ") + ("" if unit in ("", "1") else f"\n{unit}"))


def cell(value: Any) -> str:
    """Write one value for people.

    >>> cell(1234567.0), cell(0.25), cell(None), cell(True)
    ('1,234,567', '0.25', '–', 'yes')
    """
    if value is None:
        return _UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def rows(pairs: Mapping[str, Any]) -> pl.DataFrame:
    """Give a two-column frame of names and written values."""
    return pl.DataFrame({"name": list(pairs), "value": [cell(v) for v in pairs.values()]})
