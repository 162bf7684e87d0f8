"""Rules of policies after the agent has read them: peers, ports, and what they ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from capacity.cilium.policy.labels import Prefix
from capacity.cilium.policy.selectors import Expression, NameSelector, Selector

# IP protocol numbers by name; cilium/cilium pkg/u8proto/u8proto.go, b095517e625e
PROTOCOLS: Final = {"ANY": 0, "ICMP": 1, "TCP": 6, "UDP": 17, "ICMPV6": 58, "SCTP": 132}
PROTOCOL_NAMES: Final = {0: "ANY", 1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
_SERVICE_NAME: Final = re.compile(r"([a-zA-Z0-9]-?)*[a-zA-Z](-?[a-zA-Z0-9])*\Z")
_LONGEST_SERVICE_NAME: Final = 15


def is_port_name(text: str) -> bool:
    """Tell whether a port is a name (RFC 6335) and no number.

    Examples
    --------
    >>> is_port_name("http-alt"), is_port_name("8080")
    (True, False)
    """
    return len(text) <= _LONGEST_SERVICE_NAME and bool(_SERVICE_NAME.match(text))


class Origin(NamedTuple):
    """What makes an entry: a policy, and the place of a rule in it, as ``specs[1].egress[0]``."""

    policy: str
    place: str


@dataclass(frozen=True, slots=True)
class Treatment:
    """What a rule wants for its peers at a port beyond allowing them."""

    is_deny: bool = False
    is_redirect: bool = False
    listener: str = ""
    priority: int = 0
    auth: str | None = None
    has_l7: bool = False
    has_server_names: bool = False
    terminating_tls: str = ""
    originating_tls: str = ""


@dataclass(frozen=True, slots=True)
class Port:
    """One port, range or named port of one protocol, as the agent keys its filters."""

    protocol: str
    number: int = 0
    end: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class PortRule:
    """Ports that are treated alike. `parser` is the kind of proxy, empty for none."""

    ports: tuple[Port, ...] = ()
    parser: str = ""
    treatment: Treatment | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """One rule of one direction: who, at which ports.

    `peers` and `others` are None where an empty list was given: then the rule does nothing.
    Requirements of other rules are added to peers only. `place` is where it stands in its policy.
    """

    is_deny: bool = False
    peers: tuple[Selector, ...] | None = ()
    nodes: tuple[Selector, ...] | None = ()
    others: tuple[Selector, ...] | None = ()
    names: tuple[NameSelector, ...] = ()
    requires: tuple[Selector, ...] = ()
    ports: tuple[PortRule, ...] = ()
    icmps: tuple[PortRule, ...] = ()
    auth: str | None = None
    prefixes: tuple[Prefix, ...] = ()
    place: str = ""


# Compared and hashed as the object it is: a key of what rules come to together
@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule of a policy: subject, both directions, which of them deny by default."""

    policy: str
    subject: Selector
    is_node: bool
    ingress: tuple[Traffic, ...]
    egress: tuple[Traffic, ...]
    denies_ingress: bool
    denies_egress: bool
    namespace: str = ""


class Conflict(ValueError):
    """Rules of one port that Cilium cannot merge: the endpoint keeps its old policy."""


def selectors_of(traffic: Traffic, requirements: tuple[Expression, ...]) -> list[Selector] | None:
    """Give the peers of a rule with the requirements of all rules; None where it does nothing.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/api/ingress.go, GetSourceEndpointSelectorsWithRequirements.
    """
    if traffic.others is None or traffic.peers is None or traffic.nodes is None:
        return None
    if requirements and traffic.peers:
        peers = [Selector(one.labels, (*one.expressions, *requirements)) for one in traffic.peers]
    else:
        peers = [*traffic.peers, *traffic.nodes]
    return [*peers, *traffic.others]


def merge_parsers(one: str, other: str) -> str:
    """Give the proxy of a port that two rules want proxies for.

    Raises
    ------
    Conflict
        If neither proxy can do the work of the other.
    """
    if one == other:
        return one
    for low, high in ((one, other), (other, one)):
        if low == "" or (low == "tls" and high not in ("", "dns", "crd")):
            return high
    raise Conflict(f"cannot merge conflicting L7 parsers ({one}/{other})")


def merge(one: Treatment | None, other: Treatment | None) -> Treatment | None:
    """Give what two rules of the same peer and port come to.

    Raises
    ------
    Conflict
        If the agent cannot merge them.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/rule.go, mergePortProto, b095517e625e.
    """
    if one == other or (one is not None and one.is_deny):
        return one
    if other is not None and other.is_deny:
        return other
    one, other = one or Treatment(), other or Treatment()
    listener, priority = _merge_listeners(one, other)
    for what in ("auth", "terminating_tls", "originating_tls"):
        mine, theirs = getattr(one, what), getattr(other, what)
        if mine and theirs and mine != theirs:
            raise Conflict(f"cannot merge conflicting {what} ({mine}/{theirs})")
    merged = replace(
        one,
        is_redirect=one.is_redirect or other.is_redirect,
        listener=listener,
        priority=priority,
        auth=one.auth or other.auth,
        terminating_tls=one.terminating_tls or other.terminating_tls,
        originating_tls=one.originating_tls or other.originating_tls,
        has_server_names=one.has_server_names or other.has_server_names,
    )
    if merged.has_server_names and one.has_l7 and not merged.terminating_tls:
        raise Conflict("cannot merge L7 rules with SNI filtering without TLS termination")
    return replace(merged, has_l7=one.has_l7 or other.has_l7)


def _merge_listeners(one: Treatment, other: Treatment) -> tuple[str, int]:
    mine, theirs = (one.listener, one.priority), (other.listener, other.priority)
    if not other.listener or mine == theirs:
        return mine
    # No priority (0) is the lowest one: 0 - 1 is the largest unsigned number
    rank, other_rank = (one.priority - 1) % 65536, (other.priority - 1) % 65536
    if rank < other_rank:
        return mine
    if not one.listener or other_rank < rank:
        return theirs
    raise Conflict(f"cannot merge conflicting CiliumEnvoyConfig Listeners ({theirs}/{mine})")


def covers(wildcard: Treatment | None, one: Treatment | None) -> bool:
    """Tell whether a rule for everyone at a port makes one for some of them needless.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/l4.go, PerSelectorPolicy.covers, b095517e625e.
    """
    wildcard, one = wildcard or Treatment(), one or Treatment()
    if wildcard.is_deny or one.is_deny:
        return wildcard.is_deny
    if one.auth is not None and wildcard.auth != one.auth:
        return False
    if one.is_redirect:
        return wildcard.is_redirect and one.listener == wildcard.listener
    return True
