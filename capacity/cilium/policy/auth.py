"""Entries of directions with authentication rules, one by one: their order of strength matters.

Few clusters have such rules; those without are resolved by sets, in mapstate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from capacity.cilium.policy.filters import Peer
from capacity.cilium.policy.mapstate import EVERY_PORT, Insertion, Key, MapState, Proxy
from capacity.cilium.policy.universe import Universe, bits_of

# Modes in order of strength; cilium/cilium pkg/policy/l4.go, AuthType, b095517e625e
MODES: Final = {"disabled": 0, "required": 1, "test-always-fail": 2}
NAMES: Final = {0: "", 1: "spire", 2: "test-always-fail"}


@dataclass(frozen=True, slots=True)
class Treated:
    """An insertion with its peer and the mode of authentication its rule asks for."""

    peer: Peer
    mode: str | None
    insertion: Insertion


@dataclass(frozen=True, slots=True)
class _Entry:
    is_deny: bool = False
    proxy: Proxy | None = None
    is_explicit: bool = False
    auth: int = 0


@dataclass(slots=True)
class _Entries:
    universe: Universe
    of_key: dict[Key, dict[int, _Entry]] = field(default_factory=dict)

    def get(self, key: Key, number: int) -> _Entry | None:
        return self.of_key.get(key, {}).get(number)

    def put(self, key: Key, number: int, entry: _Entry) -> None:
        self.of_key.setdefault(key, {})[number] = entry

    def drop(self, key: Key, number: int) -> None:
        self.of_key.get(key, {}).pop(number, None)

    def all(self, *, is_deny: bool) -> list[tuple[Key, int, _Entry]]:
        return [
            (key, number, entry)
            for key, entries in self.of_key.items()
            for number, entry in entries.items()
            if entry.is_deny == is_deny
        ]

    def merge(self, key: Key, number: int, entry: _Entry) -> None:
        """Add an entry to the one that is there: deny wins, then proxies, then strong auth."""
        old = self.get(key, number)
        if old is None:
            self.put(key, number, entry)
        elif entry.is_deny:
            self.put(key, number, _Entry(is_deny=True))
        elif not old.is_deny:
            proxies = [one for one in (old.proxy, entry.proxy) if one]
            if entry.is_explicit == old.is_explicit:
                auth = max(entry.auth, old.auth) if entry.is_explicit else entry.auth
            else:
                auth = entry.auth if entry.is_explicit else old.auth
            self.put(
                key,
                number,
                _Entry(
                    False,
                    min(proxies, default=None),
                    old.is_explicit or entry.is_explicit,
                    auth,
                ),
            )

    def is_within(self, inner: int, outer: int) -> bool:
        """Tell whether an address is within another one's, or the same prefix."""
        return bool(self.universe.narrower(1 << outer) >> inner & 1)


def resolve(
    treated: Sequence[Treated], universe: Universe, host: int | None, *, has_companions: bool
) -> MapState:
    """Resolve the insertions of a direction with authentication into entries.

    Parameters
    ----------
    treated
        In the agent's order.
    universe
        Identities.
    host
        Position of the local host where it is let in, else None.
    has_companions
        Whether entries copy each other's ports, as before Cilium 1.17.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/mapstate.go, authPreferredInsert, b095517e625e; the later rule
       of the same function as vendored by cilium/cilium-cli 43f930e14.
    """
    entries = _Entries(universe)
    insert = _insert_old if has_companions else _insert_new
    for one in treated:
        insertion = one.insertion
        explicit = one.mode in MODES
        entry = _Entry(insertion.is_deny, insertion.proxy, explicit, MODES.get(one.mode or "", 0))
        for number in bits_of(insertion.bits):
            for key in insertion.keys:
                insert(entries, key, number, entry)
    if host is not None:
        insert(entries, EVERY_PORT, host, _Entry(is_explicit=True))
    return _state(entries)


def _state(entries: _Entries) -> MapState:
    state = MapState()
    for key, of_number in entries.of_key.items():
        for number, entry in of_number.items():
            bit = 1 << number
            if entry.is_deny:
                state.denies[key] = state.denies.get(key, 0) | bit
                continue
            state.allows[key] = state.allows.get(key, 0) | bit
            if entry.proxy:
                proxies = state.redirects.setdefault(key, {})
                proxies[entry.proxy] = proxies.get(entry.proxy, 0) | bit
            if entry.auth:
                auths = state.auths.setdefault(key, {})
                name = NAMES[entry.auth]
                auths[name] = auths.get(name, 0) | bit
    return state


def _insert_new(entries: _Entries, key: Key, number: int, entry: _Entry) -> None:
    covering = [
        (k, n, v) for k, n, v in entries.all(is_deny=True) if k.holds(key) and n in (0, number)
    ]
    if entry.is_deny:
        if any((k, n) != (key, number) for k, n, _ in covering):
            return
        for is_deny in (False, True):
            for k, n, _ in entries.all(is_deny=is_deny):
                if key.holds(k) and number in (0, n) and not (is_deny and (k, n) == (key, number)):
                    entries.drop(k, n)
        entries.merge(key, number, entry)
        return
    if covering:
        return
    same = [(k, v) for k, n, v in entries.all(is_deny=False) if n == number]
    if not entry.is_explicit:
        above = [(k, v) for k, v in same if k.holds(key) and v.is_explicit]
        if above:
            entry = replace(entry, auth=max(above, key=lambda kv: _narrowness(kv[0]))[1].auth)
    else:
        for k, v in sorted(same, key=lambda kv: _narrowness(kv[0])):
            if key.holds(k):
                if v.is_explicit:
                    break
                entries.put(k, number, replace(v, auth=entry.auth))
    entries.merge(key, number, entry)


def _narrowness(key: Key) -> int:
    return key.prefix_length


def _insert_old(entries: _Entries, key: Key, number: int, entry: _Entry) -> None:
    denies = entries.all(is_deny=True)
    if any(k == EVERY_PORT and n == 0 for k, n, _ in denies):
        return
    if entry.is_deny:
        _deny_old(entries, key, number, entry, denies)
        return
    covering = [n for k, n, _ in denies if k.holds(key) and _is_below(entries, number, n)]
    if any(n in (0, number) for n in covering):
        return
    if covering:
        entries.merge(key, number, _Entry(is_deny=True))
        return
    for k, n, _ in denies:
        if key.is_broader(k) and n != number and _is_below(entries, number, n):
            entries.merge(k, number, _Entry(is_deny=True))
        if k.is_broader(key) and n != number and _is_below(entries, n, number):
            entries.merge(key, n, _Entry(is_deny=True))
    _authenticated(entries, key, number, entry)


def _is_below(entries: _Entries, inner: int, outer: int) -> bool:
    """Tell whether one identity is the other, or one of those that the other stands for."""
    return outer in (0, inner) or entries.is_within(inner, outer)


def _deny_old(
    entries: _Entries,
    key: Key,
    number: int,
    entry: _Entry,
    denies: Iterable[tuple[Key, int, _Entry]],
) -> None:
    for k, n, _ in denies:
        if k.holds(key) and n in (0, number) and (k, n) != (key, number):
            return
    copies = []
    for k, n, _ in entries.all(is_deny=False):
        if k.is_broader(key) and n != number and _is_below(entries, n, number):
            copies.append((key, n))
        if key.is_broader(k) and n != number and _is_below(entries, number, n):
            copies.append((k, number))
        if key.holds(k) and _is_below(entries, n, number):
            if number in (0, n):
                entries.drop(k, n)
            else:
                copies.append((k, n))
    for k, n, _ in denies:
        if key.holds(k) and number in (0, n) and (k, n) != (key, number):
            entries.drop(k, n)
    for k, n in copies:
        entries.merge(k, n, _Entry(is_deny=True))
    entries.merge(key, number, entry)


def _strength(key: Key, number: int, other: Key, other_number: int) -> int:
    """How closely an entry covers another one; 0 where it does not. Larger is closer."""
    if number not in (0, other_number) or (key, number) == (other, other_number):
        return 0
    base = 0 if number == 0 else 3
    if key.protocol == 0:
        return base + 1 if other.protocol or number != other_number else 0
    if key.protocol != other.protocol:
        return 0
    if key.is_broader(other):
        return base + 2
    return 3 if key == other and number == 0 else 0


def _authenticated(entries: _Entries, key: Key, number: int, entry: _Entry) -> None:
    if entry.is_explicit:
        _strengthen(entries, key, number, entry)
    else:
        entry = _strengthened(entries, key, number, entry)
    entries.merge(key, number, entry)


def _strengthened(entries: _Entries, key: Key, number: int, entry: _Entry) -> _Entry:
    """Take the mode of the closest entry that covers a new one, or copy it for each that asks."""
    closest = 0
    copies: list[tuple[int, _Entry]] = []
    for k, n, v in entries.all(is_deny=False):
        if not v.is_explicit or not k.holds(key):
            continue
        strength = _strength(k, n, key, number)
        if strength > closest:
            closest, entry = strength, replace(entry, auth=v.auth)
        elif not strength and _is_for_anyone(key, number) and n != 0 and not k.port:
            copies.append((n, replace(entry, auth=v.auth)))
    if not closest:
        for n, copied in copies:
            entries.merge(key, n, copied)
    return entry


def _is_for_anyone(key: Key, number: int) -> bool:
    return number == 0 and bool(key.protocol) and bool(key.port)


def _strengthen(entries: _Entries, key: Key, number: int, entry: _Entry) -> None:
    """Give the mode of a new entry to those it covers that ask for none themselves."""
    allows = entries.all(is_deny=False)
    explicit = [(k, n) for k, n, v in allows if v.is_explicit and _strength(key, number, k, n)]
    for k, n, v in allows:
        if v.is_explicit or not key.holds(k):
            continue
        strength = _strength(key, number, k, n)
        if strength:
            if not _is_closer(explicit, k, n, strength):
                entries.put(k, n, replace(v, auth=entry.auth))
        elif number and not key.port and _is_for_anyone(k, n):
            entries.merge(k, number, _Entry(False, v.proxy, False, entry.auth))


def _is_closer(explicit: Sequence[tuple[Key, int]], key: Key, number: int, strength: int) -> bool:
    return any(_strength(k, n, key, number) > strength for k, n in explicit)
