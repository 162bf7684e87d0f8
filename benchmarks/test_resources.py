"""Right-sizing from blocks; 10,000 workloads: CAPACITY_WORKLOADS=10000, 3 GB and 4 minutes more."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from benchmarks.block_writer import write
from capacity.rightsizing import rightsize

WORKLOADS, DAYS = int(os.environ.get("CAPACITY_WORKLOADS", "500")), 14


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    write(folder, WORKLOADS, DAYS)
    return folder


def test_resources(benchmark, blocks: Path) -> None:
    made = benchmark.pedantic(rightsize, args=[str(blocks)], rounds=3, warmup_rounds=1)
    assert len(made.resources) == 4 * WORKLOADS
    assert made.samples == WORKLOADS * 2 * DAYS * 1440
    usage = resource.getrusage(resource.RUSAGE_SELF)
    benchmark.extra_info["peak_rss_mib"] = usage.ru_maxrss // 1024
