"""Chunks of XOR encoding: against an encoder of bits as text, and broken in every way."""

from __future__ import annotations

import math
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.load import xor
from capacity.load.checksums import crc32c

STALE = struct.unpack(">d", bytes.fromhex("7ff0000000000002"))[0]
floats = st.floats(width=64) | st.sampled_from([0.0, 1.0, 1.5, STALE, math.inf])
deltas = st.integers(0, 100_000) | st.sampled_from([0, 1, 15_000, 8_192, 65_536, 524_288, 10**12])
samples = st.lists(st.tuples(deltas, floats), min_size=0, max_size=80)


def as_bits(value: float) -> int:
    return int.from_bytes(struct.pack(">d", value), "big")


def varint(value: int) -> str:
    told = ""
    while value >= 128:
        told += f"{value & 127 | 128:08b}"
        value >>= 7
    return told + f"{value:08b}"


def dod(value: int) -> str:
    for prefix, size in (("10", 14), ("110", 17), ("1110", 20)):
        if -(1 << size - 1) + 1 <= value <= 1 << size - 1:
            return prefix + f"{value % (1 << size):0{size}b}"
    return "1111" + f"{value % (1 << 64):064b}" if value else "0"


def encode(times: list[int], values: list[float]) -> bytes:
    """Write a chunk as a text of bits; windows of significant bits are never used again twice."""
    told = f"{len(times):016b}"
    gaps = [after - before for before, after in pairwise(times)]
    window = None
    for i, (time, value) in enumerate(zip(times, values, strict=True)):
        if i == 0:
            told += varint(time * 2 if time >= 0 else -time * 2 - 1) + f"{as_bits(value):064b}"
            continue
        change = 0 if i == 1 else gaps[i - 1] - gaps[i - 2]
        told += varint(gaps[0]) if i == 1 else dod(change) if change else "0"
        changed = as_bits(value) ^ as_bits(values[i - 1])
        if not changed:
            told += "0"
            continue
        body = f"{changed:064b}"
        leading = min(31, len(body) - len(body.lstrip("0")))
        trailing = len(body) - len(body.rstrip("0"))
        if window and leading >= window[0] and trailing >= window[1]:
            told += "10" + body[window[0] : 64 - window[1]]
            continue
        window = (leading, trailing)
        told += (
            f"11{leading:05b}{(64 - leading - trailing) % 64:06b}{body[leading : 64 - trailing]}"
        )
    told += "0" * (-len(told) % 8)
    return int(told, 2).to_bytes(len(told) // 8, "big")


def chunk(told: list[tuple[int, float]], first: int = 1_700_000_000_000) -> tuple:
    times = [first + int(t) for t in np.cumsum([d for d, _ in told])]
    values = [value for _, value in told]
    return times, values, encode(times, values)


def decoded(*chunks: bytes, **wanted: int) -> xor.Decoded:
    ends = np.cumsum([len(c) for c in chunks], dtype=np.int64)
    begins = ends - [len(c) for c in chunks]
    return xor.decode(np.frombuffer(b"".join(chunks), np.uint8), begins, ends, **wanted)


@given(st.lists(samples, max_size=5), st.integers(-(10**13), 10**13))
def test_what_was_encoded_comes_back_bit_by_bit(told: list, first: int) -> None:
    chunks = [chunk(one, first) for one in told]
    got = decoded(*(c[2] for c in chunks))
    assert got.times.tolist() == [t for c in chunks for t in c[0]]
    assert got.values.view(np.uint64).tolist() == [as_bits(v) for c in chunks for v in c[1]]
    assert got.counts.tolist() == [len(c[0]) for c in chunks]
    assert got.is_whole.all()


@given(samples, st.data())
def test_a_chunk_cut_short_gives_its_beginning_and_says_so(told: list, data: st.DataObject) -> None:
    times, _, whole = chunk(told)
    cut = data.draw(st.integers(0, len(whole) - 1))
    got = decoded(whole[:cut])
    assert got.times.tolist() == times[: len(got.times)]
    assert len(got.times) == got.counts[0] < max(len(times), 1)
    assert not got.is_whole[0]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_garbage_is_read_within_its_bounds(garbage: list[bytes]) -> None:
    got = decoded(*garbage)
    assert got.counts.sum() == len(got.times) == len(got.values)
    assert all(n <= 4 * len(g) for n, g in zip(got.counts, garbage, strict=True))


@given(st.lists(st.tuples(st.integers(1, 70), deltas, floats), max_size=12))
def test_values_that_stand_still_come_back(runs: list) -> None:
    """Many samples are read at once where neither step nor value changes."""
    told = [(delta, value) for many, delta, value in runs for _ in range(many)]
    times, values, whole = chunk(told)
    got = decoded(whole, whole[:-1])
    many = got.counts[0]
    assert got.times[:many].tolist() == times
    assert got.values[:many].view(np.uint64).tolist() == [as_bits(v) for v in values]
    assert got.times[many:].tolist() == times[: len(got.times) - many]
    assert got.is_whole.tolist() == [True, False]


def test_only_times_that_are_wanted_are_given() -> None:
    times, _, whole = chunk([(1000, float(i)) for i in range(50)])
    got = decoded(whole, whole, start=times[10], end=times[19])
    assert got.times.tolist() == times[10:20] * 2
    assert got.is_whole.all()


def test_thousands_of_chunks_in_parallel_are_those_one_by_one() -> None:
    chunks = [chunk([(15_000, float(i % k)) for i in range(k)])[2] for k in range(1, 60)] * 20
    one_by_one = [decoded(c) for c in chunks]
    got = decoded(*chunks)
    assert got.times.tolist() == [t for d in one_by_one for t in d.times]
    assert got.values.tolist() == [v for d in one_by_one for v in d.values]


@pytest.mark.parametrize(("begin", "end"), [(-1, 4), (0, 11), (5, 4)])
def test_chunks_outside_of_the_data_are_refused(begin: int, end: int) -> None:
    data = np.zeros(10, np.uint8)
    for read in (xor.decode, crc32c):
        with pytest.raises(ValueError, match="outside"):
            read(data, np.array([begin]), np.array([end]))


@given(st.binary(max_size=300))
def test_checksums_are_those_of_a_shift_register(data: bytes) -> None:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    parts = np.array([0]), np.array([len(data)])
    assert crc32c(np.frombuffer(data, np.uint8), *parts)[0] == crc ^ 0xFFFFFFFF
