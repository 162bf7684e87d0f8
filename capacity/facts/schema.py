"""Columns of the facts tables, with units. A table's name is the name of its CSV file."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables import Column, Table

_SINCE: Final = Column("since", pl.String, "", "first Cilium minor version the row holds for")
_UNTIL: Final = Column("until", pl.String, "", "last Cilium minor version the row holds for")
_OPTION: Final = Column("option", pl.String, "", "agent flag")
_SOURCE: Final = Column("source", pl.String, "", "where it was read: repository, path, version")
_VERIFIED: Final = Column(
    "verified", pl.Boolean, "", "read in the source, or seen on an agent, of all these versions"
)

MAPS: Final = Table(
    "maps",
    "one pinned BPF map in one shape",
    (
        Column("map", pl.String, "", "pinned name, without an endpoint's number"),
        _SINCE,
        _UNTIL,
        Column("per", pl.String, "", "node, endpoint, or cpu: one on the node, a value a CPU"),
        Column("metric_label", pl.String, "", "label of the pressure metric", nullable=True),
        Column("pressure", pl.Boolean, "", "cilium_bpf_map_pressure covers it", nullable=True),
        Column("pressure_threshold", pl.Float64, "1", "no series up to this value", nullable=True),
        Column("pressure_source", pl.String, "", "who counts the entries", nullable=True),
        Column("type", pl.String, "", "kernel map type as bpftool prints it"),
        Column("key_size", pl.Int64, "byte", "", nullable=True),
        Column("value_size", pl.Int64, "byte", "a CPU, where per is cpu", nullable=True),
        Column("max_entries", pl.Int64, "1", "default size", nullable=True),
        Column("min", pl.Int64, "1", "smallest size the agent takes", nullable=True),
        Column("max", pl.Int64, "1", "largest size the agent takes", nullable=True),
        Column("option", pl.String, "", "agent flag of the size", nullable=True),
        Column("helm_value", pl.String, "", "Helm value of the size", nullable=True),
        Column("dynamic", pl.Boolean, "", "scaled by bpf-map-dynamic-size-ratio"),
        Column("prealloc", pl.String, "", "always, never, or option: with preallocate-bpf-maps"),
        Column("family", pl.Int64, "", "4 or 6 where the map serves one IP family", nullable=True),
        Column("kind", pl.String, "", "of the limit: settable, hard, soft (evicts), install-time"),
        Column("when", pl.String, "", "condition that creates it"),
        Column("driver", pl.String, "", "what its entries grow with"),
        Column("full", pl.String, "", "what happens when it is full"),
        _SOURCE,
        _VERIFIED,
    ),
)
# Of charts 1.14.0 to 1.20.0, first and last patch release of each minor version: values.yaml, and
# values that only templates name; cilium/charts, 009b5e958217; made by tools/chart_values.py
CHART_VALUES: Final = Table(
    "chart_values",
    "one value of Cilium's Helm chart",
    (
        Column("key", pl.String, "", "path of the value, with dots"),
        Column(
            "kind", pl.String, "", "section, value, or free: what stands below it is the user's"
        ),
        _SINCE,
        _UNTIL,
        _SOURCE,
    ),
)
# Made by tools/chart_types.py; charts before 1.16 have no schema
CHART_TYPES: Final = Table(
    "chart_types",
    "JSON types that a value of Cilium's Helm chart may have: Helm refuses others",
    (
        Column("key", pl.String, "", "path of the value, with dots"),
        Column("types", pl.String, "", "of JSON schema, with spaces between"),
        _SINCE,
        _UNTIL,
        _SOURCE,
    ),
)
REMOVED_VALUES: Final = Table(
    "removed_values",
    "one value on which the chart fails, or which it ignores, from a version on",
    (
        Column("key", pl.String, "", "path of the value, with dots"),
        _SINCE,
        _UNTIL,
        Column("instead", pl.String, "", "values that took its place"),
        Column("consequence", pl.String),
        _SOURCE,
        _VERIFIED,
    ),
)
OPTIONS: Final = Table(
    "options",
    "one agent option with one default",
    (
        _OPTION,
        Column("helm_value", pl.String, "", "null: only through extraConfig", nullable=True),
        _SINCE,
        _UNTIL,
        Column("default", pl.String, "of the row", "of the agent; durations in seconds"),
        Column("chart_default", pl.String, "of the row", "what the chart writes", nullable=True),
        Column("min", pl.Int64, "of the row", "smallest value taken", nullable=True),
        Column("max", pl.Int64, "of the row", "largest value taken", nullable=True),
        Column("unit", pl.String, "", "1, s, bool; null for text", nullable=True),
        Column("dynamic", pl.Boolean, "", "scaled by bpf-map-dynamic-size-ratio unless set"),
        Column("restart", pl.Boolean, "", "the agent must be restarted"),
        Column("side_effect", pl.String, "", "what else changes", nullable=True),
        Column("note", pl.String, "", "", nullable=True),
        _SOURCE,
        _VERIFIED,
    ),
)
METRICS: Final = Table(
    "metrics",
    "one metric with one type and one set of labels",
    (
        Column("metric", pl.String, "", "name as exported; histograms without suffix"),
        Column("type", pl.String, "", "gauge, counter or histogram"),
        Column("labels", pl.String, "", "label names, by commas", nullable=True),
        Column("unit", pl.String, "", "unit of the value", nullable=True),
        Column("default_on", pl.Boolean, "", "exported once metrics are on", nullable=True),
        Column("meaning", pl.String),
        _SINCE,
        _UNTIL,
        Column("helm", pl.String, "", "Helm value that turns it on; +name is an item of a list"),
        Column("change", pl.String, "", "what changed between versions", nullable=True),
        _SOURCE,
        _VERIFIED,
    ),
)
LIMITS: Final = Table(
    "limits",
    "one limit under one condition",
    (
        Column("limit", pl.String),
        Column("value", pl.Int64, "of the row", "the most there can be"),
        Column("unit", pl.String),
        _SINCE,
        _UNTIL,
        Column("default", pl.Boolean, "", "holds where nothing is configured"),
        Column("condition", pl.String, "", "scope, and setting it depends on", nullable=True),
        Column("kind", pl.String, "", "settable, hard, soft, install-time"),
        Column("consequence", pl.String, "", "what happens beyond it"),
        _SOURCE,
        _VERIFIED,
    ),
)
DYNAMIC: Final = Table(
    "dynamic",
    "one map group that the agent sizes by node memory",
    (
        _OPTION,
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
CAVEATS: Final = Table(
    "caveats",
    "one way in which a metric misleads",
    (
        Column("metric", pl.String),
        Column("label", pl.String, "", "value of the label it holds for", nullable=True),
        _SINCE,
        _UNTIL,
        Column("caveat", pl.String, "", "what it does not show"),
        _SOURCE,
        _VERIFIED,
    ),
)
COMPONENTS: Final = Table(
    "components",
    "one container of Cilium: its object, Helm values, and what restarts when it changes",
    (
        Column("component", pl.String),
        Column("kind", pl.String, "", "DaemonSet or Deployment"),
        Column("name", pl.String, "", "of the object, as the chart makes it"),
        Column("container", pl.String),
        Column("resources", pl.String, "", "Helm value of its requests and limits"),
        Column("replicas_key", pl.String, "", "Helm value; null: one a node", nullable=True),
        Column("replicas", pl.Int64, "1", "the chart's default", nullable=True),
        Column("metrics_key", pl.String, "", "Helm value that switches its metrics on"),
        Column("port", pl.Int64, "", "of its metrics, the chart's default"),
        _SINCE,
        _UNTIL,
        Column("side_effect", pl.String, "", "of a change of its resources"),
        _SOURCE,
        _VERIFIED,
    ),
)
MANAGED: Final = Table(
    "managed",
    "one managed service that runs Cilium: what its users can change",
    (
        Column("provider", pl.String),
        Column("name", pl.String),
        Column("helm", pl.Boolean, "", "values of the chart can be given"),
        Column("patches", pl.Boolean, "", "objects of Cilium can be patched"),
        Column("instead", pl.String, "", "what to do"),
        _SOURCE,
        _VERIFIED,
    ),
)
QUANTITIES: Final = Table(
    "quantities",
    "one quantity that observations and forecasts are about",
    (
        Column("quantity", pl.String),
        Column("unit", pl.String),
        Column("meaning", pl.String),
        Column("metrics", pl.String, "", "regular expression of the metrics it is made from"),
        _SOURCE,
    ),
)
EVIDENCE: Final = Table(
    "evidence",
    "what was read of one Cilium minor version",
    (
        Column("version", pl.String, "", "minor version"),
        Column("commit", pl.String, "", "commit of cilium/cilium that was read"),
        Column("date", pl.String, "", "day of that commit"),
        Column("read", pl.String, "", "where that commit stands"),
        _SOURCE,
    ),
)
TABLES: Final = (
    MAPS, REMOVED_VALUES, OPTIONS, METRICS, LIMITS, DYNAMIC, CAVEATS, COMPONENTS, MANAGED,
    QUANTITIES, EVIDENCE,
)  # fmt: skip
