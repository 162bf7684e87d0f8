"""Every table that crosses a border between rooms: columns, types, units, in one room.

A frame is checked once, where it is born. Unknown is null, never 0, −1 or NaN.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables.counted import (
    COVERAGE,
    DOUBTS,
    GUARDS,
    LB_TIER,
    MESH,
    MESH_SETTINGS,
    MESH_USE,
    POLICY_GROWTH,
    POLICY_NODES,
    RIGHTSIZING,
    SERVICE_GROWTH,
    SHAPE_FRONTIER,
    SHAPE_LAWS,
    SHAPE_USE,
)
from capacity.tables.filled import MAP_FILL
from capacity.tables.loaded import (
    BACKENDS,
    BPF_MAPS,
    CIDR_GROUPS,
    DNS,
    ENDPOINTS,
    IDENTITIES,
    MAP_ENTRIES,
    NAMESPACES,
    NODES,
    OBJECTS,
    OPTIONS,
    POLICIES,
    PREFIXES,
    SAMPLES,
    SERIES,
    SERVICES,
    SOURCES,
    WORKLOADS,
)
from capacity.tables.modeled import (
    CAUSES,
    DRIVERS,
    EVIDENCE,
    EXPLANATION,
    FITS,
    FORECAST,
    GROWTH,
    GROWTH_LAWS,
    HISTORY,
    LIMITS,
    MAPS,
    NODE_PANEL,
    OBSERVATIONS,
    OUTLOOK,
    SCENARIO,
    SCORES,
    SENSITIVITY,
    STEPS,
    TRIALS,
)
from capacity.tables.peaks import BENDS, PEAKS, SPIKES, USAGE
from capacity.tables.planned import (
    CHANGES,
    CONTROL_PLANE,
    DRIFT,
    EXHAUSTION,
    RECOMMENDATION,
    SCENARIOS,
    UPGRADE,
)
from capacity.tables.table import TIME, Column, Table, check

TABLES: Final = (
    SERIES, SAMPLES, SOURCES, NODES, ENDPOINTS, SERVICES, BACKENDS, NAMESPACES, IDENTITIES,
    POLICIES, CIDR_GROUPS, DNS, PREFIXES, OBJECTS, WORKLOADS, OPTIONS, BPF_MAPS,
    MAP_ENTRIES,
    OBSERVATIONS, STEPS, NODE_PANEL,
    DRIVERS, MAPS, LIMITS, FITS, SCENARIO, HISTORY, GROWTH, GROWTH_LAWS,
    FORECAST, EXPLANATION, CAUSES, SENSITIVITY, EVIDENCE, OUTLOOK, TRIALS, SCORES,
    EXHAUSTION, RECOMMENDATION, SCENARIOS, CONTROL_PLANE, UPGRADE, DRIFT, RIGHTSIZING, GUARDS,
    POLICY_GROWTH,
    SERVICE_GROWTH, POLICY_NODES, LB_TIER, DOUBTS, COVERAGE,
    USAGE, SPIKES, PEAKS, BENDS, MAP_FILL,
    SHAPE_LAWS, SHAPE_USE, SHAPE_FRONTIER, MESH, MESH_SETTINGS, MESH_USE,
)  # fmt: skip


def data_dictionary() -> pl.DataFrame:
    """List every column of every declared table: table, column, type, unit, nullable, meaning."""
    return pl.DataFrame(
        [
            {
                "table": table.name,
                "row": table.row,
                "column": c.name,
                "type": str(c.dtype),
                "unit": c.unit,
                "nullable": c.nullable,
                "meaning": c.meaning,
            }
            for table in TABLES
            for c in table.columns
        ]
    )


__all__ = [
    "BACKENDS",
    "BENDS",
    "BPF_MAPS",
    "CAUSES",
    "CHANGES",
    "CIDR_GROUPS",
    "COVERAGE",
    "Column",
    "DNS",
    "DOUBTS",
    "DRIFT",
    "DRIVERS",
    "ENDPOINTS",
    "EXHAUSTION",
    "EVIDENCE",
    "EXPLANATION",
    "FITS",
    "FORECAST",
    "GROWTH",
    "GROWTH_LAWS",
    "HISTORY",
    "GUARDS",
    "IDENTITIES",
    "LB_TIER",
    "LIMITS",
    "MAPS",
    "MAP_ENTRIES",
    "MAP_FILL",
    "MESH",
    "MESH_SETTINGS",
    "MESH_USE",
    "NAMESPACES",
    "NODES",
    "NODE_PANEL",
    "OBJECTS",
    "OBSERVATIONS",
    "OPTIONS",
    "OUTLOOK",
    "PEAKS",
    "POLICIES",
    "POLICY_GROWTH",
    "POLICY_NODES",
    "PREFIXES",
    "RECOMMENDATION",
    "RIGHTSIZING",
    "SAMPLES",
    "SCENARIO",
    "SCORES",
    "SCENARIOS",
    "CONTROL_PLANE",
    "SENSITIVITY",
    "SERIES",
    "SERVICES",
    "SPIKES",
    "USAGE",
    "SERVICE_GROWTH",
    "SHAPE_FRONTIER",
    "SHAPE_LAWS",
    "SHAPE_USE",
    "SOURCES",
    "STEPS",
    "TABLES",
    "TIME",
    "TRIALS",
    "Table",
    "UPGRADE",
    "WORKLOADS",
    "check",
    "data_dictionary",
]
