"""A real Prometheus with known samples, and a server that misbehaves on demand."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.prometheus_server import Written, serving

START = 1_795_392_000_000  # 2026-11-23T00:00:00Z
STEP = 15_000
POINTS = 12_001  # more than the 11,000 that one request may ask for


def written() -> list[Written]:
    """What the real server holds; a target with a gap, one that vanished, a counter that resets."""
    rng = random.Random(7)
    times = [START + STEP * i for i in range(POINTS)]
    gap = [t for i, t in enumerate(times) if not 500 <= i < 520]
    counter = [float(i if i < 9_000 else i - 9_000) for i in range(POINTS)]
    return [
        ('cilium_bpf_map_pressure{node="a",map_name="ct4_global"}', times,
         [rng.random() for _ in times]),
        ('cilium_bpf_map_pressure{node="b",map_name="ct4_global"}', gap,
         [rng.random() for _ in gap]),
        ('cilium_drop_count_total{node="a",reason="say \\"no\\""}', times, counter),
        ('cilium_endpoint{node="gone"}', times[:100], [float(i) for i in range(100)]),
        ('cilium_unknown_to_us_bucket{le="1"}', times[:10], [1.0] * 10),
        ("go_goroutines", times[:10], [1.0] * 10),
    ]  # fmt: skip


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Prometheus that holds `written`."""
    with serving(written(), tmp_path_factory.mktemp("prometheus")) as url:
        yield url


@dataclass
class Reply:
    """What the misbehaving server answers: status, body, headers, and how much is really sent."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    cut: int | None = None
    declared: bool = True
    delay: float = 0.0


@dataclass
class Seen:
    """One request: path, form, headers; and as it was sent, target and body."""

    path: str
    form: dict[str, str]
    headers: dict[str, str]
    target: str = ""
    body: bytes = b""


Answering = Callable[[Seen], Reply]


@contextmanager
def misbehaving(answer: Answering) -> Iterator[tuple[str, list[Seen]]]:
    """A server on localhost that answers as told; gives its URL and what it was asked."""
    seen: list[Seen] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            form = parse_qs(parts.query or body.decode("latin-1"))
            told = {k: v[0] for k, v in form.items()}
            one = Seen(parts.path, told, dict(self.headers), self.path, body)
            seen.append(one)
            reply = answer(one)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.declared:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            time.sleep(reply.delay)
            self.wfile.write(reply.body[: reply.cut])
            self.close_connection = True

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file below the test's folder."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests holds no credentials for them."""
    for name in ("TOKEN", "TOKEN_FILE", "USER", "PASSWORD", "PASSWORD_FILE", "HEADERS_FILE"):
        monkeypatch.delenv(f"CAPACITY_PROM_{name}", raising=False)
