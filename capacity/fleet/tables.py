"""Tables of a fleet: a row a limited resource of a cluster, a setting to change, a mesh."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables import TIME, Column, Table

FLEET: Final = Table(
    "fleet",
    "a limited resource of a cluster; a cluster without any has one row",
    (
        Column("cluster", pl.String, "", "name in FLEET.yaml"),
        Column("mesh", pl.String, "", "name of its ClusterMesh", nullable=True),
        Column("state", pl.String, "", "ok, failed, late: what became of its plan"),
        Column("error", pl.String, "", "why it failed", nullable=True),
        Column("version", pl.String, "", "Cilium", nullable=True),
        Column("verdict", pl.String, "", "fits, short, unknown", nullable=True),
        Column("time", TIME, "", "newest sample", nullable=True),
        Column("nodes", pl.Float64, "1", "newest count", nullable=True),
        Column("endpoints", pl.Float64, "1", "newest count", nullable=True),
        Column("identities", pl.Float64, "1", "newest count", nullable=True),
        Column("services", pl.Float64, "1", "newest count", nullable=True),
        Column("rank", pl.Int64, "", "order of running out, 1 first", nullable=True),
        Column("component", pl.String, "", "map, agent, operator, cluster", nullable=True),
        Column("subject", pl.String, "", "name of the map or ID space", nullable=True),
        Column("quantity", pl.String, "", "key of quantities", nullable=True),
        Column("unit", pl.String, "", "of current and limit", nullable=True),
        Column("kind", pl.String, "", "settable, soft, hard, install-time", nullable=True),
        Column("setting", pl.String, "", "what moves the limit", nullable=True),
        Column("current", pl.Float64, "unit", "worst node or total", nullable=True),
        Column("limit", pl.Float64, "unit", "how much there is", nullable=True),
        Column("usage", pl.Float64, "1", "current divided by limit", nullable=True),
        Column("nodes_early", pl.Int64, "1", "node count at the accepted risk", nullable=True),
        Column("nodes_median", pl.Int64, "1", "node count in the median", nullable=True),
        Column("date_early", TIME, "", "when, at the accepted risk", nullable=True),
        Column("date_median", TIME, "", "when, in the median", nullable=True),
        Column("probability", pl.Float64, "1", "chance within the horizon", nullable=True),
        Column("status", pl.String, "", "ok, short, unknown", nullable=True),
    ),
)

ADVICE: Final = Table(
    "fleet_advice",
    "a setting of a cluster that has to be changed",
    (
        Column("cluster", pl.String, "", "name in FLEET.yaml"),
        Column("component", pl.String, "", "map, agent, operator, cluster"),
        Column("subject", pl.String, "", "name of the map or ID space", nullable=True),
        Column("setting", pl.String, "", "Helm value, or what has to change"),
        Column("unit", pl.String, "", "of current and target"),
        Column("current", pl.Float64, "unit", "as it is", nullable=True),
        Column("target", pl.Float64, "unit", "as it should be", nullable=True),
        Column("status", pl.String, "", "raise, set, redesign, error"),
    ),
)

MESH: Final = Table(
    "mesh",
    "a limit of a ClusterMesh",
    (
        Column("mesh", pl.String, "", "name in FLEET.yaml"),
        Column("clusters", pl.Int64, "1", "members in FLEET.yaml"),
        Column("counted", pl.Int64, "1", "members whose plan succeeded: sums miss the others"),
        Column("nodes", pl.Float64, "1", "sum over members", nullable=True),
        Column("identities", pl.Float64, "1", "sum over members", nullable=True),
        Column("resource", pl.String, "", "what is limited"),
        Column("kind", pl.String, "", "hard, install-time"),
        Column("current", pl.Float64, "entries", "sum over members today"),
        Column("limit", pl.Float64, "entries", "how much there is"),
        Column("usage", pl.Float64, "1", "current divided by limit"),
        Column("nodes_full", pl.Int64, "1", "nodes of the mesh at the limit, as it is composed",
               nullable=True),
        Column("ahead_q50", pl.Float64, "entries", "sum of medians at the horizon", nullable=True),
        Column("ahead_q95", pl.Float64, "entries", "sum of 95 % quantiles: all grow fast at once",
               nullable=True),
        Column("date_early", TIME, "", "when the sum of 95 % quantiles is full", nullable=True),
        Column("date_median", TIME, "", "when the sum of medians is full", nullable=True),
        Column("status", pl.String, "", "ok, short, unknown"),
    ),
)  # fmt: skip
