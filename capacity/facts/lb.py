"""Facts about the speed of load balancing: costs of devices and encryption, published curves."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.facts.rows import rows
from capacity.tables import Column, Table

COSTS: Final = Table(
    "lb_costs",
    "what a core spends on one part of a packet's way",
    (
        Column("part", pl.String, "", "driver, wake, hold, encrypt, decrypt"),
        Column("path", pl.String, "", "xdp, tc, or kind of encryption"),
        Column("variant", pl.String, "", "what of it", nullable=True),
        Column("nanoseconds", pl.Float64, "ns", "time of one core"),
        Column("low", pl.Float64, "ns", "5 % bound"),
        Column("high", pl.Float64, "ns", "95 % bound"),
        Column("conditions", pl.String, "", "machine, how it was derived"),
        Column("source", pl.String, "", "where it was read"),
        Column("verified", pl.Boolean, "", "the number itself was read in the source"),
    ),
)
PUBLISHED: Final = Table(
    "lb_published",
    "one published measurement",
    (
        Column("datapath", pl.String, "", "what was measured"),
        Column("quantity", pl.String, "", "rate [1/s], utilization of one core [1], cores [1]"),
        Column("cores", pl.Int64, "1", "cores that handled packets", nullable=True),
        Column("offered", pl.Int64, "1/s", "packets offered", nullable=True),
        Column("value", pl.Float64, "of the quantity", "what was measured"),
        Column("reading_error", pl.Float64, "1", "relative (rate, cores), absolute (utilization)"),
        Column("holdout", pl.Boolean, "", "never fitted, only compared"),
        Column("conditions", pl.String, "", "machine and method"),
        Column("source", pl.String, "", "where it was read"),
    ),
)


def costs() -> pl.DataFrame:
    """Give costs of devices and encryption.

    Examples
    --------
    >>> costs().filter(part="driver", path="xdp")["nanoseconds"].to_list()
    [59.2]
    """
    return rows(COSTS)


def published() -> pl.DataFrame:
    """Give published measurements; those marked holdout are compared with, never fitted.

    Examples
    --------
    >>> published().filter(datapath="IPVS", quantity="rate")["value"].max()
    7274468.0
    """
    return rows(PUBLISHED)
