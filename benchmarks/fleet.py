"""A fleet on a local Dask cluster that loses a worker half-way; scaling from 1 to 2 workers.

    python benchmarks/fleet.py --clusters 100 --nodes 100 --days 30

Worker processes are real; one is killed by SIGKILL when half of the clusters are done. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import LocalCluster

from capacity.fleet.members import Member
from capacity.fleet.overview import write_fleet
from capacity.fleet.running import Job, run_fleet
from capacity.settings import PlanSettings
from capacity.simulate import simulate, write
from capacity.simulation_settings import SimulationSettings


def fleet(folder: Path, clusters: int, nodes: int, days: int) -> list[Member]:
    """Simulate clusters that differ in seed, in meshes of ten."""
    members = []
    for i in range(clusters):
        place = folder / f"c{i}"
        if not place.exists():
            write(
                simulate(SimulationSettings(nodes=nodes, seed=i, days=days, cluster=f"c{i}")), place
            )
        members.append(Member(f"c{i}", PlanSettings(str(place)), f"mesh-{i // 10}"))
    return members


def run(members: list[Member], workers: int, out: Path, lose: bool) -> dict[str, Any]:
    """Plan a fleet with so many worker processes; wall time without starting them."""
    with LocalCluster(n_workers=workers, threads_per_worker=1, processes=True,
                      dashboard_address="127.0.0.1:0") as cluster:  # fmt: skip
        with_one = Job("plan", out / f"warm-{workers}", "r", scheduler=cluster.scheduler_address)
        # Each worker imports once, which is no part of the work
        run_fleet(members[:workers], with_one)
        killed: list[int] = []
        job = Job("plan", out / f"{workers}", "r", scheduler=cluster.scheduler_address)
        began = time.perf_counter()
        results = run_fleet(members, job, progress=killer(cluster, killed) if lose else None)
        took = time.perf_counter() - began
    final = write_fleet(out, f"r-{workers}-{lose}", members, results, pages=False)
    return {
        "workers": workers, "killed": killed, "wall_seconds": round(took, 1),
        "planned": sum(r["status"] == "ok" for r in results), "clusters": len(members),
        "seconds_a_cluster": round(sum(r["seconds"] for r in results) / len(results), 2),
        "bytes_a_result": max(len(json.dumps(r)) for r in results),
        "parquet_bytes": (final / "fleet.parquet").stat().st_size,
    }  # fmt: skip


def killer(cluster: LocalCluster, killed: list[int]) -> Callable[[str, float], None]:
    def tell(name: str, share: float) -> None:
        if share >= 0.5 and not killed:
            worker = next(iter(cluster.workers.values()))
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    return tell


def main() -> None:
    reading = argparse.ArgumentParser(description=__doc__)
    for name, default in (("clusters", 100), ("nodes", 100), ("days", 30), ("scaling", 10)):
        reading.add_argument(f"--{name}", type=int, default=default)
    told = reading.parse_args()
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        members = fleet(Path(folder), told.clusters, told.nodes, told.days)
        out = Path(folder) / "out"
        made = [run(members, 2, out, lose=True)]
        few = members[: told.scaling]
        made += [run(few, n, out / "scaling", lose=False) for n in (1, 2)]
    one, two = (r["wall_seconds"] for r in made[1:])
    print(json.dumps({"runs": made, "scaling_efficiency": round(one / two / 2, 2),
                      "load": os.getloadavg()}, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
