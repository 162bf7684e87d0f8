"""Bytes of maps against the running kernel: real bpf(2) calls and the kernel's own type data.

One map at a time, each below 32 MiB, closed at once; skipped where bpf(2) is not permitted.
"""

from __future__ import annotations

import contextlib
import csv
import ctypes
import os
import platform
import re
import socket
import struct
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from capacity.cilium.map_memory import MMAPABLE, NO_COMMON_LRU, NO_PREALLOC, memlock_bytes

pytestmark = pytest.mark.kernel

# bpf(2) by machine, torvalds/linux arch/*/…/unistd; map types of include/uapi/linux/bpf.h
SYSCALL = {"x86_64": 321, "aarch64": 280}
TYPES = {
    "hash": 1, "array": 2, "prog_array": 3, "perf_event_array": 4, "percpu_hash": 5,
    "percpu_array": 6, "stack_trace": 7, "cgroup_array": 8, "lru_hash": 9, "lru_percpu_hash": 10,
    "lpm_trie": 11, "array_of_maps": 12, "hash_of_maps": 13, "devmap": 14, "sockmap": 15,
    "sockhash": 18, "queue": 22, "stack": 23, "devmap_hash": 25, "ringbuf": 27,
}  # fmt: skip
MAP_CREATE, MAP_UPDATE = 0, 2
# Kernels whose struct sizes were looked at (capacity/facts/kernel.csv)
VERIFIED = ("6.12", "6.18")
BTF = Path("/sys/kernel/btf/vmlinux")


def possible_cpus() -> int:
    text = Path("/sys/devices/system/cpu/possible").read_text()
    spans = [part.split("-") for part in text.strip().split(",")]
    return sum(int(span[-1]) - int(span[0]) + 1 for span in spans)


def bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    got = libc.syscall(SYSCALL[platform.machine()], command, buffer, len(attributes))
    if got < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(got)


@contextlib.contextmanager
def bpf_map(kind: str, key: int, value: int, size: int, flags: int = 0) -> Iterator[int]:
    """Give the file descriptor of a new map; maps of maps get an array as their inner shape."""
    with contextlib.ExitStack() as stack:
        inner = stack.enter_context(bpf_map("array", 4, 4, 1)) if "of_maps" in kind else 0
        attributes = struct.pack("=6I", TYPES[kind], key, value, size, flags, inner)
        descriptor = bpf(MAP_CREATE, attributes + bytes(48))
        stack.callback(os.close, descriptor)
        yield descriptor


def put(descriptor: int, key: bytes, value: bytes) -> None:
    keys, values = (ctypes.create_string_buffer(b, len(b)) for b in (key, value))
    addresses = ctypes.addressof(keys), ctypes.addressof(values)
    bpf(MAP_UPDATE, struct.pack("=IIQQQ", descriptor, 0, *addresses, 0))


def reported(descriptor: int) -> int:
    text = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    found = re.search(r"^memlock:\s*(\d+)$", text, re.MULTILINE)
    assert found is not None, text
    return int(found[1])


@pytest.fixture(scope="module", autouse=True)
def permitted() -> None:
    """Skip where this process may not create maps, or the kernel is one that nobody looked at."""
    if platform.system() != "Linux" or platform.machine() not in SYSCALL:
        pytest.skip(f"no bpf(2) known for {platform.system()} on {platform.machine()}")
    release = ".".join(platform.release().split(".")[:2])
    if release not in VERIFIED:
        pytest.skip(f"struct sizes of Linux {release} are not verified, only {VERIFIED}")
    try:
        # Tries need CAP_BPF or root wherever unprivileged bpf(2) is allowed
        with bpf_map("lpm_trie", 8, 4, 1, NO_PREALLOC):
            pass
    except OSError as error:
        pytest.skip(f"bpf(2) cannot create maps here: {error.strerror} (errno {error.errno})")


def computed(kind: str, key: int, value: int, size: int, flags: int, entries: int = 0) -> int:
    return memlock_bytes(
        kind, key, value, size,
        flags=flags, entries=entries, cpus=possible_cpus(), kernel=platform.release(),
    )  # fmt: skip


# Types whose values are file descriptors or device numbers
DESCRIPTORS = (
    "prog_array", "perf_event_array", "cgroup_array", "array_of_maps", "hash_of_maps", "sockmap",
    "devmap", "devmap_hash",
)  # fmt: skip
Shape = tuple[str, int, int, int, int]


@st.composite
def shapes(draw: st.DrawFn, kinds: tuple[str, ...]) -> Shape:
    """Shapes that the kernel accepts."""
    kind = draw(st.sampled_from(kinds))
    size = draw(st.integers(1, 5000))
    key, value = 4, draw(st.integers(1, 300))
    flags = 0
    if kind.startswith(("hash", "percpu_hash", "lru")):
        key = draw(st.integers(1, 80))
        flags = draw(st.sampled_from([0, NO_COMMON_LRU if "lru" in kind else NO_PREALLOC]))
    if kind in DESCRIPTORS:
        value = 4
    elif kind == "sockhash":
        key, value = draw(st.integers(1, 80)), 4
    elif kind == "lpm_trie":
        key, flags = 4 + draw(st.integers(1, 80)), NO_PREALLOC
    elif kind == "array":
        flags = draw(st.sampled_from([0, MMAPABLE]))
    elif kind in ("queue", "stack"):
        key = 0
    elif kind == "stack_trace":
        value = 8 * draw(st.integers(1, 127))
    elif kind == "ringbuf":
        key, value, size = 0, 0, os.sysconf("SC_PAGE_SIZE") << draw(st.integers(0, 8))
    return kind, key, value, size, flags


@settings(max_examples=400)
@given(shapes(tuple(TYPES)))
def test_an_empty_map_of_any_type_takes_what_the_kernel_reports(shape: Shape):
    assume(computed(*shape) < 32 << 20)
    with bpf_map(*shape) as descriptor:
        assert computed(*shape) == reported(descriptor)


ON_DEMAND = ("hash", "percpu_hash", "hash_of_maps", "lpm_trie")


@settings(max_examples=100)
@given(shapes((*ON_DEMAND, "lru_hash", "array")), st.integers(1, 300))
def test_a_filled_map_takes_what_the_kernel_reports(shape: Shape, most: int):
    kind, key, value, size, flags = shape
    assume(computed(*shape, entries=most) < 32 << 20)
    width = key - 4 if kind == "lpm_trie" else key
    # The kernel waits for its readers at each update of a map of maps: some 10 ms
    entries = min(most, size, 256 ** min(width, 2), 5 if kind == "hash_of_maps" else most)
    with bpf_map(*shape) as descriptor, bpf_map("array", 4, 4, 1) as inner:
        for number in range(entries):
            put(descriptor, *pair(kind, key, value, number, inner))
        assert computed(*shape, entries=entries) == reported(descriptor)


def pair(kind: str, key: int, value: int, number: int, inner: int) -> tuple[bytes, bytes]:
    if kind == "hash_of_maps":
        held = struct.pack("=I", inner)
    else:
        held = bytes(-(-value // 8) * 8 * possible_cpus() if "percpu" in kind else value)
    if kind == "lpm_trie":
        prefix = number.to_bytes(max(2, key - 4), "little")[: key - 4]
        return struct.pack("=I", 8 * (key - 4)) + prefix, held
    return number.to_bytes(max(2, key), "little")[:key], held


@pytest.mark.parametrize(
    ("shape", "keys"),
    [
        (("sockhash", 1, 4, 50, 0), 5),
        (("sockhash", 13, 4, 50, 0), 5),
        (("sockmap", 4, 4, 50, 0), 5),
    ],
)
def test_a_map_of_sockets_takes_what_the_kernel_reports(shape: Any, keys: int):
    with bpf_map(*shape) as descriptor, socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        for number in range(keys):
            put(descriptor, number.to_bytes(shape[1], "little"), struct.pack("=I", server.fileno()))
        assert computed(*shape, entries=keys) == reported(descriptor)


@pytest.mark.parametrize("kind", ["devmap", "devmap_hash"])
def test_a_map_of_devices_takes_what_the_kernel_reports(kind: str):
    loopback = struct.pack("=I", socket.if_nametoindex("lo"))
    with bpf_map(kind, 4, 4, 10) as descriptor:
        put(descriptor, struct.pack("=I", 1), loopback)
        assert computed(kind, 4, 4, 10, 0, entries=1) == reported(descriptor)


# The maps that take most memory on a node: name → shape at the sizes of a 24 GB node
CILIUM = {
    "cilium_ct4_global": ("lru_hash", 14, 56, 221_723, 0),
    "cilium_snat_v4_external": ("lru_hash", 14, 40, 221_723, NO_COMMON_LRU),
    "cilium_lb4_services_v2": ("hash", 12, 12, 65_536, NO_PREALLOC),
    "cilium_lxc": ("hash", 20, 48, 65_535, 0),
    "cilium_ipcache": ("lpm_trie", 24, 12, 512_000, NO_PREALLOC),
    "cilium_metrics": ("percpu_hash", 8, 16, 1024, 0),
    "cilium_call_policy": ("prog_array", 4, 4, 65_535, 0),
}


@pytest.mark.parametrize("name", CILIUM)
def test_ciliums_largest_maps_take_what_the_kernel_reports(name: str):
    with bpf_map(*CILIUM[name]) as descriptor:
        assert computed(*CILIUM[name]) == reported(descriptor)


def test_struct_sizes_are_those_of_the_kernels_own_type_data():
    if not BTF.is_file():
        pytest.skip(f"this kernel has no type data at {BTF}")
    sizes = struct_sizes(BTF.read_bytes())
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    rows = csv.DictReader(files("capacity.facts").joinpath("kernel.csv").read_text().splitlines())
    known: dict[str, int] = {}
    for row in rows:
        verified = tuple(int(part) for part in row["verified"].split("."))
        if tuple(int(part) for part in row["kernel_since"].split(".")) <= release <= verified:
            known[row["constant"]] = int(row["value"])
    own = {name: sizes[name] for name in known if name in sizes}
    assert own == {name: known[name] for name in own}
    assert len(own) > (14 if release >= (6, 18) else 2)


def struct_sizes(data: bytes) -> dict[str, int]:
    """Sizes of named structs; the format is Documentation/bpf/btf.rst of torvalds/linux."""
    magic, header, types, type_bytes, texts = struct.unpack_from("=H2xIIII", data)
    assert magic == 0xEB9F
    # Bytes after the head of a type: of each member, or of the type
    member = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
    extra = {1: 4, 3: 12, 14: 4, 17: 4}
    out: dict[str, int] = {}
    at, end = header + types, header + types + type_bytes
    while at < end:
        name, info, size = struct.unpack_from("=III", data, at)
        kind, count = info >> 24 & 31, info & 0xFFFF
        if kind == 4:
            start = header + texts + name
            out.setdefault(data[start : data.index(b"\0", start)].decode(), size)
        at += 12 + member.get(kind, 0) * count + extra.get(kind, 0)
    return out
