"""The agent's dynamic sizing of BPF maps: entries from the memory of a node.

Numbers are rows of facts/dynamic.csv; what the agent says of explicit sizes is in map_sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from capacity import facts
from capacity.errors import SettingsError

RATIO: Final = "bpf-map-dynamic-size-ratio"
CT_TCP: Final = "bpf-ct-global-tcp-max"
CT_ANY: Final = "bpf-ct-global-any-max"
NAT: Final = "bpf-nat-global-max"
NEIGH: Final = "bpf-neigh-global-max"
SOCK: Final = "bpf-sock-rev-map-max"
DISTRIBUTED: Final = "bpf-distributed-lru"
DYNAMIC: Final = (CT_TCP, CT_ANY, NAT, NEIGH, SOCK)

# Releases that brought bpf-distributed-lru with `0 = dynamic` for the socket map, and rounding of
# explicit sizes: cilium/cilium-cli 6e65fa094 (2025-05-27) and eb3291189 (2026-01-13), vendored
# pkg/option/config.go and pkg/loadbalancer/config.go.
DISTRIBUTED_SINCE: Final = (1, 18)
ROUNDED_SINCE: Final = (1, 19)

Sizes = dict[str, int]
Facts = Mapping[str, Mapping[str, Any]]
_Release = tuple[int, int]


def dynamic_sizes(
    memory_bytes: int,
    ratio: float,
    *,
    version: str,
    explicit: Mapping[str, int] | None = None,
    possible_cpus: int = 1,
    element_sizes: Mapping[str, int] | None = None,
    distributed_lru: bool = False,
) -> dict[str, int]:
    """Sizes of the dynamically sized maps as an agent with this memory computes them.

    Parameters
    ----------
    memory_bytes
        MemTotal of the node; may be 0 where the ratio is. [byte]
    ratio
        Option ``bpf-map-dynamic-size-ratio``, 0…1; 0 switches dynamic sizing off. [1]
    version
        Cilium version, e.g. ``1.17``.
    explicit
        Options that are set, option → entries. A set option keeps its value, also where that is
        the default, and gives no memory back to the others. Options of maps that are not sized
        dynamically are left alone; `validate` judges them. [1]
    possible_cpus
        Possible CPUs of the node; matters with `distributed_lru` only. [1]
    element_sizes
        Bytes of key and value, option → bytes, in place of the facts. [byte]
    distributed_lru
        Option ``bpf-distributed-lru``, 1.18 and later.

    Returns
    -------
    dict of str to int
        Option → entries of one IP family's maps, before the agent's limit check. [1]

    Raises
    ------
    SettingsError
        If the memory, the ratio or the CPUs are out of bounds, or the agent would not start with
        such a distributed LRU.
    FactError
        If the version is not known.

    Notes
    -----
    With A = ⌊memory·ratio⌋ (the float product cut) and T = the bytes of all five maps at their
    default sizes, each map gets ⌊default·A / T⌋ entries, within its minimum and maximum. NAT that
    exceeds the CT maps together gets two thirds of them; the neighbor map gets what NAT got.
    A distributed LRU rounds results up to a multiple of the CPUs (maxima down), from 1.19 on
    also explicit sizes and a capped NAT. From 1.18 on ``bpf-sock-rev-map-max: 0`` means dynamic.
    Products of 2⁶³ and more, which wrap in the agent (A above 16 TiB), do not wrap here.

    References
    ----------
    .. [1] cilium/cilium pkg/option/config.go ``calculateDynamicBPFMapSizes``, b095517e62 (1.17dev),
       the same in 24143732b6 (1.14) to 1.17; 1.18 to 1.20: cilium/cilium-cli 011bd4acc, eb3291189,
       fc661364d, vendored pkg/option/config.go and pkg/loadbalancer/config.go.

    Examples
    --------
    >>> dynamic_sizes(32 << 30, 0.0025, version="1.17")["bpf-ct-global-tcp-max"]
    301401
    >>> sizes = dynamic_sizes(32 << 30, 0.0025, version="1.17", explicit={CT_TCP: 65536})
    >>> sizes["bpf-nat-global-max"], sizes["bpf-ct-global-any-max"]
    (144157, 150700)
    """
    release = release_of(version)
    check(memory_bytes, ratio, possible_cpus)
    if distributed_lru and (release < DISTRIBUTED_SINCE or ratio == 0):
        why = f"the agent has it from 1.18 on and wants a ratio above 0; here {version}, {ratio:g}"
        raise SettingsError(f"{DISTRIBUTED}: {why}")
    known = dynamic_facts(version)
    given = {name: int(size) for name, size in (explicit or {}).items() if name in DYNAMIC}
    if release >= DISTRIBUTED_SINCE and given.get(SOCK) == 0:
        del given[SOCK]
    if ratio == 0:
        return {name: given.get(name, int(known[name]["default"])) for name in DYNAMIC}
    cpus = possible_cpus if distributed_lru else 1
    total = sum(
        known[name]["default"] * (element_sizes or {}).get(name, known[name]["element_size"])
        for name in DYNAMIC
    )
    sizes = _filled(given, known, int(float(memory_bytes) * ratio), total, cpus)
    if distributed_lru and release >= ROUNDED_SINCE:
        sizes = {name: aligned(size, cpus, known) for name, size in sizes.items()}
    return {name: sizes[name] for name in DYNAMIC}


def _filled(given: Mapping[str, int], known: Facts, free: int, total: int, cpus: int) -> Sizes:
    """Sizes that are given, and for the others their share of the free bytes."""
    sizes = dict(given)
    for name in (CT_TCP, CT_ANY, NAT, SOCK):
        if name not in given:
            sizes[name] = _share(known[name], free, total, cpus)
    tables = sizes[CT_TCP] + sizes[CT_ANY]
    if NAT not in given and sizes[NAT] > tables:
        sizes[NAT] = tables * 2 // 3
    sizes.setdefault(NEIGH, sizes[NAT])
    return sizes


def _share(fact: Mapping[str, Any], free: int, total: int, cpus: int) -> int:
    entries = up(fact["default"] * free // total, cpus)
    if entries < fact["minimum"]:
        return up(fact["minimum"], cpus)
    return fact["maximum"] // cpus * cpus if entries > fact["maximum"] else entries


def aligned(size: int, cpus: int, known: Facts) -> int:
    """Size as the kernel makes it of a distributed LRU, capped by the agent."""
    most = known[NAT]["maximum"] // cpus * cpus
    return size if size <= 0 else min(up(size, cpus), most)


def up(number: int, multiple: int) -> int:
    """Round up to a multiple."""
    return -(-number // multiple) * multiple


def check(memory: int, ratio: float, cpus: int) -> None:
    """Refuse memory, ratio and CPUs that no node has."""
    if not 0 <= ratio <= 1:
        raise SettingsError(f"{RATIO}: {ratio!r} is out of bounds; wanted 0 (off) to 1")
    if memory < 0 or (memory == 0 and ratio > 0):
        raise SettingsError(f"memory: {memory} bytes; wanted the MemTotal of a node, above 0")
    if cpus < 1:
        raise SettingsError(f"possible CPUs: {cpus}; wanted 1 or more")


def release_of(version: str) -> _Release:
    """Give major and minor of a version of Cilium."""
    major, minor = facts.minor(version).split(".")
    return int(major), int(minor)


@cache
def dynamic_facts(version: str) -> Facts:
    """Facts of the maps that are sized dynamically, by option."""
    return {row["option"]: row for row in facts.dynamic(version).iter_rows(named=True)}
