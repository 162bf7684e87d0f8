"""A load balancer's maps of one shape, filled, and its program linked to them: all descriptors.

Key and value layouts are those of lb.c. Memory is known before a map is made.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from capacity.cilium.map_memory import memlock_bytes
from capacity.errors import MeasureError
from capacity.measure import loader
from capacity.measure.bpf import (
    NO_COMMON_LRU,
    NO_PREALLOC,
    bpf_map,
    get,
    program,
    put,
    put_one,
)

# key and value bytes of each map, by the structs of lb.c
_SIZES: Final = {
    "service_map": (12, 16), "backend_map": (4, 12), "ct_map": (14, 56), "nat_map": (14, 40),
    "revnat_map": (4, 6), "op_map": (14, 56),
}  # fmt: skip
_STATE: Final = struct.Struct("=5Q24x")
# Flows of a CPU are 25 bits of the flow number (lb.c)
MOST_FLOWS: Final = 1 << 25
_SHARE_OF_MEMORY: Final = 0.5


@dataclass(frozen=True, slots=True)
class Shape:
    """What is measured.

    Attributes
    ----------
    program : str
        Section of lb.o: hook and stage.
    services, backends : int
        Services, and backends of each.
    maglev : int
        Entries of a service's Maglev table.
    ct_entries : int
        Size of the CT map; the NAT map is as large.
    flows : int
        Connections each CPU walks through; more than the maps hold are new connections.
    op_kind : str
        Kind of map of the op_* programs, which use `ct_entries` as its size.
    common_lru : bool
        One LRU list for all CPUs (default of Cilium), or one a CPU (bpf-distributed-lru).
    """

    program: str
    services: int = 100
    backends: int = 10
    maglev: int = 251
    ct_entries: int = 65_536
    flows: int = 1000
    op_kind: str = "lru_hash"
    common_lru: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.flows <= MOST_FLOWS:
            raise MeasureError(f"{self.flows:,} flows of a CPU; 1…{MOST_FLOWS:,} can be measured")
        if not 1 <= self.services <= 65_535 or not 1 <= self.maglev <= 131_071:
            msg = f"{self.services:,} services with {self.maglev:,} Maglev entries: "
            raise MeasureError(msg + "1…65,535 and 1…131,071 can be measured")
        if not 1 <= self.services * self.backends <= 1 << 22:
            raise MeasureError(f"{self.services * self.backends:,} backends; 1…4,194,304 can be")

    @property
    def is_operation(self) -> bool:
        """Whether one map alone is measured."""
        return "op_" in self.program

    def bytes(self) -> int:
        """Memory that the maps take in the kernel, at most. [byte]."""
        cpus = os.cpu_count() or 1
        sized = {
            "service_map": ("hash", self.services),
            "backend_map": ("hash", self.services * self.backends),
            "ct_map": ("lru_hash", self.ct_entries),
            "nat_map": ("lru_hash", self.ct_entries),
        }
        if self.is_operation:
            sized = {"op_map": ("lru_hash", self.ct_entries)}
        total = sum(
            memlock_bytes(kind, *_SIZES[name], entries, cpus=cpus)
            for name, (kind, entries) in sized.items()
        )
        return total + (0 if self.is_operation else self.services * (4 * self.maglev + 4096))


@dataclass(frozen=True, slots=True)
class State:
    """What the program counted on all CPUs."""

    packets: int
    failed: int
    created: int
    hits: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A program and the map of its counters, as descriptors; a writer where it only looks up."""

    shape: Shape
    program: int
    counters: int
    writer: int | None = None

    def state(self) -> State:
        """Give the sums over CPUs."""
        raw = get(self.counters, bytes(4), _STATE.size * possible_cpus())
        rows = np.array(list(_STATE.iter_unpack(raw))).sum(axis=0)
        return State(*(int(value) for value in rows[1:]))

    def reset(self) -> None:
        """Start at the first flow with counters at zero, on all CPUs."""
        put_one(self.counters, bytes(4), bytes(_STATE.size * possible_cpus()))


@cache
def possible_cpus() -> int:
    """CPUs that the kernel keeps values of per-CPU maps for."""
    text = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii")
    ends = [part.split("-") for part in text.strip().split(",")]
    return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)


def available_memory() -> int:
    """Memory that can be had without swapping: MemAvailable. [byte]."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise MeasureError("/proc/meminfo tells no MemAvailable")


@contextlib.contextmanager
def loaded(shape: Shape, code: dict[str, loader.Code]) -> Iterator[Loaded]:
    """Make and fill the maps of a shape and load its program; all are closed at the end.

    Raises
    ------
    MeasureError
        If the maps would take more than half of the free memory, or the kernel refuses.
    """
    if shape.program not in code:
        raise MeasureError(f"no program {shape.program}; known: {', '.join(sorted(code))}")
    wanted, free = shape.bytes(), available_memory()
    if wanted > free * _SHARE_OF_MEMORY:
        msg = f"maps of {shape} take {wanted >> 20:,} MiB; {free >> 20:,} MiB are free, of which "
        raise MeasureError(msg + "half may be taken: ask for smaller sizes")
    with contextlib.ExitStack() as stack:
        try:
            maps = _maps(shape, stack)
        except OSError as error:
            raise MeasureError(f"the kernel refuses maps of {shape}: {error.strerror}") from error
        numbers = {
            "flows": shape.flows, "services": shape.services, "maglev_size": shape.maglev,
            "step": 1,
        }  # fmt: skip
        symbols = numbers | {name: loader.Descriptor(number) for name, number in maps.items()}

        def load(name: str) -> int:
            linked = loader.link(code[name], symbols)
            return stack.enter_context(program(code[name].kind, linked, name.replace("/", "_")))

        writer = load("xdp/op_update") if shape.program == "xdp/op_lookup" else None
        yield Loaded(shape, load(shape.program), maps["state_map"], writer)


def _maps(shape: Shape, stack: contextlib.ExitStack) -> dict[str, int]:
    def make(name: str, kind: str, entries: int, flags: int = 0) -> int:
        return stack.enter_context(bpf_map(kind, *_SIZES[name], entries, flags=flags))

    lru = 0 if shape.common_lru else NO_COMMON_LRU
    maps = {"state_map": stack.enter_context(bpf_map("percpu_array", 4, _STATE.size, 1))}
    if shape.is_operation:
        flags = lru if shape.op_kind == "lru_hash" else 0
        maps["op_map"] = make("op_map", shape.op_kind, shape.ct_entries, flags)
        return maps
    maps["service_map"] = make("service_map", "hash", shape.services, NO_PREALLOC)
    maps["backend_map"] = make("backend_map", "hash", shape.services * shape.backends, NO_PREALLOC)
    maps["revnat_map"] = make("revnat_map", "hash", shape.services, NO_PREALLOC)
    maps["ct_map"] = make("ct_map", "lru_hash", shape.ct_entries, lru)
    maps["nat_map"] = make("nat_map", "lru_hash", shape.ct_entries, lru)
    maps["maglev_map"] = _maglev(shape, stack)
    _fill(shape, maps)
    return maps


def _fill(shape: Shape, maps: dict[str, int]) -> None:
    services = np.arange(shape.services, dtype="<u4")
    keys = np.zeros(shape.services, dtype="<u4,<u2,<u2,u1,u1,u2")
    keys["f0"], keys["f1"], keys["f3"] = 0xC0A80000 + services, 80 << 8, 6
    values = np.zeros(shape.services, dtype="<u4,<u2,<u2,u8")
    values["f1"], values["f2"] = shape.backends, services + 1
    put(maps["service_map"], keys.tobytes(), values.tobytes(), shape.services)
    reverse = np.zeros(shape.services, dtype="<u4,<u2")
    reverse["f0"], reverse["f1"] = 0xC0A80000 + services, 80 << 8
    numbers = (services + 1).astype("<u4")
    put(maps["revnat_map"], numbers.tobytes(), reverse.tobytes(), shape.services)
    ids = np.arange(1, shape.services * shape.backends + 1, dtype="<u4")
    backends = np.zeros(len(ids), dtype="<u4,<u2,u1,u1,<u2,u1,u1")
    backends["f0"], backends["f1"], backends["f2"] = 0xAC140000 + ids, 8080, 6
    put(maps["backend_map"], ids.tobytes(), backends.tobytes(), len(ids))


def _maglev(shape: Shape, stack: contextlib.ExitStack) -> int:
    """Make a table a service, with backends in an even and shuffled order, held by one map.

    Which backend stands where does not change what a packet costs; how many tables do.
    """
    size = 4 * shape.maglev
    rng = np.random.default_rng(0)
    template = stack.enter_context(bpf_map("array", 4, size, 1))
    outer = stack.enter_context(
        bpf_map("hash_of_maps", 4, 4, shape.services, flags=NO_PREALLOC, inner=template)
    )
    order = rng.permutation(shape.maglev)
    # Descriptors of tables are needed only until the outer map holds them
    for first in range(0, shape.services, 256):
        numbers = range(first, min(first + 256, shape.services))
        with contextlib.ExitStack() as held:
            tables = []
            for number in numbers:
                table = held.enter_context(bpf_map("array", 4, size, 1))
                slots = (1 + number * shape.backends + order % shape.backends).astype("<u4")
                put_one(table, bytes(4), slots.tobytes())
                tables.append(table)
            keys = np.asarray(numbers, dtype="<u4") + np.uint32(1)
            put(outer, keys.tobytes(), np.asarray(tables, dtype="<u4").tobytes(), len(tables))
    return outer
