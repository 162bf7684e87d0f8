"""Windows of Prometheus' blocks, and the API of a real server, give what a whole export gives."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from capacity.load import prom_requests
from capacity.load.prom_json import Answer
from capacity.load.prom_server import RefusedError
from capacity.rightsizing import Sizing, api, rightsize, source
from capacity.rightsizing import blocks as of_blocks
from capacity.rightsizing_settings import RightsizingSettings
from tests.load.test_tsdb_wal import series, write
from tests.prometheus_server import Written, serving_blocks, write_blocks
from tests.rightsizing.pods import MI, START, Pods
from tests.rightsizing.test_rightsizing import DAY, memory, size, used, web

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)


def made() -> Pods:
    pods = web(Pods())
    pods.pod("db-0", used(2 * DAY), memory(2 * DAY), owner=("StatefulSet", "db"), minutes=5,
             begin=DAY, request=(0.1, 410 * MI), limit=(0.1, 430 * MI))  # fmt: skip
    return pods


def written(pods: Pods) -> list[Written]:
    """Give the series as text, a family's next to each other."""
    out = []
    for labels, times, values in zip(pods.labels, pods.times, pods.values, strict=True):
        told = ",".join(f'{k}="{v}"' for k, v in labels.items() if k != "__name__")
        at = times.astype(int).tolist()
        out.append((f"{labels['__name__']}{{{told}}}", at, values.tolist()))
    return out


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    return write_blocks(written(made()), folder, "--max-block-duration=48h")


@pytest.fixture(scope="module")
def server(blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_blocks(blocks, tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(scope="module")
def whole() -> Sizing:
    return size(made())


def told(sizing: Sizing) -> list[tuple[object, ...]]:
    return sizing.resources.select("workload", "setting", "target", "lower", "upper").rows()


def test_windows_of_blocks_give_what_the_whole_gives(
    blocks: Path, whole: Sizing, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(rightsize(str(blocks))) == told(whole)
    monkeypatch.setattr(of_blocks, "_WINDOW_SAMPLES", 1000)
    monkeypatch.setattr(source, "_WHOLE", 1000)
    parts = list(source.parts(str(blocks), RightsizingSettings()))
    assert len(parts) > 3
    windowed = rightsize(str(blocks))
    assert windowed.samples == whole.samples
    assert told(windowed) == told(whole)
    counted = windowed.sources.filter(format="tsdb-block")
    assert counted["kept"].sum() > whole.samples
    assert counted["refused"].sum() == 0


def test_blocks_that_overlap_or_name_a_cluster_outside_are_read_as_frames_and_give_the_same(
    blocks: Path, whole: Sizing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_WHOLE", 1000)
    shutil.copytree(blocks, tmp_path / "data")
    first = min(path for path in (tmp_path / "data").iterdir() if path.is_dir())
    shutil.copytree(first, first.with_name("01HZZZZZZZZZZZZZZZZZZZZZZZ"))
    again = rightsize(str(tmp_path / "data"))
    assert again.samples == whole.samples
    assert told(again) == told(whole)
    for meta in (tmp_path / "data").glob("*/meta.json"):
        text = json.loads(meta.read_text())
        meta.write_text(json.dumps(text | {"thanos": {"labels": {"cluster": "north"}}}))
    assert told(rightsize(str(tmp_path / "data"))) == told(whole)


def test_the_log_beside_the_blocks_is_read_too(
    whole: Sizing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest 90 minutes are in the log alone, with all that is set at the end."""
    monkeypatch.setattr(source, "_WHOLE", 1000)
    told_last = written(made())
    cut = max(max(times) for _, times, _ in told_last) - 90 * 60_000
    old, new = [], []
    for text, times, values in told_last:
        rows = list(zip(times, values, strict=True))
        before = [row for row in rows if row[0] < cut]
        if before:
            old.append((text, *map(list, zip(*before, strict=True))))
        labels = dict(re.findall(r'(\w+)="([^"]*)"', text)) | {"__name__": text.split("{")[0]}
        new += [(at, labels, value) for at, value in rows if at >= cut]
    data = write_blocks(old, tmp_path, "--max-block-duration=48h")
    with serving_blocks(data, tmp_path, "--web.enable-remote-write-receiver") as url:
        new.sort(key=lambda one: one[0])
        for i in range(0, len(new), 500):
            write(url, b"".join(series(one, at, value) for at, one, value in new[i : i + 500]))
    assert len(new) > 150
    sized = rightsize(str(data))
    assert told(sized) == told(whole)
    assert sized.samples == whole.samples
    shutil.rmtree(data / "wal")
    assert rightsize(str(data)).samples < whole.samples


def test_a_server_gives_what_its_blocks_give_with_remote_read_and_peaks_without(
    server: str, whole: Sizing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_QUESTION", 1)
    chosen = {"start": str(START / 1000), "end": str(START / 1000 + 3 * 86_400)}
    read = rightsize(server, RightsizingSettings(**chosen))
    monkeypatch.setattr(prom_requests, "remote_labels", lambda *_: "there is none")
    stepped = rightsize(server, RightsizingSettings(**chosen))
    assert "remote read" in str(read.sources["reason"][0])
    assert read.samples == whole.samples
    assert told(read) == told(whole)
    # Steps of a server end where ours begin: a sample on the edge counts to the one before
    memory = [one for one in told(stepped) if "memory" in str(one[1])]
    assert memory == [one for one in told(whole) if "memory" in str(one[1])]


def test_what_a_server_told_that_is_no_sample_is_said_with_the_source() -> None:
    labels = {"__name__": "container_memory_working_set_bytes", "pod": "a", "container": "b"}
    histograms = "2 native histograms are not read"
    answer = Answer((labels,), np.array([1]), np.array([START]), np.array([1.0]), 2, (histograms,))
    asking = api._Asking(SimpleNamespace(name="here"), "", frozenset(), api._Series("c"))
    part = api._part(asking, [answer], [], RightsizingSettings(), 1.0)
    row = part.sources().row(0, named=True)
    assert row["refused"] == 2
    assert histograms in row["reason"]


def test_a_server_that_refuses_remote_read_midway_is_asked_by_steps_from_there_on(
    server: str, whole: Sizing, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"start": str(START / 1000), "end": str(START / 1000 + 3 * 86_400)}
    monkeypatch.setattr(api, "_QUESTION", 1)
    # A limit of the server: half of the questions pass
    ask, asked = api.remote_read.read, []

    def limited(*args: Any, **more: Any) -> Any:
        asked.append(args)
        if len(asked) > 20:
            raise RefusedError(400, "exceeded sample limit")
        return ask(*args, **more)

    monkeypatch.setattr(api.remote_read, "read", limited)
    made = rightsize(server, RightsizingSettings(**chosen))
    assert any("aggregated by the server" in str(reason) for reason in made.sources["reason"])
    memory = [one for one in told(made) if "memory" in str(one[1])]
    assert memory == [one for one in told(whole) if "memory" in str(one[1])]
