"""A real Prometheus with known samples, for tests and benchmarks: binaries of the PATH."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# series text, sample times in ms (rising), values
Written = tuple[str, Iterable[int], Iterable[float]]


def needed() -> tuple[str, str]:
    """Paths of prometheus and promtool; the test is skipped where they are not installed."""
    found = shutil.which("prometheus"), shutil.which("promtool")
    if None in found:
        pytest.skip("prometheus and promtool are not installed (Debian: apt install prometheus)")
    return str(found[0]), str(found[1])


def openmetrics(series: Iterable[Written]) -> str:
    """The series as OpenMetrics text: one family a metric name, samples in order of time."""
    families: dict[str, list[str]] = {}
    for text, times, values in series:
        rows = [f"{text} {v!r} {t / 1000:.3f}" for t, v in zip(times, values, strict=True)]
        families.setdefault(text.split("{")[0], []).extend(rows)
    lines = [line for name, rows in families.items() for line in (f"# TYPE {name} unknown", *rows)]
    return "\n".join([*lines, "# EOF", ""])


@contextmanager
def serving(series: Iterable[Written], folder: Path, *more: str, config: str = "") -> Iterator[str]:
    """A server on localhost that holds these samples and scrapes nothing; gives its URL.

    `more` are further arguments of its command line, `config` its file.
    """
    data = write_blocks(series, folder)
    with serving_blocks(data, folder, *more, config=config) as url:
        yield url


def write_blocks(series: Iterable[Written], folder: Path, *more: str) -> Path:
    """Blocks of these samples in a folder below; `more` are further arguments of promtool."""
    _, promtool = needed()
    (folder / "samples.om").write_text(openmetrics(series))
    make = [promtool, "tsdb", "create-blocks-from", *more, "openmetrics", "--quiet"]
    command = [*make, str(folder / "samples.om"), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "data"


@contextmanager
def serving_blocks(data: Path, folder: Path, *more: str, config: str = "") -> Iterator[str]:
    """A server on localhost over blocks that are there; its log lies in `folder`."""
    prometheus, _ = needed()
    (folder / "server.yml").write_text(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [
                prometheus,
                f"--config.file={folder / 'server.yml'}",
                f"--storage.tsdb.path={data}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address={address}",
                *more,
            ],
            stdout=log,
            stderr=log,
        )
    try:
        _await_ready(f"http://{address}", server, folder / "server.log")
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(20)


def _await_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"Prometheus did not start: {log.read_text()[-2000:]}")
