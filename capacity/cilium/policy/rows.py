"""Entries of a cluster as rows: listed with the policies that make them, or only counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import polars as pl

from capacity.cilium.policy.auth import Treated
from capacity.cilium.policy.engine import Cluster, Direction, direction_of
from capacity.cilium.policy.filters import Filter
from capacity.cilium.policy.groups import Group
from capacity.cilium.policy.mapstate import ANYONE, Key, MapState, Proxy
from capacity.cilium.policy.rules import PROTOCOL_NAMES, Origin
from capacity.cilium.policy.universe import bits_of
from capacity.tables import Column, Table

ENTRIES: Final = Table(
    "policy_entries",
    "one entry of the policy map of one endpoint",
    (
        Column("endpoint", pl.String, "", "namespace/pod, reserved:host or reserved:health"),
        Column("direction", pl.String, "", "ingress or egress"),
        Column(
            "identity", pl.Int64, "", "of the peer, 0 anyone; null: an aggregate", nullable=True
        ),
        Column("protocol", pl.String, "", "ANY, TCP, UDP, SCTP, ICMP or ICMPv6"),
        Column("port", pl.Int64, "", "first port of the prefix"),
        Column("prefix_length", pl.Int64, "bit", "ones in the port mask, 0 every port"),
        Column("lpm_prefix", pl.Int64, "bit", "prefix length of the kernel's key"),
        Column("action", pl.String, "", "allow or deny"),
        Column("redirect", pl.String, "", "kind of the proxy", nullable=True),
        Column("auth", pl.String, "", "kind of authentication", nullable=True),
        Column("rules", pl.List(pl.String), "", "policies that make it; none for Cilium's own"),
    ),
)
COUNTS: Final = Table(
    "policy_counts",
    "entries of the policy map of one endpoint; null where its policies cannot be merged",
    (
        Column("endpoint", pl.String),
        Column("identity", pl.Int64),
        Column("ingress", pl.Int64, "entry", "", nullable=True),
        Column("egress", pl.Int64, "entry", "", nullable=True),
        Column("allow", pl.Int64, "entry", "that allow without a proxy", nullable=True),
        Column("deny", pl.Int64, "entry", "", nullable=True),
        Column("redirect", pl.Int64, "entry", "that allow through a proxy", nullable=True),
        Column("total", pl.Int64, "entry", "allow + deny + redirect", nullable=True),
    ),
)
DIRECTIONS: Final = ("ingress", "egress")
N = TypeVar("N", str, Proxy)


@dataclass(frozen=True, slots=True)
class Part:
    """Identities with the same entry at one key, made by the same rules."""

    key: Key
    bits: int
    action: str
    redirect: str | None
    auth: str | None
    rules: tuple[Origin, ...]


def parts(cluster: Cluster, direction: Direction, *, by_place: bool = False) -> Iterator[Part]:
    """Give the entries of a direction, grouped by all but the identity.

    With `by_place` the rules of a policy are told apart; else all are at its place "".
    """
    state = direction.state
    for action, entries in (("allow", state.allows), ("deny", state.denies)):
        is_deny = action == "deny"
        for key, bits in entries.items():
            for through, proxy in _split(bits, {} if is_deny else state.redirects.get(key, {})):
                redirect = proxy.name if proxy is not None else None
                for found, mode in _split(through, {} if is_deny else state.auths.get(key, {})):
                    made = _by_rules(
                        cluster, direction, key, found, is_deny=is_deny, by_place=by_place
                    )
                    for own, rules in made:
                        yield Part(key, own, action, redirect, mode, rules)


def _split(bits: int, named: dict[N, int]) -> Iterator[tuple[int, N | None]]:
    """Part a set by names, the first in order where two hold one; None for the rest."""
    for name in sorted(named):
        if bits & named[name]:
            yield bits & named[name], name
        bits &= ~named[name]
    if bits:
        yield bits, None


def _by_rules(
    cluster: Cluster, direction: Direction, key: Key, bits: int, *, is_deny: bool, by_place: bool
) -> Iterator[tuple[int, tuple[Origin, ...]]]:
    """Part the identities of a key by the rules that make their entries.

    Entries at a key that no rule names exactly are copies: of every rule that reaches them.
    """
    exact, near = [], []
    for one, treated in direction.insertions:
        insertion = treated.insertion
        if insertion.is_deny != is_deny:
            continue
        if key in insertion.keys:
            exact.append((insertion.bits, _origins(one, treated, by_place=by_place)))
        elif any(key.holds(other) or other.holds(key) for other in insertion.keys):
            near.append((insertion.bits, _origins(one, treated, by_place=by_place)))
    told: dict[tuple[Origin, ...], int] = {}
    left = _partition(bits, exact, told)
    # What is allowed at every port and by no rule is Cilium's own: localhost, or no policy
    if left and (is_deny or key.protocol):
        reaching = [
            (left if found & ANYONE else found | cluster.universe.narrower(found), rules)
            for found, rules in [*exact, *near]
        ]
        left = _partition(left, reaching, told)
    if left:
        told[()] = told.get((), 0) | left
    for rules, own in told.items():
        yield own, rules


def _origins(one: Filter, treated: Treated, *, by_place: bool) -> frozenset[Origin]:
    told = (origin for origin in one.origins.get(treated.peer, ()) if origin.policy)
    return frozenset(told if by_place else (Origin(origin.policy, "") for origin in told))


def _partition(
    bits: int,
    named: list[tuple[int, frozenset[Origin]]],
    into: dict[tuple[Origin, ...], int],
) -> int:
    """Sort a set into parts of equal names; gives what has none."""
    found: dict[frozenset[Origin], int] = {frozenset(): bits}
    reached = 0
    for own, rules in named:
        reached |= own & bits
        changed: dict[frozenset[Origin], int] = {}
        for names, part in found.items():
            for names_of, part_of in ((names | rules, part & own), (names, part & ~own)):
                if part_of:
                    changed[names_of] = changed.get(names_of, 0) | part_of
        found = changed
    for names, part in found.items():
        if part & reached:
            key = tuple(sorted(names))
            into[key] = into.get(key, 0) | part & reached
    return bits & ~reached


def entries(cluster: Cluster) -> pl.DataFrame:
    """List the entries of all endpoints: table policy_entries, by endpoint."""
    # Endpoints of a group have the same rows: these are made once, and joined
    members = [(one.name, n) for n, group in enumerate(cluster.groups.values()) for one in group]
    rows = [row for n, group in enumerate(cluster.groups) for row in _rows(cluster, group, n)]
    schema = {**ENTRIES.schema, "endpoint": pl.Int64(), "identity": pl.List(pl.Int64)}
    of_groups = pl.DataFrame(rows, schema=schema, orient="row").explode("identity")
    of_groups = of_groups.rename({"endpoint": "group"})
    return (
        pl.DataFrame(members, schema={"endpoint": pl.String, "group": pl.Int64}, orient="row")
        .sort("endpoint", maintain_order=True)
        .join(of_groups, on="group", maintain_order="left_right")
        .select(ENTRIES.schema.names())
    )


def _rows(cluster: Cluster, group: Group, number: int) -> Iterator[tuple[Any, ...]]:
    """Give the rows of a group, identities as a list."""
    for name in DIRECTIONS:
        direction = direction_of(cluster, group, is_ingress=name == "ingress")
        for part in parts(cluster, direction):
            numbers = cluster.universe.numbers[bits_of(part.bits)].tolist()
            if part.bits & ANYONE:
                numbers += [None] * (cluster.semantics.wildcard_rows - 1)
            yield (
                number, name, numbers, PROTOCOL_NAMES[part.key.protocol], part.key.port,
                part.key.bits, part.key.prefix_length, part.action, part.redirect, part.auth,
                [origin.policy for origin in part.rules],
            )  # fmt: skip


def counts(cluster: Cluster) -> pl.DataFrame:
    """Count the entries of all endpoints without listing them: table policy_counts."""
    rows = {}
    for group, endpoints in cluster.groups.items():
        count = _counted(cluster, group)
        for endpoint in endpoints:
            rows[endpoint.name] = (endpoint.name, endpoint.identity, *count)
    ordered = [rows[endpoint.name] for endpoint in cluster.endpoints]
    return pl.DataFrame(ordered, schema=COUNTS.schema, orient="row")


def _counted(cluster: Cluster, group: Group) -> tuple[int | None, ...]:
    found = []
    for name in DIRECTIONS:
        direction = direction_of(cluster, group, is_ingress=name == "ingress")
        if direction.fault:
            return (None,) * 6
        found.append(sizes_of(cluster, direction))
    (allow, deny, redirect), (allow_out, deny_out, redirect_out) = found
    inside, outside = allow + deny + redirect, allow_out + deny_out + redirect_out
    return (
        inside, outside, allow + allow_out, deny + deny_out, redirect + redirect_out,
        inside + outside,
    )  # fmt: skip


def sizes_of(cluster: Cluster, direction: Direction) -> tuple[int, int, int]:
    """Entries of a direction that allow without a proxy, that deny, that allow through a proxy."""
    if direction.sizes is None:
        direction.sizes = _sizes(direction.state, cluster.semantics.wildcard_rows)
    return direction.sizes


def _sizes(state: MapState, wildcard_rows: int) -> tuple[int, int, int]:
    allow, deny, redirect = state.count()
    if wildcard_rows > 1:
        more = wildcard_rows - 1
        anyone = sum(bits & ANYONE for bits in state.allows.values())
        through = sum(
            any(bits & ANYONE for bits in state.redirects.get(key, {}).values())
            for key, allowed in state.allows.items()
            if allowed & ANYONE
        )
        allow += more * (anyone - through)
        deny += more * sum(bits & ANYONE for bits in state.denies.values())
        redirect += more * through
    return allow, deny, redirect


def conflicts(cluster: Cluster) -> pl.DataFrame:
    """List endpoints whose policies Cilium cannot merge: they keep the entries they had."""
    rows = []
    for group, endpoints in cluster.groups.items():
        for name in DIRECTIONS:
            fault = direction_of(cluster, group, is_ingress=name == "ingress").fault
            if fault:
                rows += [(endpoint.name, name, fault) for endpoint in endpoints]
    schema = {"endpoint": pl.String, "direction": pl.String, "reason": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def statuses(cluster: Cluster) -> pl.DataFrame:
    """List what became of each policy: kind, namespace, policy, status, rules, error."""
    rows = [
        (
            one.policy.kind, one.policy.namespace or None, one.policy.name, one.status,
            len(one.rules), one.error or None,
        )
        for one in cluster.statuses
    ]  # fmt: skip
    schema = {
        "kind": pl.String, "namespace": pl.String, "policy": pl.String, "status": pl.String,
        "rules": pl.Int64, "error": pl.String,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")
