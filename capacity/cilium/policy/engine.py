"""Groups of endpoints resolved, each once: rules into filters, insertions, entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from capacity.cilium.policy import auth
from capacity.cilium.policy.allocation import HOST_ID, Identity, address_labels, local_identities
from capacity.cilium.policy.filters import ANY_NAMESPACE, Filter, Peer, filters_of
from capacity.cilium.policy.groups import Endpoint, Group, Population, groups_of, population
from capacity.cilium.policy.labels import Prefix
from capacity.cilium.policy.mapstate import (
    ANYONE,
    EVERY_PORT,
    Insertion,
    Key,
    MapState,
    Proxy,
    allow_localhost,
    insert_all,
)  # fmt: skip
from capacity.cilium.policy.ports import PORT_BITS, masked_ports
from capacity.cilium.policy.read import Status, read
from capacity.cilium.policy.rules import PROTOCOLS, Conflict, Rule, Traffic, covers
from capacity.cilium.policy.selectors import WILDCARD, NameSelector
from capacity.cilium.policy.state import ClusterState
from capacity.cilium.policy.universe import Universe, as_bits, extended
from capacity.cilium.policy.versions import Semantics

# Proxies by the kind of L7 rule; cilium/cilium pkg/proxy/proxy.go, findProxyPortByType
_PROXIES: Final = {"http": "http", "dns": "dns"}
# Priority of listeners that name none: their ports, of 10000 to 20000, which one being unknown
_FIRST_PROXY_PORT: Final = 10_000


@dataclass(slots=True)
class Cluster:
    """A cluster made ready for resolution: policies read, identities numbered.

    `known` holds directions of a cluster before it that hold here too.
    """

    state: ClusterState
    semantics: Semantics
    statuses: list[Status]
    rules: list[Rule]
    population: Population
    groups: dict[Group, list[Endpoint]]
    local: list[Identity]
    universe: Universe
    host_bit: int
    directions: dict[tuple[object, ...], Direction] = field(default_factory=dict)
    known: Mapping[tuple[object, ...], Direction] = field(default_factory=dict)

    @property
    def endpoints(self) -> list[Endpoint]:
        """Endpoints that are resolved."""
        return self.population.endpoints


@dataclass(slots=True)
class Direction:
    """What one direction of a group comes to."""

    is_enforced: bool
    state: MapState
    insertions: list[tuple[Filter, auth.Treated]] = field(default_factory=list)
    peers: frozenset[Peer] = frozenset()
    fault: str = ""
    sizes: tuple[int, int, int] | None = None


def prepare(state: ClusterState, semantics: Semantics, before: Cluster | None = None) -> Cluster:
    """Read policies, number identities, and group endpoints by the rules that select them.

    Parameters
    ----------
    state, semantics
        What is resolved, and how.
    before
        A cluster of the same semantics whose state differs in policies only: what it found is
        taken where it holds still. Policies that are the same are the same objects.
    """
    told = {id(one.policy): one for one in before.statuses} if before is not None else {}
    statuses = [told.get(id(policy)) or read(policy, state, semantics) for policy in state.policies]
    rules = [rule for status in statuses for rule in status.rules]
    people = population(state) if before is None else before.population
    groups = groups_of(state, rules, people)
    labels = _address_labels(state, semantics, rules, groups)
    local = local_identities(labels)
    known: Mapping[tuple[object, ...], Direction] = {}
    if before is None:
        made = extended(people.universe, local)
    elif before.local == local:
        made, known = before.universe, before.directions or before.known
    else:
        made = extended(people.universe, _placed(before.universe, people, local))
        known = _still_known(before.directions or before.known, before.universe, made)
    return Cluster(
        state, semantics, statuses, rules, people, groups, local, made,
        1 << made.bit_of[HOST_ID], known=known,
    )  # fmt: skip


def _address_labels(
    state: ClusterState, semantics: Semantics, rules: Sequence[Rule], groups: Iterable[Group]
) -> dict[Prefix, tuple[str, ...]]:
    prefixes = [
        prefix
        for rule in rules
        for traffic in (*rule.ingress, *rule.egress)
        for prefix in traffic.prefixes
    ]
    return address_labels(
        state, prefixes, _names(rules, groups), is_labeled=semantics.labels_prefixes
    )


def ipcache(cluster: Cluster) -> dict[Prefix, int]:
    """Give the bit of the identity of each prefix that rules or DNS names tell."""
    bits = {one.labels: bit for bit, one in enumerate(cluster.universe.identities, 1)}
    labels = _address_labels(cluster.state, cluster.semantics, cluster.rules, cluster.groups)
    return {prefix: bits[own] for prefix, own in labels.items()}


def _placed(old: Universe, population: Population, local: list[Identity]) -> list[Identity]:
    """Order local identities so that those that an older universe has keep their bits there."""
    left = {one.labels: one for one in local}
    first = len(population.universe.identities)
    places = [left.pop(one.labels, None) for one in old.identities[first:]]
    places = [one or (left.popitem()[1] if left else None) for one in places]
    found = [one for one in places if one is not None]
    # Where more have gone than come, the last ones move to the holes
    for hole, one in enumerate(places):
        if one is None and hole < len(found):
            found.insert(hole, found.pop())
    return [*found, *left.values()]


def _still_known(
    known: Mapping[tuple[object, ...], Direction], old: Universe, new: Universe
) -> dict[tuple[object, ...], Direction]:
    """Directions none of whose peers selects an identity that came, went or moved."""
    width = max(len(old.identities), len(new.identities)) + 1
    pairs = zip_longest(old.identities, new.identities)
    moved = as_bits(
        [bit for bit, (one, other) in enumerate(pairs, 1)
         if one is None or other is None or one.labels != other.labels],
        width,
    )  # fmt: skip
    holds: dict[Peer, bool] = {}
    for peer in {peer for one in known.values() for peer in one.peers}:
        bits = old.select(peer)
        holds[peer] = not bits & moved and bits == new.select(peer)
    return {
        key: one
        for key, one in known.items()
        if not one.fault and all(map(holds.__getitem__, one.peers))
    }


def _names(rules: Sequence[Rule], groups: Iterable[Group]) -> list[NameSelector]:
    """DNS selectors in use: of rules that select a resolved endpoint."""
    used = {n for group in groups for n in group.rules}
    found = (name for n in sorted(used) for traffic in rules[n].egress for name in traffic.names)
    return list(dict.fromkeys(found))


def direction_of(cluster: Cluster, group: Group, *, is_ingress: bool) -> Direction:
    """Resolve one direction of a group; groups that do not differ in it share the result."""
    rules = [cluster.rules[n] for n in group.rules]
    has_traffic = [rule for rule in rules if (rule.ingress if is_ingress else rule.egress)]
    key = (is_ingress, *has_traffic, group.is_host, group.is_init, group.namespace,
           group.ports if is_ingress else ())  # fmt: skip
    found = cluster.directions.get(key)
    if found is None:
        found = cluster.known.get(key) or _direction(cluster, group, has_traffic, is_ingress)
        cluster.directions[key] = found
    return found


def _direction(cluster: Cluster, group: Group, rules: list[Rule], is_ingress: bool) -> Direction:
    options = cluster.state.options
    is_always = options.policy_mode == "always" or group.is_init
    is_off = options.policy_mode == "never" or (group.is_host and not options.host_firewall)
    is_enforced = not is_off and (is_always or bool(rules))
    is_allowed = options.allow_localhost
    if not is_enforced:
        state = MapState(allows={EVERY_PORT: ANYONE})
        if is_ingress and is_allowed and not group.is_host:
            allow_localhost(state, cluster.host_bit, has_companions=False)
        return Direction(False, state)
    denies = any(rule.denies_ingress if is_ingress else rule.denies_egress for rule in rules)
    if not is_always and not denies:
        rules = [*rules, _allow_all(is_ingress)]
    hosts = None
    if is_allowed:
        hosts = lambda peer: bool(cluster.universe.select(peer) & (ANYONE | cluster.host_bit))  # noqa: E731
    try:
        filters = filters_of(rules, is_ingress=is_ingress, hosts=hosts)
    except Conflict as conflict:
        return Direction(True, MapState(), fault=str(conflict))
    ordered = _in_order(filters)
    keys = [_keys(cluster, group, one, is_ingress) for one in ordered]
    denied = _denied_to_anyone(ordered, keys)
    insertions = [
        (one, insertion)
        for one, own in zip(ordered, keys, strict=True)
        for insertion in _insertions(cluster, group, one, own, denied, is_ingress)
    ]
    state = _resolved(cluster, group, insertions, is_ingress)
    peers = frozenset(peer for one in ordered for peer in one.peers)
    return Direction(True, state, insertions, peers)


def _allow_all(is_ingress: bool) -> Rule:
    everyone = (Traffic(others=(WILDCARD,)),)
    return Rule(
        "", WILDCARD, False, everyone if is_ingress else (), () if is_ingress else everyone,
        True, True,
    )  # fmt: skip


def _in_order(filters: Mapping[tuple[str, int, int], Filter]) -> list[Filter]:
    """Order of the agent's trie: named ports, then by protocol and port, broad before narrow."""

    def rank(one: Filter) -> tuple[object, ...]:
        first = masked_ports(one.port.number, one.port.end)[0]
        return (not one.port.name, one.protocol, first[0], first[1], -one.port.end, one.port.name)

    return sorted(filters.values(), key=rank)


def _keys(cluster: Cluster, group: Group, one: Filter, is_ingress: bool) -> tuple[Key, ...]:
    number = _number(cluster, group, one, is_ingress)
    if number is None:
        return ()
    end = one.port.end if cluster.semantics.has_port_ranges else 0
    return tuple(Key(one.protocol, *masked) for masked in masked_ports(number, end))


def _denied_to_anyone(filters: Sequence[Filter], keys: Sequence[tuple[Key, ...]]) -> set[Key]:
    """Keys at which an entry denies everyone: those within a broader one have none."""
    found = {
        key
        for one, own in zip(filters, keys, strict=True)
        if (everyone := one.peers.get(WILDCARD)) is not None and everyone.is_deny
        for key in own
    }
    return {key for key in found if not any(other.is_broader(key) for other in found)}


def _insertions(
    cluster: Cluster,
    group: Group,
    one: Filter,
    keys: tuple[Key, ...],
    denied: set[Key],
    is_ingress: bool,
) -> Iterable[auth.Treated]:
    if not keys:
        return
    # No proxy where the first port is denied: pkg/policy/mapstate.go, deniesL4, b095517e625e
    has_proxy = keys[0]._replace(bits=PORT_BITS) not in denied
    wildcard = one.peers.get(WILDCARD)
    is_port = bool(one.port.number or one.port.name)
    # Everyone first: what it covers needs no entries of its own
    peers = sorted(one.peers.items(), key=lambda item: item[0] != WILDCARD)
    for peer, treatment in peers:
        is_under = is_port and one.has_wildcard and peer != WILDCARD
        if is_under and covers(wildcard, treatment):
            continue
        is_deny = treatment is not None and treatment.is_deny
        source = treatment
        if is_under and not is_deny and not (treatment is not None and treatment.is_redirect):
            source = wildcard
        proxy = None
        if source is not None and source.is_redirect and not is_deny:
            name = _proxy(cluster, group, one.parser, source.listener, is_ingress)
            if not name or not has_proxy:
                continue
            proxy = Proxy((treatment.priority if treatment else 0) or _FIRST_PROXY_PORT, name)
        bits = _selected_bits(cluster, peer)
        if bits:
            mode = treatment.auth if treatment is not None and not is_deny else None
            yield auth.Treated(peer, mode, Insertion(keys, bits, is_deny, proxy))


def _selected_bits(cluster: Cluster, peer: Peer) -> int:
    bits = cluster.universe.select(peer)
    options = cluster.state.options
    if options.ipv4 and options.ipv6:
        bit_of = cluster.universe.bit_of
        if bits >> bit_of[2] & 1:
            bits |= 1 << bit_of[9] | 1 << bit_of[10]
    return bits


def _number(cluster: Cluster, group: Group, one: Filter, is_ingress: bool) -> int | None:
    """Port number of a filter; None for a name that nobody, or more than one number, has."""
    name = one.port.name
    if not name:
        return one.port.number
    if is_ingress:
        own = [(port, PROTOCOLS.get(proto.upper() or "TCP", 0))
               for other, port, proto in group.ports if other == name]  # fmt: skip
        own = own[:1]
    else:
        own = sorted(cluster.population.named_ports.get(name, ()))
    fitting = {port for port, protocol in own if port and protocol in (0, one.protocol)}
    return fitting.pop() if len(fitting) == 1 else None


def _proxy(cluster: Cluster, group: Group, parser: str, listener: str, is_ingress: bool) -> str:
    """Kind of the proxy; empty where there is none, so that the rule makes no entry."""
    if parser == "crd":
        name = listener.replace(ANY_NAMESPACE, group.namespace, 1)
        return f"crd:{name}" if name in cluster.state.options.listeners and not is_ingress else ""
    if parser == "dns" and is_ingress:
        return ""
    return _PROXIES.get(parser, "proxylib")


def _resolved(
    cluster: Cluster,
    group: Group,
    insertions: list[tuple[Filter, auth.Treated]],
    is_ingress: bool,
) -> MapState:
    is_old = cluster.semantics.has_companions
    lets_host = is_ingress and cluster.state.options.allow_localhost and not group.is_host
    if any(one.mode in auth.MODES for _, one in insertions):
        host = cluster.universe.bit_of[HOST_ID] if lets_host else None
        return auth.resolve(
            [one for _, one in insertions], cluster.universe, host, has_companions=is_old
        )
    state = insert_all(
        (one.insertion for _, one in insertions),
        cluster.universe,
        has_companions=is_old,
        has_precedence=cluster.semantics.has_precedence,
    )
    if lets_host:
        allow_localhost(state, cluster.host_bit, has_companions=is_old)
    return state
