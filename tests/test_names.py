"""Whose a series is, whatever labels an export has it in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import capacity
from capacity import observing
from capacity.errors import ExportError
from capacity.export import Metrics
from capacity.observe import by_step, drivers, observe
from capacity.observe.names import NODE_INFO, copies, named, one_cluster
from capacity.settings import PlanSettings

from .conftest import DAY

Export = Callable[..., Metrics]
CPU = "cilium_process_cpu_seconds_total"
RSS = "cilium_process_resident_memory_bytes"


def nodes(metrics: Metrics, metric: str = RSS) -> list[str | None]:
    series = named(metrics).series
    return series.filter(pl.col("metric") == metric)["node"].to_list()


@pytest.mark.parametrize(
    "label",
    ["kubernetes_node", "k8s_node_name", "kubernetes_io_hostname"],
)
def test_a_node_is_found_in_any_usual_label(export: Export, label: str) -> None:
    given = {"__name__": RSS, "instance": "10.0.0.1:9962", label: "worker-1"}
    assert nodes(export((given, [(0, 1.0)]))) == ["worker-1"]
    assert observe(export((given, [(0, 1.0)])))["node"].unique().to_list() == ["worker-1"]


def test_a_hidden_label_wins_over_the_one_that_hides_it(export: Export) -> None:
    given = {
        "__name__": "kube_pod_container_resource_limits", "resource": "memory",
        "node": "node-of-ksm", "exported_node": "worker-1", "container": "kube-state-metrics",
        "exported_container": "cilium-agent", "pod": "ksm-0", "exported_pod": "cilium-x",
    }  # fmt: skip
    seen = observe(export((given, [(0, 2.0**30)])))
    assert seen.select("node", "quantity").rows() == [("worker-1", "memory_limit")]


def test_a_pod_is_joined_to_its_node_by_series_that_tell_both(export: Export) -> None:
    agent = {"__name__": RSS, "namespace": "kube-system", "pod": "cilium-x"}
    info = {"__name__": "kube_pod_info", "namespace": "kube-system", "pod": "cilium-x"}
    told = (info | {"node": "worker-1"}, [(0, 1.0)])
    assert nodes(export((agent, [(0, 1.0)]), told)) == ["worker-1"]
    twice = (info | {"node": "worker-2"}, [(0, 1.0)])
    assert nodes(export((agent, [(0, 1.0)]), told, twice)) == [None]  # of which is not known


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
def test_an_address_is_joined_to_its_node(export: Export, address: str) -> None:
    at = f"[{address}]:9962" if ":" in address else f"{address}:9962"
    info = {"__name__": "kube_node_info", "node": "worker-1", "internal_ip": address}
    got = nodes(export(({"__name__": RSS, "instance": at}, [(0, 1.0)]), (info, [(0, 1.0)])))
    assert got == ["worker-1"]


@pytest.mark.parametrize("label", ["k8s_cluster", "k8s_cluster_name"])
def test_clusters_are_told_apart_by_the_usual_labels(export: Export, label: str) -> None:
    made = [({"__name__": "cilium_endpoint", "node": "n", label: c}, [(0, v)])
            for c, v in (("a", 3.0), ("b", 50.0))]  # fmt: skip
    told = drivers(by_step(observe(export(*made))))
    assert told.select("cluster", "endpoints_per_node").rows() == [("a", 3.0), ("b", 50.0)]


def test_a_cluster_label_that_tells_apart_is_kept(export: Export) -> None:
    made = [({"__name__": "cilium_endpoint", "cluster": c, "k8s_cluster_name": "x"}, [(0, 1.0)])
            for c in "ab"]  # fmt: skip
    assert named(export(*made)).series["cluster"].to_list() == ["a", "b"]


@pytest.mark.parametrize(
    "label", ["prometheus_replica", "replica", "__replica__", "receive_replica"]
)
def test_two_replicas_give_the_rate_of_one_and_fill_its_gaps(export: Export, label: str) -> None:
    def series(replica: str, points: list[tuple[int, float]]) -> object:
        return ({"__name__": CPU, "node": "n", "z": "1", label: replica}, points)

    whole = [(i * 60_000, i * 6.0) for i in range(10)]
    # The other replica scrapes half a minute later and sees another, higher rate once
    shifted = [(i * 60_000 + 30_000, i * 6.0 + (8.0 if i > 2 else 0.0)) for i in range(9)]
    one = observe(export(series("a", whole)), step=60)["value"].to_list()
    both = observe(export(series("a", whole), series("b", shifted)), step=60)["value"].to_list()
    assert both == one
    assert one == pytest.approx([100.0] * 9)
    gap = whole[:4] + whole[7:]
    alone = observe(export(series("a", gap)), step=60)
    filled = observe(export(series("a", gap), series("b", shifted)), step=60)
    assert len(alone) < len(filled) == 9
    assert filled["time"].diff().drop_nulls().unique().to_list() == [timedelta(minutes=1)]


def test_groups_of_servers_that_scrape_other_clusters_are_no_replicas(export: Export) -> None:
    """Label prometheus names such a group: the node n of each may be another machine."""
    made = [({"__name__": RSS, "node": "n", "prometheus": f"monitoring/{c}"}, [(0, v)])
            for c, v in (("a", 3.0), ("b", 50.0))]  # fmt: skip
    assert copies(export(*made).series).is_empty()


def test_an_address_names_the_node_in_a_plan(export: Export, tmp_path: Path) -> None:
    given = {"__name__": "cilium_endpoint", "instance": "10.0.0.1:9962"}
    info = {"__name__": NODE_INFO, "node": "worker-1", "internal_ip": "10.0.0.1"}
    made = export((given, [(0, 5.0)]), (info, [(0, 1.0)]))
    capacity.load.write(made, tmp_path / "export")
    read, _ = observing._read(PlanSettings(source=str(tmp_path / "export")))
    assert observe(read)["node"].drop_nulls().unique().to_list() == ["worker-1"]


def test_an_infinite_gauge_is_no_observation(export: Export) -> None:
    points = [(0, float("inf")), (60_000, 5.0), (120_000, float("-inf"))]
    seen = observe(export(({"__name__": RSS, "node": "n"}, points)))
    assert seen.filter(quantity="memory_rss")["value"].to_list() == [5.0]


def test_an_agent_pod_that_restarts_is_still_one_node(export: Export) -> None:
    old = {"__name__": CPU, "node": "n", "pod": "cilium-a", "instance": "10.0.0.1:9962"}
    new = old | {"pod": "cilium-b"}
    seen = observe(
        export(
            (old, [(i * 60_000, 1000 + 6.0 * i) for i in range(4)]),
            (new, [(i * 60_000, 6.0 * (i - 4)) for i in range(4, 8)]),
        )
    )
    assert seen["node"].unique().to_list() == ["n"]
    assert seen["value"].to_list() == pytest.approx([100.0] * 6)


def test_the_clusters_to_choose_from_have_the_nodes_there_are_now(export: Export) -> None:
    """Of ten nodes a day that others replace, those of the last minutes are left."""
    made = [
        ({"__name__": "cilium_endpoint", "cluster": "old", "node": f"n{day}-{k}"},
         [(day * DAY + i * 300_000, 5.0) for i in range(288)])
        for day in range(3) for k in range(10)
    ]  # fmt: skip
    # One misses the last scrape, one is gone for an hour
    made += [
        ({"__name__": "cilium_endpoint", "cluster": "new", "node": name},
         [(i * 300_000, 5.0) for i in range(288 - missing)])
        for name, missing in (("a", 0), ("b", 1), ("c", 12))
    ]  # fmt: skip
    with pytest.raises(ExportError, match=r"of new \(2 nodes\), old \(10 nodes\)$"):
        one_cluster(export(*made))


def test_scrapes_of_several_clusters_are_of_all_their_nodes(export: Export) -> None:
    made = [
        ({"__name__": "cilium_endpoint", "cluster": cluster, "node": f"n{k}"},
         [(k * 600_000, 5.0)])
        for cluster in "ab" for k in range(4)
    ]  # fmt: skip
    with pytest.raises(ExportError, match=r"a \(4 nodes\), b \(4 nodes\)"):
        one_cluster(export(*made))
