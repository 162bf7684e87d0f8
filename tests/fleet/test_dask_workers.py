"""Real Dask workers, one of which is killed by SIGKILL half-way: nothing is lost.

What the workers do is light here (tests/fleet/light.py); benchmarks/fleet.py plans whole clusters.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from capacity.fleet import running
from capacity.fleet.members import Member
from capacity.fleet.running import FLEET, Job, run_fleet
from capacity.settings import PlanSettings
from tests.fleet import light

CLUSTERS = 24
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Give a scheduler's address and two workers, processes that nobody starts again."""
    distributed = pytest.importorskip("distributed")
    with ExitStack() as stack:
        cluster = stack.enter_context(
            distributed.LocalCluster(
                n_workers=0, processes=False, dashboard_address="127.0.0.1:0", host="127.0.0.1",
                protocol="tcp",
            )
        )  # fmt: skip
        command = [
            sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address,
            "--no-nanny", "--no-dashboard", "--nthreads", "1", "--local-directory", str(tmp_path),
        ]  # fmt: skip
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        workers = [
            stack.enter_context(
                subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
            )
            for _ in range(2)
        ]  # fmt: skip
        for worker in workers:
            stack.callback(worker.kill)
        end = time.monotonic() + 60
        while len(cluster.scheduler.workers) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(cluster.scheduler.workers) == 2
        yield cluster.scheduler_address, workers


def test_a_worker_killed_half_way_loses_nothing(
    scheduler: tuple[str, list[subprocess.Popen[bytes]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, workers = scheduler
    monkeypatch.setattr(running, "perform", light.perform)
    members = []
    for i in range(CLUSTERS):
        (tmp_path / f"{i}.txt").write_text(str(i), encoding="utf-8")
        members.append(Member(f"c{i}", PlanSettings(str(tmp_path / f"{i}.txt"))))
    shares: list[float] = []

    def kill(name: str, share: float) -> None:
        shares.append(share)
        if share >= 0.5 and workers[0].poll() is None:
            os.kill(workers[0].pid, signal.SIGKILL)
            workers[0].wait(10)

    job = Job("plan", tmp_path / "out", "r", scheduler=address)
    results: list[dict[str, Any]] = run_fleet(members, job, progress=kill)
    assert workers[0].returncode == -signal.SIGKILL
    assert [r["error"] for r in results if r["status"] != "ok"] == []
    assert [r["number"] for r in results] == list(range(CLUSTERS))
    assert len(list((job.out / FLEET / ".part").glob("c*.json"))) == CLUSTERS
    assert sorted(shares) == shares
