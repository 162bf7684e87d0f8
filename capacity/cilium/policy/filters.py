"""L4 filters: what the rules that select an endpoint come to, port by port, peer by peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from capacity.cilium.policy.checks import Refused, is_l7_empty, port_number
from capacity.cilium.policy.rules import (
    PROTOCOLS,
    Origin,
    Port,
    PortRule,
    Rule,
    Traffic,
    Treatment,
    is_port_name,
    merge,
    merge_parsers,
    selectors_of,
)  # fmt: skip
from capacity.cilium.policy.selectors import (
    HOST,
    NONE,
    WILDCARD,
    Expression,
    NameSelector,
    Selector,
    requirements,
)  # fmt: skip

Peer = Selector | NameSelector
ANY_NAMESPACE: Final = "*"
_EVERY_PORT: Final = PortRule((Port("ANY"),))
# Protocol ANY of a rule; cilium/cilium pkg/policy/rule.go, mergeIngress, b095517e625e
_ANY_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
# cilium/cilium pkg/policy/api/icmp.go, b095517e625e
_ICMP4: Final = {
    "EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8,
    "RouterAdvertisement": 9, "RouterSelection": 10, "TimeExceeded": 11, "ParameterProblem": 12,
    "Timestamp": 13, "TimestampReply": 14, "Photuris": 40, "ExtendedEchoRequest": 42,
    "ExtendedEchoReply": 43,
}  # fmt: skip
_ICMP6: Final = {
    "DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4,
    "EchoRequest": 128, "EchoReply": 129, "MulticastListenerQuery": 130,
    "MulticastListenerReport": 131, "MulticastListenerDone": 132, "RouterSolicitation": 133,
    "RouterAdvertisement": 134, "NeighborSolicitation": 135, "NeighborAdvertisement": 136,
    "RedirectMessage": 137, "RouterRenumbering": 138, "ICMPNodeInformationQuery": 139,
    "ICMPNodeInformationResponse": 140, "InverseNeighborDiscoverySolicitation": 141,
    "InverseNeighborDiscoveryAdvertisement": 142, "HomeAgentAddressDiscoveryRequest": 144,
    "HomeAgentAddressDiscoveryReply": 145, "MobilePrefixSolicitation": 146,
    "MobilePrefixAdvertisement": 147, "DuplicateAddressRequestCodeSuffix": 157,
    "DuplicateAddressConfirmationCodeSuffix": 158, "ExtendedEchoRequest": 160,
    "ExtendedEchoReply": 161,
}  # fmt: skip


@dataclass(slots=True)
class Filter:
    """All that rules say about one port: a treatment for each peer, and who said it."""

    port: Port
    protocol: int
    parser: str = ""
    peers: dict[Peer, Treatment | None] = field(default_factory=dict)
    origins: dict[Peer, set[Origin]] = field(default_factory=dict)

    @property
    def has_wildcard(self) -> bool:
        """Whether a peer is everyone."""
        return WILDCARD in self.peers


def port_rule(told: Mapping[str, Any], namespace: str, *, is_deny: bool) -> PortRule:
    """Read one entry of toPorts that was checked already."""
    ports = tuple(_port(one, is_deny=is_deny) for one in told.get("ports") or [])
    if is_deny:
        return PortRule(ports)
    rules = told.get("rules") or {}
    listener = told.get("listener")
    tls = [str(told[key]) if told.get(key) else "" for key in ("terminatingTLS", "originatingTLS")]
    names = bool(told.get("serverNames"))
    parser, name = "tls" if any(tls) or names else "", ""
    parser = _l7_parser(rules) or parser
    if listener is not None:
        parser = "crd"
        name = _listener(listener, namespace or ANY_NAMESPACE)
    treatment = Treatment(
        is_redirect=bool(name or any(tls) or names or not is_l7_empty(rules)),
        listener=name,
        priority=_whole(listener or {}, "priority"),
        has_l7=not is_l7_empty(rules),
        has_server_names=names,
        terminating_tls=tls[0],
        originating_tls=tls[1],
    )
    return PortRule(ports, parser, treatment if parser else None)


def _l7_parser(rules: Mapping[str, Any]) -> str:
    for key in ("dns", "http", "kafka"):
        if rules.get(key):
            return key
    return str(rules.get("l7proto") or "")


def _listener(told: Mapping[str, Any], namespace: str) -> str:
    """Qualified name of a listener; * stands for the namespace of the endpoint."""
    config, name = told.get("envoyConfig") or {}, str(told.get("name") or "")
    if config.get("kind") == "CiliumClusterwideEnvoyConfig":
        namespace = ""
    head, slash, _ = name.partition("/")
    if not name or (slash and head == namespace):
        return name
    return f"{namespace}/{config.get('name', '')}/{name}"


def _port(told: Mapping[str, Any], *, is_deny: bool) -> Port:
    text, end = str(told.get("port") or ""), _whole(told, "endPort") % 65536
    protocol = str(told.get("protocol") or "")
    protocol = protocol if is_deny else protocol.upper()
    if is_port_name(text):
        return Port(protocol or "ANY", 0, end, text if is_deny else text.lower())
    try:
        return Port(protocol or "ANY", port_number(text), end)
    except Refused:
        # Denials are not checked: what is no number is 0 there
        return Port(protocol or "ANY", 0, end)


def _whole(told: Mapping[str, Any], key: str) -> int:
    value = told.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{key} is {value!r}, wanted a whole number")
    return value or 0


def icmp_rule(told: Mapping[str, Any]) -> PortRule:
    """Read one entry of icmps.

    Raises
    ------
    TypeError
        If a type is no number and no known name.
    """
    ports = []
    for one in told.get("fields") or []:
        is_6 = one.get("family") == "IPv6"
        kind = str(one.get("type", ""))
        code = (_ICMP6 if is_6 else _ICMP4).get(kind)
        if code is None and not kind.isdecimal():
            raise TypeError(f"ICMP type {kind} not found in {one.get('family', '')}")
        ports.append(Port("ICMPV6" if is_6 else "ICMP", int(kind) if code is None else code))
    return PortRule(tuple(ports))


def filters_of(
    rules: Sequence[Rule], *, is_ingress: bool, hosts: Callable[[Peer], bool] | None
) -> dict[tuple[str, int, int], Filter]:
    """Merge the rules that select an endpoint into filters of one direction.

    Parameters
    ----------
    rules
        Rules that select the endpoint.
    is_ingress
        Direction.
    hosts
        Tells of a peer whether it selects the local host; None where localhost is not allowed
        always.

    Returns
    -------
    dict
        Filter of (port or its name, end, protocol).

    Raises
    ------
    Conflict
        If the agent cannot merge two of the rules.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/rule.go and l4.go, b095517e625e.
    """
    needs = _requirements(rules, is_ingress=is_ingress)
    found: dict[tuple[str, int, int], Filter] = {}
    for rule in rules:
        for traffic in rule.ingress if is_ingress else rule.egress:
            peers = selectors_of(traffic, needs[traffic.is_deny])
            if peers is None:
                continue
            origin = Origin(rule.policy, traffic.place)
            for one in _filters(traffic, peers):
                if is_ingress and hosts is not None:
                    _allow_host(one, hosts)
                one.origins = {peer: {origin} for peer in one.peers}
                # The agent keeps named ports by name alone: the first rule's end is that of all
                end = 0 if one.port.name else one.port.end
                key = (one.port.name or str(one.port.number), end, one.protocol)
                found[key] = _merged(found[key], one) if key in found else one
    return found


def _requirements(
    rules: Sequence[Rule], *, is_ingress: bool
) -> tuple[tuple[Expression, ...], tuple[Expression, ...]]:
    """Give what rules require: those that allow, and those that deny."""
    found: tuple[list[Expression], list[Expression]] = ([], [])
    for rule in rules:
        for traffic in rule.ingress if is_ingress else rule.egress:
            for one in traffic.requires:
                found[traffic.is_deny].extend(requirements(one))
    return tuple(found[0]), tuple(found[1])


def _filters(traffic: Traffic, peers: list[Selector]) -> Iterable[Filter]:
    if not traffic.ports and not traffic.icmps:
        if peers:
            yield _filter(traffic, peers, _EVERY_PORT, Port("ANY"), "ANY")
        return
    peers = peers or [WILDCARD]
    for rule in (*traffic.ports, *traffic.icmps):
        for port in rule.ports:
            for protocol in _ANY_PROTOCOLS if port.protocol == "ANY" else (port.protocol,):
                yield _filter(traffic, peers, rule, port, protocol)


def _filter(
    traffic: Traffic, peers: list[Selector], rule: PortRule, port: Port, protocol: str
) -> Filter:
    treatment, parser = rule.treatment, rule.parser
    if parser and protocol != "TCP" and parser not in ("dns", "crd", "tls"):
        parser = ""
    if traffic.is_deny:
        treatment, parser = Treatment(is_deny=True), ""
    elif traffic.auth is not None:
        treatment = replace(treatment or Treatment(), auth=traffic.auth)
    elif not parser:
        treatment = None
    is_everyone = any(peer.is_wildcard for peer in peers)
    chosen: list[Peer] = [WILDCARD] if is_everyone else [*peers, *traffic.names]
    return Filter(
        port, PROTOCOLS.get(protocol.upper(), 0), parser, dict.fromkeys(chosen, treatment)
    )


def _allow_host(one: Filter, hosts: Callable[[Peer], bool]) -> None:
    """Let the local host past proxies, where localhost is always allowed."""
    for peer, treatment in list(one.peers.items()):
        if treatment is not None and treatment.is_redirect and hosts(peer):
            one.peers.setdefault(HOST, None)


def _merged(one: Filter, other: Filter) -> Filter:
    one.parser = merge_parsers(one.parser, other.parser)
    for peer, treatment in other.peers.items():
        if peer not in one.peers:
            one.peers[peer] = treatment
        elif peer != NONE:
            one.peers[peer] = merge(one.peers[peer], treatment)
        one.origins.setdefault(peer, set()).update(other.origins[peer])
    return one
