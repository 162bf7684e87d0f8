"""Counting and listing policy entries, beside the seconds of Cilium's own resolver.

Run: pytest benchmarks/test_policy.py -n 0 -p no:randomly. Cilium's seconds are of another machine
(tests/golden/policy/timings.csv): compare work a second, where one unit of work is one identity
asked by one rule of one endpoint. Cilium resolved 302 endpoints of the largest cluster; here all
of them are, too.
"""

from __future__ import annotations

import csv
import json
import resource
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from capacity.cilium import policy
from capacity.cilium.policy import rows
from capacity.inventory import Inventory
from tests.cilium.test_policy import GOLDEN, cases, inventory

CLUSTERS = ("c1-200x60", "c2-500x150", "c5-5000x2000")
LARGEST = CLUSTERS[-1]


def peer(name: str) -> dict[str, float]:
    with (GOLDEN / "timings.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    return {key: float(value) for key, value in rows[f"c/{name}"].items() if key != "case"}


def seconds(told: dict[str, float]) -> float:
    parts = ("parse_policies_s", "add_rules_s", "cidr_identities_s", "resolve_total_s")
    return sum(told[part] for part in parts)


def everywhere(tables: Inventory) -> Inventory:
    """The inventory without the choice of endpoints that the golden case makes."""
    return replace(tables, options=tables.options.filter(pl.col("option") != "endpoints"))


def multiplied(tables: Inventory, pods: int, policies: int, replicas: int) -> Inventory:
    """Copies of the cluster side by side, each in namespaces of its own; pods become workloads."""
    copies = []
    for n in range(max(pods, policies)):
        end = f"-{n}" if n else ""
        own = (pl.col("namespace") + end).alias("namespace")
        first = pl.int_range(pl.len()) // replicas * replicas
        endpoints = tables.endpoints.select(
            *(pl.col(c).gather(first) for c in tables.endpoints.columns if c != "pod"), "pod"
        ).select(tables.endpoints.columns)
        peers = pl.col("object").str.replace_all(r'"(ns-\d+)"', f'"${{1}}{end}"')
        is_once = (pl.col("kind") == "CiliumClusterwideNetworkPolicy") & (n > 0)
        copies.append(
            (
                endpoints.with_columns(own, pl.col("pod") + end).head(len(endpoints) * (n < pods)),
                tables.namespaces.with_columns(own),
                tables.policies.with_columns(own, pl.col("policy") + end, peers)
                .filter(~is_once)
                .head(len(tables.policies) * (n < policies)),
            )
        )
    endpoints, namespaces, told = (pl.concat(part) for part in zip(*copies, strict=True))
    return replace(tables, endpoints=endpoints, namespaces=namespaces, policies=told)


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("job", [policy.count, policy.resolve])
def test_policy_entries(benchmark: Any, cluster: str, job: Any) -> None:
    tables = inventory(cases("c")[cluster])
    told = peer(cluster)
    benchmark.pedantic(lambda: job(tables, version="1.16"), rounds=3, warmup_rounds=1)
    median = benchmark.stats["median"]
    benchmark.extra_info["cilium_s"] = seconds(told)
    benchmark.extra_info["ratio_to_cilium"] = round(median / seconds(told), 2)
    benchmark.extra_info["entries_per_s"] = round(told["total_entries"] / median)


@pytest.mark.parametrize("version", ["1.16", "1.17"])
def test_policy_of_every_endpoint(benchmark: Any, version: str) -> None:
    tables = everywhere(inventory(cases("c")[LARGEST]))
    told = peer(LARGEST)
    benchmark.pedantic(lambda: policy.count(tables, version=version), rounds=3, warmup_rounds=1)
    rules = told["identities"] * told["rules"]
    ours = benchmark.stats["median"] / (rules * (tables.endpoints.height + 2))
    theirs = seconds(told) / (rules * told["endpoints_resolved"])
    benchmark.extra_info["ns_per_identity_rule_endpoint"] = ours * 1e9
    benchmark.extra_info["ratio_to_cilium"] = round(ours / theirs, 4)


@pytest.mark.parametrize("replicas", [4, 1])
def test_policy_of_fifty_thousand_pods(benchmark: Any, replicas: int) -> None:
    tables = multiplied(everywhere(inventory(cases("c")[LARGEST])), 10, 5, replicas)
    benchmark.pedantic(lambda: policy.count(tables, version="1.16"), rounds=1)
    benchmark.extra_info["pods"] = tables.endpoints.height
    benchmark.extra_info["policies"] = tables.policies.height
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    benchmark.extra_info["peak_rss_mib"] = peak // 1024


def rewritten(tables: Inventory, egress: list[Any]) -> Inventory:
    """The inventory with another egress in its first policy."""
    told = json.loads(tables.policies["object"][0])
    told["spec"]["egress"] = egress
    objects = [json.dumps(told), *tables.policies["object"][1:]]
    return replace(tables, policies=tables.policies.with_columns(object=pl.Series(objects)))


@pytest.mark.parametrize("what", ["port", "cidr"])
@pytest.mark.parametrize("copies", [(1, 1), (10, 5)])
def test_policy_change(benchmark: Any, copies: tuple[int, int], what: str) -> None:
    tables = multiplied(everywhere(inventory(cases("c")[LARGEST])), *copies, 4)
    rule = {
        "port": {"toPorts": [{"ports": [{"port": "81", "protocol": "TCP"}]}]},
        "cidr": {"toCIDR": ["192.0.2.0/25"]},
    }
    new = rewritten(tables, [rule[what]])
    before = policy.ready(tables, version="1.16")
    rows.counts(before)
    benchmark.pedantic(lambda: policy.recount(before, tables, new), rounds=3)
