"""Reading each format, beside its peers in the same run.

Run: pytest benchmarks -n 0 -p no:randomly. Inputs are made from the shipped recordings and a seed.
"""

from __future__ import annotations

import gzip
import random
import statistics
import subprocess
import sys
import time
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
from capacity.load.line_blocks import BLOCK
from tests.prometheus_server import Written, serving

# Of the large files: scrapes, and nodes that each give a scrape
TIMES, NODES = 8_000, 6_000
START = 1_795_392_000_000  # 2026-11-23T00:00:00Z
STEP = 15_000
SERIES, POINTS = 60, 10_000
COPIES, MANY_COPIES = 250, 5_000


@pytest.fixture(scope="module")
def scrapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real scrapes: the lab's newest one, many times."""
    return copied(tmp_path_factory.mktemp("scrapes"), COPIES)


def copied(folder: Path, copies: int) -> Path:
    newest = sorted(shipped.path("data", "lab", "walk").glob("*.prom.gz"))[-1]
    text = gzip.decompress(newest.read_bytes())
    for i in range(copies):
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


@pytest.fixture(scope="module")
def large(scrapes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file each of about 100 MB, of the same scrape.

    Few series at many times as OpenMetrics and as promtool dumps them; many series at one time,
    and a tenth of them.
    """
    text = next(scrapes.iterdir()).read_text()
    lines = [line for line in text.splitlines() if line[:1] != "#"]
    folder = tmp_path_factory.mktemp("large")
    with (folder / "times.om").open("w") as file:
        for i in range(TIMES):
            file.write("".join(f"{line} {1_795_477_000 + 30 * i}.5\n" for line in lines))
        file.write("# EOF\n")
    dumped = [as_dumped(line) for line in lines]
    with (folder / "dump.txt").open("w") as file:
        for line in dumped:
            file.write("".join(f"{line} {1_795_477_000_500 + 30_000 * i}\n" for i in range(TIMES)))
    labelled = [line for line in lines if "{" in line]
    for name, count in (("nodes", NODES), ("few_nodes", NODES // 10)):
        with (folder / f"{name}.prom").open("w") as file:
            for i in range(count):
                node = f'{{node="node-{i:05}",'
                file.write("".join(line.replace("{", node, 1) + "\n" for line in labelled))
    return {path.stem: path for path in folder.iterdir()}


def as_dumped(line: str) -> str:
    head, _, value = line.rpartition(" ")
    name, _, body = head.partition("{")
    labels = [f'__name__="{name}"', *(body[:-1].replace('",', '", ').split(", ") if body else [])]
    return f"{{{', '.join(labels)}}} {value}"


@pytest.mark.benchmark(group="text")
def test_exposition(benchmark: Any, scrapes: Path) -> None:
    size = sum(file.stat().st_size for file in scrapes.iterdir())
    made = measured(benchmark, lambda: capacity.read(scrapes), size)
    of_samples(benchmark, len(made.samples))


@pytest.mark.benchmark(group="text")
def test_thousands_of_scrapes(benchmark: Any, tmp_path: Path) -> None:
    folder = copied(tmp_path, MANY_COPIES)
    size = sum(file.stat().st_size for file in folder.iterdir())
    made = measured(benchmark, lambda: capacity.read(folder), size)
    of_samples(benchmark, len(made.samples))
    benchmark.extra_info["processor_ms"] = round(
        1000 * min(of_processor(lambda: capacity.read(folder)) for _ in range(5))
    )


@pytest.mark.benchmark(group="text")
def test_exposition_by_prometheus_client(benchmark: Any, scrapes: Path) -> None:
    files = sorted(scrapes.iterdir())[: COPIES // 10]
    texts = [file.read_text() for file in files]
    count = measured(benchmark, lambda: by_peer(texts), sum(map(len, texts)), rounds=3)
    of_samples(benchmark, count)


def by_peer(texts: list[str]) -> int:
    families = (f for text in texts for f in text_string_to_metric_families(text))
    return sum(len(family.samples) for family in families)


@pytest.mark.benchmark(group="text")
@pytest.mark.parametrize("form", ["times", "nodes", "dump"])
def test_one_large_file(benchmark: Any, large: dict[str, Path], form: str) -> None:
    path = large[form]
    made = measured(benchmark, lambda: capacity.read(path), path.stat().st_size)
    of_samples(benchmark, len(made.samples))
    benchmark.extra_info["processor_ms"] = round(
        1000 * min(of_processor(lambda: capacity.read(path)) for _ in range(5))
    )


def seconds(job: Callable[[], Any]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def of_processor(job: Callable[[], Any]) -> float:
    """Seconds of processor, all threads together: other jobs of the machine do not count."""
    start = time.process_time()
    job()
    return time.process_time() - start


@pytest.mark.benchmark(group="text")
@pytest.mark.parametrize("form", ["times", "dump"])
def test_text_is_read_thirty_times_as_fast_as_by_prometheus_client(
    benchmark: Any, large: dict[str, Path], form: str
) -> None:
    path = large[form]
    # Not the end of OpenMetrics, whose parser is another and slower one
    text = path.read_text()[: 2 << 20].rpartition("\n")[0] + "\n"
    benchmark.pedantic(lambda: capacity.read(path), rounds=3, warmup_rounds=1)
    speeds = []
    for _ in range(3):
        peer = len(text) / seconds(lambda: by_peer([text]))
        speeds.append(path.stat().st_size / seconds(lambda: capacity.read(path)) / peer)
    benchmark.extra_info["times_as_fast"] = round(statistics.median(speeds), 1)
    assert statistics.median(speeds) >= 30


@pytest.mark.benchmark(group="text")
def test_ten_times_the_series_take_at_most_twelve_times_as_long(
    benchmark: Any, large: dict[str, Path]
) -> None:
    many, few = (
        min(of_processor(lambda name=name: capacity.read(large[name])) for _ in range(3))
        for name in ("nodes", "few_nodes")
    )
    benchmark.extra_info["times_as_long"] = round(many / few, 1)
    benchmark.pedantic(lambda: None)
    assert many / few <= 12


# Reads a file of its arguments in a process of its own, after a small one: code is loaded then
MEMORY = """
import sys
from pathlib import Path
import capacity
from capacity.load import exposition

def peak():
    # Of this program alone: ru_maxrss is that of its parent at first
    told = Path("/proc/self/status").read_text()
    return int(told.split("VmHWM:")[1].split()[0]) << 10

exposition.SMALL = 0
capacity.read(sys.argv[1])
before = peak()
made = capacity.read(sys.argv[2])
used = peak() - before
# estimated_size leaves out the 16 bytes a cell that point to a text
print(used, sum(frame.write_ipc(None).getbuffer().nbytes for frame in (made.series, made.samples)))
"""


@pytest.mark.benchmark(group="memory")
@pytest.mark.parametrize("form", ["times", "dump", "nodes"])
def test_memory_is_three_times_that_of_the_frames_and_of_some_blocks(
    benchmark: Any, large: dict[str, Path], scrapes: Path, form: str, tmp_path: Path
) -> None:
    path = large[form]
    if form == "times":
        path = tmp_path / "long.om"
        with path.open("wb") as file:
            body = large[form].read_bytes().removesuffix(b"# EOF\n")
            for i in range(5):
                file.write(
                    body.replace(b" 1795", b" 18%02d" % i).replace(b" 1796", b" 18%02d" % (i + 10))
                )
            file.write(b"# EOF\n")
    command = [sys.executable, "-c", MEMORY, str(next(scrapes.iterdir())), str(path)]
    out = benchmark.pedantic(
        lambda: subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    used, frames = map(int, out.split())
    benchmark.extra_info.update(
        used_mib=used >> 20, frames_mib=frames >> 20, times_frames=round(used / frames, 1)
    )
    assert used <= 3 * frames + 12 * BLOCK


CONNECTION = (
    "TCP OUT 10.0.{}.{}:4240 -> 10.1.0.7:8080 expires=13100 Packets=0 Bytes=0 RxFlagsSeen=0x1b "
    "LastRxReport=5100 TxFlagsSeen=0x1b LastTxReport=5100 Flags=0x0013 [ RxClosing TxClosing ] "
    "RevNAT=0 SourceSecurityID=5139 IfIndex=0 BackendID=0 \n"
)
POLICY_HEAD = (
    "Endpoint ID: {0}\nPath: /sys/fs/bpf/tc/globals/cilium_policy_v2_{0:05}\n\n"
    "POLICY   DIRECTION   LABELS (source:key[=value])   PORT/PROTO   PROXY PORT   BYTES   PACKETS\n"
)
POLICY_ROW = (
    "Allow    Ingress     k8s:app=app{}                 1081/TCP     NONE         0       0\n"
    "                     k8s:io.kubernetes.pod.namespace=ns2\n"
)


@pytest.mark.benchmark(group="tools")
@pytest.mark.parametrize("form", ["ct", "policy"])
def test_entries_of_maps_as_text(benchmark: Any, form: str, tmp_path: Path) -> None:
    many = 100_000
    if form == "ct":
        text = "".join(CONNECTION.format(i // 256 % 256, i % 256) for i in range(many))
    else:
        heads = (POLICY_HEAD.format(i // 500) if i % 500 == 0 else "" for i in range(many))
        text = "".join(head + POLICY_ROW.format(i) for i, head in enumerate(heads))
    path = tmp_path / f"{form}.txt"
    path.write_text(text)
    made = measured(benchmark, lambda: capacity.read_inventory(path), len(text))
    assert made.map_entries["entries"].sum() == many


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
