"""Maglev lookup tables as the agent builds them: shares, disruption, memory, which size to take.

Which frontends have a table is counted in services/; what a table costs the kernel in map_memory.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity import facts
from capacity.cilium.map_memory import maglev_charged_bytes
from capacity.errors import SettingsError
from capacity.tables import Column, Table, check

Slots = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

MAGLEV: Final = Table(
    "maglev",
    "one table size that the agent takes, for one number of backends",
    (
        Column("table_size", pl.Int64, "1", "bpf-lb-maglev-table-size, maglev.tableSize"),
        Column("backends", pl.Int64, "1", "behind the largest frontend"),
        Column("share_min", pl.Int64, "1", "slots of the backend with fewest"),
        Column("share_max", pl.Int64, "1", "slots of the backend with most"),
        Column("imbalance", pl.Float64, "1", "share_max / mean - 1"),
        Column("moved", pl.Float64, "1", "slots of others that move when one backend leaves"),
        Column("table_bytes", pl.Int64, "byte", "of one table: 4 x table_size"),
        Column("bytes", pl.Int64, "byte", "a node, as its memory cgroup is charged", nullable=True),
        Column("verdict", pl.String, "", "take; enough; small: fewer than 100 slots a backend"),
    ),
)
OPTION: Final = "bpf-lb-maglev-table-size"
SEED: Final = "JLfvgnHc2kaSUFaI"  # cilium/cilium pkg/maglev/maglev.go DefaultHashSeed
# «M should be significantly larger than N, at least 100 times», so that at most about 1 % moves:
# cilium/cilium Documentation/network/kubernetes/kubeproxy-free.rst
SLOTS_A_BACKEND: Final = 100
_MOST_BACKENDS: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class Advice:
    """Table `MAGLEV`; the size to take; and what that does not keep, in words."""

    table: pl.DataFrame
    table_size: int
    warning: str | None

    @property
    def sentence(self) -> str:
        """Say what to set, and what a backend has then."""
        row = self.table.filter(table_size=self.table_size).row(0, named=True)
        text = (
            f"maglev.tableSize {self.table_size:,}: {row['share_min']:,} to {row['share_max']:,} "
            f"slots for each of {row['backends']:,} backends"
        )
        return f"{text}; {self.warning}." if self.warning else f"{text}."


def table_sizes(version: str) -> tuple[int, ...]:
    """Give the table sizes that the agent takes: primes, smallest first.

    Parameters
    ----------
    version
        Cilium version.

    Returns
    -------
    tuple of int
        Values of maglev.tableSize. [1]
    """
    note = facts.options(version).filter(option=OPTION)["note"][0]
    return tuple(map(int, re.findall(r"\d+", note)))


def lookup_table(
    backends: Sequence[str],
    table_size: int,
    *,
    weights: Sequence[int] | None = None,
    seed: str = SEED,
) -> Slots:
    """Build the lookup table of one frontend.

    Parameters
    ----------
    backends
        Names that are hashed, up to 1.17 as ``[10.0.0.1:8080,State:active]``; none twice.
    table_size
        M, a prime. [1]
    weights
        Of each backend; alike if left out.
    seed
        maglev.hashSeed: 12 bytes in base64.

    Returns
    -------
    ndarray, shape (table_size,)
        Position in `backends` of the backend that each slot leads to.

    Raises
    ------
    SettingsError
        If there are no backends, one is there twice, or seed or weights cannot be used.

    References
    ----------
    .. [1] cilium/cilium pkg/maglev/maglev.go `GetLookupTable`, pkg/murmur3, b095517e625e.
    .. [2] Eisenbud et al., Maglev: A Fast and Reliable Software Network Load Balancer, NSDI 2016,
       section 3.4.

    Examples
    --------
    >>> table = lookup_table(names(3), 251)
    >>> np.bincount(table).tolist()
    [84, 84, 83]
    """
    if not 0 < len(backends) <= _MOST_BACKENDS or len(set(backends)) != len(backends):
        raise SettingsError(f"backends: wanted 1 to {_MOST_BACKENDS:,} names, none of them twice")
    if table_size < 2:
        raise SettingsError(f"table size: {table_size} is below 2")
    given = np.full(len(backends), 1) if weights is None else np.asarray(weights)
    if given.shape != (len(backends),) or (given < 1).any() or (given > 65535).any():
        raise SettingsError("weights: wanted one of 1 to 65535 for each backend")
    data = [name.encode() for name in backends]
    order = np.array(sorted(range(len(data)), key=data.__getitem__))
    hashes = _hashes([data[i] for i in order], _seed(seed))
    # Loaded here: a plan needs sizes of tables, seldom one, and numba takes a third of a second
    from capacity.cilium.maglev_table import filled

    return order[filled(hashes, table_size, given[order].astype(np.int64))].astype(np.int64)


def names(count: int) -> list[str]:
    """Name backends 10.0.0.1:8080, 10.0.0.2:8080 … as an agent up to 1.17 hashes them.

    Parameters
    ----------
    count
        Backends. [1]

    Returns
    -------
    list of str
        As `lookup_table` takes them.
    """
    numbers = range(1, count + 1)
    return [f"[10.{n >> 16}.{n >> 8 & 255}.{n & 255}:8080,State:active]" for n in numbers]


def shares(table: Slots, backends: int) -> Slots:
    """Count the slots of each backend; without any a backend gets no traffic.

    Parameters
    ----------
    table
        By `lookup_table`.
    backends
        How many there are, also of those without a slot. [1]

    Returns
    -------
    ndarray, shape (backends,)
        Slots of each. [1]
    """
    return np.bincount(table, minlength=backends).astype(np.int64)


def moved(backends: Sequence[str], removed: int, table_size: int, *, seed: str = SEED) -> int:
    """Count the slots that change when a backend leaves, its own left out.

    Connections in these slots that no conntrack entry pins go to another backend.

    Parameters
    ----------
    backends, table_size, seed
        As for `lookup_table`.
    removed
        Position of the backend that leaves.

    Returns
    -------
    int
        Slots. [1]
    """
    before = lookup_table(backends, table_size, seed=seed)
    if len(backends) < 2:
        return 0
    left = [name for i, name in enumerate(backends) if i != removed]
    after = lookup_table(left, table_size, seed=seed)
    after = after + (after >= removed)
    return int(((before != after) & (before != removed)).sum())


def advice(
    backends: int,
    *,
    version: str,
    frontends: int = 1,
    families: int = 1,
    seed: str = SEED,
    cpus: int = 1,
) -> Advice:
    """Tell which table size to take for the largest frontend, and what each size costs.

    Parameters
    ----------
    backends
        Behind the largest frontend. [1]
    version
        Cilium version.
    frontends, families
        Frontends that have a table, of each family: see lb_entries; families that are on.
    cpus
        Possible CPUs of the node, for the outer map.
    seed
        maglev.hashSeed: 12 bytes in base64.

    Returns
    -------
    Advice
        The size to take [1], and table `MAGLEV`: what each size costs.

    Raises
    ------
    SettingsError
        If there are no backends or too many.

    Examples
    --------
    >>> advice(160, version="1.17").table_size, advice(650, version="1.17").table_size
    (16381, 65521)
    """
    sizes = table_sizes(version)
    enough = [size for size in sizes if size >= SLOTS_A_BACKEND * backends]
    taken = enough[0] if enough else sizes[-1]
    listed = names(backends) if 0 < backends <= _MOST_BACKENDS else []
    rows = [_row(listed, size, taken, frontends, families, seed, cpus) for size in sizes]
    most = sizes[-1] // SLOTS_A_BACKEND
    warning = None
    if not enough:
        share = rows[-1]["moved"]
        warning = (
            f"{backends:,} backends are more than {most:,}: no table size has {SLOTS_A_BACKEND} "
            f"slots for each, so that more than 1 % may move when one leaves (here {share:.1%})"
        )
    frame = pl.DataFrame(rows, schema=MAGLEV.schema)
    return Advice(check(frame, MAGLEV), taken, warning)


def _row(
    listed: list[str], size: int, taken: int, frontends: int, families: int, seed: str, cpus: int
) -> dict[str, Any]:
    count = len(listed)
    own = shares(lookup_table(listed, size, seed=seed), count)
    charged = maglev_charged_bytes(size, frontends, cpus=cpus)
    verdict = "take" if size == taken else "enough" if size > taken else "small"
    return {
        "table_size": size,
        "backends": count,
        "share_min": int(own.min()),
        "share_max": int(own.max()),
        "imbalance": float(own.max()) * count / size - 1,
        "moved": moved(listed, count // 2, size, seed=seed) / size,
        "table_bytes": 4 * size,
        "bytes": None if charged is None else charged * families,
        "verdict": verdict,
    }


def _seed(text: str) -> int:
    try:
        told = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        told = b""
    if len(told) != 12:
        raise SettingsError("maglev.hashSeed: wanted 12 bytes in base64, as the chart's default is")
    return int.from_bytes(told[:4], "big")


def _hashes(data: Sequence[bytes], seed: int) -> npt.NDArray[np.uint64]:
    """MurmurHash3, 128 bits for x64, of byte strings [1]; those of one length all at once.

    .. [1] A. Appleby, MurmurHash3.cpp MurmurHash3_x64_128, public domain (aappleby/smhasher).
    """
    out = np.empty((len(data), 2), np.uint64)
    lengths = np.array([len(one) for one in data])
    for length in np.unique(lengths):
        own = np.flatnonzero(lengths == length).tolist()
        blocks = max(-(-int(length) // 16), 1)
        whole = b"".join(data[i].ljust(16 * blocks, b"\0") for i in own)
        words = np.frombuffer(whole, "<u8").reshape(len(own), 2 * blocks)
        out[own] = np.stack(_hashed(words, int(length), seed), axis=1)
    return out


def _hashed(words: Words, length: int, seed: int) -> tuple[Words, Words]:
    """Hash rows of 16-byte blocks, the last one filled up with zeros."""
    one, two = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
    h1 = h2 = np.full(len(words), seed, np.uint64)
    for block in range(words.shape[1] // 2):
        first, second = words[:, 2 * block], words[:, 2 * block + 1]
        h1 = h1 ^ _rotated(first * one, 31) * two
        if 16 * (block + 1) > length:
            h2 = h2 ^ _rotated(second * two, 33) * one
            break
        h1 = (_rotated(h1, 27) + h2) * np.uint64(5) + np.uint64(0x52DCE729)
        h2 = h2 ^ _rotated(second * two, 33) * one
        h2 = (_rotated(h2, 31) + h1) * np.uint64(5) + np.uint64(0x38495AB5)
    h1, h2 = h1 ^ np.uint64(length), h2 ^ np.uint64(length)
    h1 = h1 + h2
    h2 = h2 + h1
    h1, h2 = _mixed(h1), _mixed(h2)
    h1 = h1 + h2
    return h1, h2 + h1


def _rotated(value: Words, by: int) -> Words:
    return (value << np.uint64(by)) | (value >> np.uint64(64 - by))


def _mixed(value: Words) -> Words:
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))
