"""Counting and listing policy entries, beside the seconds of Cilium's own resolver.

Run: pytest benchmarks/test_policy.py -n 0 -p no:randomly. Cilium's seconds are of another machine
(tests/golden/policy/timings.csv): the ratio is a hint; the work a second is comparable.
"""

from __future__ import annotations

import csv
from typing import Any

import pytest

from capacity.cilium import policy
from tests.cilium.test_policy import GOLDEN, cases, inventory

CLUSTERS = ("c1-200x60", "c2-500x150", "c5-5000x2000")


def peer(name: str) -> dict[str, float]:
    with (GOLDEN / "timings.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    return {key: float(value) for key, value in rows[f"c/{name}"].items() if key != "case"}


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("job", [policy.count, policy.resolve])
def test_policy_entries(benchmark: Any, cluster: str, job: Any) -> None:
    tables = inventory(cases("c")[cluster])
    told = peer(cluster)
    benchmark.pedantic(lambda: job(tables, version="1.16"), rounds=3, warmup_rounds=1)
    median = benchmark.stats["median"]
    go = sum(
        told[key]
        for key in ("parse_policies_s", "add_rules_s", "cidr_identities_s", "resolve_total_s")
    )
    benchmark.extra_info["cilium_s"] = go
    benchmark.extra_info["ratio_to_cilium"] = round(median / go, 2)
    benchmark.extra_info["entries_per_s"] = round(told["total_entries"] / median)
