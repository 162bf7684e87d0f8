"""Who makes the entries of policy maps: policies, their rules, and the heaviest of these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from capacity.cilium.policy.engine import Cluster, Direction, direction_of
from capacity.cilium.policy.mapstate import ANYONE
from capacity.cilium.policy.rows import DIRECTIONS, parts, sizes_of
from capacity.cilium.policy.rules import Origin
from capacity.tables import Column, Table

CONTRIBUTIONS: Final = Table(
    "policy_contributions",
    "what one policy makes in one direction of the policy map of one endpoint",
    (
        Column("endpoint", pl.String),
        Column("direction", pl.String),
        Column("policy", pl.String, "", "kind/namespace/name; empty for Cilium's own entries"),
        Column("entries", pl.Int64, "entry", "entries that it makes, alone or with others"),
        Column("alone", pl.Int64, "entry", "entries that no other policy makes"),
    ),
)
RULE_CONTRIBUTIONS: Final = Table(
    "rule_contributions",
    "what one rule of a policy makes in the policy map of one endpoint",
    (
        Column("endpoint", pl.String),
        Column("direction", pl.String),
        Column("policy", pl.String, "", "kind/namespace/name; empty for Cilium's own entries"),
        Column("rule", pl.String, "", "place in the policy, as ingress[2] or specs[1].egress[0]"),
        Column("entries", pl.Int64, "entry", "entries that it makes, alone or with others"),
        Column("alone", pl.Int64, "entry", "entries that no other rule makes"),
    ),
)
HEAVIEST: Final = Table(
    "heaviest_rules",
    "one rule of a policy, over all endpoints; the one that fills a map most comes first",
    (
        Column("policy", pl.String, "", "kind/namespace/name"),
        Column("rule", pl.String, "", "place in the policy, as ingress[2] or specs[1].egress[0]"),
        Column("endpoints", pl.Int64, "1", "endpoints that have entries of it"),
        Column("entries", pl.Int64, "entry", "in the maps of all endpoints, alone or with others"),
        Column("alone", pl.Int64, "entry", "of these, that no other rule makes"),
        Column("worst_endpoint", pl.String, "", "where it makes most"),
        Column("worst_entries", pl.Int64, "entry", "that it makes there"),
        Column("worst_total", pl.Int64, "entry", "all entries of that endpoint"),
    ),
)


def contributions(cluster: Cluster) -> pl.DataFrame:
    """Count what each policy makes at each endpoint: table policy_contributions."""
    return _table(cluster, CONTRIBUTIONS, by_place=False)


def rule_contributions(cluster: Cluster) -> pl.DataFrame:
    """Count what each rule makes at each endpoint: table rule_contributions."""
    return _table(cluster, RULE_CONTRIBUTIONS, by_place=True)


def _table(cluster: Cluster, table: Table, *, by_place: bool) -> pl.DataFrame:
    rows = []
    for names, name, direction in _directions(cluster):
        made = sorted(_made(cluster, direction, by_place=by_place).items())
        for origin, (entries, alone) in made:
            place = origin if by_place else origin[:1]
            rows += [(one, name, *place, entries, alone) for one in names]
    return pl.DataFrame(rows, schema=table.schema, orient="row")


def _directions(cluster: Cluster) -> Iterator[tuple[list[str], str, Direction]]:
    """Give each direction that endpoints share, once, with their names."""
    sharers: dict[int, tuple[list[str], str, Direction]] = {}
    for group, endpoints in cluster.groups.items():
        for name in DIRECTIONS:
            direction = direction_of(cluster, group, is_ingress=name == "ingress")
            found = sharers.setdefault(id(direction), ([], name, direction))
            found[0].extend(one.name for one in endpoints)
    yield from sharers.values()


def _made(
    cluster: Cluster, direction: Direction, *, by_place: bool
) -> dict[Origin, tuple[int, int]]:
    found: dict[Origin, tuple[int, int]] = {}
    for part in parts(cluster, direction, by_place=by_place):
        size = part.bits.bit_count()
        if part.bits & ANYONE:
            size += cluster.semantics.wildcard_rows - 1
        for origin in part.rules or (Origin("", ""),):
            made, alone = found.get(origin, (0, 0))
            found[origin] = made + size, alone + size * (len(part.rules) < 2)
    return found


def heaviest(cluster: Cluster, *, top: int = 10) -> pl.DataFrame:
    """List the rules that fill policy maps most: table heaviest_rules.

    Parameters
    ----------
    cluster
        What `capacity.cilium.policy.ready` gives.
    top
        Rules to list.

    Notes
    -----
    Ordered by what a rule makes at the endpoint where it makes most: one map that is full is full,
    however empty the others are.
    """
    sizes: dict[str, int] = {}
    found: dict[Origin, list[tuple[int, int, list[str]]]] = {}
    for names, _, direction in _directions(cluster):
        made = _made(cluster, direction, by_place=True)
        total = sum(sizes_of(cluster, direction))
        for one in names:
            sizes[one] = sizes.get(one, 0) + total
        for origin, (entries, alone) in made.items():
            if origin.policy:
                found.setdefault(origin, []).append((entries, alone, names))
    rows = []
    for origin, shares in found.items():
        most = max(entries for entries, _, _ in shares)
        worst = max(
            (one for entries, _, names in shares if entries == most for one in names),
            key=lambda one: (sizes[one], one),
        )
        rows.append(
            (
                *origin,
                sum(len(names) for _, _, names in shares),
                sum(entries * len(names) for entries, _, names in shares),
                sum(alone * len(names) for _, alone, names in shares),
                worst, most, sizes[worst],
            )
        )  # fmt: skip
    frame = pl.DataFrame(rows, schema=HEAVIEST.schema, orient="row")
    order = ["worst_entries", "entries", "policy", "rule"]
    return frame.sort(order, descending=[True, True, False, False]).head(top)
