"""Reading each format, beside its peers in the same run.

Run: pytest benchmarks -n 0 -p no:randomly. Inputs are made from the shipped recordings and a seed.
"""

from __future__ import annotations

import gzip
import random
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_api_client import PrometheusConnect
from prometheus_client.parser import text_string_to_metric_families

import capacity
from capacity import shipped
from capacity.load import write
from tests.prometheus_server import Written, serving

START = 1_795_392_000_000  # 2026-11-23T00:00:00Z
STEP = 15_000
SERIES, POINTS = 60, 10_000
COPIES = 250


@pytest.fixture(scope="module")
def scrapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real scrapes: the lab's newest one, many times."""
    folder = tmp_path_factory.mktemp("scrapes")
    newest = sorted(shipped.path("data", "lab", "walk").glob("*.prom.gz"))[-1]
    text = gzip.decompress(newest.read_bytes())
    for i in range(COPIES):
        (folder / f"{1_795_477_000 + 30 * i}.prom").write_bytes(text)
    return folder


def written() -> list[Written]:
    rng = random.Random(3)
    times = [START + STEP * i for i in range(POINTS)]
    return [
        (f'cilium_endpoint{{node="n{i}"}}', times, [float(rng.randrange(100)) for _ in times])
        for i in range(SERIES)
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(written(), tmp_path_factory.mktemp("prometheus")) as url:
        yield url


def measured(benchmark: Any, job: Callable[[], Any], size: int, rounds: int = 5) -> Any:
    """Run a job; note MB/s, and the peak of one traced round [MiB] (polars' own memory not in)."""
    result = benchmark.pedantic(job, rounds=rounds, warmup_rounds=1)
    median = benchmark.stats["median"]
    benchmark.extra_info["megabytes_per_second"] = round(size / 1e6 / median, 1)
    tracemalloc.start()
    job()
    benchmark.extra_info["python_peak_mib"] = tracemalloc.get_traced_memory()[1] >> 20
    tracemalloc.stop()
    return result


def of_samples(benchmark: Any, samples: int) -> None:
    per_second = samples / benchmark.stats["median"]
    benchmark.extra_info["samples_per_second"] = round(per_second)


@pytest.mark.benchmark(group="text")
def test_exposition(benchmark: Any, scrapes: Path) -> None:
    size = sum(file.stat().st_size for file in scrapes.iterdir())
    made = measured(benchmark, lambda: capacity.read(scrapes), size)
    of_samples(benchmark, len(made.samples))


@pytest.mark.benchmark(group="text")
def test_exposition_by_prometheus_client(benchmark: Any, scrapes: Path) -> None:
    files = sorted(scrapes.iterdir())[: COPIES // 10]
    texts = [file.read_text() for file in files]

    def job() -> int:
        families = (f for text in texts for f in text_string_to_metric_families(text))
        return sum(len(family.samples) for family in families)

    count = measured(benchmark, job, sum(map(len, texts)), rounds=3)
    of_samples(benchmark, count)


@pytest.fixture(scope="module")
def large(scrapes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file: few series at many times (OpenMetrics), and many series at one time."""
    text = next(scrapes.iterdir()).read_text()
    lines = [line for line in text.splitlines() if line[:1] != "#"]
    folder = tmp_path_factory.mktemp("large")
    times = "".join(f"{line} {1_795_477_000 + 30 * i}.5\n" for i in range(COPIES) for line in lines)
    (folder / "times.om").write_text(times + "# EOF\n")
    labelled = [line for line in lines if "{" in line]
    nodes = "".join(
        line.replace("{", f'{{node="node-{i:05}",', 1) + "\n"
        for i in range(COPIES)
        for line in labelled
    )
    (folder / "nodes.prom").write_text(nodes)
    return {"times": folder / "times.om", "nodes": folder / "nodes.prom"}


@pytest.mark.benchmark(group="text")
@pytest.mark.parametrize("form", ["times", "nodes"])
def test_one_large_file(benchmark: Any, large: dict[str, Path], form: str) -> None:
    path = large[form]
    made = measured(benchmark, lambda: capacity.read(path), path.stat().st_size)
    of_samples(benchmark, len(made.samples))


def asked(url: str) -> capacity.Metrics:
    times = {"start": START / 1000, "end": (START + STEP * POINTS) / 1000}
    return capacity.read(url, metrics=["cilium_endpoint"], step=15, **times)


@pytest.mark.benchmark(group="query_range")
def test_query_range(benchmark: Any, server: str) -> None:
    made = measured(benchmark, lambda: asked(server), 0)
    assert len(made.samples) >= SERIES * POINTS
    of_samples(benchmark, len(made.samples))


@pytest.mark.benchmark(group="query_range")
def test_query_range_by_prometheus_api_client(benchmark: Any, server: str) -> None:
    client = PrometheusConnect(url=server)
    start, end = (datetime.fromtimestamp((START + STEP * i) / 1000, UTC) for i in (0, POINTS))

    def job() -> int:
        found = client.custom_query_range("cilium_endpoint", start, end, "15")
        # What it gives is text still: the peer's users make numbers of it
        return sum(len([float(value) for _, value in one["values"]]) for one in found)

    of_samples(benchmark, measured(benchmark, job, 0))


@pytest.mark.benchmark(group="tables")
@pytest.mark.parametrize("form", ["tables", "csv"])
def test_tables(benchmark: Any, form: str, scrapes: Path, tmp_path: Path) -> None:
    metrics = capacity.read(scrapes)
    if form == "tables":
        source = tmp_path / "export"
        write(metrics, source)
        size = sum(file.stat().st_size for file in source.iterdir())
    else:
        source = tmp_path / "long.csv"
        joined = metrics.samples.join(metrics.series, on="series").drop("series")
        joined.write_csv(source)
        size = source.stat().st_size
    made = measured(benchmark, lambda: capacity.read(source), size)
    assert len(made.samples) == len(metrics.samples)
    of_samples(benchmark, len(made.samples))
