"""All identities a selector can match, numbered as bits, and what each selector matches.

A set of identities is a Python integer: bit n is the n-th identity, bit 0 is "any".
Union, intersection and counting are single operations on such numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from capacity.cilium.policy.cilium import pattern_of
from capacity.cilium.policy.filters import Peer
from capacity.cilium.policy.labels import (
    ANY,
    CIDR,
    FQDN,
    K8S,
    RESERVED,
    Prefix,
    cidr_key,
    parse_prefix,
    prefix_of_key,
)  # fmt: skip
from capacity.cilium.policy.security_labels import (
    identity_labels,
    label_filter,
    pod_labels,
    told,
    untold,
)  # fmt: skip
from capacity.cilium.policy.selectors import (
    EXISTS,
    IN,
    NOT_IN,
    Expression,
    NameSelector,
    is_usable,
)  # fmt: skip
from capacity.cilium.policy.state import ClusterState

# cilium/cilium pkg/identity/numericidentity.go, b095517e625e
RESERVED_IDENTITIES: Final[Mapping[int, tuple[str, ...]]] = {
    1: ("reserved:host",),
    2: ("reserved:world",),
    3: ("reserved:unmanaged",),
    4: ("reserved:health",),
    5: ("reserved:init",),
    6: ("reserved:remote-node",),
    7: ("reserved:kube-apiserver", "reserved:remote-node"),
    8: ("reserved:ingress",),
    9: ("reserved:world-ipv4",),
    10: ("reserved:world-ipv6",),
}
HOST_ID: Final = 1
_FIRST_CLUSTER_ID: Final = 256
_FIRST_LOCAL_ID: Final = 1 << 24
_WORLDS: Final = {2: (4, 6), 9: (4,), 10: (6,)}


@dataclass(frozen=True, slots=True)
class Identity:
    """One security identity: number and printed labels."""

    number: int
    labels: tuple[str, ...]

    @property
    def is_local(self) -> bool:
        """Whether it is of a node only: an address or a DNS name."""
        return self.number >= _FIRST_LOCAL_ID


def cluster_identities(state: ClusterState) -> tuple[dict[str, int], list[Identity]]:
    """Identities of the pods: number of each pod's, by endpoint, and all of them.

    Numbers are those of the inventory's CiliumIdentities where given, else 256 and on in the order
    of the labels: which of them an identity has changes no count.
    """
    patterns = label_filter(state.options.labels)
    cache: dict[tuple[object, ...], tuple[str, ...]] = {}
    of_endpoint = {}
    for pod in state.pods:
        key = (pod.namespace, pod.service_account, *sorted(pod.labels.items()))
        if key not in cache:
            full = pod_labels(
                pod.labels,
                pod.namespace,
                state.namespaces.get(pod.namespace, {}),
                pod.service_account,
                state.options.cluster_name,
            )
            cache[key] = identity_labels(full, patterns)
        of_endpoint[pod.endpoint] = cache[key]
    found = sorted({*of_endpoint.values(), *state.identities})
    taken = set(state.identities.values())
    free = (n for n in range(_FIRST_CLUSTER_ID, _FIRST_LOCAL_ID) if n not in taken)
    numbers = {labels: state.identities.get(labels) or next(free) for labels in found}
    return (
        {endpoint: numbers[labels] for endpoint, labels in of_endpoint.items()},
        [Identity(number, labels) for labels, number in sorted(numbers.items())],
    )


def local_identities(
    state: ClusterState, prefixes: Iterable[Prefix], names: Iterable[NameSelector]
) -> list[Identity]:
    """Identities that a node allocates for CIDRs of rules and for addresses of DNS names.

    References
    ----------
    .. [1] cilium/cilium pkg/ipcache/metadata.go, resolveIdentity, b095517e625e.
    .. [2] cilium/cilium pkg/fqdn/name_manager.go, deriveLabelsForName, b095517e625e.
    """
    is_dual = state.options.ipv4 and state.options.ipv6
    labels: dict[Prefix, set[str]] = {}
    for prefix in prefixes:
        labels.setdefault(prefix, set()).update(_cidr_labels(prefix, is_dual=is_dual))
    ruled = dict.fromkeys(labels)
    for text, extra in state.prefix_labels.items():
        labels.setdefault(parse_prefix(text), set()).update(extra)
    for address, found in _name_labels(state, names).items():
        own = labels.setdefault(address, set())
        parent = _parent(address, ruled) if not any(_is(CIDR, one) for one in own) else None
        if parent is not None and not any(_is(RESERVED, one) for one in own):
            own |= _cidr_labels(parent, is_dual=is_dual)
        own |= found | {_world(address, is_dual=is_dual)}
    sets = {_resolved(prefix, own, is_dual=is_dual) for prefix, own in labels.items()}
    known = set(RESERVED_IDENTITIES.values())
    ordered = sorted((one for one in sets if one not in known), key=",".join)
    return [Identity(_FIRST_LOCAL_ID + n, one) for n, one in enumerate(ordered, 1)]


def _is(source: str, label: str) -> bool:
    return label.startswith(f"{source}:")


def _world(prefix: Prefix, *, is_dual: bool) -> str:
    return f"reserved:world-ipv{prefix.version}" if is_dual else "reserved:world"


def _cidr_labels(prefix: Prefix, *, is_dual: bool) -> set[str]:
    own = {told(CIDR, cidr_key(prefix))} if prefix.length else set()
    return own | {_world(prefix, is_dual=is_dual)}


def _resolved(prefix: Prefix, labels: set[str], *, is_dual: bool) -> tuple[str, ...]:
    nodes = {"reserved:remote-node", "reserved:host"} & labels
    if nodes:
        plain = _cidr_labels(prefix, is_dual=is_dual)
        labels = {one for one in labels - plain if not one.startswith("reserved:world")}
    elif not {"reserved:health", "reserved:ingress"} & labels and not any(
        _is(CIDR, one) or _is(FQDN, one) for one in labels
    ):
        labels = labels | _cidr_labels(prefix, is_dual=is_dual)
    return tuple(sorted(labels)) if "reserved:host" not in labels else RESERVED_IDENTITIES[1]


def _parent(prefix: Prefix, ruled: Mapping[Prefix, None]) -> Prefix | None:
    for length in range(prefix.length - 1, 0, -1):
        shift = prefix.width - length
        parent = Prefix(prefix.version, prefix.address >> shift << shift, length)
        if parent in ruled:
            return parent
    return None


def _name_labels(state: ClusterState, names: Iterable[NameSelector]) -> dict[Prefix, set[str]]:
    patterns = [(one, pattern_of(one)) for one in names]
    found: dict[Prefix, set[str]] = {}
    for name, addresses in state.dns.items():
        plain = name.lower().rstrip(".")
        labels = {told(FQDN, one.label) for one, pattern in patterns if pattern.match(plain)}
        if labels:
            for address in addresses:
                found.setdefault(parse_prefix(address), set()).update(labels)
    return found


@dataclass(slots=True)
class Universe:
    """Identities in the order of their bits, and indexes to match selectors with."""

    identities: list[Identity]
    numbers: npt.NDArray[np.int64]
    everyone: int
    bit_of: dict[int, int]
    values: dict[tuple[str, str], int] = field(default_factory=dict)
    present: dict[str, int] = field(default_factory=dict)
    prefixes: list[tuple[int, int, int, int]] = field(default_factory=list)
    prefix_of_bit: dict[int, list[Prefix]] = field(default_factory=dict)
    cidr_bits: int = 0
    _cache: dict[Peer, int] = field(default_factory=dict)
    _narrower: dict[int, int] = field(default_factory=dict)

    def select(self, peer: Peer) -> int:
        """Bits of the identities that a peer selects; bit 0 alone for everyone."""
        found = self._cache.get(peer)
        if found is None:
            found = self._cache[peer] = self._select(peer)
        return found

    def _select(self, peer: Peer) -> int:
        if isinstance(peer, NameSelector):
            return self.values.get((f"{FQDN}:{peer.label}", ""), 0)
        if peer.is_wildcard:
            return 1
        if not is_usable(peer):
            return 0
        found = self.everyone
        for key, value in peer.labels:
            found &= self._has(key, (value,))
        for expression in peer.expressions:
            found &= self._holds(expression)
        return found

    def _holds(self, expression: Expression) -> int:
        key, operator, values = expression
        if operator == IN:
            return self._has(key, values)
        if operator == NOT_IN:
            return self.everyone & ~self._has(key, values)
        present = self._has(key, None)
        return present if operator == EXISTS else self.everyone & ~present

    def _has(self, key: str, values: Sequence[str] | None) -> int:
        source, _, name = key.partition(".")
        if source == CIDR:
            prefix = prefix_of_key(name)
            has_value = values is None or "" in values
            return self.within(prefix) if prefix is not None and has_value else 0
        name = f"{source}:{name}"
        if values is None:
            return self.present.get(name, 0)
        found = 0
        for value in values:
            found |= self.values.get((name, value), 0)
        return found

    def within(self, prefix: Prefix) -> int:
        """Bits of the CIDR identities within a prefix."""
        last = prefix.address | ((1 << (prefix.width - prefix.length)) - 1)
        low = bisect_left(self.prefixes, (prefix.version, prefix.address, 0, 0))
        high = bisect_left(self.prefixes, (prefix.version, last, prefix.width + 1, 0))
        found = 0
        for _, _, length, bit in self.prefixes[low:high]:
            if length >= prefix.length:
                found |= 1 << bit
        return found

    def narrower(self, bits: int) -> int:
        """Bits of the addresses within the addresses of a set, these included."""
        bits &= self.cidr_bits
        found = self._narrower.get(bits)
        if found is None:
            found = 0
            for bit in bits_of(bits):
                for prefix in self.prefix_of_bit[bit]:
                    found |= self.within(prefix) | 1 << bit
            # The reserved worlds hold each other too where their prefixes are the same
            found |= self._worlds(bits)
            self._narrower[bits] = found
        return found

    def _worlds(self, bits: int) -> int:
        whole = {
            prefix
            for bit in bits_of(bits)
            for prefix in self.prefix_of_bit[bit]
            if prefix.length == 0
        }
        found = 0
        for number in _WORLDS:
            bit = self.bit_of[number]
            if whole & set(self.prefix_of_bit[bit]):
                found |= 1 << bit
        return found


def bits_of(bits: int) -> list[int]:
    """Positions of the ones in a number."""
    if bits == 0:
        return []
    data = np.frombuffer(bits.to_bytes((bits.bit_length() + 7) // 8, "little"), dtype=np.uint8)
    found: list[int] = np.flatnonzero(np.unpackbits(data, bitorder="little")).tolist()
    return found


def universe(identities: Sequence[Identity]) -> Universe:
    """Give identities numbers of bits, and index their labels."""
    ordered = [Identity(n, labels) for n, labels in RESERVED_IDENTITIES.items()]
    ordered += identities
    numbers = np.array([0, *(one.number for one in ordered)], dtype=np.int64)
    bit_of = {one.number: bit for bit, one in enumerate(ordered, 1)}
    everyone = (1 << len(ordered) + 1) - 2
    made = Universe(ordered, numbers, everyone, bit_of)
    values: dict[tuple[str, str], list[int]] = {}
    for bit, one in enumerate(ordered, 1):
        for label in one.labels:
            source, key, value = untold(label)
            _index(made, values, bit, one, source, key, value)
    for (name, value), bits in values.items():
        found = made.values[name, value] = as_bits(bits, len(ordered) + 1)
        made.present[name] = made.present.get(name, 0) | found
    for number, versions in _WORLDS.items():
        bit = bit_of[number]
        made.prefix_of_bit[bit] = [Prefix(version, 0, 0) for version in versions]
        made.cidr_bits |= 1 << bit
    made.prefixes.sort()
    return made


def _index(
    made: Universe,
    values: dict[tuple[str, str], list[int]],
    bit: int,
    one: Identity,
    source: str,
    key: str,
    value: str,
) -> None:
    if source == CIDR:
        prefix = prefix_of_key(key)
        if prefix is not None and one.is_local:
            made.prefixes.append((prefix.version, prefix.address, prefix.length, bit))
            made.prefix_of_bit[bit] = [prefix]
            made.cidr_bits |= 1 << bit
        return
    values.setdefault((f"{source}:{key}", value), []).append(bit)
    values.setdefault((f"{ANY}:{key}", value), []).append(bit)


def as_bits(positions: Sequence[int], width: int) -> int:
    """Give a number with ones at some positions.

    Examples
    --------
    >>> as_bits([1, 3], 8)
    10
    """
    mask = np.zeros(width, dtype=np.uint8)
    mask[list(positions)] = 1
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")


def node_universe(node_labels: Mapping[str, str]) -> Universe:
    """Match node selectors against the labels of a node's host endpoint."""
    labels = (
        *RESERVED_IDENTITIES[HOST_ID],
        *(told(K8S, key, value) for key, value in node_labels.items()),
    )
    values: dict[tuple[str, str], int] = {}
    present: dict[str, int] = {}
    for label in labels:
        source, key, value = untold(label)
        for name in (f"{source}:{key}", f"{ANY}:{key}"):
            values[name, value] = present[name] = 2
    return Universe([Identity(HOST_ID, labels)], np.array([0, HOST_ID]), 2, {1: 1}, values, present)
