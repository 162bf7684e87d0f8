"""Blocks of Prometheus' database against pypdu (C++), and against selecting one percent of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import capacity

SERIES, POINTS = 1_000, 2_880


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(1)
    times = [f" {1_700_006_400 + 60 * i}.{rng.integers(0, 9):03d}\n" for i in range(POINTS)]
    with (folder / "all.om").open("w", encoding="utf-8") as file:
        for name, many in (("cilium_a", SERIES * 99 // 100), ("cilium_b", SERIES // 100)):
            file.write(f"# TYPE {name} unknown\n")
            for k in range(many):
                values = np.cumsum(rng.integers(0, 30 * (k % 3), POINTS, endpoint=True)).tolist()
                head = f'{name}{{node="n{k}"}} '
                file.writelines(head + str(v) + t for v, t in zip(values, times, strict=True))
        file.write("# EOF\n")
    command = ["promtool", "tsdb", "create-blocks-from", "--max-block-duration=168h", "openmetrics"]
    subprocess.run([*command, folder / "all.om", folder / "data"], check=True, capture_output=True)
    return folder / "data"


def test_ours(benchmark, blocks: Path) -> None:
    metrics = benchmark(capacity.read, blocks)
    assert len(metrics.samples) == SERIES * POINTS


def test_one_percent_of_the_series(benchmark, blocks: Path) -> None:
    metrics = benchmark(capacity.read, blocks, metrics="cilium_b")
    assert len(metrics.samples) == SERIES // 100 * POINTS


def test_pypdu(benchmark, blocks: Path) -> None:
    pypdu = pytest.importorskip("pypdu")

    def arrays() -> int:
        return sum(len(series.samples.as_array()) for series in pypdu.load(str(blocks)))

    assert benchmark(arrays) == SERIES * POINTS
