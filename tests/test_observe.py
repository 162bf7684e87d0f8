from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.export import Metrics, build
from capacity.observe import by_step, drivers, map_sizes, observe

from .conftest import DAY, START

Export = Callable[..., Metrics]
AGENT = {"namespace": "kube-system"}


def agent(name: str, node: str, **labels: str) -> dict[str, str]:
    return {"__name__": name, "node": node, **AGENT, **labels}


def values(frame: pl.DataFrame, quantity: str, component: str | None = None) -> list[float]:
    rows = frame.filter(pl.col("quantity") == quantity)
    if component:
        rows = rows.filter(pl.col("component") == component)
    return rows["value"].to_list()


def test_a_counter_reset_gives_no_negative_rate(export: Export) -> None:
    # S27 of the acceptance scenarios: 1000, 1200, 50, 80 is an increase of 280
    points = [(0, 1000.0), (60_000, 1200.0), (120_000, 50.0), (180_000, 80.0)]
    seen = observe(export((agent("cilium_process_cpu_seconds_total", "a"), points)))
    rates = values(seen, "cpu")
    assert rates == pytest.approx([200 / 60 * 1000, 50 / 60 * 1000, 30 / 60 * 1000])
    assert sum(rates) * 60 / 1000 == pytest.approx(280)


def test_a_switch_between_replicas_is_no_reset(export: Export) -> None:
    points = [(0, 1000.0), (60_000, 1200.0), (120_000, 1195.0), (180_000, 1255.0)]
    seen = observe(export((agent("cilium_process_cpu_seconds_total", "a"), points)))
    assert values(seen, "cpu") == pytest.approx([200 / 60 * 1000, 60 / 60 * 1000])


def test_a_rate_over_a_long_gap_is_no_observation(export: Export) -> None:
    points = [(i * 60_000, float(i)) for i in range(10)] + [(7_200_000, 50.0), (7_260_000, 51.0)]
    seen = observe(export((agent("cilium_process_cpu_seconds_total", "a"), points)), step=60)
    assert len(values(seen, "cpu")) == 10  # nine before the gap, one after, none across


def test_entries_are_pressure_times_the_size_the_agent_tells(export: Export) -> None:
    seen = observe(
        export(
            (agent("cilium_bpf_map_pressure", "a", map_name="ipcache"), [(0, 0.25)]),
            (agent("cilium_bpf_map_pressure", "a", map_name="lb4_services_v2"), [(0, 0.5)]),
            (agent("cilium_bpf_map_pressure", "a", map_name="cilium_policy_*"), [(0, 0.5)]),
            (agent("cilium_bpf_map_capacity", "a", map_group="cilium_ipcache"), [(0, 512000.0)]),
            (agent("cilium_bpf_map_capacity", "a", map_group="default"), [(0, 65536.0)]),
            (agent("cilium_bpf_map_capacity", "a", map_group="endpoint_policy"), [(0, 16384.0)]),
        )
    )
    entries = seen.filter(pl.col("quantity") == "map_entries").sort("subject")
    assert dict(entries.select("subject", "value").iter_rows()) == {
        "cilium_policy_*": 8192.0,
        "ipcache": 128000.0,
        "lb4_services_v2": 32768.0,
    }


def test_the_smallest_map_over_nodes_counts(export: Export) -> None:
    seen = observe(
        export(
            *[
                (agent("cilium_bpf_map_capacity", n, map_group="cilium_ct4_global"), [(0, size)])
                for n, size in (("a", 524288.0), ("b", 131072.0))
            ],
            (agent("cilium_bpf_map_pressure", "a", map_name="ct4_global"), [(0, 0.5)]),
        )
    )
    assert map_sizes(by_step(seen))["max_entries"].to_list() == [131072.0]


def test_a_map_that_was_resized_has_the_size_of_each_time(export: Export) -> None:
    seen = observe(
        export(
            (agent("cilium_bpf_map_pressure", "a", map_name="lb4_services_v2"),
             [(i * DAY, 0.5) for i in range(4)]),
            (agent("cilium_bpf_map_capacity", "a", map_group="default"),
             [(i * DAY, 65536.0) for i in (0, 3)]),
            (agent("cilium_bpf_map_capacity", "a", map_group="cilium_lb4_services_v2"),
             [(0, 10000.0)]),
        )
    )  # fmt: skip
    entries = seen.filter(pl.col("quantity") == "map_entries").sort("time")["value"]
    assert entries.to_list() == [5000.0, 5000.0, 32768.0, 32768.0]
    assert map_sizes(by_step(seen))["max_entries"].to_list() == [65536.0]


def test_policy_maps_have_one_name_whatever_the_version(export: Export) -> None:
    for name in ("cilium_policy_*", "cilium_policy_v2_*", "policy_02366", "cilium_policy_v3_7"):
        labels = agent("cilium_bpf_map_pressure", "a", map_name=name)
        seen = observe(export((labels, [(0, 0.5)])))
        assert seen["subject"].to_list() == ["cilium_policy_*"], name
    stats = agent("cilium_bpf_map_pressure", "a", map_name="policystats")
    assert observe(export((stats, [(0, 0.5)])))["subject"].to_list() == ["policystats"]


def test_an_absent_pressure_series_is_not_zero(export: Export) -> None:
    seen = observe(export((agent("cilium_endpoint", "a"), [(0, 3.0)])))
    assert values(seen, "map_pressure") == []


@settings(max_examples=15)
@given(order=st.permutations(range(6)), replicas=st.integers(1, 3))
def test_order_of_series_and_duplicate_scrapers_change_nothing(
    order: list[int], replicas: int
) -> None:
    def made(indexes: list[int], copies: int) -> pl.DataFrame:
        labels, rows = [], []
        for i in indexes:
            for replica in range(copies):
                more = {"prometheus_replica": str(replica)} if copies > 1 else {}
                labels.append(agent("cilium_endpoint", f"n{i}") | more)
                rows += [(len(labels) - 1, START + t * DAY, i * 10.0 + t) for t in range(4)]
        columns = list(zip(*rows, strict=True))
        return observe(build(labels, *columns, cluster="c"))

    plain = made(list(range(6)), 1)
    assert made(order, replicas).equals(plain)
    assert drivers(by_step(plain))["endpoints"].to_list() == [(25 + t) * 6.0 for t in range(4)]


def test_endpoints_come_from_the_ipcache_where_few_agents_report(export: Export) -> None:
    seen = observe(
            export(
                (agent("cilium_nodes_all_num", "a"), [(0, 100.0)]),
                (agent("cilium_endpoint", "a"), [(0, 20.0)]),
                (agent("cilium_bpf_map_pressure", "a", map_name="ipcache"), [(0, 0.005)]),
                (agent("cilium_bpf_map_capacity", "a", map_group="cilium_ipcache"),
                 [(0, 512000.0)]),
            )
        )  # fmt: skip
    told = drivers(by_step(seen)).row(0, named=True)
    assert told["endpoints"] == 0.005 * 512000 - 300
    assert told["endpoints_per_node"] == 20
    assert told["identities"] is None


def test_memory_is_rss_plus_maps_where_no_working_set_is_told(export: Export) -> None:
    rss = (agent("cilium_process_resident_memory_bytes", "a"), [(0, 100.0)])
    maps = (agent("cilium_bpf_maps_virtual_memory_max_bytes", "a"), [(0, 11.0)])
    working = (
        agent("container_memory_working_set_bytes", "a", container="cilium-agent"), [(0, 130.0)],
    )  # fmt: skip
    other = (agent("container_memory_working_set_bytes", "a", container="app"), [(0, 999.0)])
    assert values(observe(export(rss, maps, other)), "memory", "agent") == [111.0]
    assert values(observe(export(rss, maps, working, other)), "memory", "agent") == [130.0]


def test_an_export_without_cilium_metrics_has_no_observations(export: Export) -> None:
    assert observe(export(({"__name__": "up"}, [(0, 1.0)]))).is_empty()
    assert observe(export()).is_empty()


def test_a_node_that_another_replaces_counts_once(export: Export) -> None:
    # An hour of 1-minute scrapes; half-way b goes and c comes
    def at(first: int, last: int) -> list[tuple[int, float]]:
        return [(i * 60_000, 10.0) for i in range(first, last)]

    seen = export(
        (agent("cilium_endpoint", "a"), at(0, 60)),
        (agent("cilium_endpoint", "b"), at(0, 30)),
        (agent("cilium_endpoint", "c"), at(30, 60)),
    )
    table = drivers(by_step(observe(seen, step=3600)))
    assert table["nodes"].to_list() == [2.0]


def test_a_node_that_misses_scrapes_is_there_still(export: Export) -> None:
    def at(minutes: range) -> list[tuple[int, float]]:
        return [(i * 60_000, 10.0) for i in minutes]

    both = [*at(range(10)), *at(range(14, 20))]
    seen = export(
        (agent("cilium_endpoint", "a"), at(range(40))),
        (agent("cilium_endpoint", "b"), [*both, *at(range(30, 40))]),
    )
    nodes = drivers(by_step(observe(seen, step=60)))["nodes"].to_list()
    assert nodes[:20] == [2.0] * 20  # a gap of 4 minutes is filled, one of 10 is not
    assert nodes[20:30] == [1.0] * 10
    assert nodes[30:] == [2.0] * 10


def test_scrapes_of_one_pass_are_of_one_time(export: Export) -> None:
    scrapes = [(agent("cilium_endpoint", f"n{i}"), [(i * 250, 5.0)]) for i in range(40)]
    nodes = drivers(by_step(observe(export(*scrapes))))["nodes"].to_list()
    assert nodes[-1] == 40.0


def test_containers_of_the_mesh_are_not_those_of_the_control_plane(export: Export) -> None:
    mine = agent("container_memory_working_set_bytes", "a", container="etcd",
                 pod="clustermesh-apiserver-7d-x")  # fmt: skip
    other = agent("container_memory_working_set_bytes", "a", container="etcd", pod="etcd-a")
    seen = observe(export((mine, [(0, 50.0)]), (other, [(0, 900.0)])))
    assert values(seen, "memory", "clustermesh-etcd") == [50.0]


def test_an_infinite_counter_is_no_reset(export: Export) -> None:
    points = [(0, 1000.0), (60_000, float("inf")), (120_000, 1060.0), (180_000, 1090.0)]
    seen = observe(export((agent("cilium_process_cpu_seconds_total", "a"), points)), step=60)
    assert values(seen, "cpu") == pytest.approx([60 / 120 * 1000, 30 / 60 * 1000])


def test_two_servers_that_tell_no_replica_give_the_rates_of_one(export: Export) -> None:
    # A tick of the counter lies between two scrapes of the same moment once
    one = [(i * 15_000, 6.0 * i) for i in range(40)]
    other = [(at + 200, value + (3.0 if at == 150_000 else 0.0)) for at, value in one]
    label = agent("cilium_process_cpu_seconds_total", "a")
    alone = observe(export((label, one)), step=60)
    both = observe(export((label, sorted(one + other))), step=60)
    assert both["time"].equals(alone["time"])
    assert both["value"].max() < 1.6 * alone["value"].max()  # type: ignore[operator]
    assert both["value"].median() == pytest.approx(alone["value"].median(), rel=0.02)
