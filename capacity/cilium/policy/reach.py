"""What two clusters that differ in policies let through: the same, more, less, or otherwise.

Compared are all pods, reserved identities and addresses at all protocols and ports, by one of each
kind that no entry tells apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from capacity.cilium.policy.engine import Cluster, Direction, direction_of, ipcache
from capacity.cilium.policy.groups import Group
from capacity.cilium.policy.labels import Prefix
from capacity.cilium.policy.mapstate import ANYONE, Key, MapState
from capacity.cilium.policy.rules import PROTOCOL_NAMES
from capacity.cilium.policy.universe import as_bits, bits_of

# Verdicts: what is dropped, what is let through, and through which proxy, how authenticated
Verdict = tuple[str, str, str]
_DROP: Final[Verdict] = ("drop", "", "")
_DENY: Final[Verdict] = ("deny", "", "")
# Addresses have these where nothing narrower is known: compared by address
_WORLDS: Final = (2, 9, 10)
# A protocol that no rule can name: stands for all that are not named
_OTHER: Final = 255
_LAST_PORT: Final = 0xFFFF
_NAMED_PEERS: Final = 4


@dataclass(slots=True)
class Difference:
    """What differs: `has_lost` where less gets through, or otherwise; peers and ports gained."""

    has_lost: bool = False
    peers: dict[str, None] = field(default_factory=dict)
    ports: dict[str, None] = field(default_factory=dict)

    @property
    def is_none(self) -> bool:
        """Whether both let through the same."""
        return not self.has_lost and not self.peers

    @property
    def gained(self) -> str:
        """What more gets through, in words."""
        peers = list(self.peers)
        text = ", ".join(peers[:_NAMED_PEERS])
        text += f" and {len(peers) - _NAMED_PEERS:,} more" if len(peers) > _NAMED_PEERS else ""
        ports = list(self.ports)
        at = ", ".join(ports[:_NAMED_PEERS]) + (", …" if len(ports) > _NAMED_PEERS else "")
        return f"{text} at {at}" if text else ""


@dataclass(frozen=True, slots=True)
class Peers:
    """Bits of one peer before and after: `same` where they are equal, `moved` by name else."""

    same: int
    moved: tuple[tuple[str, int, int], ...]
    names: Mapping[int, str]


def difference(old: Cluster, new: Cluster) -> Difference:
    """Compare what the endpoints of two clusters let through.

    Parameters
    ----------
    old, new
        Clusters of the same pods, `new` prepared from `old`.

    Notes
    -----
    The datapath looks a packet up twice, by its identity and for anyone, each time by the longest
    prefix. What is denied is denied; else the longer prefix decides, the identity's of equal ones.

    References
    ----------
    .. [1] cilium/cilium bpf/lib/policy.h, __policy_can_access, b095517e625e.
    """
    found = Difference()
    known = _peers(old, new)
    of_new = {one.name: group for group, members in new.groups.items() for one in members}
    seen: set[tuple[int, int]] = set()
    for group, members in old.groups.items():
        for pair in _pairs(old, new, group, {of_new[one.name] for one in members}):
            before, after = pair
            if before is after or (id(before), id(after)) in seen:
                continue
            seen.add((id(before), id(after)))
            if after.fault or before.fault:
                found.has_lost |= before.fault != after.fault
                continue
            _compare(before.state, after.state, known, found)
            if found.has_lost:
                return found
    return found


def _pairs(
    old: Cluster, new: Cluster, group: Group, others: Iterable[Group]
) -> Iterator[tuple[Direction, Direction]]:
    for other in others:
        for is_ingress in (True, False):
            yield (
                direction_of(old, group, is_ingress=is_ingress),
                direction_of(new, other, is_ingress=is_ingress),
            )


def _compare(before: MapState, after: MapState, known: Peers, found: Difference) -> None:
    for protocol, port, last in classes(before, after):
        old, new = (_lookup(state, protocol, port) for state in (before, after))
        lost, gained = _changed(old, new, known)
        found.has_lost |= lost
        if gained:
            name = PROTOCOL_NAMES.get(protocol, "other protocols")
            ports = f"{port}" if port == last else f"{port}-{last}"
            found.ports[name if (port, last) == (0, _LAST_PORT) else f"{name} {ports}"] = None
            found.peers |= dict.fromkeys(gained)


def classes(*states: MapState) -> Iterator[tuple[int, int, int]]:
    """Give protocols and port ranges that no entry of the states tells apart."""
    starts: dict[int, set[int]] = {_OTHER: {0}}
    for state in states:
        for key in (*state.allows, *state.denies):
            if key.protocol:
                size = 1 << 16 - key.bits
                starts.setdefault(key.protocol, {0}).update((key.port, key.port + size))
    for protocol, found in sorted(starts.items()):
        ordered = sorted(found - {_LAST_PORT + 1})
        for start, end in zip(ordered, [*ordered[1:], _LAST_PORT + 1], strict=True):
            yield protocol, start, end - 1


def _lookup(state: MapState, protocol: int, port: int) -> tuple[dict[Verdict, int], Verdict]:
    """Verdicts on identities by their bits, and that on those that no entry names."""
    one = Key(protocol, port, 16)
    keys = [key for key in (state.allows.keys() | state.denies.keys()) if key.holds(one)]
    keys.sort(key=lambda key: key.prefix_length, reverse=True)
    anyone, length = _of_anyone(state, keys)
    if anyone == _DENY:
        return {}, _DENY
    found: dict[Verdict, int] = {}
    seen = 0
    for key in keys:
        for verdict, bits in _verdicts(state, key):
            bits &= ~(seen | ANYONE)
            if bits and (verdict == _DENY or key.prefix_length >= length):
                found[verdict] = found.get(verdict, 0) | bits
            seen |= bits
    return found, anyone


def _of_anyone(state: MapState, keys: Sequence[Key]) -> tuple[Verdict, int]:
    for key in keys:
        for verdict, bits in _verdicts(state, key):
            if bits & ANYONE:
                return verdict, key.prefix_length
    return _DROP, 0


def _verdicts(state: MapState, key: Key) -> Iterator[tuple[Verdict, int]]:
    denied = state.denies.get(key, 0)
    if denied:
        yield _DENY, denied
    left = state.allows.get(key, 0)
    for proxy, through in sorted(state.redirects.get(key, {}).items()):
        own = left & through
        left &= ~through
        for mode, bits in _modes(state, key, own):
            yield ("allow", proxy.name, mode), bits
    for mode, bits in _modes(state, key, left):
        yield ("allow", "", mode), bits


def _modes(state: MapState, key: Key, bits: int) -> Iterator[tuple[str, int]]:
    for mode, own in sorted(state.auths.get(key, {}).items()):
        if bits & own:
            yield mode, bits & own
            bits &= ~own
    if bits:
        yield "", bits


def _changed(
    old: tuple[dict[Verdict, int], Verdict], new: tuple[dict[Verdict, int], Verdict], known: Peers
) -> tuple[bool, list[str]]:
    """Tell whether something is lost or treated otherwise, and who is let in that was not.

    A denial that is no more is lost too: it holds against policies to come.
    """
    (old_bits, old_rest), (new_bits, new_rest) = old, new
    rest = [known.same] * 2
    for n, told in enumerate((old_bits, new_bits)):
        for own in told.values():
            rest[n] &= ~own
    before = {**old_bits, old_rest: old_bits.get(old_rest, 0) | rest[0]}
    after = {**new_bits, new_rest: new_bits.get(new_rest, 0) | rest[1]}
    gained: list[str] = []
    for verdict, bits in before.items():
        left = bits & known.same & ~after.get(verdict, 0)
        left &= ~after.get(_DENY, 0) if verdict == _DROP else -1
        if left and verdict != _DROP:
            return True, []
        gained += [known.names[bit] for bit in bits_of(left)]
    for name, bit, other in known.moved:
        was = _verdict_on(bit, old_bits, old_rest)
        becomes = _verdict_on(other, new_bits, new_rest)
        if was != becomes and (was, becomes) != (_DROP, _DENY):
            if was != _DROP:
                return True, []
            gained.append(name)
    return False, gained


def _verdict_on(bit: int, bits: dict[Verdict, int], rest: Verdict) -> Verdict:
    return next((verdict for verdict, own in bits.items() if own >> bit & 1), rest)


def _peers(old: Cluster, new: Cluster) -> Peers:
    """Pair the identities of pods with themselves, those of each address with its new one."""
    count = len(old.population.universe.identities)
    names = {
        bit: ",".join(label.removeprefix("k8s:") for label in one.labels)
        for bit, one in enumerate(old.population.universe.identities, 1)
    }
    caches = ipcache(old), ipcache(new)
    union = {*caches[0], *caches[1]}
    pairs: dict[tuple[int, int], str] = {}
    options = old.state.options
    for version in [4] * options.ipv4 + [6] * options.ipv6:
        own = {Prefix(version, 0, 0), *(one for one in union if one.version == version)}
        for prefix in _with_own_addresses(own):
            bits = tuple(_bit_of(prefix, cluster, cache)
                         for cluster, cache in zip((old, new), caches, strict=True))  # fmt: skip
            pairs.setdefault((bits[0], bits[1]), str(prefix))
    worlds = as_bits([old.universe.bit_of[number] for number in _WORLDS], count + 1)
    same = (1 << count + 1) - 2 & ~worlds
    moved = tuple(
        (name, *pair)
        for pair, name in pairs.items()
        if pair[0] != pair[1] or not same >> pair[0] & 1
    )
    return Peers(same, moved, names)


def _with_own_addresses(known: Set[Prefix]) -> Iterator[Prefix]:
    """Give prefixes but those that narrower ones among them cover wholly."""
    covered: dict[Prefix, int] = {}
    # Narrow ones first: each tells its nearest ancestor how much of it is covered
    for one in sorted(known, key=lambda prefix: (-prefix.length, prefix)):
        size = 1 << one.width - one.length
        if covered.get(one, 0) < size:
            yield one
        for length in range(one.length - 1, -1, -1):
            shift = one.width - length
            parent = Prefix(one.version, one.address >> shift << shift, length)
            if parent in known:
                covered[parent] = covered.get(parent, 0) + size
                break


def _bit_of(prefix: Prefix, cluster: Cluster, cache: Mapping[Prefix, int]) -> int:
    """Bit of the identity of the addresses of a prefix: that of the narrowest one around it."""
    for length in range(prefix.length, -1, -1):
        shift = prefix.width - length
        found = cache.get(Prefix(prefix.version, prefix.address >> shift << shift, length))
        if found is not None:
            return found
    options = cluster.state.options
    world = {4: 9, 6: 10}[prefix.version] if options.ipv4 and options.ipv6 else 2
    return cluster.universe.bit_of[world]
