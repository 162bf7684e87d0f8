"""All identities a selector can match, numbered as bits, and what each selector matches.

A set of identities is a Python integer: bit n is the n-th identity, bit 0 is "any".
Union, intersection and counting are single operations on such numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from capacity.cilium.policy.allocation import HOST_ID, RESERVED_IDENTITIES, Identity
from capacity.cilium.policy.filters import Peer
from capacity.cilium.policy.labels import (
    ANY,
    CIDR,
    FQDN,
    K8S,
    Prefix,
    prefix_of_key,
)  # fmt: skip
from capacity.cilium.policy.security_labels import (
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

_WORLDS: Final = {2: (4, 6), 9: (4,), 10: (6,)}


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
    """Give identities numbers of bits after the reserved ones, and index their labels."""
    reserved = [Identity(n, labels) for n, labels in RESERVED_IDENTITIES.items()]
    made = extended(Universe([], np.zeros(1, np.int64), 0, {}), [*reserved, *identities])
    for number, versions in _WORLDS.items():
        bit = made.bit_of[number]
        made.prefix_of_bit[bit] = [Prefix(version, 0, 0) for version in versions]
        made.cidr_bits |= 1 << bit
    return made


def extended(base: Universe, more: Sequence[Identity]) -> Universe:
    """Add identities to those of a universe, which keep their bits; the universe stays."""
    first, ordered = len(base.identities) + 1, [*base.identities, *more]
    made = Universe(
        ordered,
        np.concatenate([base.numbers, np.array([one.number for one in more], np.int64)]),
        (1 << len(ordered) + 1) - 2,
        {**base.bit_of, **{one.number: bit for bit, one in enumerate(more, first)}},
        dict(base.values),
        dict(base.present),
        list(base.prefixes),
        dict(base.prefix_of_bit),
        base.cidr_bits,
    )
    values: dict[tuple[str, str], list[int]] = {}
    for bit, one in enumerate(more, first):
        for label in one.labels:
            source, key, value = untold(label)
            _index(made, values, bit, one, source, key, value)
    for (name, value), bits in values.items():
        found = as_bits(bits, len(ordered) + 1)
        made.values[name, value] = made.values.get((name, value), 0) | found
        made.present[name] = made.present.get(name, 0) | found
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
