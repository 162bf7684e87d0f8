"""Bytes of a BPF map: as the kernel reports them, and as the cgroup is really charged.

The formulas stand here with their sources, what they are for each type of map in map_rules.
Sizes of maps in entries are in map_sizes.
"""

from __future__ import annotations

from capacity.cilium.map_rules import (
    CHARGED,
    MEMLOCK,
    MMAPABLE,
    NO_COMMON_LRU,
    NO_PREALLOC,
    charged_since,
    constants,
    footprint,
    release_of,
    shape_of,
)
from capacity.errors import FactError

__all__ = [
    "MMAPABLE",
    "NO_COMMON_LRU",
    "NO_PREALLOC",
    "charged_bytes",
    "maglev_charged_bytes",
    "memlock_bytes",
]


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
    shape = shape_of(map_type, key_size, value_size, max_entries, flags, entries, cpus)
    release = release_of(kernel)
    rule = MEMLOCK.get(shape.kind)
    if rule is None:
        known = ", ".join(MEMLOCK)
        msg = f"map type {map_type!r}: its memory is not known; known types: {known}"
        raise FactError(msg)
    if release < (5, 11):
        msg = f"kernel {kernel}: bytes of maps are known from 5.11 on; give a newer release"
        raise FactError(msg)
    if release < (6, 4):
        return footprint(shape)
    return rule(shape, constants(release))


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
    shape = shape_of(map_type, key_size, value_size, max_entries, flags, entries, cpus)
    release = release_of(kernel)
    rule = CHARGED.get(shape.kind)
    if rule is None or release < charged_since(shape):
        return None
    return rule(shape, constants(max(release, (6, 4))))


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
