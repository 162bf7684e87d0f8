"""Tables that counting services gives."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables import Column, Table

LB_ENTRIES: Final = Table(
    "lb_entries",
    "one load balancer map of a node",
    (
        Column("map", pl.String, "", "pinned name"),
        Column("entries", pl.Int64, "entry"),
        Column("max_entries", pl.Int64, "entry", "its size", nullable=True),
        Column("share", pl.Float64, "1", "entries / max_entries", nullable=True),
        Column("service_ids", pl.Int64, "1", "service IDs its frontends use, of 65,535 a node"),
    ),
)
SERVICE_ENTRIES: Final = Table(
    "service_entries",
    "what one service costs in the load balancer maps of a node; the heaviest first",
    (
        Column("namespace", pl.String),
        Column("service", pl.String),
        Column("type", pl.String),
        Column("service_ids", pl.Int64, "1", "frontends: entries of the reverse NAT maps too"),
        Column("services", pl.Int64, "entry", "masters and slots, both families"),
        Column("affinity_match", pl.Int64, "entry"),
        Column("source_range", pl.Int64, "entry"),
        Column("maglev", pl.Int64, "1", "tables, each 4 bytes x bpf-lb-maglev-table-size"),
    ),
)
FRONTENDS: Final = Table(
    "frontends",
    "one frontend of a service: an address, port and scope with a service ID of its own",
    (
        Column("namespace", pl.String),
        Column("service", pl.String),
        Column("kind", pl.String, "", "ClusterIP, NodePort, LoadBalancer, ExternalIPs, HostPort …"),
        Column("address", pl.String, "", "assigned… and node… stand for what is not told"),
        Column("port", pl.Int64, "", "below 0: to be assigned"),
        Column("protocol", pl.String),
        Column("scope", pl.String, "", "external, internal"),
        Column("slots", pl.Int64, "entry", "backends; one entry more is the master"),
        Column("affinity_match", pl.Int64, "entry"),
        Column("source_range", pl.Int64, "entry"),
        Column("maglev", pl.Boolean, "", "it has a table"),
    ),
)
