"""Rules side by side: sized on 14 days, held against what 14 more days really asked for.

python -m benchmarks.compare_rules        (from the top of the repository; seeded, 2 minutes)

What a workload asks for is known; what is seen of it is what its limits let through: CPU cut off
and counted as throttled, memory cut off by kills.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.rightsizing import rightsize
from capacity.rightsizing.strategies import STRATEGIES
from capacity.rightsizing_settings import RightsizingSettings
from tests.rightsizing.pods import MI, START, Pods

DAY = 288
TRAIN, TEST = 14 * DAY, 14 * DAY
EACH = 40
STEP = 300_000
# Of chances: 0.1, 1, 5, 20 %
EDGES = (0.001, 0.01, 0.05, 0.2)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """CPU [cores] and memory [MiB] that a pod asks for, and limits as shares of its peaks."""

    cores: Floats
    memory: Floats
    cpu_limit: float | None = None
    memory_limit: float | None = None


def kinds(rng: np.random.Generator) -> dict[str, Kind]:
    """Give what one pod of each kind asks for, 28 days of 5 minutes."""
    n = TRAIN + TEST
    t = np.arange(n) / DAY
    level, size = rng.lognormal(-1.5, 0.7), rng.lognormal(5.8, 0.6)
    noise = rng.gamma(8, 1 / 8, n)
    daily = 1 + 0.7 * np.sin(2 * np.pi * t)
    weekly = np.where((t % 7) < 5, 1.0, 0.3)
    is_burst = rng.random(n) < 0.03
    burst = np.where(is_burst, rng.uniform(3, 8, n), 0.4)
    batch = np.where((t % 1) < 2 / 24, 6.0, 0.1)
    rare = np.where((t % 5) < 1 / 24, 1.8, 1.0)
    # Days differ: their peaks are lognormal, 8 % apart
    uneven = np.repeat(rng.lognormal(0, 0.08, n // DAY), DAY)
    still = size * (1 + rng.normal(0, 0.02, n)) * uneven
    # A heap that fills to its bound in hours, is kept, and falls at a restart each ten days
    heap = size * (1 - 0.6 * np.exp(-(t % 10) * 8)) * (1 + rng.normal(0, 0.004, n))
    return {
        "steady": Kind(level * noise, still),
        "daily": Kind(level * daily * noise, still * (1 + 0.15 * np.sin(2 * np.pi * t))),
        "weekdays": Kind(level * daily * weekly * noise, still * (0.7 + 0.3 * weekly)),
        "bursts": Kind(level * burst, still * (1 + 0.4 * is_burst)),
        "batch": Kind(level * batch * noise, still * np.where(batch > 1, 1.6, 0.5)),
        "peak every 5 days": Kind(level * noise, still * rare),
        "growing 1 % a day": Kind(level * noise * 1.01**t, still * 1.01**t),
        "heap that fills up": Kind(level * daily * noise, heap),
        "throttled": Kind(level * daily * noise, still, cpu_limit=0.5),
        "killed": Kind(level * noise, still * (1 + 0.4 * is_burst), memory_limit=0.8),
    }


def seen(pods: Pods, name: str, kind: Kind) -> None:
    """Add what the kubelet and kube-state-metrics tell of a pod of 14 days."""
    cores, memory = kind.cores[:TRAIN], kind.memory[:TRAIN] * MI
    at = START + np.arange(TRAIN) * float(STEP)
    names = {"namespace": "shop", "pod": f"{name}-0", "container": "app"}
    cpu_limit = memory_limit = float("nan")
    if kind.cpu_limit is not None:
        cpu_limit = kind.cpu_limit * float(np.quantile(cores, 0.99))
        # 100 ms a period: so many of a step are slowed as it wants for longer than its quota lasts
        short = np.clip(1 - cpu_limit / np.maximum(cores, 1e-9), 0, 1)
        cores = np.minimum(cores, cpu_limit)
        prefix = "container_cpu_cfs"
        pods.add(f"{prefix}_periods_total", at, np.arange(TRAIN) * STEP / 100.0, **names)
        pods.add(f"{prefix}_throttled_periods_total", at, np.cumsum(short > 0) * STEP / 100.0,
                 **names)  # fmt: skip
    if kind.memory_limit is not None:
        memory_limit = kind.memory_limit * float(memory.max())
        is_killed = memory > memory_limit
        memory = np.minimum(memory, memory_limit * 0.99)
        told = "kube_pod_container_status_last_terminated_reason"
        pods.add(told, at[is_killed][:1], 1, reason="OOMKilled", **names)
        pods.add("kube_pod_container_status_restarts_total", at, np.cumsum(is_killed), **names)
    limit = None
    if kind.cpu_limit is not None or kind.memory_limit is not None:
        limit = (cpu_limit, memory_limit)
    pods.pod(f"{name}-0", cores, memory, minutes=5, owner=("StatefulSet", name), limit=limit)
    if limit is not None:
        for k in (-2, -1):
            pods.values[k] = pods.values[k].copy()


def main(seed: int) -> None:
    """Print what each rule asks for, and what the two weeks after needed."""
    rng = np.random.default_rng(seed)
    pods, after = Pods(), {}
    for number in range(EACH):
        for label, kind in kinds(rng).items():
            name = f"{label.replace(' ', '-').replace('%', 'p')}-{number}"
            seen(pods, name, kind)
            after[name] = (label, kind.cores[TRAIN:] * 1000, kind.memory[TRAIN:] * MI)
    metrics = pods.metrics()
    rows = []
    for strategy in STRATEGIES:
        made = rightsize(metrics, RightsizingSettings(strategy=strategy)).resources
        for (name,), own in made.group_by("workload", maintain_order=True):
            rows.append(_outcome(strategy, own, *after[str(name)]))
    frame = pl.DataFrame(rows, infer_schema_length=None)
    _show(_told(frame, ["rule"]))
    _show(_told(frame, ["rule", "kind"]))
    _show(_calibration(frame.filter(rule="capacity")))


def _outcome(
    strategy: str, own: pl.DataFrame, kind: str, cpu: Floats, memory: Floats
) -> dict[str, object]:
    told = dict(own.select("setting", "target").iter_rows())
    chances = dict(own.select("setting", "exceeds").iter_rows())
    request, held = told["requests.cpu"], told["requests.memory"]
    cpu_limit, limit = told["limits.cpu"], told["limits.memory"]
    is_told = request is not None and held is not None
    out: dict[str, object] = {"rule": strategy, "kind": kind, "told": is_told}
    if not is_told:
        return out
    return out | {
        "cpu": request, "memory": held,
        "cpu waste": float(np.clip(request - cpu, 0, None).mean()),
        "memory waste": float(np.clip(held - memory, 0, None).mean()),
        "starved": float((cpu > request).mean()),
        "throttled": 0.0 if cpu_limit is None else float((cpu > cpu_limit).mean()),
        "killed": limit is not None and bool((memory > limit).any()),
        "above request": bool((memory > held).any()),
        "foretold": chances["requests.memory"], "foretold cpu": chances["requests.cpu"],
    }  # fmt: skip


def _told(frame: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    return frame.group_by(keys, maintain_order=True).agg(
        pl.col("told").sum().alias("sized"),
        (pl.col("cpu").sum() / 1000).round(1).alias("cores"),
        (pl.col("cpu waste").sum() / 1000).round(1).alias("idle cores"),
        (pl.col("memory").sum() / 2**30).round(1).alias("GiB"),
        (pl.col("memory waste").sum() / 2**30).round(1).alias("idle GiB"),
        (pl.col("starved").mean() * 100).round(2).alias("% time above CPU request"),
        (pl.col("throttled").mean() * 100).round(2).alias("% time throttled"),
        pl.col("killed").sum().alias("OOM-killed"),
        pl.col("above request").sum().alias("above memory request"),
    )


def _calibration(frame: pl.DataFrame) -> pl.DataFrame:
    """Hold the chances foretold against how often memory really passed the request."""
    known = frame.drop_nulls("foretold")
    binned = pl.sum_horizontal(pl.col("foretold") > edge for edge in EDGES).alias("edges passed")
    return known.group_by(binned).agg(
        pl.len().alias("workloads"), pl.col("foretold").mean().round(4).alias("mean"),
        pl.col("above request").mean().round(4).alias("happened"),
        (pl.col("starved") - pl.col("foretold cpu")).abs().mean().round(4).alias("CPU off by"),
    ).sort("mean")  # fmt: skip


def _show(table: pl.DataFrame) -> None:
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, tbl_hide_dataframe_shape=True):
        sys.stdout.write(f"{table}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
