"""Blocks of Prometheus' database: all of them, one percent of the series, and pypdu (C++) on them.

Run: pytest benchmarks/test_blocks.py -n 0 -p no:randomly. Making the blocks takes a minute and 2 GB
in the temporary folder. pypdu works in one thread: speed a core is compared with ours in one.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import capacity
from benchmarks.block_writer import Block
from capacity.load import threads

# Seven days of 2,000 series, scraped once a minute
SERIES, POINTS = 2_000, 7 * 1_440


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(1)
    with (folder / "all.om").open("w", encoding="utf-8") as file:
        for name, many in (("cilium_a", SERIES * 99 // 100), ("cilium_b", SERIES // 100)):
            file.write(f"# TYPE {name} unknown\n")
            for k in range(many):
                times = 1_700_006_400 + 60 * np.arange(POINTS) + rng.integers(0, 60_000) / 1000
                # A counter; it stands still in a third of the series
                values = np.cumsum(rng.integers(0, 30 * (k % 3), POINTS, endpoint=True))
                head = f'{name}{{node="n{k}",pod="cilium-{k:05d}",instance="10.0.0.{k}:9962"}}'
                file.writelines(
                    f"{head} {value} {time:.3f}\n"
                    for value, time in zip(values.tolist(), times.tolist(), strict=True)
                )
        file.write("# EOF\n")
    command = ["promtool", "tsdb", "create-blocks-from", "--max-block-duration=168h", "openmetrics"]
    subprocess.run([*command, folder / "all.om", folder / "data"], check=True, capture_output=True)
    (folder / "all.om").unlink()
    return folder / "data"


def timed(benchmark, source: Path, rounds: int, metrics: str | None = None) -> int:
    """Read again and again; the least processor time of all threads is told beside the clock's.

    The least: others on the machine take the processor's cache.
    """
    costs = []

    def read() -> int:
        begin = time.process_time()
        many = len(capacity.read(source, metrics=metrics).samples)
        costs.append(time.process_time() - begin)
        return many

    many: int = benchmark.pedantic(read, rounds=rounds, warmup_rounds=2)
    benchmark.extra_info["processor_ms"] = round(1000 * min(costs), 2)
    return many


def test_ours(benchmark, blocks: Path) -> None:
    assert timed(benchmark, blocks, 9) == SERIES * POINTS


def test_ours_in_one_thread(benchmark, blocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "THREADS", 1)
    metrics = benchmark.pedantic(capacity.read, (blocks,), rounds=5, warmup_rounds=1)
    assert len(metrics.samples) == SERIES * POINTS


def test_pypdu_in_one_thread(benchmark, blocks: Path) -> None:
    pypdu = pytest.importorskip("pypdu")

    def arrays() -> int:
        return sum(len(series.samples.as_array()) for series in pypdu.load(str(blocks)))

    assert benchmark.pedantic(arrays, rounds=5, warmup_rounds=1) == SERIES * POINTS


def test_one_percent_of_the_series(benchmark, blocks: Path) -> None:
    assert timed(benchmark, blocks, 15, "cilium_b") == SERIES // 100 * POINTS


@pytest.mark.parametrize("many", [1_000, 10_000, 100_000, 1_000_000])
def test_so_many_series(benchmark, tmp_path: Path, many: int) -> None:
    """Ten times the series cost ten times as much; of two hours a sample a minute."""
    path = with_series(tmp_path, many)
    rounds = max(3, min(15, 1_000_000 // many))
    assert timed(benchmark, path, rounds) == many * MINUTES


MINUTES = 120


def with_series(folder: Path, many: int) -> Path:
    block = Block(folder / "01J00000000000000000000000")
    rng = np.random.default_rng(2)
    for begin in range(0, many, 10_000):
        own = range(begin, min(many, begin + 10_000))
        labels = [
            {
                "__name__": f"cilium_{k % 97}", "job": "cilium",
                "instance": f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}",
                "pod": f"cilium-{k // 97:05d}", "node": f"node-{k // 97:05d}",
                "namespace": "kube-system", "reason": f"reason {k % 13}", "direction": "ingress",
            }
            for k in own
        ]  # fmt: skip
        times = 1_790_000_000_000 + 60_000 * np.arange(MINUTES) + np.zeros((len(own), 1), np.int64)
        steps = rng.integers(0, 30, times.shape) * (np.arange(len(own)) % 3)[:, None]
        block.add(labels, times, np.cumsum(steps, axis=1).astype(np.float64))
    block.close(1_790_000_000_000, 1_790_000_000_000 + 60_000 * MINUTES)
    return block.folder
