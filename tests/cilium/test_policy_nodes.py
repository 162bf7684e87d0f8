"""What policies cost each node: maps, bytes, redirects, work; summed by hand beside it."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from capacity.cilium import policy
from capacity.cilium.map_memory import memlock_bytes
from capacity.cilium.policy.nodes import policy_nodes
from capacity.inventory import Inventory
from capacity.tables import POLICY_NODES, check
from tests.cilium.test_policy import cases, inventory, shop, web


def spread() -> Inventory:
    """A golden cluster whose pods are on two nodes in turn, all of them resolved."""
    told = inventory(cases("c")["c1-200x60"])
    node = pl.format("n{}", pl.int_range(pl.len()) % 2)
    return replace(told, endpoints=told.endpoints.with_columns(node=node), nodes=told.nodes.clear())


def test_each_node_has_its_pods_the_host_and_the_health_endpoint() -> None:
    tables = spread()
    found = check(policy_nodes(tables, version="1.17"), POLICY_NODES)
    counted = policy.count(tables, version="1.17")
    homes = tables.endpoints.select(endpoint=pl.format("{}/{}", "namespace", "pod"), home="node")
    both = counted.join(homes, on="endpoint", how="left")
    for row in found.iter_rows(named=True):
        own = both.filter((pl.col("home") == row["node"]) | pl.col("home").is_null())
        assert (row["endpoints"], row["entries"]) == (own.height, own["total"].sum())
        worst = own.filter(endpoint=row["worst_endpoint"])["total"].item()
        assert row["worst_entries"] == worst == own["total"].max()
        sizes = own["total"].to_list()
        each = [memlock_bytes("lpm_trie", 12, 24, 16384, flags=1, entries=n, cpus=1) for n in sizes]
        assert row["memlock"] == sum(each)
        assert row["charged"] > row["memlock"]
    assert found["node"].sort().to_list() == ["n0", "n1"]
    assert found["worst_entries"].is_sorted(descending=True)


def test_an_identity_changes_as_many_entries_as_name_it() -> None:
    tables = spread()
    found = policy_nodes(tables, version="1.17")
    listed = policy.resolve(tables, version="1.17")
    pods = pl.col("identity").is_between(256, (1 << 24) - 1)
    number = len(policy.ready(tables, version="1.17").population.identities)
    # Each pod is on one node, the host and the health endpoint are on both
    both = listed.filter(pods & pl.col("endpoint").str.starts_with("reserved:"))
    wanted = listed.filter(pods).height + both.height
    assert round(found["updates"].sum() * number) == wanted


def test_redirects_are_of_each_port_direction_and_endpoint() -> None:
    numbers = [{"port": "80", "protocol": "TCP"}, {"port": "81", "protocol": "TCP"}]
    to_ports = [{"ports": numbers, "rules": {"http": [{"method": "GET"}]}}]
    tables = shop(web(ingress=[{"toPorts": to_ports}], egress=[{"toPorts": to_ports}]))
    row = policy_nodes(tables, version="1.17").filter(pl.col("redirects") > 0).row(0, named=True)
    # Three pods are web; two ports each way
    assert row["redirects"] == 3 * 4
    assert policy_nodes(shop(), version="1.17")["redirects"].sum() == 0
