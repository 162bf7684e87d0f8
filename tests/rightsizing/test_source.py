"""Windows of Prometheus' blocks, and the API of a real server, give what a whole export gives."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from capacity.rightsizing import Sizing, rightsize, source
from capacity.rightsizing_settings import RightsizingSettings
from tests.rightsizing.pods import MI, Pods
from tests.rightsizing.test_rightsizing import DAY, memory, size, used, web

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)


def made() -> Pods:
    pods = web(Pods())
    pods.pod("db-0", used(2 * DAY), memory(2 * DAY), owner=("StatefulSet", "db"), minutes=5,
             begin=DAY, request=(0.1, 410 * MI), limit=(0.1, 430 * MI))  # fmt: skip
    return pods


def openmetrics(pods: Pods) -> str:
    lines: dict[str, list[str]] = {}
    for labels, times, values in zip(pods.labels, pods.times, pods.values, strict=True):
        name = labels["__name__"]
        told = ",".join(f'{k}="{v}"' for k, v in labels.items() if k != "__name__")
        own = lines.setdefault(name, [f"# TYPE {name} unknown"])
        own += [
            f"{name}{{{told}}} {value!r} {time / 1000:.3f}"
            for time, value in zip(times.tolist(), values.tolist(), strict=True)
        ]
    return "\n".join([*(line for own in lines.values() for line in own), "# EOF", ""])


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    (folder / "all.om").write_text(openmetrics(made()), encoding="utf-8")
    command = ["promtool", "tsdb", "create-blocks-from", "--max-block-duration=48h", "openmetrics"]
    subprocess.run([*command, folder / "all.om", folder / "data"], check=True, capture_output=True)
    return folder / "data"


def told(sizing: Sizing) -> list[tuple[object, ...]]:
    return sizing.resources.select("workload", "setting", "target", "lower", "upper").rows()


def test_windows_of_blocks_give_what_the_whole_gives(
    blocks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = size(made())
    assert told(rightsize(str(blocks))) == told(whole)
    monkeypatch.setattr(source, "_WINDOW_SAMPLES", 1000)
    monkeypatch.setattr(source, "_WHOLE", 1000)
    parts = list(source.parts(str(blocks), RightsizingSettings()))
    assert len(parts) > 3
    windowed = rightsize(str(blocks))
    assert windowed.samples == whole.samples
    assert told(windowed) == told(whole)
