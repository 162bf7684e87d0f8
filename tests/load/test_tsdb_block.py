"""Blocks of Prometheus' database: made by Prometheus' own tools, broken by us."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import capacity
from capacity.errors import ExportError
from capacity.export import Metrics
from capacity.load.checksums import crc32c
from capacity.observe.names import one_cluster

START = 1_700_006_400  # a multiple of two hours
pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)


def openmetrics() -> str:
    """Write six hours of values that are hard to encode, with gaps; in blocks of two hours."""
    rng = np.random.default_rng(5)
    lines = ["# TYPE cilium_a unknown", "# TYPE up unknown"]
    for name, shift in (("cilium_a", 0), ("up", 7)):
        for k in range(6):
            at = START + shift
            for i in range(400):
                at += 45 + int(rng.integers(0, 20)) + (600 if i % 97 == 0 else 0)
                value = (float(i * k), rng.normal(), 1e300 * k, i / 7, 1.0, -0.0)[k]
                lines.append(f'{name}{{node="n{k}",x="a\\"b"}} {value!r} {at}.{i % 1000:03d}')
    lines.sort(key=lambda line: (not line.startswith("# TYPE cilium"), "up" in line))
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tsdb")
    (folder / "all.om").write_text(openmetrics(), encoding="utf-8")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics"]
    subprocess.run([*command, folder / "all.om", folder / "data"], check=True, capture_output=True)
    return folder / "data"


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def dumped(folder: Path, match: str = '{__name__=~".+"}') -> Metrics:
    """Read what Prometheus' own tool reads of the same blocks."""
    (folder / "wal").mkdir(exist_ok=True)
    command = ["promtool", "tsdb", "dump", f"--match={match}", str(folder)]
    told = subprocess.run(command, check=True, capture_output=True)
    text = folder.parent / "dump.txt"
    text.write_bytes(told.stdout)
    return capacity.read(text)


def rows(metrics: Metrics) -> pl.DataFrame:
    # Sorting numbers, not the labels of each sample
    names = [name for name in metrics.series.columns if name != "series"]
    numbered = metrics.series.sort(names, nulls_last=True).with_row_index("number")
    told = numbered.join(metrics.samples, on="series").drop("series")
    return told.sort("number", "time", "value").drop("number")


def blocks(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/index"))


def flipped(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(raw)


def test_every_sample_is_the_one_that_promtool_dumps(data: Path) -> None:
    assert len(blocks(data)) > 2
    got = capacity.read(data)
    assert rows(got).equals(rows(dumped(data)))
    assert len(got.samples) == 2 * 6 * 400
    assert got.samples.equals(got.samples.sort("series", "time"))


@pytest.mark.parametrize("metrics", ["c.*_a", "cilium_a", ("cilium_a", "cilium", "p.?")])
def test_metric_and_time_are_selected(data: Path, metrics: str | tuple[str, ...]) -> None:
    window = {"start": START + 3600, "end": START + 9000}
    got = capacity.read(data, metrics=metrics, **window)
    time = pl.col("time").dt.epoch("ms")
    wanted = rows(capacity.read(data)).filter(
        time.is_between(window["start"] * 1000, window["end"] * 1000), metric="cilium_a"
    )
    assert 0 < len(wanted) < 2400
    assert rows(got).equals(wanted)


def test_of_each_step_the_last_sample_is_kept_while_chunks_are_read(data: Path) -> None:
    got, whole = capacity.read(data, step="5m"), capacity.read(data)
    step = pl.col("time").dt.epoch("ms") // 300_000
    last = whole.samples.group_by("series", step.alias("step")).last().drop("step")
    assert got.samples.equals(last.sort("series", "time"))
    assert got.sources.equals(whole.sources)


def test_overlapping_blocks_give_each_sample_once(data: Path) -> None:
    once = rows(capacity.read(data))
    for i, block in enumerate(blocks(data)):
        shutil.copytree(block, data / f"again{i}")
    assert rows(capacity.read(data)).equals(once)


def test_one_block_can_be_named(data: Path) -> None:
    got = capacity.read(blocks(data)[0])
    assert 0 < len(got.samples) < 4800
    assert got.sources["format"].to_list() == ["tsdb-block"]


def test_external_labels_of_thanos_are_labels(data: Path) -> None:
    for block in blocks(data):
        labeled(block, cluster="prod", replica="a")
    series = capacity.read(data).series
    assert series["cluster"].unique().to_list() == ["prod"]
    assert {json.loads(text)["replica"] for text in series["labels"]} == {"a"}


def labeled(block: Path, **labels: str) -> None:
    meta = json.loads((block / "meta.json").read_text())
    meta["thanos"] = {"labels": labels}
    (block / "meta.json").write_text(json.dumps(meta))


def in_two_clusters(data: Path) -> None:
    for number, block in enumerate(blocks(data)):
        copied = Path(shutil.copytree(block, data / f"again{number}"))
        labeled(block, cluster="prod")
        labeled(copied, cluster="staging")


def test_one_cluster_of_several_is_read_alone_and_the_same(data: Path) -> None:
    in_two_clusters(data)
    whole, alone = (capacity.read(data, only_cluster=name) for name in (None, "prod"))
    assert whole.series["cluster"].unique().sort().to_list() == ["prod", "staging"]
    assert rows(alone).equals(rows(one_cluster(whole, "prod")))
    assert len(alone.samples) == len(whole.samples) // 2
    # Chunks of the other cluster are not looked at
    for path in data.glob("again*/chunks/*"):
        path.unlink()
    assert rows(capacity.read(data, only_cluster="prod")).equals(rows(alone))


def in_two_sources(data: Path, tmp_path: Path) -> list[str]:
    """Put some blocks of both clusters into a folder of their own."""
    in_two_clusters(data)
    other = tmp_path / "other"
    other.mkdir()
    for block in blocks(data)[::2]:
        shutil.move(block, other / block.name)
    return [str(data), str(other)]


def test_one_cluster_is_read_alone_from_several_sources(data: Path, tmp_path: Path) -> None:
    sources = in_two_sources(data, tmp_path)
    whole = capacity.read(sources)
    for path in [*data.glob("*/chunks/*"), *tmp_path.glob("other/*/chunks/*")]:
        if json.loads((path.parents[1] / "meta.json").read_text())["thanos"]["labels"] == {
            "cluster": "staging"
        }:
            path.unlink()
    alone = capacity.read(sources, only_cluster="prod")
    assert alone.samples.height == whole.samples.height // 2
    assert rows(alone).equals(rows(one_cluster(whole, "prod")))


def test_a_scrape_without_names_beside_them_is_of_the_cluster_it_was(
    data: Path, tmp_path: Path
) -> None:
    """Two clusters are named, so that series without a name are of neither."""
    in_two_clusters(data)
    (tmp_path / "scrape.prom").write_text("up 1 1700006400000\n")
    sources = [str(data), str(tmp_path / "scrape.prom")]
    whole, asked = (capacity.read(sources, only_cluster=one) for one in (None, "prod"))
    assert rows(asked).equals(rows(whole))
    assert "default" in whole.series["cluster"].unique()


@pytest.mark.parametrize("case", ["unlabeled", "other label", "unknown", "no time"])
def test_all_clusters_are_read_where_one_alone_might_change_the_result(
    data: Path, case: str
) -> None:
    in_two_clusters(data)
    if case == "unlabeled":
        labeled(blocks(data)[0])
    elif case == "other label":
        labeled(blocks(data)[0], cluster="prod", k8s_cluster="prod-1")
    name = "nowhere" if case == "unknown" else "prod"
    # Before the first sample but in the first chunk's index there may be none
    end = {"end": START} if case == "no time" else {}
    whole, asked = (capacity.read(data, only_cluster=one, **end) for one in (None, name))
    assert rows(asked).equals(rows(whole))


def test_deleted_samples_are_left_out_as_promtool_leaves_them_out(data: Path) -> None:
    block = blocks(data)[0]
    before = capacity.read(data)
    # Of the index: references of series are 16 bytes apart at least, the first one lies behind
    # the symbols; here those of all series that the postings name
    from capacity.load import tsdb_index

    opened = tsdb_index.open_index(block / "index")
    references = tsdb_index.wanted(opened, None)
    first = int(before.samples["time"].dt.epoch("ms").min())
    body = b"".join(
        varint(int(r)) + varint(2 * first) + varint(2 * (first + 1_800_000)) for r in references[:3]
    )
    crc = int(crc32c(np.frombuffer(body, np.uint8), np.array([0]), np.array([len(body)]))[0])
    tombstones = b"\x01\x30\xba\x30\x01" + body + struct.pack(">I", crc)
    (block / "tombstones").write_bytes(tombstones)

    got = capacity.read(data)

    assert 0 < len(before.samples) - len(got.samples) < 200
    assert rows(got).equals(rows(dumped(data)))


def varint(value: int) -> bytes:
    told = b""
    while value > 127:
        told += bytes([value & 127 | 128])
        value >>= 7
    return told + bytes([value])


def test_a_broken_chunk_is_told_and_the_others_are_read(data: Path) -> None:
    whole = capacity.read(data)
    segment = blocks(data)[0] / "chunks" / "000001"
    flipped(segment, 40)

    got = capacity.read(data)

    told = got.sources.filter(pl.col("refused") > 0)
    assert told["reason"][0].startswith("chunks/000001: chunk at 8: the checksum is wrong")
    lost = len(whole.samples) - len(got.samples)
    assert 0 < lost <= 200
    assert len(rows(got).join(rows(whole), on=rows(got).columns, nulls_equal=True)) == len(
        got.samples
    )


@pytest.mark.parametrize("cut", [5, 60, 2000])
def test_a_segment_that_is_cut_off_is_told(data: Path, cut: int) -> None:
    segment = blocks(data)[0] / "chunks" / "000001"
    segment.write_bytes(segment.read_bytes()[:cut])
    got = capacity.read(data)
    assert "000001" in got.sources.filter(pl.col("refused") > 0)["reason"][0]
    assert 0 < len(got.samples) < 4800


def test_a_missing_segment_is_told(data: Path) -> None:
    (blocks(data)[0] / "chunks" / "000001").unlink()
    reasons = capacity.read(data).sources["reason"].drop_nulls()
    assert reasons.str.contains("000001: cannot be read: No such file").any()


def test_a_broken_index_of_many_does_not_sink_the_others(data: Path) -> None:
    block = blocks(data)[0]
    (block / "index").write_bytes((block / "index").read_bytes()[:-9])
    got = capacity.read(data)
    assert "cut off or damaged" in got.sources.filter(source=str(block))["reason"][0]
    assert 0 < len(got.samples) < 4800


def test_a_broken_index_alone_is_one_error(data: Path) -> None:
    block = blocks(data)[0]
    (block / "index").write_bytes(b"\xba\xaa\xd7\x00\x09" + bytes(60))
    with pytest.raises(ExportError, match="format version 9; known are 1 and 2"):
        capacity.read(block)


def test_native_histograms_are_refused_by_name(data: Path) -> None:
    segment = blocks(data)[0] / "chunks" / "000001"
    raw = bytearray(segment.read_bytes())
    # Length of the first chunk: one or two bytes; then its encoding, 1, which becomes 2
    at = 9 if raw[8] < 128 else 10
    size = raw[8] if at == 9 else (raw[8] & 127) | raw[9] << 7
    assert raw[at] == 1
    raw[at] = 2
    end = at + 1 + size
    crc = crc32c(np.frombuffer(bytes(raw), np.uint8), np.array([at]), np.array([end]))[0]
    raw[end : end + 4] = struct.pack(">I", int(crc))
    whole = capacity.read(data)
    segment.write_bytes(raw)
    got = capacity.read(data)
    told = got.sources.filter(pl.col("refused") > 0)["reason"][0]
    many = len(whole.samples) - len(got.samples)
    assert got.sources["refused"].sum() == many
    assert f"native histogram of cilium_a, {many} samples, which is not read" in told
    # No other chunk suffers
    assert 0 < many <= 120
    kept = rows(got).join(rows(whole), on=rows(got).columns, nulls_equal=True)
    assert len(kept) == len(got.samples)


@pytest.mark.parametrize("part", ["chunks_head", "wbl"])
def test_the_head_without_its_log_is_named(data: Path, part: str) -> None:
    (data / part).mkdir()
    (data / part / "00000001").write_bytes(bytes(64))
    reasons = capacity.read(data).sources["reason"].drop_nulls()
    assert reasons.str.contains("copy the folder wal too").any()


def test_chunks_without_their_index_are_named(data: Path) -> None:
    (blocks(data)[0] / "index").unlink()
    reasons = capacity.read(data).sources["reason"].drop_nulls()
    assert reasons.str.contains("without its index").any()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bits_neither_crash_nor_lose_samples_silently(
    made: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    block = tmp_path_factory.mktemp("fuzz") / "block"
    shutil.copytree(blocks(made)[0], block)
    whole = rows(capacity.read(blocks(made)[0]))
    path = block / data.draw(st.sampled_from(["index", "chunks/000001"]))
    size = path.stat().st_size
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, size - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw[: data.draw(st.integers(size - 3, size))])
    try:
        got = capacity.read(block)
    except ExportError:
        return
    is_told = got.sources["reason"].is_not_null().any()
    assert rows(got).equals(whole) or is_told


def test_the_recorded_snapshot_reads_as_promtool_dumps_it(tmp_path: Path) -> None:
    shared = Path(__file__).resolve().parents[2].parent / "shared" / "recorded" / "prom"
    if not shared.exists():
        pytest.skip("../shared/recorded is not here")
    folder = Path(shutil.copytree(shared / "tsdb_snapshot", tmp_path / "data"))
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o700)
    for packed in folder.rglob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    # promtool is slow: the agents' bpf metrics stand for all
    got = capacity.read(folder, metrics="cilium_bpf_.+")
    assert len(got.samples) > 10_000
    assert rows(got).equals(rows(dumped(folder, '{__name__=~"cilium_bpf_.+"}')))
