"""Counting again after a change gives what counting from the start gives."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache
from typing import Any

import polars as pl
import pytest

from capacity.cilium import policy
from capacity.cilium.policy import rows
from capacity.inventory import Inventory
from tests.cilium.test_policy import cases, inventory

COLUMNS = ["endpoint", "direction", "identity", "protocol", "port", "prefix_length"]


@cache
def grown() -> Inventory:
    return inventory(cases("c")["c1-200x60"])


def changed(tables: Inventory, seed: int) -> Inventory:
    """The inventory with a policy less, one changed, and one more."""
    some = random.Random(seed)
    told = list(tables.policies.iter_rows(named=True))
    some.shuffle(told)
    told.pop()
    spec: dict[str, Any] = json.loads(told[0]["object"])
    octet = some.randrange(256)
    spec["spec"]["egress"] = [
        {"toCIDR": [f"10.{octet}.0.0/16", f"10.{octet}.{octet}.0/24"]},
        {"toFQDNs": [{"matchPattern": "*"}]},
    ]
    denial = {"endpointSelector": {}, "ingressDeny": [{"fromEntities": ["world"]}]}
    told[0] = told[0] | {"kind": "CiliumNetworkPolicy", "object": json.dumps(spec)}
    told.append(told[1] | {"kind": "CiliumNetworkPolicy", "policy": f"more-{seed}",
                           "object": json.dumps({"spec": denial})})  # fmt: skip
    return replace(tables, policies=pl.DataFrame(told, schema=tables.policies.schema))


@pytest.mark.parametrize("version", ["1.16", "1.17"])
def test_counting_again_through_many_changes_is_counting_from_the_start(version: str) -> None:
    told = grown()
    cluster = policy.ready(told, version=version)
    rows.counts(cluster)
    for seed in range(6):
        new = changed(told, seed)
        cluster, counted = policy.recount(cluster, told, new)
        assert counted.equals(policy.count(new, version=version))
        listed = rows.entries(cluster).sort(COLUMNS)
        assert listed.equals(policy.resolve(new, version=version).sort(COLUMNS))
        told = new


def test_what_a_change_does_not_touch_is_not_resolved_again() -> None:
    told = grown()
    cluster = policy.ready(told, version="1.16")
    rows.counts(cluster)
    new = replace(told, policies=told.policies.head(-1))
    again, _ = policy.recount(cluster, told, new)
    before = {id(one) for one in cluster.directions.values()}
    kept = [one for one in again.directions.values() if id(one) in before]
    assert len(kept) > len(again.directions) // 2


def test_a_change_of_pods_is_counted_from_the_start() -> None:
    told = grown()
    cluster = policy.ready(told, version="1.17")
    fewer = replace(told, endpoints=told.endpoints.head(50))
    _, counted = policy.recount(cluster, told, fewer)
    assert counted.equals(policy.count(fewer, version="1.17"))


def test_the_cluster_counted_from_stays_as_it_is() -> None:
    told = grown()
    cluster = policy.ready(told, version="1.17")
    first = rows.counts(cluster)
    policy.recount(cluster, told, changed(told, 1))
    assert rows.counts(cluster).equals(first)
