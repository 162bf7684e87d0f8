"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

import capacity
from capacity.export import Metrics, build
from capacity.planning import Plan
from capacity.simulate import simulate, write
from capacity.simulation_settings import SimulationSettings
from tests.command import run

# HYPOTHESIS_PROFILE=deep looks twenty times as far
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("deep", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
DAY = 86_400_000
START = 1_767_225_600_000  # 2026-01-01T00:00:00Z

Points = list[tuple[int, float]]
# Tests that need nearly all compiled code, which takes 40 s to compile in a fresh clone
COMPILED = (
    "tests/load/", "tests/rightsizing/", "tests/test_simulate.py", "tests/test_kernel_memory.py",
    "tests/test_lb_outlook.py", "capacity/load/",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what shares something slow to make on one worker; large groups are started first."""
    for item in items:
        if item.nodeid.startswith(COMPILED):
            item.add_marker(pytest.mark.xdist_group("compiled"))
        elif {"pages", "demo", "shared_plans"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("planned"))


@pytest.fixture
def shared() -> Path:
    """The folder of recorded data beside a checkout; not there for users."""
    if not SHARED.is_dir():
        pytest.skip("the folder shared/ with recorded data is not beside this checkout")
    return SHARED


@pytest.fixture
def export() -> Callable[..., Metrics]:
    """Make an export from (labels, points) pairs; times are milliseconds after START."""

    def make(*series: tuple[dict[str, str], Points]) -> Metrics:
        rows = [
            (i, START + at, value) for i, (_, points) in enumerate(series) for at, value in points
        ]
        columns = list(zip(*rows, strict=True)) if rows else [[], [], []]
        return build([labels for labels, _ in series], *columns, cluster="test")

    return make


@pytest.fixture(scope="session")
def demo() -> Plan:
    """The plan of the shipped demo with default settings."""
    return capacity.plan(capacity.PlanSettings())


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all notebooks over a small simulated cluster; made once for all workers.

    45 days are enough for a backtest. The data are in `cluster`, three folders above the run.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pages"
    done, failed = folder / "done", folder / "failed"
    try:
        folder.mkdir()
    except FileExistsError:
        while not done.exists() and not failed.exists():
            time.sleep(0.1)
        assert not failed.exists(), failed.read_text(encoding="utf-8")
        return folder / "out" / "cluster" / "run"
    try:
        small = SimulationSettings(nodes=30, days=45, step="6h", seed=3)
        write(simulate(small), folder / "cluster")
        told = run("report", "all", "cluster", "--out", "out", "--run", "run", cwd=folder)
        assert told.returncode in (0, 1), told.stderr
    except BaseException as error:  # raised again: the other worker must not wait for ever
        failed.write_text(repr(error), encoding="utf-8")
        raise
    done.touch()
    return folder / "out" / "cluster" / "run"
