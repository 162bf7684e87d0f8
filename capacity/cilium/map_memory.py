"""Bytes of a BPF map: as the kernel reports them, and as the cgroup is really charged.

Constants of the kernel are rows of facts/kernel.csv; the formulas stand here with their sources.
Sizes of maps in entries are in map_sizes.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from capacity.errors import FactError, SettingsError

# Flags of bpf(2), torvalds/linux include/uapi/linux/bpf.h
NO_PREALLOC: Final = 1
NO_COMMON_LRU: Final = 2
MMAPABLE: Final = 1 << 10

# Page size of x86_64 and of most arm64 kernels; with larger pages, rounding is coarser.
_PAGE: Final = 4096
# Bytes a slab object costs a memory cgroup beside its size class: its obj_cgroup pointer,
# torvalds/linux mm/memcontrol.c obj_full_size (5.9 and later).
_OBJ_CGROUP: Final = 8
# Bytes bpf_mem_alloc puts before each object: torvalds/linux kernel/bpf/memalloc.c LLIST_NODE_SZ.
_LLIST_NODE: Final = 8
# Size classes of kmalloc up to 8 KiB: torvalds/linux include/linux/slab.h.
_CLASSES: Final = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
# Above this many bytes a map's memory is whole pages (vmalloc), below it comes from kmalloc:
# torvalds/linux kernel/bpf/syscall.c __bpf_map_area_alloc, PAGE_SIZE << PAGE_ALLOC_COSTLY_ORDER.
_KMALLOC_MOST: Final = _PAGE << 3

_RELEASE = re.compile(r"v?(\d+)\.(\d+)")
_Release = tuple[int, int]
_Constants = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Shape:
    kind: str
    key: int
    value: int
    size: int
    flags: int
    entries: int
    cpus: int

    @property
    def on_demand(self) -> bool:
        return bool(self.flags & NO_PREALLOC) and "lru" not in self.kind


def memlock_bytes(
    map_type: str,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    flags: int = 0,
    entries: int = 0,
    cpus: int,
    kernel: str = "6.18",
) -> int:
    """Bytes the kernel reports for a map: `memlock` of fdinfo, `bytes_memlock` of bpftool.

    Parameters
    ----------
    map_type
        As bpftool writes it: ``hash``, ``lru_hash``, ``lpm_trie`` … (any case).
    key_size, value_size
        Of the map as created, a value once (not times the CPUs). [byte]
    max_entries
        As asked for at creation. [1]
    flags
        Flags at creation: 1 NO_PREALLOC, 2 NO_COMMON_LRU, 1024 MMAPABLE; others change nothing.
        NO_PREALLOC is ignored for LRU maps, which the kernel always preallocates.
    entries
        Entries now in the map; counts for LPM tries, maps without preallocation, sockhash and
        devmap only. [1]
    cpus
        Possible CPUs of the node (``/sys/devices/system/cpu/possible``), not those online. [1]
    kernel
        Release, as ``uname -r`` writes it.

    Returns
    -------
    int
        [byte]

    Raises
    ------
    SettingsError
        If an argument is negative or the release cannot be read.
    FactError
        If the map type is not known, or the kernel is older than 5.11.

    Notes
    -----
    From 6.4 on every map type counts its own memory. With N = max_entries (rounded up to a
    multiple of the CPUs with NO_COMMON_LRU), C = CPUs, E = entries, K and V = key and value size,
    r = rounded up to 8, p = up to a power of two, and structs as in facts/kernel.csv:

    * hash family: bpf_htab + 16·p(N) + 32·C, and an element of 48 + r(K) + r(V) for each of N
      entries; plus C spare elements and 8·C for a plain preallocated hash; for each of E entries
      instead, and 8 more, with NO_PREALLOC. A per-CPU value is a pointer and r(V)·C.
    * arrays: bpf_array + r(V)·N; rounded to pages where MMAPABLE; + N·(8 + r(V)·C) per CPU.
    * lpm_trie: (lpm_trie_node + K − 4 + V)·E; branch nodes and the trie itself are left out.

    Of 6.4 … 6.18 only 6.12 (source, BTF) and 6.18 (bpf(2), BTF) were looked at. Struct sizes of
    the others are the nearest of these two (up to 6.14 those of 6.12), which is at most 64 bytes
    a map off; the trie node shrank in 6.13 and the spares of hash_of_maps went in 6.16, which is
    from the history of the source. 6.19 and later are taken as 6.18.

    From 5.11 to 6.3 the report is page(N·r(K + V')), with V' = r(V)·C for per-CPU maps and 4 for
    maps that hold file descriptors, whatever the occupancy. Up to 5.10 each type charged pages by
    a rule of its own, which is not here.

    References
    ----------
    .. [1] Linux 6.12.117 kernel/bpf/{hashtab,arraymap,lpm_trie,ringbuf,stackmap,queue_stack_maps,
       devmap}.c, net/core/sock_map.c: functions ``*_mem_usage``.
    .. [2] Linux 6.1.192 kernel/bpf/syscall.c ``bpf_map_memory_footprint``.

    Examples
    --------
    >>> memlock_bytes("lru_hash", 14, 56, 524288, cpus=2)
    71304064
    >>> memlock_bytes("lpm_trie", 24, 12, 512000, flags=1, entries=512000, cpus=2)
    28672000
    >>> memlock_bytes("lru_hash", 14, 56, 524288, cpus=2, kernel="6.1.0-56-amd64")
    37748736
    """
    shape = _shape(map_type, key_size, value_size, max_entries, flags, entries, cpus)
    release = _release(kernel)
    rule = _MEMLOCK.get(shape.kind)
    if rule is None:
        known = ", ".join(_MEMLOCK)
        msg = f"map type {map_type!r}: its memory is not known; known types: {known}"
        raise FactError(msg)
    if release < (5, 11):
        msg = f"kernel {kernel}: bytes of maps are known from 5.11 on; give a newer release"
        raise FactError(msg)
    if release < (6, 4):
        return _footprint(shape)
    return rule(shape, _constants(release))


def charged_bytes(
    map_type: str,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    flags: int = 0,
    entries: int = 0,
    cpus: int,
    kernel: str = "6.18",
) -> int | None:
    """Bytes a map really costs the memory cgroup of its creator; null where that is not known.

    Parameters
    ----------
    map_type, key_size, value_size, max_entries, flags, entries, cpus, kernel
        As for `memlock_bytes`.

    Returns
    -------
    int or None
        [byte]; None for per-CPU maps, for types that were not measured, before 5.11 (maps were
        not charged to cgroups), for LPM tries before 6.13 and for hashes without preallocation
        before 6.1 (another allocator).

    Raises
    ------
    SettingsError
        If an argument is negative or the release cannot be read.

    Notes
    -----
    The parts of a map are allocated one by one: up to 8 KiB in the next size class of kmalloc
    plus 8 bytes, up to 32 KiB in a power of two pages, above that in whole pages. Entries of
    LPM tries and of maps without preallocation are objects of their own, with 8 bytes before
    them; a CPU keeps some in store (about 50 of up to 256 bytes), here as if one CPU wrote all
    entries. A trie of E distinct prefixes of one length has E − 1 branch nodes of the same size;
    nested prefixes need fewer, so the figure is an upper bound there. Per-CPU counters of hashes
    (40 bytes a CPU) are left out. Inner maps are extra; see `maglev_charged_bytes`.

    References
    ----------
    .. [1] Linux 6.12.117 kernel/bpf/{syscall,hashtab,lpm_trie,memalloc}.c, mm/slab_common.c.
    .. [2] Measured on Linux 6.18.44, x86_64, 2 CPUs: kmem of a private cgroup within 1 %, for
       single maps of 0.1 to 107 MB and for 200 maps each of shapes of 0.5 to 140 KB
       (tests/golden/real_grid.csv, charged_small.csv). Other kernels: by their source only.

    Examples
    --------
    >>> charged_bytes("lpm_trie", 24, 12, 512000, flags=1, entries=512000, cpus=2)
    73731400
    >>> charged_bytes("percpu_hash", 8, 16, 1024, cpus=2) is None
    True
    """
    shape = _shape(map_type, key_size, value_size, max_entries, flags, entries, cpus)
    release = _release(kernel)
    rule = _CHARGED.get(shape.kind)
    if rule is None or release < _charged_since(shape):
        return None
    return rule(shape, _constants(max(release, (6, 4))))


def maglev_charged_bytes(
    table_size: int, services: int, max_entries: int = 65536, *, cpus: int, kernel: str = "6.18"
) -> int | None:
    """Bytes that Maglev tables of one IP family cost the memory cgroup.

    Parameters
    ----------
    table_size
        M, option ``bpf-lb-maglev-table-size``. [1]
    services
        Frontends with a table of their own. [1]
    max_entries
        Size of the outer map, ``cilium_lb4_maglev`` or ``cilium_lb6_maglev``. [1]
    cpus, kernel
        As for `memlock_bytes`.

    Returns
    -------
    int or None
        [byte]; None where `charged_bytes` knows nothing of such maps.

    Raises
    ------
    SettingsError
        If an argument is negative or the release cannot be read.

    Notes
    -----
    The outer map is a hash of maps without preallocation, each inner map an array of one value of
    4·M bytes, as pkg/maps/lbmap/maglev*.go of cilium/cilium b095517e62 makes them. Within 1 % of
    8 measured cases (M 251 and 16381; 100, 1000, 5000 services). A process that keeps the inner
    maps open pays 400 bytes more for each (file and dentry); the agent closes them.

    Examples
    --------
    >>> round(maglev_charged_bytes(16381, 1000, cpus=2) / 2**20, 1)
    67.5
    """
    outer = charged_bytes(
        "hash_of_maps", 2, 4, max_entries,
        flags=NO_PREALLOC, entries=services, cpus=cpus, kernel=kernel,
    )  # fmt: skip
    inner = charged_bytes("array", 4, 4 * table_size, 1, cpus=cpus, kernel=kernel)
    return None if outer is None or inner is None else outer + services * inner


def _shape(
    map_type: str, key: int, value: int, size: int, flags: int, entries: int, cpus: int
) -> _Shape:
    given = {
        "key_size": key,
        "value_size": value,
        "max_entries": size,
        "flags": flags,
        "entries": entries,
    }
    for name, number in given.items():
        if number < 0:
            raise SettingsError(f"{name}: {number} is negative; wanted 0 or more")
    if cpus < 1:
        raise SettingsError(f"cpus: {cpus} possible CPUs; wanted 1 or more")
    if flags & NO_COMMON_LRU:
        size = _up(size, cpus)
    return _Shape(map_type.lower(), key, value, size, flags, entries, cpus)


def _release(kernel: str) -> _Release:
    found = _RELEASE.match(kernel.strip())
    if found is None:
        msg = f"kernel {kernel!r} is not a release; write for example 6.18 or 5.15.0-105-generic"
        raise SettingsError(msg)
    return int(found[1]), int(found[2])


@cache
def _constants(release: _Release) -> _Constants:
    """Constants of facts/kernel.csv that hold in a release: later rows replace earlier ones."""
    text = files("capacity.facts").joinpath("kernel.csv").read_text("utf-8")
    rows = sorted(csv.DictReader(text.splitlines()), key=lambda row: _release(row["kernel_since"]))
    return {
        row["constant"]: int(row["value"])
        for row in rows
        if _release(row["kernel_since"]) <= release
    }


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _pow2(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def _footprint(s: _Shape) -> int:
    value = s.value
    if "percpu" in s.kind:
        value = _up(s.value, 8) * s.cpus
    elif s.kind in _FD_MAPS:
        value = 4
    return _up(s.size * _up(s.key + value, 8), _PAGE)


def _htab_memlock(s: _Shape, c: _Constants) -> int:
    fixed = c["bpf_htab"] + c["bucket"] * _pow2(s.size) + c["htab_locks"] * s.cpus
    if s.on_demand:
        # 8 (16 for the per-CPU value) before each object of bpf_mem_alloc
        per_cpu = 2 * _LLIST_NODE if "percpu" in s.kind else 0
        return fixed + (_element(s, c) + _LLIST_NODE + per_cpu) * s.entries
    # Pointers to the spare elements, counted even where 6.16 and later have none
    pointers = 8 * s.cpus if s.kind in ("hash", "hash_of_maps") else 0
    return fixed + _element(s, c) * (s.size + _spares(s, c)) + pointers


def _element(s: _Shape, c: _Constants) -> int:
    if "percpu" in s.kind:
        value = 8 + _up(s.value, 8) * s.cpus
    else:
        value = 8 if s.kind == "hash_of_maps" else _up(s.value, 8)
    return c["htab_elem"] + _up(s.key, 8) + value


def _spares(s: _Shape, c: _Constants) -> int:
    if s.kind == "hash":
        return s.cpus
    return s.cpus * c["fd_htab_spares"] if s.kind == "hash_of_maps" else 0


def _array_memlock(s: _Shape, c: _Constants) -> int:
    if s.kind == "percpu_array":
        return c["bpf_array"] + (8 + _up(s.value, 8) * s.cpus) * s.size
    slots = (8 if s.kind in _FD_MAPS else _up(s.value, 8)) * s.size
    if s.flags & MMAPABLE:
        return _up(c["bpf_array"], _PAGE) + _up(slots, _PAGE)
    return c["bpf_array"] + slots


def _lpm_memlock(s: _Shape, c: _Constants) -> int:
    return _lpm_node(s, c) * s.entries


def _lpm_node(s: _Shape, c: _Constants) -> int:
    # The first 4 bytes of the key are the prefix length, which the node has already
    return c["lpm_trie_node"] + s.key - 4 + s.value


def _ringbuf_memlock(s: _Shape, c: _Constants) -> int:
    pages, pointers = _ringbuf_pages(s)
    return c["bpf_ringbuf_map"] + pages * _PAGE + pointers * 8


def _ringbuf_pages(s: _Shape) -> tuple[int, int]:
    # Three pages of bookkeeping, and the data pages mapped twice in a row
    data = _up(s.size, _PAGE) // _PAGE
    return data + 3, 2 * data + 3


def _other_memlock(s: _Shape, c: _Constants) -> int:
    match s.kind:
        case "sockhash":
            element = c["bpf_shtab_elem"] + _up(s.key, 8)
            return c["bpf_shtab"] + c["bucket"] * _pow2(s.size) + element * s.entries
        case "sockmap":
            return c["bpf_stab"] + 8 * s.size
        case "stack_trace":
            return c["bpf_stack_map"] + 8 * _pow2(s.size) + (16 + s.value) * s.size
        case "devmap":
            return c["bpf_dtab"] + 8 * s.size + c["bpf_dtab_netdev"] * s.entries
        case "devmap_hash":
            return c["bpf_dtab"] + 8 * _pow2(s.size) + c["bpf_dtab_netdev"] * s.entries
        case _:  # queue, stack
            return c["bpf_queue_stack"] + (s.size + 1) * s.value


def _charged_since(s: _Shape) -> _Release:
    if s.kind == "lpm_trie":
        return (6, 13)
    return (6, 1) if s.on_demand else (5, 11)


def _area(size: int) -> int:
    """Bytes charged for one allocation of a map."""
    if size <= _CLASSES[-1]:
        return next(c for c in _CLASSES if c >= size) + _OBJ_CGROUP
    return _pow2(size) if size <= _KMALLOC_MOST else _up(size, _PAGE)


def _objects(size: int, count: int, cpus: int) -> int:
    """Bytes charged for objects of bpf_mem_alloc, with those its CPUs keep in store."""
    # torvalds/linux kernel/bpf/memalloc.c: init_refill_work, prefill_mem_cache
    unit = size + _LLIST_NODE
    small = unit <= 256
    first = 4 if small else 1
    low = 32 if small else max(32 * 256 // unit, 1)
    high = 96 if small else max(96 * 256 // unit, 3)
    batch = max((high - low) // 4 * 3, 1)
    # A CPU that took objects refills by batches until `low` are free
    refills = -(-(count + low - first) // batch) if count else 0
    return (cpus * first + refills * batch) * _area(unit)


def _htab_charged(s: _Shape, c: _Constants) -> int:
    fixed = _area(c["bpf_htab"]) + _area(c["bucket"] * _pow2(s.size))
    if s.on_demand:
        return fixed + _objects(_element(s, c), s.entries, s.cpus)
    return fixed + _area(_element(s, c) * (s.size + _spares(s, c)))


def _array_charged(s: _Shape, c: _Constants) -> int:
    size = _array_memlock(s, c)
    more = _area(c["bpf_array_aux"]) if s.kind == "prog_array" else 0
    return size if s.flags & MMAPABLE else _area(size) + more


def _queue_charged(s: _Shape, c: _Constants) -> int:
    return _area(_other_memlock(s, c))


def _lpm_charged(s: _Shape, c: _Constants) -> int:
    nodes = max(0, 2 * s.entries - 1)
    return _area(c["lpm_trie"]) + _objects(_lpm_node(s, c), nodes, s.cpus)


def _ringbuf_charged(s: _Shape, c: _Constants) -> int:
    pages, pointers = _ringbuf_pages(s)
    return _area(c["bpf_ringbuf_map"]) + pages * _PAGE + _area(pointers * 8)


_Rule = Callable[[_Shape, _Constants], int]
# Maps whose values are file descriptors to the user and pointers to the kernel
_FD_MAPS: Final = frozenset(
    {
        "prog_array", "perf_event_array", "cgroup_array", "array_of_maps", "hash_of_maps",
    }
)  # fmt: skip
_MEMLOCK: Final[Mapping[str, _Rule]] = {
    "hash": _htab_memlock,
    "lru_hash": _htab_memlock,
    "percpu_hash": _htab_memlock,
    "lru_percpu_hash": _htab_memlock,
    "hash_of_maps": _htab_memlock,
    "array": _array_memlock,
    "percpu_array": _array_memlock,
    "prog_array": _array_memlock,
    "perf_event_array": _array_memlock,
    "cgroup_array": _array_memlock,
    "array_of_maps": _array_memlock,
    "lpm_trie": _lpm_memlock,
    "ringbuf": _ringbuf_memlock,
    "sockhash": _other_memlock,
    "sockmap": _other_memlock,
    "stack_trace": _other_memlock,
    "queue": _other_memlock,
    "stack": _other_memlock,
    "devmap": _other_memlock,
    "devmap_hash": _other_memlock,
}
_CHARGED: Final[Mapping[str, _Rule]] = {
    "hash": _htab_charged,
    "lru_hash": _htab_charged,
    "hash_of_maps": _htab_charged,
    "array": _array_charged,
    "prog_array": _array_charged,
    "perf_event_array": _array_charged,
    "cgroup_array": _array_charged,
    "array_of_maps": _array_charged,
    "lpm_trie": _lpm_charged,
    "ringbuf": _ringbuf_charged,
    "queue": _queue_charged,
    "stack": _queue_charged,
}
