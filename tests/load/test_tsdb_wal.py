"""The write-ahead log: written by a real Prometheus, broken by us."""

from __future__ import annotations

import shutil
import struct
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import cramjam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import capacity
from capacity.errors import ExportError
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
            body = bytes(cramjam.snappy.compress_raw(scraped(at)))
            request = urllib.request.Request(f"{url}/api/v1/write", body, method="POST")
            request.add_header("Content-Encoding", "snappy")
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 204
    return folder / "data"


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
