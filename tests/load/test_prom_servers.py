"""The Prometheus API as it is in the field: proxies that fail, TLS, aggregates, other servers."""

from __future__ import annotations

import gzip
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import HTTPServer
from pathlib import Path

import polars as pl
import pytest
import trustme
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capacity.errors import ExportError, SettingsError
from capacity.export import Metrics
from capacity.load import prom_api, prom_requests, prom_server
from tests.load.conftest import POINTS, START, STEP, Reply, Seen, misbehaving, written
from tests.load.test_prom_api import END, QUICK, Sample, answer, held, told
from tests.prometheus_server import openmetrics

# A proxy between us and the real server, which does to answers what proxies do

Fault = Callable[[Reply], Reply]
HEADERS = ("Content-Type", "Content-Encoding")


def forwarded(url: str, seen: Seen) -> Reply:
    sent = {k: v for k, v in seen.headers.items() if k.lower() not in ("host", "content-length")}
    request = urllib.request.Request(url + seen.target, seen.body or None, sent)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            kept = {name: response.headers[name] for name in HEADERS if response.headers[name]}
            return Reply(response.read(), response.status, kept)
    except urllib.error.HTTPError as error:
        return Reply(error.read(), error.code, {"Content-Type": error.headers["Content-Type"]})


def cut(reply: Reply) -> Reply:
    return Reply(reply.body, reply.status, reply.headers, cut=len(reply.body) // 2)


def shortened(reply: Reply) -> Reply:
    return Reply(reply.body[: len(reply.body) // 2], reply.status, reply.headers)


def truncated_gzip(reply: Reply) -> Reply:
    packed = gzip.compress(reply.body)
    return Reply(packed[:-12], reply.status, {**reply.headers, "Content-Encoding": "gzip"})


def delayed(reply: Reply) -> Reply:
    return Reply(reply.body, reply.status, reply.headers, delay=0.05)


def late(reply: Reply) -> Reply:
    return Reply(reply.body, reply.status, reply.headers, delay=1.5)


FAULTS: dict[str, Fault] = {
    "none": lambda reply: reply,
    "delayed": delayed,
    "cut": cut,
    "shortened": shortened,
    "truncated gzip": truncated_gzip,
    "429": lambda _: Reply(b"slow down", 429),
    "500": lambda _: Reply(b"<html>oops</html>", 500, {"Content-Type": "text/html"}),
    "503": lambda _: Reply(b"upstream is away", 503, {"Content-Type": "text/plain"}),
    "garbage": lambda reply: Reply(bytes(range(256)) * 9, 200, reply.headers),
}


def through(url: str, faults: Callable[[int], str], **more: object) -> Metrics:
    """What is read of a server whose n-th answer has the fault told."""
    number = iter(range(10**9))
    lock = threading.Lock()

    def spoiled(seen: Seen) -> Reply:
        reply = forwarded(url, seen)
        with lock:
            # The first answer proves that it is the right server
            index = next(number)
        return (FAULTS | {"late": late})[faults(index)](reply)

    asked = {"metrics": ["cilium_.*"], "start": START, "end": END, "step": 60, "waits": (0.01,) * 4}
    with misbehaving(spoiled) as (place, _):
        return prom_api.fetch(place, **(asked | more))  # type: ignore[arg-type]


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("name", "remote"),
    [("prometheus", True), ("prometheus", False), ("victoria", False)],
    ids=["remote read", "query_range", "VictoriaMetrics"],
)
@pytest.mark.parametrize("fault", list(FAULTS))
def test_what_a_proxy_spoils_once_is_asked_for_again(
    request: pytest.FixtureRequest, name: str, fault: str, remote: bool
) -> None:
    url = request.getfixturevalue(name)
    metrics = ["cilium_bpf_map_pressure"]
    plain = through(url, lambda _: "none", metrics=metrics, remote_read=False)
    spoiled = through(
        url, lambda i: fault if i % 2 else "none", metrics=metrics, remote_read=remote
    )
    assert told(spoiled) == told(plain)
    assert len(told(plain)) > 5_000


@pytest.mark.prometheus
@pytest.mark.parametrize("name", ["prometheus", "victoria"])
def test_an_answer_that_does_not_come_in_time_is_asked_for_again(
    request: pytest.FixtureRequest, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue(name)
    metrics = ["cilium_bpf_map_pressure"]
    plain = through(url, lambda _: "none", metrics=metrics, remote_read=False)
    monkeypatch.setattr(prom_server, "_TIMEOUT", urllib3.Timeout(connect=5.0, read=1.0))
    late = through(url, lambda i: "late" if i == 2 else "none", metrics=metrics, remote_read=False)
    assert told(late) == told(plain)


@pytest.mark.prometheus
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.floats(0, 0.9), st.booleans())
def test_no_row_of_faults_changes_a_sample(
    prometheus: str, seed: int, share: float, remote: bool
) -> None:
    """Either all is there, or an error says that it is not."""
    rng = random.Random(seed)
    bad = [name for name in FAULTS if name != "none"]
    row = [rng.choice(bad) if rng.random() < share else "none" for _ in range(1000)]
    asked = {"metrics": ["cilium_endpoint", "cilium_drop_count_total"], "remote_read": remote}
    try:
        made = through(prometheus, lambda i: row[i % 1000], **asked)
    except ExportError:
        return
    plain = prom_api.fetch(
        prometheus, start=START, end=END, step=60, waits=QUICK, **(asked | {"remote_read": False})
    )  # type: ignore[arg-type]
    assert told(made) == told(plain)


# What the server computes where the history is too large


@pytest.mark.prometheus
def test_the_largest_of_each_step_is_computed_by_the_server(prometheus: str) -> None:
    made = prom_api.fetch(
        prometheus, metrics=["cilium_bpf_map_pressure"], start=START, end=END, step=3600,
        aggregate="max", matchers='node="a"', waits=QUICK,
    )  # fmt: skip
    raw = pl.DataFrame(
        [(at, value) for _, node, at, value in held("cilium_bpf_map_pressure") if node == "a"],
        schema=["time", "value"], orient="row",
    )  # fmt: skip
    # (t - step, t], as ranges of Prometheus 3; those of Prometheus 2 are asked for so
    window = START + ((pl.col("time") - START + 3_600_000 - 1) // 3_600_000) * 3_600_000
    wanted = raw.group_by(window.alias("time")).agg(pl.col("value").max()).sort("time")
    wanted = wanted.filter(pl.col("time") <= END)
    assert [(at, value) for _, _, at, value in told(made)] == wanted.rows()
    assert "max_over_time(" in made.sources["reason"][0]
    assert "cilium_bpf_map_pressure" in made.sources["reason"][0]


@pytest.mark.prometheus
def test_counters_are_never_aggregated(prometheus: str) -> None:
    asked = {"metrics": ["cilium_drop_count_total"], "start": START, "end": END, "step": 3600}
    largest = prom_api.fetch(prometheus, aggregate="max", waits=QUICK, **asked)  # type: ignore[arg-type]
    last = prom_api.fetch(prometheus, aggregate="none", waits=QUICK, **asked)  # type: ignore[arg-type]
    assert told(largest) == told(last)


@pytest.mark.prometheus
def test_too_many_samples_are_aggregated_without_being_asked(prometheus: str) -> None:
    made = prom_api.fetch(
        prometheus, metrics=["cilium_bpf_map_pressure"], start=START, end=END, waits=QUICK,
        most_samples=200,
    )  # fmt: skip
    assert 100 < len(made.samples) <= 200
    assert "aggregated by the server each" in made.sources["reason"][0]


# Series in parts


@pytest.mark.prometheus
def test_series_asked_for_in_parts_come_once_each(
    prometheus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prom_requests, "_REQUEST_SERIES", 1)
    asked = {"metrics": ["cilium_.*"], "start": START, "end": END, "step": 60, "waits": QUICK}
    parts = prom_api.fetch(prometheus, remote_read=False, **asked)  # type: ignore[arg-type]
    monkeypatch.undo()
    whole = prom_api.fetch(prometheus, remote_read=False, **asked)  # type: ignore[arg-type]
    assert told(parts) == told(whole)


# TLS on both sides


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def guarded(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[str]:
    """URL of a server that wants the certificate of its client."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    wrapped = HTTPServer.server_bind

    def bind(server: HTTPServer) -> None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        wrapped(server)

    monkeypatch.setattr(HTTPServer, "server_bind", bind)
    monkeypatch.setattr(HTTPServer, "handle_error", lambda *_: None)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    body = answer()
    with misbehaving(lambda _: Reply(body)) as (url, _):
        yield url.replace("http://127.0.0.1", "https://localhost")


def secured(url: str) -> Metrics:
    return prom_api.fetch(
        url, metrics=["up"], start=START, end=START + 2 * STEP, step=15, waits=QUICK
    )


def test_a_server_that_wants_a_certificate_is_read_with_it(
    guarded: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = authority.issue_cert("capacity@example.org")
    mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    for name in ("CA", "CERT", "KEY"):
        monkeypatch.setenv(f"CAPACITY_PROM_{name}_FILE", str(tmp_path / f"{name.lower()}.pem"))
    assert len(secured(guarded).samples) == 3


def test_without_a_certificate_it_is_told_which_settings_are_wanted(
    guarded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CAPACITY_PROM_CA_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(ExportError, match=r"CAPACITY_PROM_CERT_FILE|connection failed"):
        secured(guarded)


def test_an_authority_that_is_not_known_is_told(guarded: str) -> None:
    with pytest.raises(ExportError, match=r"TLS failed: .*; set CAPACITY_PROM_CA_FILE"):
        secured(guarded)


def test_a_file_that_is_no_certificate_is_named(
    guarded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    monkeypatch.setenv("CAPACITY_PROM_CA_FILE", str(tmp_path / "no.pem"))
    with pytest.raises(SettingsError, match=r"CAPACITY_PROM_CA_FILE: .*no\.pem"):
        secured(guarded)


# VictoriaMetrics


@pytest.fixture(scope="module")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real VictoriaMetrics that holds what the real Prometheus holds."""
    binary = shutil.which("victoria-metrics")
    if binary is None:
        pytest.skip("victoria-metrics is not installed (Debian: apt install victoria-metrics)")
    folder = tmp_path_factory.mktemp("victoria")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        binary, f"-storageDataPath={folder}", f"-httpListenAddr={address}", "-retentionPeriod=100y",
        "-memory.allowedPercent=5", "-search.latencyOffset=0s", "-search.disableCache",
    ]  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://{address}"
    try:
        text = openmetrics(written())
        # Its import takes milliseconds
        lines = [
            f"{head} {round(float(at) * 1000)}"
            for line in text.splitlines()
            if not line.startswith("#")
            for head, _, at in [line.rpartition(" ")]
        ]
        body = "\n".join(lines).encode()
        _posted(f"{url}/api/v1/import/prometheus", body, server, folder / "server.log")
        _posted(f"{url}/internal/force_flush", b"", server, folder / "server.log")
        yield url
    finally:
        server.terminate()
        server.wait(20)


def _posted(url: str, body: bytes, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(urllib.request.Request(url, body), timeout=20).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"VictoriaMetrics did not start: {log.read_text()[-2000:]}")


def assert_alike(some: list[Sample], others: list[Sample]) -> None:
    """VictoriaMetrics keeps numbers as decimals of about 12 digits (lib/decimal, v1.79)."""
    assert [one[:3] for one in some] == [one[:3] for one in others]
    assert [one[3] for one in some] == pytest.approx([one[3] for one in others], rel=1e-10)


@pytest.mark.prometheus
def test_victoria_metrics_tells_every_sample_of_a_fine_step(victoria: str) -> None:
    made = prom_api.fetch(
        victoria, metrics=["cilium_bpf_map_pressure", "cilium_endpoint"], start=START, end=END,
        step=15, waits=QUICK,
    )  # fmt: skip
    assert_alike(told(made), held("cilium_bpf_map_pressure") + held("cilium_endpoint"))


@pytest.mark.prometheus
@pytest.mark.parametrize("step", [60, 900])
def test_victoria_metrics_and_prometheus_tell_the_same(
    victoria: str, prometheus: str, step: int
) -> None:
    asked = {"metrics": ["cilium_.*"], "start": START, "end": END, "step": step, "waits": QUICK}
    one, other = (prom_api.fetch(url, **asked) for url in (victoria, prometheus))  # type: ignore[arg-type]
    assert_alike(told(one), told(other))
    assert len(told(one)) > 3 * POINTS * STEP // (step * 1000) // 2
