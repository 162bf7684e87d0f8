"""Tables in a terminal."""

import io

import polars as pl
from rich.console import Console

from capacity import printing
from capacity.tables import Column, Table

RATES = Table(
    "rates", "a node", (Column("packet_rate", pl.Float64, "1/s"), Column("nodes", pl.Int64, "1"))
)


def test_heads_tell_units_but_none_of_plain_counts():
    console = Console(file=io.StringIO(), width=80)
    frame = pl.DataFrame({"packet_rate": [2.5], "nodes": [3]})
    printing.show(frame, "table", of=RATES, console=console)
    heads = console.file.getvalue().splitlines()[1:3]
    assert [[cell.strip() for cell in line.strip("┃").split("┃")] for line in heads] in (
        [["packet rate", ""], ["1/s", "nodes"]],
        [["packet rate", "nodes"], ["1/s", ""]],
    )
