"""Tables of how full maps are by their structure."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables.table import Column, Table

MAP_FILL: Final = Table(
    "map_fill",
    "one BPF map: what fills it, how full that makes it, where it ends; the fullest first",
    (
        Column("map", pl.String, "", "pinned name; of those an endpoint has, how it begins"),
        Column("in_use", pl.String, "", "yes, no: a feature is off, or unknown"),
        Column("why", pl.String, "", "condition that creates it, or what is off"),
        Column("equation", pl.String, "", "facts/fill.csv", nullable=True),
        Column(
            "bound", pl.String, "",
            "exact; upper: no more; needed: in use at once, an LRU map holds older ones too; "
            "fixed; observed: structure bounds nothing",
        ),
        Column("drivers", pl.String, "", "values, and where each is from", nullable=True),
        Column("missing", pl.String, "", "drivers without a value: what tells them", nullable=True),
        Column("predicted", pl.Int64, "entry", "by the equation, now", nullable=True),
        Column("observed", pl.Int64, "entry", "most on any node, now", nullable=True),
        Column("factor", pl.Float64, "1", "observed / predicted of what is there", nullable=True),
        Column("nodes", pl.Int64, "1", "planned", nullable=True),
        Column("ahead", pl.Int64, "entry", "at these nodes: equation x factor", nullable=True),
        Column("limit", pl.Int64, "entry", "the map's size", nullable=True),
        Column("kind", pl.String, "", "of the limit: settable, hard, soft (evicts), install-time"),
        Column("setting", pl.String, "", "Helm value that moves it", nullable=True),
        Column("usage", pl.Float64, "1", "observed, else predicted, of the limit", nullable=True),
        Column("full_at_nodes", pl.Int64, "1", "null: never, or not known", nullable=True),
        Column("full", pl.String, "", "what happens then"),
        Column("created", pl.String, "", "what makes an entry"),
        Column("removed", pl.String, "", "when it goes"),
        Column("source", pl.String, "", "of the equation"),
        Column("verified", pl.Boolean, "", "equation read in this version's source"),
    ),
)  # fmt: skip
