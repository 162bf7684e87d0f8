"""Columns of the facts tables, with units. A table's name is the name of its CSV file."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables import Column, Table

_SINCE: Final = Column("since", pl.String, "", "first Cilium minor version the row holds for")
_UNTIL: Final = Column("until", pl.String, "", "last Cilium minor version the row holds for")
_SOURCE: Final = Column("source", pl.String, "", "where it was read: repository path, version")
_VERIFIED: Final = Column(
    "verified", pl.Boolean, "", "read in the source, or seen on an agent, of all these versions"
)

DYNAMIC: Final = Table(
    "dynamic",
    "one map group that the agent sizes by node memory",
    (
        Column("option", pl.String, "", "agent flag"),
        _SINCE,
        _UNTIL,
        Column("default", pl.Int64, "1", "entries without dynamic sizing, and the share of memory"),
        Column("minimum", pl.Int64, "1", "fewest entries dynamic sizing gives"),
        Column("maximum", pl.Int64, "1", "most entries dynamic sizing gives"),
        Column("element_size", pl.Int64, "byte", "IPv6 key plus value"),
        Column("limit_min", pl.Int64, "1", "fewest entries the agent starts with", nullable=True),
        Column("limit_max", pl.Int64, "1", "most entries the agent starts with", nullable=True),
        _SOURCE,
        _VERIFIED,
    ),
)
MAPS: Final = Table("maps", "", ())
OPTIONS: Final = Table("options", "", ())
METRICS: Final = Table("metrics", "", ())
LIMITS: Final = Table("limits", "", ())
QUANTITIES: Final = Table("quantities", "", ())
