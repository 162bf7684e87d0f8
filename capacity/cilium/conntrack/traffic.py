"""Connections of a node → entries of its CT, NAT and socket maps, by Little's law."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.cilium.conntrack.collection import steady_interval
from capacity.errors import SettingsError
from capacity.facts import derivations
from capacity.tables import Column, Table, check
from capacity.units import parse_duration

TRACKED: Final = Table(
    "tracked",
    "one CT, NAT or socket map of a node under given connections",
    (
        Column("map", pl.String, "", "pinned name"),
        Column("rate", pl.Float64, "1/s", "entries that are made"),
        Column("alive", pl.Float64, "entry", "not expired: rate x lifetime"),
        Column("entries", pl.Float64, "entry", "mean, with expired ones that wait for collection"),
        Column("peak", pl.Float64, "entry", "just before a collection, whatever the size"),
        Column("max_entries", pl.Int64, "entry", "", nullable=True),
        Column("share", pl.Float64, "1", "peak / max_entries", nullable=True),
        Column(
            "kept", pl.Float64, "s",
            "after so long without a packet a live entry is evicted; null: none is", nullable=True,
        ),
        Column("evicted", pl.Float64, "1/s", "entries evicted before they expire, at most"),
        Column("lifetime", pl.Float64, "s", "mean of an entry until it expires"),
    ),
)  # fmt: skip
ENDS: Final = ("closed", "left", "unanswered")
PROTOCOLS: Final = ("tcp", "other")
_PREFIX: Final = "bpf-ct-timeout-"
_OPTIONS: Final = {
    "tcp": "bpf-ct-global-tcp-max", "other": "bpf-ct-global-any-max",
    "nat": "bpf-nat-global-max", "sock": "bpf-sock-rev-map-max",
}  # fmt: skip
_NAMES: Final = {
    "tcp": "cilium_ct{}_global", "other": "cilium_ct_any{}_global",
    "nat": "cilium_snat_v{}_external", "sock": "cilium_lb{}_reverse_sk",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Traffic:
    """Connections of one kind that a node takes part in.

    Attributes
    ----------
    path, role
        Which way, and which node of it this one is: see `derivations.connections`.
    rate
        New connections. [1/s]
    duration
        From first to last packet, mean. [s]
    protocol
        tcp or other.
    ends
        closed: by FIN or RST; left: the last packet is just the last; unanswered: a SYN alone.
    pairs
        Pairs of addresses at any time; each holds an entry for ICMP errors. [1]
    """

    path: str
    role: str
    rate: float
    duration: float
    protocol: str = "tcp"
    ends: str = "closed"
    pairs: float = 0.0


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Timeouts of entries; each in seconds."""

    tcp: float
    service_tcp: float
    other: float
    service_other: float
    syn: float
    close: float


def lifetimes(version: str, options: Mapping[str, Any] | None = None) -> Lifetimes:
    """Give the timeouts of a version, or those that options set.

    Parameters
    ----------
    version
        Cilium version.
    options
        Agent flags ``bpf-ct-timeout-…``; other flags are left alone.

    Returns
    -------
    Lifetimes
        Of each kind of connection. [s]

    Raises
    ------
    SettingsError
        If an option is no number of seconds.

    Examples
    --------
    >>> lifetimes("1.14").tcp, lifetimes("1.17").tcp
    (21600.0, 8000.0)
    """
    known = dict(facts.options(version).select("option", "default").iter_rows())
    given = dict(options or {})

    def told(name: str) -> float:
        text = given.get(_PREFIX + name, known[_PREFIX + name])
        return parse_duration(text or 0, what=_PREFIX + name)

    return Lifetimes(
        tcp=told("regular-tcp"), service_tcp=told("service-tcp"), other=told("regular-any"),
        service_other=told("service-any"), syn=told("regular-tcp-syn"),
        close=told("regular-tcp-fin"),
    )  # fmt: skip


def entries(
    traffic: Sequence[Traffic],
    *,
    version: str,
    sizes: Mapping[str, int] | None = None,
    options: Mapping[str, Any] | None = None,
    family: int = 4,
) -> pl.DataFrame:
    """Tell how many entries connections hold in the maps of a node.

    Parameters
    ----------
    traffic
        Connections by kind.
    version
        Cilium version.
    sizes
        Agent option → entries, as `map_sizes.dynamic_sizes` gives them; the agent's defaults where
        left out.
    options
        `bpf-ct-timeout-…`, `conntrack-gc-interval`, `conntrack-gc-max-interval`.
    family
        4 or 6.

    Returns
    -------
    DataFrame
        Table tracked.

    Raises
    ------
    SettingsError
        If traffic names an unknown path or has a negative number.

    Notes
    -----
    Little's law, entries = rate x time in the map: the connection, its timeout after the last
    packet, and the wait for a collection (half an interval in the mean, a whole one at worst). A
    full map is an LRU: it evicts the oldest entries, without an error. With R entries made a second
    and N places an entry stays N / R seconds without a packet; where that is less than its
    lifetime, live ones go. The kernel's LRU is an approximation with lists a CPU: it starts to
    evict a little before the map is full.
    """
    timeouts = lifetimes(version, options)
    flows = [flow for one in traffic for flow in _flows(one, timeouts)]
    known = _sizes(version, sizes)
    interval = _interval(flows, known, version, options or {})
    rows = [_row(kind, flows, known[kind], interval, family) for kind in _NAMES]
    return check(pl.DataFrame(rows, schema=TRACKED.schema), TRACKED)


@dataclass(frozen=True, slots=True)
class _Flow:
    """Entries of one map: made a second, and how long each lives until it expires."""

    kind: str
    rate: float
    lifetime: float


def _flows(one: Traffic, timeouts: Lifetimes) -> Iterator[_Flow]:
    cost = _checked(one)
    is_tcp = one.protocol == "tcp"
    after = {"closed": timeouts.close, "left": timeouts.tcp, "unanswered": timeouts.syn}
    service = {"closed": timeouts.close, "left": timeouts.service_tcp, "unanswered": timeouts.syn}
    own = one.duration + (after[one.ends] if is_tcp else timeouts.other)
    of_service = one.duration + (service[one.ends] if is_tcp else timeouts.service_other)
    kind = "tcp" if is_tcp else "other"
    if cost["ct"]:
        yield _Flow(kind, one.rate * cost["ct"], own)
    if cost["service"]:
        yield _Flow(kind, one.rate * cost["service"], of_service)
    if cost["nat"]:
        # Collected with the CT entry they belong to: pkg/maps/ctmap/ctmap.go PurgeOrphanNATEntries
        yield _Flow("nat", one.rate * cost["nat"], own)
    if cost["sock"]:
        # Deleted when the socket is released: bpf/bpf_sock.c sock4_release
        yield _Flow("sock", one.rate * cost["sock"], one.duration)
    if cost["related"] and one.pairs:
        yield _Flow("other", one.pairs * cost["related"] / timeouts.other, timeouts.other)


def _checked(one: Traffic) -> dict[str, int]:
    rows = derivations.connections()
    own = rows.filter(path=one.path, role=one.role)
    if own.is_empty():
        known = ", ".join(f"{path}/{role}" for path, role in rows.select("path", "role").rows())
        raise SettingsError(f"{one.path}/{one.role}: no such path; known are {known}")
    if one.protocol not in PROTOCOLS or one.ends not in ENDS:
        raise SettingsError(
            f"{one.path}: protocol {one.protocol!r}, ends {one.ends!r}; wanted are "
            f"{' or '.join(PROTOCOLS)}, and {', '.join(ENDS)}"
        )
    if min(one.rate, one.duration, one.pairs) < 0:
        raise SettingsError(f"{one.path}: rate, duration and pairs are 0 or more")
    return own.select("ct", "service", "nat", "sock", "related").row(0, named=True)


def _sizes(version: str, sizes: Mapping[str, int] | None) -> dict[str, int]:
    default = dict(facts.dynamic(version).select("option", "default").iter_rows())
    return {kind: int((sizes or {}).get(name, default[name])) for kind, name in _OPTIONS.items()}


def _interval(
    flows: Sequence[_Flow], sizes: Mapping[str, int], version: str, options: Mapping[str, Any]
) -> float:
    names = "conntrack-gc-interval", "conntrack-gc-max-interval"
    fixed, most = (parse_duration(options.get(name, 0), what=name) for name in names)
    made = [
        (sum(flow.rate for flow in flows if flow.kind == kind), sizes[kind])
        for kind in ("tcp", "other")
    ]
    return steady_interval(made, version=version, fixed=fixed, most=most)


def _row(
    kind: str, flows: Sequence[_Flow], size: int, interval: float, family: int
) -> dict[str, Any]:
    own = [flow for flow in flows if flow.kind == kind]
    rate = sum(flow.rate for flow in own)
    alive = sum(flow.rate * flow.lifetime for flow in own)
    wait = 0.0 if kind == "sock" else interval
    peak = alive + rate * wait
    kept = size / rate if rate and alive > size else None
    return {
        "map": _NAMES[kind].format(family),
        "rate": rate,
        "alive": alive,
        "entries": min(alive + rate * wait / 2, float(size)),
        "peak": peak,
        "max_entries": size,
        "share": peak / size,
        "kept": kept,
        "evicted": sum(f.rate for f in own if kept is not None and f.lifetime > kept),
        "lifetime": alive / rate if rate else 0.0,
    }
