"""Object storage: what is read there is what is read from a folder, and little is fetched."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

import capacity
from capacity import load
from capacity.errors import ExportError
from capacity.export import Metrics
from capacity.load import object_store
from tests.load.conftest import START, written
from tests.prometheus_server import needed, openmetrics

fsspec = pytest.importorskip("fsspec")
upath = pytest.importorskip("upath")


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, promtool = needed()
    folder = tmp_path_factory.mktemp("blocks")
    (folder / "all.om").write_text(openmetrics(written()))
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", folder / "all.om"]
    subprocess.run([*command, folder / "data"], check=True, capture_output=True)
    return folder / "data"


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    store = fsspec.filesystem("memory")
    name = f"bucket-{abs(hash(request.node.name))}"
    yield f"memory://{name}", store
    if store.exists(name):
        store.rm(name, recursive=True)


def put(folder: Path, bucket: tuple[str, Any]) -> str:
    url, _ = bucket
    for path in folder.rglob("*"):
        if path.is_file():
            upath.UPath(url, str(path.relative_to(folder))).parent.mkdir(
                parents=True, exist_ok=True
            )
            upath.UPath(url, str(path.relative_to(folder))).write_bytes(path.read_bytes())
    return url


def same(one: Metrics, other: Metrics) -> None:
    assert_frame_equal(one.series, other.series)
    assert_frame_equal(one.samples, other.samples)


def test_blocks_of_a_bucket_are_those_of_a_folder(blocks: Path, bucket: tuple[str, Any]) -> None:
    same(capacity.read(put(blocks, bucket)), capacity.read(blocks))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A block of 6,000 series, thirty of which are of one metric."""
    _, promtool = needed()
    folder = tmp_path_factory.mktemp("wide")
    held = [
        (f'cilium_{k // 30}{{pod="cilium-{k}",node="n{k % 30}"}}',
         [START + 15_000 * i for i in range(8)], [float(k * i % 7) for i in range(8)])
        for k in range(6_000)
    ]  # fmt: skip
    (folder / "all.om").write_text(openmetrics(held))
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", folder / "all.om"]
    subprocess.run([*command, folder / "data"], check=True, capture_output=True)
    return folder / "data"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes that were fetched, by file; who opens a file is taken to fetch all of it."""
    from fsspec.implementations.memory import MemoryFileSystem

    many: dict[str, int] = {}

    def count(path: str, size: int) -> None:
        name = path.rpartition("/")[2]
        many[name] = many.get(name, 0) + size

    def ranges(store: Any, paths: Any, starts: Any, ends: Any, **_: Any) -> list[bytes]:
        for path, start, end in zip(paths, starts, ends, strict=True):
            count(path, end - start)
        whole = [store.store[store._strip_protocol(path)].getvalue() for path in paths]
        return [one[s:e] for one, s, e in zip(whole, starts, ends, strict=True)]

    def part(store: Any, path: str, start: int, end: int) -> bytes:
        return ranges(store, [path], [start], [end])[0]

    plain = MemoryFileSystem._open

    def opening(store: Any, path: str, mode: str = "rb", **more: Any) -> Any:
        if mode == "rb":
            count(path, store.info(path)["size"])
        return plain(store, path, mode, **more)

    monkeypatch.setattr(MemoryFileSystem, "cat_ranges", ranges)
    monkeypatch.setattr(MemoryFileSystem, "cat_file", part)
    monkeypatch.setattr(MemoryFileSystem, "_open", opening)
    return many


def test_only_wanted_bytes_are_fetched(
    wide: Path, bucket: tuple[str, Any], fetched: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "_GAP_BYTES", 0)
    monkeypatch.setattr(object_store, "_PAGE_BYTES", 512)
    monkeypatch.setattr(object_store, "CHUNK_BYTES", 100)
    monkeypatch.setattr(load, "_BEGINNING", 512)
    url = put(wide, bucket)
    index = next(wide.glob("*/index")).stat().st_size
    everything = capacity.read(url)
    assert len(everything.series) == 6_000
    whole = dict(fetched)
    # Once, and what tells the format of each file
    assert index <= whole["index"] <= index + 1_024
    fetched.clear()
    some = capacity.read(url, metrics="cilium_7")
    same(some, capacity.read(wide, metrics="cilium_7"))
    assert len(some.series) == 30
    # Symbols and the table of postings are read whole; of the rest, what is of the metric
    assert fetched["index"] < 0.6 * index
    assert fetched["000001"] < 0.05 * whole["000001"]


def test_a_store_that_fails_half_way_is_told(
    wide: Path, bucket: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    url = put(wide, bucket)
    plain = MemoryFileSystem.cat_ranges
    calls: list[int] = []

    def failing(store: Any, paths: Any, starts: Any, ends: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) > 2:
            return [OSError("503 slow down") for _ in paths]
        return plain(store, paths, starts, ends, **more)

    monkeypatch.setattr(MemoryFileSystem, "cat_ranges", failing)
    with pytest.raises(ExportError, match=r"index: cannot be read: 503 slow down"):
        capacity.read(url, metrics="cilium_7")


@pytest.mark.parametrize("size", [40, 700])
def test_chunks_longer_than_expected_are_fetched_whole(
    blocks: Path, bucket: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(object_store, "_GAP_BYTES", 0)
    monkeypatch.setattr(object_store, "CHUNK_BYTES", size)
    same(capacity.read(put(blocks, bucket)), capacity.read(blocks))


@pytest.mark.parametrize("name", ["a.prom", "a.prom.gz", "a.csv", "a.parquet"])
def test_other_exports_of_a_bucket_are_read_too(
    name: str, bucket: tuple[str, Any], tmp_path: Path
) -> None:
    import gzip

    import polars as pl

    text = b'# TYPE up gauge\nup{node="a"} 1 1795392000000\nup{node="b"} 2 1795392000000\n'
    frame = pl.DataFrame({"metric": ["up"] * 2, "node": ["a", "b"],
                          "time": [1795392000000] * 2, "value": [1.0, 2.0]})  # fmt: skip
    if name.endswith(".parquet"):
        frame.write_parquet(tmp_path / name)
    elif name.endswith(".csv"):
        frame.write_csv(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    local = capacity.read(tmp_path)
    assert len(local.samples) == 2
    same(capacity.read(put(tmp_path, bucket)), local)


def test_an_empty_bucket_is_told(bucket: tuple[str, Any]) -> None:
    with pytest.raises(ExportError, match=r"memory://.*(no such file|holds no files)"):
        capacity.read(bucket[0])


def test_a_kind_of_url_that_nobody_knows_is_told_without_its_secrets() -> None:
    with pytest.raises(ExportError, match="nowhere://") as error:
        capacity.read("nowhere://user:hunter2@bucket/x")
    assert "hunter2" not in str(error.value)


def test_a_store_whose_package_is_missing_is_told_without_secrets() -> None:
    if importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(ExportError, match=r"s3://.*s3fs") as error:
        capacity.read("s3://user:hunter2@bucket/x")
    assert "hunter2" not in str(error.value)
