"""Endpoints grouped by the rules that select them; each group resolved once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from capacity.cilium.policy import auth
from capacity.cilium.policy.filters import ANY_NAMESPACE, Filter, Peer, filters_of
from capacity.cilium.policy.mapstate import (
    ANYONE,
    EVERY_PORT,
    Insertion,
    Key,
    MapState,
    allow_localhost,
    insert_all,
)  # fmt: skip
from capacity.cilium.policy.ports import masked_ports
from capacity.cilium.policy.read import Status, read
from capacity.cilium.policy.rules import PROTOCOLS, Conflict, PortRule, Rule, Traffic, covers
from capacity.cilium.policy.selectors import WILDCARD, NameSelector, Selector
from capacity.cilium.policy.state import ClusterState
from capacity.cilium.policy.universe import (
    HOST_ID,
    Universe,
    bits_of,
    cluster_identities,
    local_identities,
    node_universe,
    universe,
)  # fmt: skip
from capacity.cilium.policy.versions import Semantics

HOST: Final = "reserved:host"
HEALTH: Final = "reserved:health"
INIT: Final = "reserved:init"
# Reserved endpoints and the labels that make them; a node has the first two
_RESERVED_ENDPOINTS: Final = {HOST: 1, HEALTH: 4, INIT: 5, "reserved:ingress": 8}
# Proxies by the kind of L7 rule; cilium/cilium pkg/proxy/proxy.go, findProxyPortByType
_PROXIES: Final = {"http": "http", "dns": "dns"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint: name, number of its identity, its named ports."""

    name: str
    identity: int
    ports: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Endpoints with the same entries: the rules that select them and what else matters."""

    rules: tuple[int, ...]
    is_host: bool
    is_init: bool
    ports: tuple[tuple[str, int, str], ...]
    namespace: str


@dataclass(slots=True)
class Cluster:
    """A cluster made ready for resolution: policies read, identities numbered."""

    state: ClusterState
    semantics: Semantics
    statuses: list[Status]
    rules: list[Rule]
    endpoints: list[Endpoint]
    groups: dict[Group, list[Endpoint]]
    universe: Universe
    named_ports: dict[str, set[tuple[int, int]]]
    host_bit: int
    directions: dict[tuple[object, ...], Direction] = field(default_factory=dict)


@dataclass(slots=True)
class Direction:
    """What one direction of a group comes to."""

    is_enforced: bool
    state: MapState
    insertions: list[tuple[Filter, auth.Treated]] = field(default_factory=list)
    fault: str = ""


def prepare(state: ClusterState, semantics: Semantics) -> Cluster:
    """Read policies, number identities, and group endpoints by the rules that select them."""
    statuses = [read(policy, state) for policy in state.policies]
    rules = [rule for status in statuses for rule in status.rules]
    numbers, identities = cluster_identities(state)
    pods = universe(identities)
    endpoints = _endpoints(state, numbers)
    groups = _groups(state, rules, endpoints, pods)
    names = _names(state, rules, groups)
    prefixes = [
        prefix
        for rule in rules
        for traffic in (*rule.ingress, *rule.egress)
        for prefix in traffic.prefixes
    ]
    local = local_identities(state, prefixes, names)
    made = universe([*identities, *local])
    return Cluster(
        state, semantics, statuses, rules, endpoints, groups, made,
        _named_ports(state), 1 << made.bit_of[HOST_ID],
    )  # fmt: skip


def _endpoints(state: ClusterState, numbers: Mapping[str, int]) -> list[Endpoint]:
    ports = {
        pod.endpoint: tuple((name.lower(), port, proto) for name, port, proto in pod.ports if name)
        for pod in state.pods
    }
    reserved = dict(_RESERVED_ENDPOINTS) | {name: HOST_ID for name, _ in _hosts(state)}
    names = state.endpoints
    if names is None:
        names = (*numbers, *(name for name, _ in _hosts(state)), HEALTH)
    return [
        Endpoint(name, numbers[name], ports.get(name, ()))
        if name in numbers
        else Endpoint(name, reserved[name])
        for name in names
        if name in numbers or name in reserved
    ]


def _hosts(state: ClusterState) -> list[tuple[str, Mapping[str, str]]]:
    """Host endpoints: one without name where there is one node at most, else one a node."""
    if len(state.nodes) > 1:
        return [(f"{HOST}/{name}", labels) for name, labels in state.nodes]
    return [(HOST, state.nodes[0][1] if state.nodes else {})]


def _named_ports(state: ClusterState) -> dict[str, set[tuple[int, int]]]:
    """Named ports of all pods: numbers and protocols of each name."""
    found: dict[str, set[tuple[int, int]]] = {}
    for pod in state.pods:
        for name, port, protocol in pod.ports:
            if name:
                number = PROTOCOLS.get(protocol.upper() or "TCP", 0)
                found.setdefault(name.lower(), set()).add((port, number))
    return found


def _groups(
    state: ClusterState, rules: Sequence[Rule], endpoints: Sequence[Endpoint], pods: Universe
) -> dict[Group, list[Endpoint]]:
    selected = _selected(state, rules, pods)
    of_host = _selected_hosts(state, rules)
    uses_ports = [
        any(port.name for t in rule.ingress for r in t.ports for port in r.ports) for rule in rules
    ]
    uses_namespace = [
        any(_is_of_namespace(r) for t in rule.egress for r in t.ports) for rule in rules
    ]
    groups: dict[Group, list[Endpoint]] = {}
    for endpoint in endpoints:
        is_host = endpoint.identity == HOST_ID
        mine = of_host.get(endpoint.name, ()) if is_host else selected.get(endpoint.identity, ())
        group = Group(
            tuple(mine),
            is_host,
            endpoint.name == INIT,
            endpoint.ports if any(uses_ports[n] for n in mine) else (),
            endpoint.name.partition("/")[0] if any(uses_namespace[n] for n in mine) else "",
        )
        groups.setdefault(group, []).append(endpoint)
    return groups


def _is_of_namespace(rule: PortRule) -> bool:
    """Tell whether a rule names a listener of the endpoint's own namespace."""
    listener = rule.treatment.listener if rule.treatment is not None else ""
    return listener.startswith(f"{ANY_NAMESPACE}/")


def _selected(state: ClusterState, rules: Sequence[Rule], pods: Universe) -> dict[int, list[int]]:
    """Rules that select each identity but the host's; none where policy is off."""
    found: dict[int, list[int]] = {}
    if state.options.policy_mode == "never":
        return found
    host = 1 << pods.bit_of[HOST_ID]
    cache: dict[Selector, list[int]] = {}
    for n, rule in enumerate(rules):
        if rule.is_node:
            continue
        numbers = cache.get(rule.subject)
        if numbers is None:
            bits = pods.select(rule.subject)
            bits = (pods.everyone if bits & ANYONE else bits) & ~host
            numbers = cache[rule.subject] = pods.numbers[bits_of(bits)].tolist()
        for number in numbers:
            found.setdefault(number, []).append(n)
    return found


def _selected_hosts(state: ClusterState, rules: Sequence[Rule]) -> dict[str, list[int]]:
    """Rules that select each node; none where the host firewall or policy is off."""
    if not state.options.host_firewall or state.options.policy_mode == "never":
        return {}
    found = {}
    for name, labels in _hosts(state):
        node = node_universe(labels)
        found[name] = [
            n for n, rule in enumerate(rules) if rule.is_node and node.select(rule.subject)
        ]
    return found


def _names(
    state: ClusterState, rules: Sequence[Rule], groups: Mapping[Group, object]
) -> list[NameSelector]:
    """DNS selectors in use: of rules that select a resolved endpoint."""
    used = {n for group in groups for n in group.rules}
    found = (name for n in sorted(used) for traffic in rules[n].egress for name in traffic.names)
    return list(dict.fromkeys(found))


def direction_of(cluster: Cluster, group: Group, *, is_ingress: bool) -> Direction:
    """Resolve one direction of a group; groups that do not differ in it share the result."""
    rules = [cluster.rules[n] for n in group.rules]
    has_traffic = [n for n, rule in zip(group.rules, rules, strict=True)
                   if (rule.ingress if is_ingress else rule.egress)]  # fmt: skip
    key = (is_ingress, tuple(has_traffic), group.is_host, group.is_init, group.namespace,
           group.ports if is_ingress else ())  # fmt: skip
    found = cluster.directions.get(key)
    if found is None:
        found = _direction(cluster, group, [cluster.rules[n] for n in has_traffic], is_ingress)
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
    insertions = [
        (one, insertion)
        for one in ordered
        for insertion in _insertions(cluster, group, one, is_ingress)
    ]
    state = _resolved(cluster, group, insertions, is_ingress)
    return Direction(True, state, insertions)


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


def _insertions(
    cluster: Cluster, group: Group, one: Filter, is_ingress: bool
) -> Iterable[auth.Treated]:
    number = _number(cluster, group, one, is_ingress)
    if number is None:
        return
    end = one.port.end if cluster.semantics.has_port_ranges else 0
    keys = tuple(Key(one.protocol, *masked) for masked in masked_ports(number, end))
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
        proxy = ""
        if source is not None and source.is_redirect and not is_deny:
            proxy = _proxy(cluster, group, one.parser, source.listener, is_ingress)
            if not proxy:
                continue
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
        own = sorted(cluster.named_ports.get(name, ()))
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
        (one.insertion for _, one in insertions), cluster.universe, has_companions=is_old
    )
    if lets_host:
        allow_localhost(state, cluster.host_bit, has_companions=is_old)
    return state
