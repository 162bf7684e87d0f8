"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.command import run

if TYPE_CHECKING:
    # Loaded by the fixtures: the process that gives tests to workers needs none of it
    from capacity.export import Metrics
    from capacity.planning import Plan

# HYPOTHESIS_PROFILE=deep looks twenty times as far
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("deep", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
DAY = 86_400_000
START = 1_767_225_600_000  # 2026-01-01T00:00:00Z

Points = list[tuple[int, float]]
# What one worker runs, as it shares something slow to make: what compiles most, half a minute in a
# fresh clone; the same plans and pages. All else goes by file. Files come in this order
TOGETHER = {
    "compiled": (
        *(f"tests/load/test_{name}.py" for name in (
            "labels", "tsdb_block", "xor", "remote_read", "gather", "tsdb_wal", "exposition",
        )),
        "tests/rightsizing/test_source.py",
    ),
    "pages": (
        "tests/test_notebooks.py", "tests/test_report.py", "tests/test_browser.py",
        "tests/recommend/", "tests/test_display.py", "tests/test_charts.py",
        "tests/test_sensitivity.py", "tests/test_backtesting.py", "tests/test_planning.py",
    ),
}  # fmt: skip
# Long ones begin first: else a worker is left alone with one of them at the end
FIRST = (
    "compiled", "pages", "tests/test_cli.py", "tests/fleet/test_fleet_report.py",
    "tests/cilium/test_policy.py", "tests/manifests/test_real_tools.py", "tests/test_examples.py",
    "tests/test_runs.py", "tests/test_scenario.py",
)  # fmt: skip


# These come last, when what they need is compiled
LAST = (
    "tests/test_simulate.py", "tests/load/", "tests/rightsizing/", "tests/test_kernel_memory.py",
    "tests/test_lb_outlook.py", "capacity/load/", "capacity/rightsizing/",
)  # fmt: skip


def unit(nodeid: str) -> str:
    """Give what a test belongs to: all of it is run by one worker."""
    file = nodeid.partition("::")[0]
    return next((name for name, files in TOGETHER.items() if file.startswith(files)), file)


class ByUnit(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    # One more than there are cores: some tests wait for servers and browsers
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByUnit:
    config.option.loadscopereorder = False
    return ByUnit(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> tuple[int, int]:
        own = unit(item.nodeid)
        late = next((i for i, name in enumerate(LAST, 1) if own.startswith(name)), 0)
        order = next((i for i, name in enumerate(FIRST) if own == name), len(FIRST) + late)
        files = TOGETHER.get(own, ())
        within = next((i for i, name in enumerate(files) if item.nodeid.startswith(name)), 0)
        return order, within

    items.sort(key=rank)


@pytest.fixture
def shared() -> Path:
    """The folder of recorded data beside a checkout; not there for users."""
    if not SHARED.is_dir():
        pytest.skip("the folder shared/ with recorded data is not beside this checkout")
    return SHARED


@pytest.fixture
def export() -> Callable[..., Metrics]:
    """Make an export from (labels, points) pairs; times are milliseconds after START."""
    from capacity.export import build

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
    import capacity

    return capacity.plan(capacity.PlanSettings())


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all notebooks over a small simulated cluster; made once for all workers.

    45 days are enough for a backtest. The data are in `cluster`, three folders above the run.
    """
    from capacity.simulate import simulate, write
    from capacity.simulation_settings import SimulationSettings

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
