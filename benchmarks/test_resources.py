"""Right-sizing from blocks and from a server, beside the questions that KRR asks a server.

10,000 workloads: CAPACITY_WORKLOADS=10000, 3 GB and 4 minutes more; KRR's questions are asked for
the first 500 workloads at most, CAPACITY_KRR=n for others.
"""

from __future__ import annotations

import os
import resource
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.block_writer import HOUR, write
from capacity.rightsizing import Sizing, rightsize
from capacity.rightsizing_settings import RightsizingSettings
from tests.prometheus_server import serving_blocks

WORKLOADS, DAYS = int(os.environ.get("CAPACITY_WORKLOADS", "500")), 14
PEER = min(WORKLOADS, int(os.environ.get("CAPACITY_KRR", "500")))
# robusta-dev/krr: step 1.25 minutes; ten questions at a time (config.py, max_workers)
KRR_STEP, KRR_WORKERS = "75s", 10
START = 1_790_000_000_000 // (36 * HOUR) * (36 * HOUR)
END = START + DAYS * 24 * HOUR


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    write(folder, WORKLOADS, DAYS)
    return folder


@pytest.fixture(scope="module")
def server(blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    sizes = [f"--storage.tsdb.{end}-block-duration=36h" for end in ("min", "max")]
    with serving_blocks(blocks, tmp_path_factory.mktemp("server"), *sizes) as url:
        yield url


def told(benchmark: Any, made: Sizing, cpu: float) -> None:
    assert len(made.resources) == 4 * WORKLOADS
    assert made.samples == WORKLOADS * 2 * DAYS * 1440
    usage = resource.getrusage(resource.RUSAGE_SELF)
    benchmark.extra_info["peak_rss_mib"] = usage.ru_maxrss // 1024
    benchmark.extra_info["cpu_seconds"] = round(time.process_time() - cpu, 1)


def test_blocks(benchmark: Any, blocks: Path) -> None:
    cpu = time.process_time()
    made = benchmark.pedantic(rightsize, args=[str(blocks)], rounds=1, warmup_rounds=0)
    told(benchmark, made, cpu)


def test_server(benchmark: Any, server: str) -> None:
    settings = RightsizingSettings(start=str(START / 1000), end=str((END - 1) / 1000))
    cpu = time.process_time()
    made = benchmark.pedantic(rightsize, args=[server, settings], rounds=1, warmup_rounds=0)
    told(benchmark, made, cpu)


def asked(url: str, query: str) -> float:
    body = urllib.parse.urlencode({"query": query, "time": (END - 1) / 1000}).encode()
    with urllib.request.urlopen(f"{url}/api/v1/query", body, timeout=600) as answer:
        (found,) = orjson.loads(answer.read())["data"]["result"]
    return float(found["value"][1])


def krr(url: str) -> list[tuple[float, float]]:
    """Ask what KRR's strategy `simple` asks for each container: a percentile, a peak, two counts.

    Four questions a container over all its history; listing objects through the API server of
    Kubernetes, which KRR does too, is left out.
    """

    def one(number: int) -> tuple[float, float]:
        names = f'namespace="team-{number % 40:02d}",pod=~"app-{number:05d}-0",container="app"'
        cpu = f"max(rate(container_cpu_usage_seconds_total{{{names}}}[{KRR_STEP}]))"
        held = f"max(container_memory_working_set_bytes{{{names}}})"
        by, span = "by (container, pod, job)", f"[{DAYS}d:{KRR_STEP}]"
        asked(url, f"count_over_time({cpu} {by} {span})")
        asked(url, f"count_over_time({held} {by} {span})")
        return (
            asked(url, f"quantile_over_time(0.95, {cpu} {by} {span})"),
            asked(url, f"max_over_time({held} {by} {span})"),
        )

    with ThreadPoolExecutor(KRR_WORKERS) as pool:
        return list(pool.map(one, range(PEER)))


def test_krr_questions(benchmark: Any, server: str, blocks: Path) -> None:
    found = benchmark.pedantic(krr, args=[server], rounds=1, warmup_rounds=0)
    benchmark.extra_info["workloads"] = PEER
    settings = RightsizingSettings(strategy="krr", step="75s")
    ours = rightsize(str(blocks), settings).usage
    told = {
        resource: dict(ours.filter(resource=resource).select("workload", value).iter_rows())
        for resource, value in (("cpu", "p95"), ("memory", "largest"))
    }
    for number, (cpu, held) in enumerate(found):
        name = f"app-{number:05d}"
        # Prometheus extrapolates a rate to its window, and knows two samples in 75 s not always
        assert told["cpu"][name] == pytest.approx(cpu * 1000, rel=0.1)
        # Only the samples at the steps of the question are seen: never above the true peak
        assert 0.8 * told["memory"][name] <= held <= told["memory"][name] * (1 + 1e-6)
