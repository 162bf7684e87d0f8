"""What the agent refuses in a Cilium policy, with its own words for the reason."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import polars as pl

from capacity.cilium.policy.cidrs import contains
from capacity.cilium.policy.labels import Prefix, parse_prefix
from capacity.cilium.policy.rules import is_port_name
from capacity.cilium.policy.selectors import Selector, faults
from capacity.cilium.policy.state import AgentOptions

# All of cilium/cilium pkg/policy/api/rule_validation.go, b095517e625e
_MOST_PORTS: Final = 40
_LAST_PORT: Final = 65535
_MOST_ICMP_FIELDS: Final = 40
_NAME: Final = re.compile(r"[-a-zA-Z0-9_.]+\Z")
_PATTERN: Final = re.compile(r"[-a-zA-Z0-9_.*]+\Z")
_INGRESS_MEMBERS: Final = (
    "fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities", "fromNodes", "fromGroups",
)  # fmt: skip
_EGRESS_MEMBERS: Final = (
    "toCIDR", "toCIDRSet", "toEndpoints", "toEntities", "toServices", "toFQDNs", "toGroups",
    "toNodes",
)  # fmt: skip
ENTITIES: Final = (
    "all", "world", "world-ipv4", "world-ipv6", "cluster", "host", "init", "ingress", "unmanaged",
    "remote-node", "health", "none", "kube-apiserver",
)  # fmt: skip


class Refused(ValueError):
    """A policy that the agent does not take."""


def check_selector(selector: Selector) -> None:
    """Refuse a selector that Kubernetes' validation refuses.

    Raises
    ------
    Refused
        With all its faults.
    """
    found = faults(selector)
    if found:
        told = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
        raise Refused(f"invalid label selector: {told}")


def check_rule(
    rule: Mapping[str, Any], options: AgentOptions, *, is_ingress: bool, is_node: bool
) -> None:
    """Refuse combinations of members that one rule cannot have.

    `rule` has its CIDR groups and services replaced already.

    Raises
    ------
    Refused
        With the agent's reason.
    """
    members = _INGRESS_MEMBERS if is_ingress else _EGRESS_MEMBERS
    given = [name for name in members if _given(rule, name)]
    counts = _l7_counts(rule.get("toPorts") or [])
    if is_ingress and is_node and counts:
        raise Refused("L7 policy is not supported on host ingress yet")
    if len(given) > 1:
        one, other = (name[0].upper() + name[1:] for name in given[:2])
        raise Refused(f"Combining {one} and {other} is not supported yet")
    if "toServices" in given and rule.get("toPorts"):
        raise Refused("Combining ToServices and ToPorts is not supported yet")
    if counts and not options.l7_proxy:
        raise Refused("L7 policy is not supported since L7 proxy is not enabled")
    _check_l7_support(counts, is_ingress=is_ingress, is_node=is_node)
    if rule.get("icmps"):
        if not options.icmp_rules:
            raise Refused('ICMP rules can only be applied when the "enable-icmp-rules" flag is set')
        if rule.get("toPorts"):
            raise Refused(
                "The ICMPs block may only be present without ToPorts. "
                "Define a separate rule to use ToPorts."
            )


def _given(rule: Mapping[str, Any], name: str) -> bool:
    told = rule.get(name) or []
    if name == "toCIDRSet":
        return any(not (isinstance(one, Mapping) and one.get("generated")) for one in told)
    return bool(told)


def _l7_counts(port_rules: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rule in port_rules:
        rules = rule.get("rules") or {}
        if not is_l7_empty(rules):
            for name, key in (("DNS", "dns"), ("HTTP", "http"), ("Kafka", "kafka")):
                counts[name] = counts.get(name, 0) + len(rules.get(key) or [])
    return counts


def is_l7_empty(rules: Mapping[str, Any] | None) -> bool:
    """Tell whether there is no L7 rule; one that matches everything is one."""
    return not any((rules or {}).get(key) for key in ("http", "kafka", "dns", "l7"))


def _check_l7_support(counts: Mapping[str, int], *, is_ingress: bool, is_node: bool) -> None:
    for name in ("DNS", "HTTP", "Kafka"):
        if not counts.get(name):
            continue
        if is_ingress and name == "DNS":
            raise Refused(f"L7 protocol {name} is not supported on ingress yet")
        if not is_ingress and is_node and name != "DNS":
            raise Refused(f"L7 protocol {name} is not supported on host egress yet")


def check_nodes(rule: Mapping[str, Any], options: AgentOptions) -> None:
    """Refuse peers that are nodes where the agent is not told to label nodes.

    Raises
    ------
    Refused
        With the agent's reason.
    """
    if (rule.get("fromNodes") or rule.get("toNodes")) and not options.node_selector_labels:
        raise Refused(
            "FromNodes/ToNodes rules can only be applied when the "
            '"enable-node-selector-labels" flag is set'
        )


def check_port_rule(rule: Mapping[str, Any], *, is_ingress: bool) -> None:
    """Refuse ports, L7 rules and listeners that do not go together.

    Raises
    ------
    Refused
        With the agent's reason.
    """
    rules = rule.get("rules") or {}
    has_dns, is_empty = bool(rules.get("dns")), is_l7_empty(rules)
    if is_ingress and has_dns:
        raise Refused("DNS rules are not allowed on ingress")
    names = rule.get("serverNames") or []
    if names and not is_empty and rule.get("terminatingTLS") is None:
        raise Refused("ServerNames are not allowed with L7 rules without TLS termination")
    if "" in names:
        raise Refused("Empty server name is not allowed")
    ports = rule.get("ports") or []
    if len(ports) > _MOST_PORTS:
        raise Refused(f"too many ports, the max is {_MOST_PORTS}")
    is_zero = False
    for port in ports:
        is_zero |= _check_port(port, has_dns=has_dns)
        protocol = str(port.get("protocol") or "ANY").upper()
        if not is_empty and not has_dns and protocol != "TCP":
            raise Refused(f"L7 rules can only apply to TCP (not {protocol}) except for DNS rules")
    listener = rule.get("listener")
    if listener is not None:
        if is_ingress:
            raise Refused(f"Listener is not allowed on ingress ({listener.get('name', '')})")
        if not is_empty:
            raise Refused(f"Listener is not allowed with L7 rules ({listener.get('name', '')})")
    if not is_empty:
        if is_zero:
            raise Refused("L7 rules can not be used when a port is 0")
        _check_l7(rules, ports)


def _check_port(port: Mapping[str, Any], *, has_dns: bool) -> bool:
    text = port.get("port") or ""
    if not isinstance(text, str):
        raise TypeError(f"ports[].port is {text!r}, wanted text: write it in quotes")
    if not text:
        raise Refused("Port must be specified")
    number = None
    if not is_port_name(text):
        number = port_number(text)
        if has_dns and (port.get("endPort") or 0) > number:
            raise Refused("DNS rules do not support port ranges")
    protocol = str(port.get("protocol") or "").upper()
    if protocol not in ("", "ANY", "TCP", "UDP", "SCTP"):
        raise Refused(f'invalid protocol "{protocol}", must be {{ tcp | udp | sctp | any }}')
    return number == 0


def port_number(text: str) -> int:
    """Read a port number, decimal, hexadecimal, octal or binary as Go's ParseUint.

    Raises
    ------
    Refused
        If it is no number from 0 to 65535.
    """
    try:
        number = int(text, 8 if re.fullmatch(r"0[0-7]+", text) else 0)
    except ValueError:
        number = -1
    if number < 0 or text[:1] in "+-" or text != text.strip():
        raise Refused(f'Unable to parse port: strconv.ParseUint: parsing "{text}": invalid syntax')
    if number > _LAST_PORT:
        raise Refused(
            f'Unable to parse port: strconv.ParseUint: parsing "{text}": value out of range'
        )
    return number


def _check_l7(rules: Mapping[str, Any], ports: Sequence[Any]) -> None:
    kinds = 0
    for key in ("http", "kafka", "dns"):
        kinds += rules.get(key) is not None
    for one in rules.get("http") or []:
        _check_http(one or {})
    if rules.get("dns") is not None and not ports:
        raise Refused("Port 53 must be specified for DNS rules")
    for one in rules.get("dns") or []:
        check_name(one, is_rule=True)
    if rules.get("l7") is not None and not rules.get("l7proto"):
        raise Refused("'l7' may only be specified when a 'l7proto' is also specified")
    if rules.get("l7proto"):
        kinds += 1
        if any("" in (one or {}) for one in rules.get("l7") or []):
            raise Refused("Empty key not allowed")
    if kinds > 1:
        raise Refused("multiple L7 protocol rule types specified in single rule")


@lru_cache(maxsize=4096)
def _is_pattern(text: str) -> bool:
    """Tell whether Go takes a regular expression: as polars' engine, it looks not around."""
    try:
        pl.Series([""]).str.contains(text)
    except pl.exceptions.ComputeError:
        return False
    return True


def _check_http(rule: Mapping[str, Any]) -> None:
    for key in ("path", "method"):
        if not _is_pattern(str(rule.get(key) or "")):
            raise Refused(f"error parsing regexp: `{rule[key]}`")
    for match in rule.get("headerMatches") or []:
        if not match.get("name"):
            raise Refused("Header name missing")
        if match.get("mismatch") not in (None, "", "LOG", "ADD", "DELETE", "REPLACE"):
            raise Refused(f"Invalid header action: {match['mismatch']}")
        if match.get("secret") is not None and not match["secret"].get("name"):
            raise Refused("Secret name missing")


def check_name(told: Mapping[str, Any], *, is_rule: bool = False) -> None:
    """Refuse a DNS name or pattern with characters that names do not have.

    Raises
    ------
    Refused
        With the agent's reason.
    """
    name, pattern = told.get("matchName") or "", told.get("matchPattern") or ""
    if name and pattern and not is_rule:
        raise Refused("only one of MatchName or MatchPattern is allowed in an FQDNSelector")
    if name and not _NAME.match(name):
        raise Refused(
            f'Invalid characters in MatchName: "{name}". '
            "Only 0-9, a-z, A-Z and . and - characters are allowed"
        )
    if pattern and not _PATTERN.match(pattern):
        raise Refused(
            f'Invalid characters in MatchPattern: "{pattern}". '
            "Only 0-9, a-z, A-Z and ., - and * characters are allowed"
        )


def check_icmp(rule: Mapping[str, Any]) -> None:
    """Refuse too many types, or a family that is none.

    Raises
    ------
    Refused
        With the agent's reason.
    """
    fields = rule.get("fields") or []
    if len(fields) > _MOST_ICMP_FIELDS:
        raise Refused(f"too many types, the max is {_MOST_ICMP_FIELDS}")
    for one in fields:
        if one.get("family") not in (None, "", "IPv4", "IPv6"):
            raise Refused(f"wrong family: {one['family']}")


def check_cidr(text: Any) -> Prefix:
    """Read a CIDR or address of fromCIDR or toCIDR.

    Raises
    ------
    Refused
        If it is none.
    """
    if not text:
        raise Refused("IP must be specified")
    try:
        return parse_prefix(str(text))
    except ValueError as wrong:
        raise Refused(f"unable to parse CIDR: {wrong}") from None


def check_cidr_rule(cidr: str, excepts: Sequence[str]) -> tuple[Prefix, list[Prefix]]:
    """Read a CIDR with what is excepted of it.

    Raises
    ------
    Refused
        If one is no prefix, or an except is not within.
    """
    try:
        prefix = parse_prefix(cidr, is_bare_allowed=False)
    except ValueError as wrong:
        raise Refused(f'Unable to parse CIDRRule "{cidr}": {wrong}') from None
    holes = []
    for text in excepts:
        try:
            hole = parse_prefix(str(text), is_bare_allowed=False)
        except ValueError as wrong:
            raise Refused(f'netip.ParsePrefix("{text}"): {wrong}') from None
        # Cilium asks for the address of the except only, not for all of it
        address = Prefix(hole.version, hole.address, hole.width)
        if not contains(prefix, address):
            raise Refused(f"allow CIDR prefix {cidr} does not contain exclude CIDR prefix {text}")
        holes.append(hole)
    return prefix, holes
