"""Deleted samples of a block, which its chunks still hold.

Format: prometheus/prometheus tsdb/docs/format/tombstones.md (v2.53 to v3.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from capacity.load.checksums import crc32c
from capacity.load.tsdb_numbers import IndexFaultError, uvarint

# First and last deleted time of a series, by its reference [ms]
Deleted = Mapping[int, Sequence[tuple[int, int]]]

_TOMBSTONES: Final = b"\x01\x30\xba\x30\x01"


def tombstones(path: Path) -> Deleted:
    """Give the deleted times of series, by their references."""
    try:
        raw = path.read_bytes()
    except OSError:
        return {}
    data = np.frombuffer(raw, np.uint8)
    end = len(raw) - 4
    if end < 5 or raw[:5] != _TOMBSTONES:
        raise IndexFaultError("tombstones: is no list of deleted samples")
    if crc32c(data, np.array([5]), np.array([end]))[0] != int.from_bytes(raw[end:], "big"):
        raise IndexFaultError("tombstones: is damaged: its checksum is wrong")
    deleted: dict[int, list[tuple[int, int]]] = {}
    at = 5
    while at < end:
        reference, at = uvarint(data, at, end)
        times = []
        for _ in range(2):
            told, at = uvarint(data, at, end)
            bits = int(told) & (1 << 64) - 1
            times.append(bits >> 1 ^ -(bits & 1))
        if at < 0:
            raise IndexFaultError("tombstones: is cut off")
        deleted.setdefault(int(reference), []).append((times[0], times[1]))
    return deleted
