"""CIDRs of rules: except expanded, groups and services replaced, selectors made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from capacity.cilium.policy.labels import CIDR, RESERVED, Prefix, cidr_key
from capacity.cilium.policy.selectors import (
    EXISTS,
    NOT_EXISTS,
    Selector,
    of_prefix_key,
    reserved,
    with_expressions,
)  # fmt: skip


def without(prefix: Prefix, excepts: Sequence[Prefix]) -> list[Prefix]:
    """Cover a prefix but for others with as few prefixes as there can be.

    Excepts outside the prefix are left out.

    References
    ----------
    .. [1] cilium/cilium pkg/ip/ip.go, RemoveCIDRs, b095517e625e.

    Examples
    --------
    >>> from capacity.cilium.policy.labels import parse_prefix as p
    >>> [str(one) for one in without(p("10.0.0.0/8"), [p("10.0.0.0/10")])]
    ['10.128.0.0/9', '10.64.0.0/10']
    """
    kept = [prefix]
    for hole in sorted(set(excepts), key=lambda one: (one.length, one)):
        kept = [part for one in kept for part in _minus(one, hole)]
    return kept


def contains(outer: Prefix, inner: Prefix) -> bool:
    """Tell whether a prefix is, or is within, another one."""
    return (
        outer.version == inner.version
        and outer.length <= inner.length
        and (outer.address ^ inner.address) >> (outer.width - outer.length) == 0
    )


def _minus(prefix: Prefix, hole: Prefix) -> Iterable[Prefix]:
    if contains(hole, prefix):
        return
    if not contains(prefix, hole):
        yield prefix
        return
    for length in range(prefix.length + 1, hole.length + 1):
        # The neighbor of the hole at each length: its last bit flipped
        shift = prefix.width - length
        yield Prefix(prefix.version, ((hole.address >> shift) ^ 1) << shift, length)


def selectors(prefixes: Sequence[Prefix], *, ipv4: bool, ipv6: bool) -> list[Selector]:
    """Select prefixes and all narrower ones; a prefix of everything also selects the world.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/api/cidr.go, GetAsEndpointSelectors, b095517e625e.
    """
    found = [of_prefix_key(cidr_key(prefix)) for prefix in prefixes]
    all4, all6 = (Prefix(4, 0, 0) in prefixes), (Prefix(6, 0, 0) in prefixes)
    if ipv4 and ipv6:
        found += [reserved("world")] * (all4 and all6)
        found += [reserved("world-ipv4")] * all4 + [reserved("world-ipv6")] * all6
    elif (ipv4 and all4) or (not ipv4 and ipv6 and all6):
        found.append(reserved("world"))
    return found


def carved(selector: Selector, holes: Sequence[Prefix]) -> Selector:
    """Select what a selector does but for what lies in some prefixes.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/api/cidr.go, CIDRRuleSlice.GetAsEndpointSelectors,
       1c13836613ad (1.18.0-dev).
    """
    return with_expressions(
        selector, [(f"{CIDR}.{cidr_key(hole)}", NOT_EXISTS, ()) for hole in holes]
    )


def selector(prefix: Prefix, *, is_dual: bool) -> Selector:
    """Select a prefix of a CIDR rule and all narrower ones; the world for all addresses."""
    if prefix.length:
        return Selector(expressions=((f"{CIDR}.{cidr_key(prefix)}", EXISTS, ()),))
    world = f"world-ipv{prefix.version}" if is_dual else "world"
    return Selector(expressions=((f"{RESERVED}.{world}", EXISTS, ()),))
