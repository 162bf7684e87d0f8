"""Rules side by side: sized on 14 days, held against the 7 days that followed.

python -m benchmarks.compare_rules        (from the top of the repository; seeded, 2 minutes)
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.rightsizing import rightsize
from capacity.rightsizing.strategies import STRATEGIES
from capacity.rightsizing_settings import RightsizingSettings
from tests.rightsizing.pods import MI, Pods

DAY = 288
TRAIN, TEST = 14 * DAY, 7 * DAY
EACH = 40
Floats = npt.NDArray[np.float64]


def kinds(rng: np.random.Generator) -> dict[str, tuple[Floats, Floats]]:
    """Give CPU [cores] and memory [byte] of one pod of each kind, 21 days of 5 minutes."""
    n = TRAIN + TEST
    t = np.arange(n) / DAY
    level, size = rng.lognormal(-1.5, 0.7), rng.lognormal(5.8, 0.6)
    noise = rng.gamma(8, 1 / 8, n)
    daily = 1 + 0.7 * np.sin(2 * np.pi * t)
    weekly = np.where((t % 7) < 5, 1.0, 0.3)
    burst = np.where(rng.random(n) < 0.03, rng.uniform(3, 8, n), 0.4)
    batch = np.where((t % 1) < 2 / 24, 6.0, 0.1)
    rare = np.where((t % 5) < 1 / 24, 1.8, 1.0)
    still = size * (1 + rng.normal(0, 0.02, n))
    return {
        "steady": (level * noise, still),
        "daily": (level * daily * noise, still * (1 + 0.15 * np.sin(2 * np.pi * t))),
        "weekdays": (level * daily * weekly * noise, still * (0.7 + 0.3 * weekly)),
        "bursts": (level * burst, still * (1 + 0.4 * (burst > 1))),
        "batch": (level * batch * noise, still * np.where(batch > 1, 1.6, 0.5)),
        "peak every 5 days": (level * noise, still * rare),
        "growing 1 % a day": (level * noise * 1.01**t, still * 1.01**t),
    }


def main() -> None:
    """Print what each rule asks for, and how often the week after needed more."""
    rng = np.random.default_rng(7)
    pods, after = Pods(), {}
    for number in range(EACH):
        for kind, (cores, memory) in kinds(rng).items():
            name = f"{kind.replace(' ', '-').replace('%', 'p')}-{number}"
            pods.pod(f"{name}-0", cores[:TRAIN], memory[:TRAIN] * MI, minutes=5,
                     owner=("StatefulSet", name))  # fmt: skip
            after[name] = (kind, cores[TRAIN:] * 1000, memory[TRAIN:] * MI)
    metrics = pods.metrics()
    rows = []
    for strategy in STRATEGIES:
        made = rightsize(metrics, RightsizingSettings(strategy=strategy)).resources
        for (name,), own in made.group_by("workload", maintain_order=True):
            kind, cpu, memory = after[str(name)]
            told = dict(own.select("setting", "target").iter_rows())
            if told["requests.memory"] is None:
                continue
            limit = told["limits.memory"]
            rows.append({
                "rule": strategy, "kind": kind, "cpu": told["requests.cpu"],
                "memory": told["requests.memory"],
                "starved": float((cpu > told["requests.cpu"]).mean()),
                "killed": limit is not None and bool((memory > limit).any()),
                "above request": bool((memory > told["requests.memory"]).any()),
            })  # fmt: skip
    frame = pl.DataFrame(rows)
    for keys in (["rule"], ["rule", "kind"]):
        table = frame.group_by(keys, maintain_order=True).agg(
            pl.len().alias("workloads"),
            (pl.col("cpu").sum() / 1000).round(1).alias("cores"),
            (pl.col("memory").sum() / 2**30).round(2).alias("GiB"),
            (pl.col("starved").mean() * 100).round(2).alias("% of time above CPU request"),
            pl.col("killed").sum().alias("OOM-killed"),
            pl.col("above request").sum().alias("above memory request"),
        )
        with pl.Config(
            tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, tbl_hide_dataframe_shape=True
        ):
            sys.stdout.write(f"{table}\n")


if __name__ == "__main__":
    main()
