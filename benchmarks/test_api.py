"""The Prometheus API: query_range and remote read, each whole, beside prometheus-api-client.

Run: pytest benchmarks/test_api.py -n 0 -p no:randomly. Server and client share the machine.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import pytest
from prometheus_api_client import PrometheusConnect

from capacity.load import prom_api, prom_json, prom_requests
from tests.prometheus_server import Written, serving

START, STEP = 1_795_392_000_000, 15_000  # 2026-11-23T00:00:00Z; ms
SERIES, POINTS = 200, 10_000
END = START + STEP * (POINTS - 1)


def written(*, is_on_grid: bool = False) -> list[Written]:
    """As metrics are: counters, whole numbers that change at times, bytes, and fractions.

    Prometheus scrapes each target at an offset of its own; where samples lie on the very times
    asked for, Prometheus 2 works two to three times as long.
    """
    rng = random.Random(3)
    series: list[Written] = []
    for i in range(SERIES):
        offset = 0 if is_on_grid else -1 - i * 37 % STEP
        times = [START + STEP * i + offset for i in range(POINTS)]
        value, values = 0.0, []
        for _ in times:
            match i % 4:
                case 0:
                    value += rng.randrange(50)
                case 1:
                    value = value if rng.random() < 0.9 else float(rng.randrange(110))
                case 2:
                    value = 4096.0 * rng.randrange(1 << 18, 1 << 19)
                case _:
                    value = rng.random()
            values.append(value)
        series.append((f'cilium_k{i % 4}{{node="n{i}",job="cilium-agent"}}', times, values))
    return series


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(written(), tmp_path_factory.mktemp("prometheus")) as url:
        yield url


@pytest.fixture(scope="module")
def on_grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(written(is_on_grid=True), tmp_path_factory.mktemp("prometheus")) as url:
        yield url


def fetched(server: str, *, remote: bool = False) -> int:
    made = prom_api.fetch(
        server, metrics=["cilium_.*"], start=START, end=END, step=15, remote_read=remote,
        aggregate="none",
    )  # fmt: skip
    return len(made.samples)


@pytest.mark.parametrize("remote", [True, False], ids=["remote read", "query_range"])
def test_ours(benchmark, server: str, remote: bool) -> None:
    read = partial(fetched, server, remote=remote)
    assert benchmark.pedantic(read, rounds=7, warmup_rounds=1) == SERIES * POINTS


def test_ours_where_samples_lie_on_the_times_asked_for(benchmark, on_grid: str) -> None:
    read = partial(fetched, on_grid)
    assert benchmark.pedantic(read, rounds=5, warmup_rounds=1) == SERIES * POINTS


def test_the_server_alone(benchmark, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same questions, as many at a time; answers are taken off the wire and thrown away."""
    sizes: list[int] = []
    nothing = prom_json.parse(
        b'{"status":"success","data":{"resultType":"matrix","result":[]}}', ""
    )

    def thrown_away(_: object, body: bytes) -> prom_json.Answer:
        sizes.append(len(body))
        return nothing

    monkeypatch.setattr(prom_requests, "_parsed", thrown_away)
    benchmark.pedantic(partial(fetched, server), rounds=7, warmup_rounds=1)
    assert sum(sizes) / 8 > SERIES * POINTS * 10


def test_prometheus_api_client(benchmark, server: str) -> None:
    """One metric, a quarter of the samples: it makes Python objects of each."""
    client = PrometheusConnect(url=server)
    ends = [datetime.fromtimestamp(at / 1000, UTC) for at in (START, END)]

    def read() -> int:
        told = client.custom_query_range("cilium_k0", *ends, step="15")
        return sum(len(one["values"]) for one in told)

    assert benchmark.pedantic(read, rounds=2) == SERIES // 4 * POINTS
