"""Rules of the kernel for the bytes of a BPF map, by its type: reported, and charged to a cgroup.

Constants of the kernel are rows of facts/kernel.csv; where the rules come from is told at the
functions of map_memory, which is the door.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from capacity.errors import SettingsError

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
Release = tuple[int, int]
Constants = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """A map as it is created, on a node of so many possible CPUs; sizes in bytes."""

    kind: str
    key: int
    value: int
    size: int
    flags: int
    entries: int
    cpus: int

    @property
    def on_demand(self) -> bool:
        """Whether entries are allocated as they come; the kernel always preallocates LRU maps."""
        return bool(self.flags & NO_PREALLOC) and "lru" not in self.kind


def shape_of(
    map_type: str, key: int, value: int, size: int, flags: int, entries: int, cpus: int
) -> Shape:
    """Check what is told of a map; sizes are rounded as the kernel rounds them."""
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
    return Shape(map_type.lower(), key, value, size, flags, entries, cpus)


def release_of(kernel: str) -> Release:
    """Give major and minor of a kernel's release."""
    found = _RELEASE.match(kernel.strip())
    if found is None:
        msg = f"kernel {kernel!r} is not a release; write for example 6.18 or 5.15.0-105-generic"
        raise SettingsError(msg)
    return int(found[1]), int(found[2])


@cache
def constants(release: Release) -> Constants:
    """Constants of facts/kernel.csv that hold in a release: later rows replace earlier ones."""
    text = files("capacity.facts").joinpath("kernel.csv").read_text("utf-8")
    rows = sorted(
        csv.DictReader(text.splitlines()), key=lambda row: release_of(row["kernel_since"])
    )
    return {
        row["constant"]: int(row["value"])
        for row in rows
        if release_of(row["kernel_since"]) <= release
    }


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _pow2(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def footprint(s: Shape) -> int:
    """Bytes that kernels of 5.11 to 6.3 report, whatever the type."""
    value = s.value
    if "percpu" in s.kind:
        value = _up(s.value, 8) * s.cpus
    elif s.kind in _FD_MAPS:
        value = 4
    return _up(s.size * _up(s.key + value, 8), _PAGE)


def _htab_memlock(s: Shape, c: Constants) -> int:
    fixed = c["bpf_htab"] + c["bucket"] * _pow2(s.size) + c["htab_locks"] * s.cpus
    if s.on_demand:
        # 8 (16 for the per-CPU value) before each object of bpf_mem_alloc
        per_cpu = 2 * _LLIST_NODE if "percpu" in s.kind else 0
        return fixed + (_element(s, c) + _LLIST_NODE + per_cpu) * s.entries
    # Pointers to the spare elements, counted even where 6.16 and later have none
    pointers = 8 * s.cpus if s.kind in ("hash", "hash_of_maps") else 0
    return fixed + _element(s, c) * (s.size + _spares(s, c)) + pointers


def _element(s: Shape, c: Constants) -> int:
    if "percpu" in s.kind:
        value = 8 + _up(s.value, 8) * s.cpus
    else:
        value = 8 if s.kind == "hash_of_maps" else _up(s.value, 8)
    return c["htab_elem"] + _up(s.key, 8) + value


def _spares(s: Shape, c: Constants) -> int:
    if s.kind == "hash":
        return s.cpus
    return s.cpus * c["fd_htab_spares"] if s.kind == "hash_of_maps" else 0


def _array_memlock(s: Shape, c: Constants) -> int:
    if s.kind == "percpu_array":
        return c["bpf_array"] + (8 + _up(s.value, 8) * s.cpus) * s.size
    slots = (8 if s.kind in _FD_MAPS else _up(s.value, 8)) * s.size
    if s.flags & MMAPABLE:
        return _up(c["bpf_array"], _PAGE) + _up(slots, _PAGE)
    return c["bpf_array"] + slots


def _lpm_memlock(s: Shape, c: Constants) -> int:
    return _lpm_node(s, c) * s.entries


def _lpm_node(s: Shape, c: Constants) -> int:
    # The first 4 bytes of the key are the prefix length, which the node has already
    return c["lpm_trie_node"] + s.key - 4 + s.value


def _ringbuf_memlock(s: Shape, c: Constants) -> int:
    pages, pointers = _ringbuf_pages(s)
    return c["bpf_ringbuf_map"] + pages * _PAGE + pointers * 8


def _ringbuf_pages(s: Shape) -> tuple[int, int]:
    # Three pages of bookkeeping, and the data pages mapped twice in a row
    data = _up(s.size, _PAGE) // _PAGE
    return data + 3, 2 * data + 3


def _other_memlock(s: Shape, c: Constants) -> int:
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


def charged_since(s: Shape) -> Release:
    """Give the first release whose charge for such a map is known."""
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


def _htab_charged(s: Shape, c: Constants) -> int:
    fixed = _area(c["bpf_htab"]) + _area(c["bucket"] * _pow2(s.size))
    if s.on_demand:
        return fixed + _objects(_element(s, c), s.entries, s.cpus)
    return fixed + _area(_element(s, c) * (s.size + _spares(s, c)))


def _array_charged(s: Shape, c: Constants) -> int:
    size = _array_memlock(s, c)
    more = _area(c["bpf_array_aux"]) if s.kind == "prog_array" else 0
    return size if s.flags & MMAPABLE else _area(size) + more


def _queue_charged(s: Shape, c: Constants) -> int:
    return _area(_other_memlock(s, c))


def _lpm_charged(s: Shape, c: Constants) -> int:
    nodes = max(0, 2 * s.entries - 1)
    return _area(c["lpm_trie"]) + _objects(_lpm_node(s, c), nodes, s.cpus)


def _ringbuf_charged(s: Shape, c: Constants) -> int:
    pages, pointers = _ringbuf_pages(s)
    return _area(c["bpf_ringbuf_map"]) + pages * _PAGE + _area(pointers * 8)


_Rule = Callable[[Shape, Constants], int]
# Maps whose values are file descriptors to the user and pointers to the kernel
_FD_MAPS: Final = frozenset(
    {
        "prog_array", "perf_event_array", "cgroup_array", "array_of_maps", "hash_of_maps",
    }
)  # fmt: skip
MEMLOCK: Final[Mapping[str, _Rule]] = {
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
CHARGED: Final[Mapping[str, _Rule]] = {
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
