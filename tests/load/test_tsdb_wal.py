"""The write-ahead log: written by a real Prometheus, broken by us."""

from __future__ import annotations

import json
import shutil
import struct
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import cramjam
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import capacity
from capacity.errors import ExportError
from capacity.load import tsdb_wal
from capacity.load.checksums import crc32c
from tests.load.test_tsdb_block import dumped, rows
from tests.prometheus_server import serving

START = 1_795_392_000_000  # 2026-11-23T00:00:00Z
SERIES, SCRAPES = 40, 150  # more than one chunk of 120 samples, and than one page of the log
pytestmark = pytest.mark.prometheus


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def series(labels: Mapping[str, str], time: int, value: float) -> bytes:
    """A TimeSeries of prompb/types.proto with one sample."""
    pairs = [field(1, field(1, k.encode()) + field(2, v.encode())) for k, v in labels.items()]
    sample = b"\x09" + struct.pack("<d", value) + b"\x10" + varint(time)
    return field(1, b"".join(pairs) + field(2, sample))


def scraped(at: int) -> bytes:
    time = START + 15_000 * at
    told = [
        ({"__name__": "cilium_a", "node": f"n{k}", "x": 'a"b'}, (at * 1.5, k / 7, -1e300)[k % 3])
        for k in range(SERIES)
    ]
    if at > SCRAPES // 2:
        # A series that comes later
        told.append(({"__name__": "up", "node": "late"}, float(at % 2)))
    return b"".join(series(labels, time, value) for labels, value in told)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wal")
    old = [("cilium_a", [START - 8 * 3_600_000], [1.0])]
    with serving(old, folder, "--web.enable-remote-write-receiver") as url:
        for at in range(SCRAPES):
            write(url, scraped(at))
    return folder / "data"


def write(url: str, told: bytes) -> None:
    body = bytes(cramjam.snappy.compress_raw(told))
    request = urllib.request.Request(f"{url}/api/v1/write", body, method="POST")
    request.add_header("Content-Encoding", "snappy")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 204


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def test_the_newest_hours_are_those_that_promtool_reads(data: Path) -> None:
    found = capacity.read(data)
    assert len(found.samples) == 1 + SERIES * SCRAPES + SCRAPES // 2 - 1
    assert rows(found).equals(rows(dumped(data)))
    assert found.sources["refused"].sum() == 0


def test_metrics_and_times_are_selected(data: Path) -> None:
    found = capacity.read(data, metrics="up", start=(START + 15_000 * (SCRAPES - 4)) / 1000)
    assert found.series["node"].to_list() == ["late"]
    assert len(found.samples) == 4


def test_samples_that_came_out_of_order_are_those_that_the_server_gives(tmp_path: Path) -> None:
    """More than the 32 of a series that Prometheus keeps together before it maps them to disk."""
    config = "storage: {tsdb: {out_of_order_time_window: 2h}}"
    old = [("cilium_a", [START - 8 * 3_600_000], [1.0])]
    times = [START + 15_000 * at for at in (*range(0, 300, 3), *range(298, 0, -3))]
    with serving(old, tmp_path, "--web.enable-remote-write-receiver", config=config) as url:
        labels = [{"__name__": "cilium_b", "node": f"n{k}"} for k in range(2)]
        told = [series(one, time, time / 7 % 1000) for time in times for one in labels]
        for begin in range(0, len(told), 40):
            write(url, b"".join(told[begin : begin + 40]))
        until = max(times) / 1000
        question = urllib.parse.urlencode({"query": "cilium_b[2h]", "time": until})
        with urllib.request.urlopen(f"{url}/api/v1/query?{question}") as answer:
            found = json.load(answer)["data"]["result"]
        served = {
            one["metric"]["node"]: [(round(t * 1000), float(v)) for t, v in one["values"]]
            for one in found
        }
    # Not while it runs: it may be putting its logs into blocks
    assert (tmp_path / "data" / "wbl").exists()
    got = capacity.read(tmp_path / "data", metrics="cilium_b")
    rows_of = got.samples.with_columns(pl.col("time").dt.epoch("ms")).join(got.series, on="series")
    for node, expected in served.items():
        assert len(expected) == len(times)
        assert rows_of.filter(node=node).select("time", "value").rows() == expected
    assert got.sources["refused"].sum() == 0, got.sources.rows()


def repacked(path: Path) -> None:
    """Write the records of a segment anew, packed by zstd, as --storage.tsdb.wal-compression-type.

    Prometheus 2.42 cannot; tsdb/wlog/wlog.go since 2.45: bit 4 of a fragment's head.
    """
    out = bytearray()
    for record in tsdb_wal._records(path.read_bytes()):
        packed = bytes(cramjam.zstd.compress(record))
        left = -len(out) % 32_768
        if left < len(packed) + 7:
            out += bytes(left)
        assert len(packed) + 7 <= 32_768
        crc = crc32c(np.frombuffer(packed, np.uint8), np.array([0]), np.array([len(packed)]))[0]
        out += struct.pack(">BHI", 1 | 16, len(packed), int(crc)) + packed
    path.write_bytes(out)


def test_records_that_zstd_packed_are_read(data: Path) -> None:
    whole = rows(capacity.read(data))
    for path in (data / "wal").glob("0*"):
        repacked(path)
    assert rows(capacity.read(data)).equals(whole)


def test_a_record_that_grows_without_bounds_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tsdb_wal, "_LARGEST", 1 << 20)
    path = segment(data)
    bomb = bytes(cramjam.zstd.compress(bytes(2 << 20)))
    crc = crc32c(np.frombuffer(bomb, np.uint8), np.array([0]), np.array([len(bomb)]))[0]
    path.write_bytes(struct.pack(">BHI", 1 | 16, len(bomb), int(crc)) + bomb)
    assert capacity.read(data).sources["reason"].str.contains("or is larger than").any()


def test_records_of_a_kind_to_come_are_told(data: Path) -> None:
    whole = len(capacity.read(data).samples)
    record = b"\x63 to come"
    crc = crc32c(np.frombuffer(record, np.uint8), np.array([0]), np.array([len(record)]))[0]
    later = data / "wal" / "00000099"
    later.write_bytes(struct.pack(">BHI", 1, len(record), int(crc)) + record)
    found = capacity.read(data)
    assert found.sources["reason"].str.contains("1 records of kind 99, which nobody knew").any()
    assert len(found.samples) == whole


def test_a_log_that_is_still_written_is_read_as_far_as_it_is_whole(data: Path) -> None:
    path = segment(data)
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-20])
    found = capacity.read(data)
    whole = 1 + SERIES * SCRAPES + SCRAPES // 2 - 1
    assert whole - SERIES - 1 <= len(found.samples) < whole
    assert found.sources["reason"].str.contains("as if it was still written").any()


def segment(data: Path) -> Path:
    return max((data / "wal").glob("0*"), key=lambda path: path.stat().st_size)


def test_a_checkpoint_stands_for_the_segments_before_it(data: Path) -> None:
    whole = rows(capacity.read(data))
    segments = sorted((data / "wal").glob("0*"))
    checkpoint = data / "wal" / f"checkpoint.{segments[-1].name}"
    checkpoint.mkdir()
    for path in segments:
        shutil.copy(path, checkpoint)
    assert rows(capacity.read(data)).equals(whole)
    for path in checkpoint.iterdir():
        path.write_bytes(b"")
    assert len(capacity.read(data).samples) == 1


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bits_neither_crash_nor_lose_samples_silently(
    made: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    wal = Path(shutil.copytree(made / "wal", tmp_path_factory.mktemp("fuzz") / "wal"))
    path = data.draw(st.sampled_from(sorted(wal.glob("0*"))))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    try:
        found = capacity.read(wal.parent)
    except ExportError:
        return
    many = SERIES * SCRAPES + SCRAPES // 2 - 1
    assert len(found.samples) == many or found.sources["reason"].drop_nulls().len() > 0
