"""Table maps: bytes of one node, also where the inventory tells of several."""

from __future__ import annotations

import polars as pl

from capacity.inventory import Inventory
from capacity.maps import maps
from capacity.tables import BPF_MAPS, LIMITS, STEPS


def told(*nodes: tuple[str | None, int, int]) -> Inventory:
    """Make an inventory of policy maps: node, how many, and the bytes of each."""
    shape = ("hash", 8, 24, 16384, 1)
    rows = [
        (None, node, f"cilium_policy_{number:05d}", *shape, size)
        for node, many, size in nodes
        for number in range(many)
    ]
    return Inventory(bpf_maps=pl.DataFrame(rows, schema=BPF_MAPS.schema, orient="row"))


LIMIT = pl.DataFrame(
    [("c", "agent", None, "x", "1", None, "soft", None, None, None, "s")],
    schema=LIMITS.schema,
    orient="row",
)


def test_maps_of_several_nodes_are_not_summed_the_worst_node_counts() -> None:
    frame = maps(STEPS.empty(), LIMIT, told(("a", 3, 1000), ("b", 5, 1000)), "1.17")
    assert frame.select("count", "memlock").rows() == [(5, 5000)]


def test_maps_of_a_node_without_a_name_are_those_of_one_node() -> None:
    frame = maps(STEPS.empty(), LIMIT, told((None, 4, 1000)), "1.17")
    assert frame.select("count", "memlock").rows() == [(4, 4000)]
