"""Indexes of blocks that are broken on purpose, with checksums that are right."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from capacity.load import tsdb_index
from capacity.load.checksums import crc32c
from capacity.load.tsdb_numbers import IndexFaultError


def checksum(data: bytes) -> bytes:
    whole = np.frombuffer(data, np.uint8)
    return struct.pack(">I", crc32c(whole, np.array([0]), np.array([len(whole)]))[0])


def table(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content + checksum(content)


def number(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63 - 4, 2**62, 2**32, 1000, 90])
def test_a_list_of_series_beyond_the_end_is_told_not_looked_up(tmp_path: Path, offset: int) -> None:
    symbols = table(struct.pack(">I", 0))
    postings = table(struct.pack(">I", 1) + b"\x02\x01a\x01b" + number(offset))
    contents = struct.pack(">6Q", 5, 0, 0, 0, 0, 5 + len(symbols))
    path = tmp_path / "index"
    head = tsdb_index.MAGIC + b"\x02"
    path.write_bytes(head + symbols + postings + contents + checksum(contents))
    with pytest.raises(IndexFaultError, match="postings"):
        tsdb_index.by_value(tsdb_index.open_index(path), "a")
