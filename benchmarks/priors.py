"""Memory and CPU told from priors alone, beside published figures that nothing was fitted to.

    python benchmarks/priors.py

Prints the tables of docs/validation.md. Published figures are named by their source; pods of a node
are the mean. Resident memory is predicted where a figure says so, or where it is of a test that
reads it. Figures of users are what `kubectl top` shows, the working set: of the first pod after
boot with the maps of the node, of a later one without. Which pod, and how much memory the nodes
have that sizes the maps, is not told: half of the draws are first pods, on nodes of 8 to 128 GiB.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.optimize import nnls

from capacity import shipped
from capacity.inventory import Inventory
from capacity.kernel_memory import kernel_memory
from capacity.models.prior import expected
from capacity.settings import PlanSettings
from capacity.tables import DRIVERS, STEPS

MIB, MB = float(1 << 20), 1e6
# source, measured [byte], drivers, whether it is a working set; read 2026-11
PUBLISHED = (
    ("Cilium 1.8 docs, scalability report: 2 nodes, 125 pods", 95 * MIB,
     {"nodes": 2, "endpoints": 125, "endpoints_per_node": 62.5}),
    ("the same: 1,000 nodes, 50,000 pods, 250 policies (largest)", 573 * MIB,
     {"nodes": 1000, "endpoints": 50_000, "endpoints_per_node": 50, "policies": 250}),
    ("cilium/cilium issue 23930 (1.11): 20 nodes, 396 pods, 78 services", 450 * MB,
     {"nodes": 20, "endpoints": 396, "endpoints_per_node": 20, "services": 78}, True),
    ("the same: 196 nodes, 14,819 pods, 8,936 services", 1200 * MB,
     {"nodes": 196, "endpoints": 14_819, "endpoints_per_node": 76, "services": 8_936}, True),
    ("the same: 12 nodes, 275 pods, 86 services", 150 * MB,
     {"nodes": 12, "endpoints": 275, "endpoints_per_node": 23, "services": 86}, True),
    ("the same: 107 nodes, 3,282 pods, 1,054 services", 380 * MB,
     {"nodes": 107, "endpoints": 3_282, "endpoints_per_node": 31, "services": 1_054}, True),
    ("cilium/cilium issue 32940 (1.14): 75 nodes, 15,000 pods, 21,000 policies", 2250 * MB,
     {"nodes": 75, "endpoints": 15_000, "endpoints_per_node": 80, "policies": 21_000}, True),
    ("imroc/tke-guide (1.19): 3 nodes, 30,000 services of 4 backends, RSS", 870 * MB,
     {"nodes": 3, "services": 30_000}),
    ("cilium/cilium pull request 40227 (1.17): median of 1,000 nodes", 1566 * MB,
     {"nodes": 1000, "endpoints": 30_000, "endpoints_per_node": 30, "identities": 6_000,
      "policies": 30_000}),
    ("the same: services, 1,000 nodes, 2,500 services of 40,000 backends, median", 721 * MB,
     {"nodes": 1000, "endpoints": 40_000, "endpoints_per_node": 40, "identities": 2_500,
      "services": 2_500}),
    ("the same: policies, 99 % quantile", 1743 * MB,
     {"nodes": 1000, "endpoints": 30_000, "endpoints_per_node": 30, "identities": 6_000,
      "policies": 30_000}),
)  # fmt: skip


def maps(draws: int) -> np.ndarray:
    """Draw the bytes of a node's maps that a pod of unknown start on an unknown node pays."""
    sizes = [8, 16, 32, 64, 128]
    empty = STEPS.empty(), DRIVERS.empty(), Inventory()
    # 1.14 is the oldest version of the facts; sizes are dynamic since 1.8
    told = [kernel_memory(*empty, PlanSettings("x", memory=f"{size}Gi"), "1.14").reported
            for size in sizes]  # fmt: skip
    rng = np.random.default_rng(1)
    node = rng.uniform(np.log(sizes[0]), np.log(sizes[-1]), draws)
    return np.interp(node, np.log(sizes), told) * (rng.random(draws) < 0.5)


def published() -> None:
    """Print predictions beside published figures."""
    print("| figure | measured | 5 % | median | 95 % | inside |")
    print("| --- | --- | --- | --- | --- | --- |")
    for source, measured, drivers, *working_set in PUBLISHED:
        drawn = expected("agent", "memory_rss", drivers)
        if working_set:
            drawn = drawn + maps(len(drawn))
        low, middle, high = np.quantile(drawn, [0.05, 0.5, 0.95])
        held = "yes" if low <= measured <= high else "**no**"
        print(f"| {source} | {measured / MB:,.0f} MB | {low / MB:,.0f} | {middle / MB:,.0f} "
              f"| {high / MB:,.0f} | {held} |")  # fmt: skip


def loads() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, design (base first) and resident memory of data/lab-scale."""
    table = pl.read_csv(shipped.path("data", "lab-scale", "agent.csv"))
    columns = {"endpoints": 1, "identities": 2, "ipcache_1000ids": 3, "nodes": 4,
               "services_x10": 5, "policies_no_ep": 6}  # fmt: skip
    names, design = [], []
    for row in table.iter_rows(named=True):
        factor, level = row["factor"], row["level"]
        line = np.zeros(8)
        line[:2] = 1.0, row["endpoints"] - 1
        if factor in columns and factor != "endpoints":
            line[columns[factor]] = level
        if factor == "ipcache_1000ids" and level:
            line[2] = 1000
        if factor == "policies_ep20_id1000" and level:
            line[2] = 1000
            # A row of a policy map has 64 bytes of memlock (data/lab: kernel and agent agree)
            line[7] = max(row["maps_memlock"] - 158_042_096, 0) / 64 if level >= 1 else 0
        names.append(f"{factor} {level:g}")
        design.append(line)
    return names, np.array(design), table["rss_bytes"].to_numpy().astype(float)


def left_out() -> None:
    """Print the error of each load that was left out of the fit."""
    names, design, rss = loads()
    scale = design.max(axis=0)
    errors = []
    for i in range(len(rss)):
        kept = np.arange(len(rss)) != i
        beta, _ = nnls(design[kept] / scale, rss[kept])
        errors.append(float(design[i] / scale @ beta) / rss[i] - 1)
    size = np.abs(errors)
    worst = int(size.argmax())
    print(f"\n{len(rss)} loads of data/lab-scale, each predicted from the others: median error "
          f"{np.median(size):.1%}, 90 % below {np.quantile(size, 0.9):.1%}, worst "
          f"{errors[worst]:+.1%} ({names[worst]})")  # fmt: skip


EVENTS = ("endpoints_made", "regenerations", "identities_made", "addresses_made", "nodes_made",
          "services_made", "policies_made", "policy_entries_made")  # fmt: skip
_FACTOR = {"identities": 2, "ipcache_1000ids": 3, "nodes": 4, "services_x10": 5,
           "policies_no_ep": 6}  # fmt: skip


def steps() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, design (seconds, then what was made) and CPU time [s] of steps of data/lab-scale."""
    table = pl.read_csv(shipped.path("data", "lab-scale", "agent.csv"))
    names, design, used = [], [], []
    before: dict[str, float] = {}
    for row in table.iter_rows(named=True):
        if row["level"]:  # the first of each series starts the agent
            made = {n: row[n] - before[n] for n in ("level", "endpoints", "regenerations")}
            line = np.zeros(9)
            line[:3] = row["wall_s_step"], made["endpoints"], made["regenerations"]
            factor, level = row["factor"], row["level"]
            if factor in _FACTOR:
                line[1 + _FACTOR[factor]] = made["level"]
            # 1,000 identities come with their first addresses, or with the pods of policies
            line[3] += 1000 * ((factor, level) in (("ipcache_1000ids", 2000.0),
                                                   ("policies_ep20_id1000", 0.5)))  # fmt: skip
            if factor == "policies_ep20_id1000":
                line[7] = made["level"] if level >= 60 else 20 * (level == 20)
                line[8] = max(row["maps_memlock"] - before["maps_memlock"], 0) / 64
            names.append(f"{factor} {level:g}")
            design.append(line)
            used.append(row["cpu_s_step"])
        before = row
    return names, np.array(design), np.array(used)


def cpu_left_out() -> None:
    """Print what events cost, and the error of each step that was left out of the fit."""
    names, design, used = steps()
    scale, weights = design.max(axis=0), 1 / np.maximum(used, 0.2)

    def costs(kept: np.ndarray) -> np.ndarray:
        x = design[kept] / scale * weights[kept, None]
        return np.asarray(nnls(x, used[kept] * weights[kept])[0] / scale)

    told = 1000 * costs(np.ones(len(used), bool))
    each = ", ".join(f"{n} {c:.3g} ms" for n, c in zip(EVENTS, told[1:], strict=True))
    print(f"\nidle {told[0]:.1f} millicores; CPU time of one: {each}")
    errors = [float(design[i] @ costs(np.arange(len(used)) != i)) / used[i] - 1
              for i in range(len(used))]  # fmt: skip
    size = np.abs(errors)
    worst = int(size.argmax())
    print(f"CPU time of {len(used)} steps of data/lab-scale, each from the others: median error "
          f"{np.median(size):.1%}, 90 % below {np.quantile(size, 0.9):.1%}, worst "
          f"{errors[worst]:+.1%} ({names[worst]})")  # fmt: skip


if __name__ == "__main__":
    published()
    left_out()
    cpu_left_out()
