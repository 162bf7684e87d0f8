"""Native histograms of a real Prometheus: refused by metric, and all else is kept."""

from __future__ import annotations

import re
import shutil
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest

import capacity
from capacity.load import prom_api
from tests.load.test_prom_api import QUICK
from tests.prometheus_server import serving_blocks

pytestmark = pytest.mark.prometheus
# Prometheus takes histograms as native ones only in this form
DELIMITED = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"  # fmt: skip  # noqa: E501
NAME = "cilium_native_seconds"
SCRAPES = 5


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def part(number: int, body: bytes | float | int) -> bytes:
    """A field of a message: bytes, double, or unsigned integer."""
    if isinstance(body, bytes):
        return varint(number << 3 | 2) + varint(len(body)) + body
    if isinstance(body, float):
        return varint(number << 3 | 1) + struct.pack("<d", body)
    return varint(number << 3) + varint(body)


def family(name: str, kind: int, metrics: Sequence[bytes]) -> bytes:
    """prometheus/client_model io/prometheus/client/metrics.proto, MetricFamily (v0.6)."""
    body = part(1, name.encode()) + part(3, kind) + b"".join(part(4, one) for one in metrics)
    return varint(len(body)) + body


def scrape(seen: int) -> bytes:
    """A gauge, and two histograms of schema 0 (zigzag 0): `seen` observations in bucket 1."""
    node = [part(1, part(1, b"node") + part(2, one)) for one in (b"a", b"b")]
    span = part(1, 2) + part(2, 1)
    histogram = part(1, seen) + part(2, 1.5 * seen) + part(5, 0) + part(6, 1e-9) + part(12, span)
    histogram += part(13, 2 * seen)
    gauges = [one + part(2, part(1, 30.0)) for one in node]
    return family("cilium_endpoint", 1, gauges) + family(
        NAME, 4, [one + part(7, histogram) for one in node]
    )


class Agent(BaseHTTPRequestHandler):
    seen = 0

    def do_GET(self) -> None:
        Agent.seen += 1
        body = scrape(Agent.seen)
        self.send_response(200)
        self.send_header("Content-Type", DELIMITED)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Held:
    """What a server held after some scrapes: its URL, log and a snapshot, which is a block."""

    url: str
    log: Path
    block: Path


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    folder = tmp_path_factory.mktemp("native")
    agent = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    threading.Thread(target=agent.serve_forever, args=(0.01,), daemon=True).start()
    config = (
        "scrape_configs: [{job_name: cilium-agent, scrape_interval: 200ms, scrape_timeout: 200ms, "
        f"static_configs: [{{targets: ['127.0.0.1:{agent.server_port}']}}]}}]"
    )
    more = ["--enable-feature=native-histograms", "--web.enable-admin-api"]
    try:
        with serving_blocks(folder / "data", folder, *more, config=config) as url:
            until = time.monotonic() + 20
            while Agent.seen <= SCRAPES and time.monotonic() < until:
                time.sleep(0.05)
            asked = urllib.request.Request(f"{url}/api/v1/admin/tsdb/snapshot", method="POST")
            with urllib.request.urlopen(asked, timeout=10) as answer:
                name = orjson.loads(answer.read())["data"]["name"]
            shutil.copytree(folder / "data" / "wal", folder / "log" / "wal")
            yield Held(url, folder / "log", folder / "data" / "snapshots" / name)
    finally:
        agent.shutdown()
        agent.server_close()


def told(reason: str) -> str:
    """A reason without its numbers."""
    return re.sub(r"\d+", "N", reason)


@pytest.mark.parametrize("metrics", ["cilium_.*", None])
@pytest.mark.parametrize("kind", ["log", "block"])
def test_files_of_a_server_tell_the_metric_and_keep_all_else(
    held: Held, kind: str, metrics: str | None
) -> None:
    made = capacity.read(held.log if kind == "log" else held.block, metrics=metrics)
    row = made.sources.row(0, named=True)
    wanted = {
        "log": f"N samples of native histograms of {NAME}, which are not read",
        "block": f"chunks/N: N chunks, the first at N: native histogram of {NAME}, N samples, "
        "which is not read",
    }
    assert wanted[kind] in told(row["reason"])
    assert set(made.select("cilium_endpoint")["value"]) == {30.0}
    # A scrape tells as many of one as of the other; of what was missed each has a stale marker
    many = int(re.findall(r"(\d+) samples", row["reason"])[0])
    assert 0 <= many - len(made.select("cilium_endpoint")) <= row["refused"] - many
    assert many >= 2 * SCRAPES


@pytest.mark.parametrize("kind", ["log", "block"])
def test_what_is_not_wanted_is_not_told(held: Held, kind: str) -> None:
    made = capacity.read(held.log if kind == "log" else held.block, metrics="cilium_endpoint")
    assert "native" not in (made.sources["reason"][0] or "")
    assert len(made.samples) >= 2 * SCRAPES


def test_remote_read_tells_the_metric_and_keeps_all_else(held: Held) -> None:
    end = int(time.time() * 1000)
    made = prom_api.fetch(
        held.url, metrics=["cilium_.*"], start=end - 60_000, end=end, step=0.1, remote_read=True,
        waits=QUICK, aggregate="none",
    )  # fmt: skip
    assert f"N native histograms of {NAME} are not read" in told(made.sources["reason"][0])
    assert made.series["metric"].unique().to_list() == ["cilium_endpoint"]
    assert made.sources["refused"][0] >= 2 * SCRAPES
    assert len(made.samples) >= 2 * SCRAPES
