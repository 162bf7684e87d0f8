"""Endpoints of a cluster, grouped by the rules that select them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from capacity.cilium.policy.allocation import HOST_ID, Identity, cluster_identities
from capacity.cilium.policy.filters import ANY_NAMESPACE
from capacity.cilium.policy.mapstate import ANYONE
from capacity.cilium.policy.rules import PROTOCOLS, PortRule, Rule, is_port_name
from capacity.cilium.policy.selectors import Selector
from capacity.cilium.policy.state import ClusterState, Pod
from capacity.cilium.policy.universe import Universe, bits_of, node_universe, universe

HOST: Final = "reserved:host"
HEALTH: Final = "reserved:health"
INIT: Final = "reserved:init"
# Reserved endpoints and the labels that make them; a node has the first two
_RESERVED_ENDPOINTS: Final = {HOST: 1, HEALTH: 4, INIT: 5, "reserved:ingress": 8}


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


@dataclass(frozen=True, slots=True)
class Population:
    """What does not depend on policies: pods with their identities, endpoints, named ports."""

    identities: list[Identity]
    universe: Universe
    endpoints: list[Endpoint]
    named_ports: dict[str, set[tuple[int, int]]]


def population(state: ClusterState) -> Population:
    """Give the pods their identities, and list the endpoints to resolve."""
    numbers, identities = cluster_identities(state)
    endpoints = _endpoints(state, numbers)
    return Population(identities, universe(identities), endpoints, _named_ports(state))


def _endpoints(state: ClusterState, numbers: Mapping[str, int]) -> list[Endpoint]:
    ports = {
        pod.endpoint: tuple((name, *number) for name, number in _own_ports(pod).items())
        for pod in state.pods
        if pod.ports
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
        for name, (port, protocol) in _own_ports(pod).items():
            number = PROTOCOLS.get(protocol.upper() or "TCP", 0)
            found.setdefault(name, set()).add((port, number))
    return found


def _own_ports(pod: Pod) -> dict[str, tuple[int, str]]:
    """Give the ports of a pod by name: of two of one name, as of two containers, the last.

    References
    ----------
    .. [1] cilium/cilium pkg/types/portmap.go, NamedPortMap.AddPort, b095517e625e.
    """
    return {
        name.lower(): (port, protocol) for name, port, protocol in pod.ports if is_port_name(name)
    }


def groups_of(
    state: ClusterState, rules: Sequence[Rule], population: Population
) -> dict[Group, list[Endpoint]]:
    """Group the endpoints by the rules that select them."""
    selected = _selected(state, rules, population.universe)
    of_host = _selected_hosts(state, rules)
    uses_ports = [
        any(port.name for t in rule.ingress for r in t.ports for port in r.ports) for rule in rules
    ]
    uses_namespace = [
        any(_is_of_namespace(r) for t in rule.egress for r in t.ports) for rule in rules
    ]
    # Once an identity, not once a pod
    needs = {
        mine: (any(uses_ports[n] for n in mine), any(uses_namespace[n] for n in mine))
        for mine in {*selected.values(), *of_host.values(), ()}
    }
    groups: dict[Group, list[Endpoint]] = {}
    for endpoint in population.endpoints:
        is_host = endpoint.identity == HOST_ID
        mine = of_host.get(endpoint.name, ()) if is_host else selected.get(endpoint.identity, ())
        with_ports, with_namespace = needs[mine]
        group = Group(
            mine,
            is_host,
            endpoint.name == INIT,
            endpoint.ports if with_ports else (),
            endpoint.name.partition("/")[0] if with_namespace else "",
        )
        groups.setdefault(group, []).append(endpoint)
    return groups


def _is_of_namespace(rule: PortRule) -> bool:
    """Tell whether a rule names a listener of the endpoint's own namespace."""
    listener = rule.treatment.listener if rule.treatment is not None else ""
    return listener.startswith(f"{ANY_NAMESPACE}/")


def _selected(
    state: ClusterState, rules: Sequence[Rule], pods: Universe
) -> dict[int, tuple[int, ...]]:
    """Rules that select each identity but the host's; none where policy is off."""
    found: dict[int, list[int]] = {}
    if state.options.policy_mode == "never":
        return {}
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
    return {number: tuple(mine) for number, mine in found.items()}


def _selected_hosts(state: ClusterState, rules: Sequence[Rule]) -> dict[str, tuple[int, ...]]:
    """Rules that select each node; none where the host firewall or policy is off."""
    if not state.options.host_firewall or state.options.policy_mode == "never":
        return {}
    found = {}
    for name, labels in _hosts(state):
        node = node_universe(labels)
        found[name] = tuple(
            n for n, rule in enumerate(rules) if rule.is_node and node.select(rule.subject)
        )
    return found
