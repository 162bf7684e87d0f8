"""Time and memory of observing and fitting 5,000 nodes over 30 days at one sample an hour.

    python benchmarks/fit_large.py

Samples are made in memory (reading is measured by test_reading.py): memory, endpoints, pressures of
three maps of every agent, and the node count: 25 million samples. Prints seconds and peak memory.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from capacity.costs import Aside
from capacity.export import Metrics, build
from capacity.forecast import fit_quantity, worst_by_time
from capacity.growth import grow
from capacity.inventory import Inventory
from capacity.limits import limits
from capacity.observe import drivers, look
from capacity.settings import PlanSettings

GROUPS = {"ipcache": 512_000.0, "lb4_services_v2": 65_536.0, "lxc": 65_535.0}


def export(nodes: int, hours: int) -> Metrics:
    """Draw the samples of all agents; the cluster grew by a quarter."""
    rng = np.random.default_rng(0)
    times = 1_767_225_600_000 + 3_600_000 * np.arange(hours)
    size = np.linspace(0.8 * nodes, nodes, hours).round()
    pods = 30 * size
    shares = {"ipcache": (pods + 3 * size) / 512_000, "lb4_services_v2": 8 * size / 65_536,
              "lxc": np.full(hours, 33 / 65_535)}  # fmt: skip
    labels, values = [], []
    for node in range(nodes):
        name = {"node": f"n{node}", "cluster": "large"}
        noise = rng.normal(1, 0.02, hours)
        own = np.repeat(rng.poisson(30, hours // 24 + 1), 24)[:hours] + 2.0
        labels.append(name | {"__name__": "cilium_process_resident_memory_bytes"})
        values.append((2e8 + 3000 * pods + 400_000 * own) * noise)
        labels.append(name | {"__name__": "cilium_endpoint"})
        values.append(own)
        for group, share in shares.items():
            labels.append(name | {"__name__": "cilium_bpf_map_pressure", "map_name": group})
            values.append(share)
        labels.append(name | {"__name__": "cilium_nodes_all_num"})
        values.append(size)
    for group, limit in GROUPS.items():
        labels.append({"__name__": "cilium_bpf_map_capacity", "map_group": group, "node": "n0",
                       "cluster": "large"})  # fmt: skip
        values.append(np.full(hours, limit))
    series = np.repeat(np.arange(len(labels)), hours)
    return build(labels, series, np.tile(times, len(labels)), np.concatenate(values), cluster="x")


def main() -> None:
    """Print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--hours", type=int, default=720)
    asked = parser.parse_args()
    metrics = export(asked.nodes, asked.hours)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin, settings = time.perf_counter(), PlanSettings("x")
    used = time.process_time()
    looked = look(metrics)
    told, aside = looked.steps, Aside(panel=looked.panel)
    driven = drivers(told)
    seen, half = time.perf_counter(), time.process_time()
    growth = grow(driven, settings)
    fitted = 0
    for limit in limits(told, Inventory(), settings, "1.17").iter_rows(named=True):
        fit_quantity(limit, worst_by_time(told, limit), driven, growth, settings, aside)
        fitted += 1
    end, all_ = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(metrics.samples):,} samples: observed in {seen - begin:.1f} s, "
        f"{half - used:.1f} s of processor"
    )
    print(f"{fitted} quantities fitted in {end - seen:.1f} s, {all_ - half:.1f} s of processor")
    print(f"peak {peak:,.0f} MiB, {before:,.0f} MiB before")


if __name__ == "__main__":
    main()
