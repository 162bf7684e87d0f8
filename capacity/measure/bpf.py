"""bpf(2) by ctypes: maps, programs, test runs. Descriptors belong to the caller, who closes them.

Layouts of the attributes are those of `union bpf_attr` in include/uapi/linux/bpf.h of
torvalds/linux; fields that are left out are zero, which the kernel takes for not given.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from capacity.errors import MeasureError

# System call numbers: torvalds/linux arch/x86/entry/syscalls/syscall_64.tbl and
# include/uapi/asm-generic/unistd.h
SYSCALLS: Final = {"x86_64": 321, "aarch64": 280}
MAP_TYPES: Final = {
    "hash": 1, "array": 2, "percpu_array": 6, "lru_hash": 9, "hash_of_maps": 13,
}  # fmt: skip
PROG_TYPES: Final = {"xdp": 6, "tc": 3}
NO_PREALLOC: Final = 1
NO_COMMON_LRU: Final = 2
_CREATE, _LOOKUP, _UPDATE, _LOAD, _RUN, _NEXT_PROG, _NEXT_MAP, _UPDATE_BATCH = (
    0, 1, 2, 5, 10, 11, 12, 26,
)  # fmt: skip
_LOG: Final = 1 << 18
# The verifier and memory accounting answer EAGAIN under pressure: libbpf tries five times, too
_ATTEMPTS: Final = 5


def bpf(command: int, attributes: bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Call bpf(2).

    Raises
    ------
    OSError
        If the kernel refuses.
    """
    buffer = (
        ctypes.create_string_buffer(attributes, len(attributes))
        if isinstance(attributes, bytes)
        else attributes
    )
    for _ in range(_ATTEMPTS):
        got = int(_libc().syscall(SYSCALLS[platform.machine()], command, buffer, len(buffer)))
        number = ctypes.get_errno()
        if got >= 0 or number != errno.EAGAIN:
            break
    if got < 0:
        raise OSError(number, os.strerror(number))
    return got


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def require() -> None:
    """Check that this machine, kernel and user can run BPF programs by test run.

    Raises
    ------
    MeasureError
        If not, with what is missing, in one line.
    """
    if platform.system() != "Linux" or platform.machine() not in SYSCALLS:
        known = " or ".join(sorted(SYSCALLS))
        found = f"{platform.system()} on {platform.machine()}"
        raise MeasureError(f"measuring needs Linux on {known}; this is {found}")
    if sys.byteorder != "little":
        raise MeasureError("measuring needs a little-endian machine: lb.o is built for one")
    try:
        with bpf_map("lru_hash", 4, 4, 16):
            pass
    except OSError as error:
        msg = (
            f"the kernel does not let this user make BPF maps ({error.strerror}); run as root, or "
            "with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, on Linux 5.8 or newer"
        )
        raise MeasureError(msg) from error


@contextlib.contextmanager
def bpf_map(
    kind: str, key: int, value: int, entries: int, *, flags: int = 0, inner: int = 0
) -> Iterator[int]:
    """Give the descriptor of a new map, closed at the end; sizes in bytes, `inner` a descriptor."""
    head = struct.pack("=6I", MAP_TYPES[kind], key, value, entries, flags, inner)
    descriptor = bpf(_CREATE, head + bytes(4) + b"capacity_lb".ljust(16, b"\0") + bytes(28))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def put(descriptor: int, keys: bytes, values: bytes, count: int) -> None:
    """Put `count` entries at once; keys and values are packed one after the other."""
    if count == 0:
        return
    key, value = (ctypes.create_string_buffer(b, len(b)) for b in (keys, values))
    attributes = struct.pack(
        "=QQQQIIQQ",
        0, 0, ctypes.addressof(key), ctypes.addressof(value), count, descriptor, 0, 0,
    )  # fmt: skip
    bpf(_UPDATE_BATCH, attributes)


def get(descriptor: int, key: bytes, size: int) -> bytes:
    """Give the value of a key; of a per-CPU map the values of all possible CPUs."""
    held = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(size)
    attributes = struct.pack(
        "=IIQQQ", descriptor, 0, ctypes.addressof(held), ctypes.addressof(value), 0
    )
    bpf(_LOOKUP, attributes)
    return value.raw


def put_one(descriptor: int, key: bytes, value: bytes) -> None:
    """Put one entry; of a per-CPU map the values of all possible CPUs."""
    keys, values = (ctypes.create_string_buffer(b, len(b)) for b in (key, value))
    pair = ctypes.addressof(keys), ctypes.addressof(values)
    bpf(_UPDATE, struct.pack("=IIQQQ", descriptor, 0, *pair, 0))


@contextlib.contextmanager
def program(kind: str, instructions: bytes, name: str) -> Iterator[int]:
    """Give the descriptor of a loaded program, closed at the end.

    Raises
    ------
    MeasureError
        If the verifier refuses it, with the end of its log.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_ = ctypes.create_string_buffer(b"Dual BSD/GPL")
    log = ctypes.create_string_buffer(_LOG)

    def load(level: int) -> int:
        attributes = struct.pack(
            "=IIQQIIQII16s", PROG_TYPES[kind], len(instructions) // 8, ctypes.addressof(code),
            ctypes.addressof(license_), level, _LOG if level else 0,
            ctypes.addressof(log) if level else 0, 0, 0, name.encode()[:15],
        )  # fmt: skip
        return bpf(_LOAD, attributes)

    try:
        descriptor = load(0)
    except OSError as refused:
        try:
            descriptor = load(1)
        except OSError as error:
            tail = " / ".join(log.value.decode(errors="replace").strip().splitlines()[-3:])
            msg = f"the kernel refuses program {name}: {refused.strerror}; {tail}"
            raise MeasureError(msg) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Run:
    """What one test run told: verdict on and bytes of the last packet, mean time of a packet."""

    verdict: int
    nanoseconds: int
    packet: bytes


def test_run(descriptor: int, packet: bytes, repeat: int) -> Run:
    """Run a program on a packet, `repeat` times in the kernel, on the CPU of this thread."""
    data = ctypes.create_string_buffer(packet, len(packet))
    after = ctypes.create_string_buffer(len(packet))
    attributes = ctypes.create_string_buffer(
        struct.pack(
            "=4I2Q2I", descriptor, 0, len(packet), len(packet), ctypes.addressof(data),
            ctypes.addressof(after), repeat, 0,
        ) + bytes(40)
    , 80)  # fmt: skip
    bpf(_RUN, attributes)
    verdict = struct.unpack_from("=I", attributes, 4)[0]
    return Run(verdict, struct.unpack_from("=I", attributes, 36)[0], after.raw)


def numbers(kind: str = "map") -> set[int]:
    """Give the kernel's numbers of all maps or programs, whoever made them (CAP_SYS_ADMIN)."""
    command = {"map": _NEXT_MAP, "program": _NEXT_PROG}[kind]
    found: set[int] = set()
    number = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("=III", number, 0, 0), 12)
        try:
            bpf(command, attributes)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return found
            raise
        number = struct.unpack_from("=I", attributes, 4)[0]
        found.add(number)
