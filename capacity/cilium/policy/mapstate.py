"""Policy-map entries of one direction as sets of identities for each port, without auth rules.

`Key` is protocol, port, ones in the port mask. A set is a number of bits: see universe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from capacity.cilium.policy.universe import Universe


class Key(NamedTuple):
    """Protocol and port prefix of an entry; protocol 0 is any."""

    protocol: int
    port: int
    bits: int

    def is_broader(self, other: Key) -> bool:
        """Tell whether it holds another key and more."""
        return self != other and self.holds(other)

    def holds(self, other: Key) -> bool:
        """Tell whether it is, or holds, another key."""
        if self.protocol == 0:
            return True
        return (
            self.protocol == other.protocol
            and self.bits <= other.bits
            and (self.port ^ other.port) >> (16 - self.bits) == 0
        )

    @property
    def prefix_length(self) -> int:
        """Length of the key in the kernel's longest-prefix-match map, in bits."""
        # 40 bits are direction and identity, 8 the protocol; cilium/cilium bpf/lib/common.h
        return 40 if self.protocol == 0 else 48 + self.bits


class Proxy(NamedTuple):
    """A proxy: of two for one entry, the first in this order.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/mapstate.go, MapStateEntry.Merge and NewMapStateEntry,
       b095517e625e.
    """

    priority: int
    name: str


K = TypeVar("K")
EVERY_PORT: Final = Key(0, 0, 0)
ANYONE: Final = 1


@dataclass(slots=True)
class MapState:
    """Entries of one direction: who is allowed, denied, and sent through which proxy."""

    allows: dict[Key, int] = field(default_factory=dict)
    denies: dict[Key, int] = field(default_factory=dict)
    redirects: dict[Key, dict[Proxy, int]] = field(default_factory=dict)
    auths: dict[Key, dict[str, int]] = field(default_factory=dict)

    def copy(self) -> MapState:
        """Give a state that can be changed alone."""
        return MapState(
            dict(self.allows),
            dict(self.denies),
            {key: dict(proxies) for key, proxies in self.redirects.items()},
            {key: dict(auths) for key, auths in self.auths.items()},
        )

    def count(self) -> tuple[int, int, int]:
        """Entries that allow without a proxy, that deny, and that allow through a proxy."""
        allowed = sum(bits.bit_count() for bits in self.allows.values())
        denied = sum(bits.bit_count() for bits in self.denies.values())
        redirected = 0
        for key, proxies in self.redirects.items():
            through = 0
            for bits in proxies.values():
                through |= bits
            redirected += (through & self.allows.get(key, 0)).bit_count()
        return allowed - redirected, denied, redirected


@dataclass(frozen=True, slots=True)
class Insertion:
    """Identities that one rule of a filter allows or denies at some keys."""

    keys: tuple[Key, ...]
    bits: int
    is_deny: bool
    proxy: Proxy | None = None


def insert_all(
    insertions: Iterable[Insertion],
    universe: Universe,
    *,
    has_companions: bool,
    has_precedence: bool = False,
) -> MapState:
    """Resolve insertions of a direction into entries.

    Parameters
    ----------
    insertions
        In the agent's order: broad ports before narrow ones.
    universe
        Identities of the bits.
    has_companions
        Whether denials and allowances copy each other's ports, as before Cilium 1.17.
    has_precedence
        Whether a redirect leaves out allowances without one that it covers, as since 1.17.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/mapstate.go, denyPreferredInsertWithChanges, b095517e625e.
    .. [2] cilium/cilium pull request 35449 for the later rule.
    """
    state = _inserted(list(insertions), universe, has_companions=has_companions)
    if has_precedence:
        _leave_out_covered(state)
    return state


def _inserted(ordered: list[Insertion], universe: Universe, *, has_companions: bool) -> MapState:
    state = MapState()
    if not any(one.is_deny for one in ordered):
        for one in ordered:
            for key in one.keys:
                _allow(state, key, one.bits, one.proxy)
        return state
    if not has_companions:
        return _without_companions(ordered, state)
    for one in ordered:
        for key in one.keys:
            if one.is_deny:
                _insert_deny(state, key, one.bits, universe)
            else:
                _insert_allow(state, key, one.bits, one.proxy, universe)
    return state


def _allow(state: MapState, key: Key, bits: int, proxy: Proxy | None) -> None:
    bits &= ~state.denies.get(key, 0)
    if not bits:
        return
    state.allows[key] = state.allows.get(key, 0) | bits
    if proxy:
        proxies = state.redirects.setdefault(key, {})
        proxies[proxy] = proxies.get(proxy, 0) | bits


def _deny(state: MapState, key: Key, bits: int) -> None:
    if bits:
        state.denies[key] = state.denies.get(key, 0) | bits
        _take(state.allows, key, bits)


def _take(entries: dict[Key, int], key: Key, bits: int) -> None:
    left = entries.get(key, 0) & ~bits
    if left:
        entries[key] = left
    else:
        entries.pop(key, None)


def _without_companions(ordered: list[Insertion], state: MapState) -> MapState:
    """Leave out what a denial of the same identity, or of anyone, covers: order does not matter."""
    denied: dict[Key, int] = {}
    for one in ordered:
        for key in one.keys:
            if one.is_deny:
                denied[key] = denied.get(key, 0) | one.bits
    for key, bits in denied.items():
        broader = _union(denied, (other for other in denied if other.is_broader(key)))
        if not broader & ANYONE:
            bits = ANYONE if bits & ANYONE else bits
            _deny(state, key, bits & ~broader)
    for one in ordered:
        if one.is_deny:
            continue
        for key in one.keys:
            covered = _union(denied, (other for other in denied if other.holds(key)))
            if not covered & ANYONE:
                _allow(state, key, one.bits & ~covered, one.proxy)
    return state


def _leave_out_covered(state: MapState) -> None:
    """Leave out what is allowed past proxies where a redirect of the same peer, or of anyone, is.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/mapstate.go, insertWithChanges, as vendored by cilium/cilium-cli
       43f930e14 (main of 2024-12-06): each redirect goes before what has none.
    """
    through = {
        key: state.allows.get(key, 0) & _union(proxies, proxies)
        for key, proxies in state.redirects.items()
    }
    for key in list(state.allows) if through else ():
        covered = _union(through, (other for other in through if other.holds(key)))
        own = through.get(key, 0)
        left = own if covered & ANYONE else state.allows[key] & ~covered | own
        _take(state.allows, key, ~left)


def _union(entries: Mapping[K, int], keys: Iterable[K]) -> int:
    found = 0
    for key in keys:
        found |= entries[key]
    return found


def _insert_deny(state: MapState, key: Key, bits: int, universe: Universe) -> None:
    covering = _union(state.denies, (k for k in state.denies if k.holds(key)))
    if covering & ANYONE:
        return
    bits &= ~covering
    if not bits:
        return
    if bits & ANYONE:
        _insert_deny_of_anyone(state, key)
        return
    below = universe.narrower(bits)
    updates: list[tuple[Key, int]] = []
    for other, allowed in list(state.allows.items()):
        if other.is_broader(key):
            updates.append((key, allowed & below))
        if key.holds(other):
            updates.append((other, allowed & below & ~bits))
            _take(state.allows, other, bits)
        if key.is_broader(other):
            above = bits if allowed & ANYONE else bits & universe.narrower(allowed & ~bits)
            updates.append((other, above))
    for other in list(state.denies):
        if key.is_broader(other):
            _take(state.denies, other, bits)
    for other, found in updates:
        _deny(state, other, found)
    _deny(state, key, bits)


def _insert_deny_of_anyone(state: MapState, key: Key) -> None:
    copies = 0
    for other, allowed in list(state.allows.items()):
        if other.is_broader(key):
            copies |= allowed & ~ANYONE
        if key.holds(other):
            del state.allows[other]
    for other in list(state.denies):
        if key.holds(other):
            del state.denies[other]
    _deny(state, key, copies | ANYONE)


def _insert_allow(
    state: MapState, key: Key, bits: int, proxy: Proxy | None, universe: Universe
) -> None:
    converted = 0
    for other, denied in state.denies.items():
        if other.holds(key):
            if denied & ANYONE:
                return
            converted |= bits & universe.narrower(denied)
            bits &= ~denied
    if not bits:
        return
    converted &= bits
    bits &= ~converted
    _deny(state, key, converted)
    below = 0 if bits & ANYONE else universe.narrower(bits)
    updates: list[tuple[Key, int]] = []
    for other, denied in state.denies.items():
        if key.is_broader(other):
            above = bits if denied & ANYONE else bits & universe.narrower(denied)
            updates.append((other, above & ~ANYONE))
        elif other.is_broader(key):
            updates.append((key, (denied & ~ANYONE) if bits & ANYONE else denied & below))
    for other, found in updates:
        _deny(state, other, found)
    _allow(state, key, bits, proxy)


def allow_localhost(state: MapState, host: int, *, has_companions: bool) -> None:
    """Let the local host in, unless it is denied at every port.

    Parameters
    ----------
    state
        Entries of ingress; changed in place.
    host
        Bit of the local host.
    has_companions
        Whether entries for anyone at a port are copied for the host, as before Cilium 1.17.
    """
    if state.denies.get(EVERY_PORT, 0) & (ANYONE | host):
        return
    if has_companions:
        for key, denied in list(state.denies.items()):
            if denied & ANYONE:
                _deny(state, key, host)
        for key, allowed in list(state.allows.items()):
            if allowed & ANYONE and key.protocol and key.port:
                proxies = state.redirects.get(key, {})
                through = [proxy for proxy, bits in proxies.items() if bits & ANYONE]
                _allow(state, key, host, min(through, default=None))
    _allow(state, EVERY_PORT, host, None)
