"""Structural equations of maps: equal to a real agent's maps, and honest where they cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity import facts
from capacity.cilium.equations import evaluate, names
from capacity.errors import SettingsError
from capacity.facts.filling import BOUNDS, fill, fill_drivers
from capacity.map_fill import Driver, drivers_of, filled, map_fill, unseen
from capacity.map_fill import given as given_drivers
from capacity.observing import Observed, observed
from capacity.settings import PlanSettings
from capacity.tables import POLICY_GROWTH, SERVICE_GROWTH
from tests.command import run

ROOT = Path(__file__).resolve().parents[1]
DUMP = str(ROOT / "tests" / "golden" / "dbg")
# What was loaded at the steps of the walk, as its README tells: addresses injected, CIDRs (two a
# policy), health addresses of remote nodes; the agent's own node has none
WALK = {
    "m00_base": 0, "m01_svc200x10": 0, "m02_svc1000x10": 0, "m03_ident1000_ip2000": 2000,
    "m04_node100": 2000, "m05_ep25": 2000, "m06_pol50": 2000, "m07_ep60": 2000,
    "m08_pol200": 2000, "m09_ident3000_ip10000": 10000, "m10_node300": 10000,
    "k8s_small": 0, "k8s_big": 3000,
}  # fmt: skip
STEPS = {
    step["step"]: step
    for lab in ("lab", "lab-k8s")
    for step in json.loads((ROOT / "data" / lab / "truth.json").read_text())["steps"]
}


def loaded(step: dict[str, Any]) -> dict[str, float]:
    """Drivers of one step: what was put into the agent, not what its maps hold."""
    in_kubernetes = step["step"].startswith("k8s")
    nodes, policies = step["nodes"], step["policies"]
    pods = step["endpoints"] - 1 + WALK[step["step"]]
    remote = 1 if in_kubernetes else 2
    return {
        "nodes": nodes, "pods": pods, "local_endpoints": step["endpoints"], "families": 1,
        "node_addresses": (2 + remote * (nodes - 1)) / nodes, "host_addresses": 2,
        "health_addresses": 0 if in_kubernetes else (nodes - 1) / nodes, "ingress_addresses": 0,
        "cidrs": policies if in_kubernetes else 2 * policies, "pod_cidrs": 1,
        "frontends4": step["services"], "slots4": step["lb4_backends_v3_entries"],
        "backends4": step["lb4_backends_v3_entries"],
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(WALK))
def test_equations_equal_the_maps_of_a_real_agent_to_the_entry(name: str) -> None:
    step = STEPS[name]
    truth = {
        "cilium_ipcache": "ipcache_entries", "cilium_node_map_v2": "node_map_entries",
        "cilium_lxc": "lxc_entries", "cilium_tunnel_map": "tunnel_map_entries",
        "cilium_lb4_services_v2": "lb4_services_v2_entries",
        "cilium_lb4_reverse_nat": "lb4_reverse_nat_entries",
    }  # fmt: skip
    laws = dict(fill("1.17").select("map", "equation").iter_rows())
    told = {one: evaluate(laws[one], loaded(step)) for one in truth}
    # A map without entries has no series: unknown, and the equation says 0
    wanted = {one: step[column] or 0 for one, column in truth.items()}
    assert told == pytest.approx(wanted)


@pytest.fixture(scope="module")
def dump() -> Observed:
    return observed(PlanSettings(DUMP, cilium="1.17"), lambda name, share: None)


@pytest.fixture(scope="module")
def whole() -> tuple[pl.DataFrame, dict[str, Driver]]:
    # The stand-in API server's nodes had no health endpoints
    return filled(PlanSettings(DUMP, cilium="1.17"), {"health_addresses": 0.0}, 40)


def row(table: pl.DataFrame, name: str) -> dict[str, Any]:
    return table.filter(map=name).row(0, named=True)


def test_a_dump_of_an_agent_equals_what_its_objects_make(
    whole: tuple[pl.DataFrame, dict[str, Driver]],
) -> None:
    exact = whole[0].filter(pl.col("bound").is_in(["exact", "fixed"])).drop_nulls("observed")
    assert exact["predicted"].to_list() == exact["observed"].to_list()
    assert set(exact["map"]) >= {
        "cilium_ipcache", "cilium_node_map_v2", "cilium_lxc", "cilium_tunnel_map",
        "cilium_policy_v2_", "cilium_lb4_services_v2", "cilium_lb4_backends_v3",
        "cilium_lb4_reverse_nat", "cilium_lb_affinity_match", "cilium_runtime_config",
    }  # fmt: skip


def test_what_structure_bounds_is_never_above_its_bound(
    whole: tuple[pl.DataFrame, dict[str, Driver]],
) -> None:
    upper = whole[0].filter(bound="upper").drop_nulls(["observed", "predicted"])
    assert not upper.is_empty()
    assert (upper["observed"] <= upper["predicted"]).all()


def test_where_structure_bounds_nothing_it_says_so(
    whole: tuple[pl.DataFrame, dict[str, Driver]],
) -> None:
    metrics = row(whole[0], "cilium_metrics")
    assert (metrics["bound"], metrics["predicted"], metrics["observed"]) == ("observed", None, 4)
    assert "only counting tells" in metrics["missing"]
    neighbors = row(whole[0], "cilium_nodeport_neigh4")
    assert neighbors["predicted"] is None
    assert neighbors["missing"].startswith("nodeport_clients: no metric")


def test_what_is_observed_corrects_what_comes(dump: Observed) -> None:
    known = drivers_of(dump, POLICY_GROWTH.empty(), SERVICE_GROWTH.empty(), {"health_addresses": 9})
    told = row(map_fill(dump, known, PlanSettings(DUMP), 40), "cilium_ipcache")
    assert told["observed"] == 16
    assert told["factor"] == pytest.approx(16 / told["predicted"])
    assert told["ahead"] < 10 * told["predicted"] * told["factor"] + 1


def test_trying_out_a_driver_changes_no_correction_and_no_end(dump: Observed) -> None:
    tables = [
        map_fill(
            dump, drivers_of(dump, POLICY_GROWTH.empty(), SERVICE_GROWTH.empty(), tried),
            PlanSettings(DUMP), 4000,
        )
        for tried in ({"pod_cidrs": 1.0}, {"pod_cidrs": 1.0, "nodes": 2000.0})
    ]  # fmt: skip
    plain, tried = (row(table, "cilium_tunnel_map") for table in tables)
    assert plain["observed"] is not None
    assert tried["predicted"] == 1999
    for name in ("factor", "full_at_nodes", "ahead"):
        assert tried[name] == plain[name]


@pytest.mark.parametrize("value", ["1e30", "-1", "nan", "inf", "", "x"])
def test_a_driver_beyond_all_sense_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="wanted is DRIVER=NUMBER"):
        given_drivers((f"nodes={value}",))


def test_the_node_count_at_which_a_map_is_full_is_the_first_one(dump: Observed) -> None:
    known = drivers_of(dump, POLICY_GROWTH.empty(), SERVICE_GROWTH.empty(), {"node_addresses": 3.0})
    settings = PlanSettings(DUMP)
    at = row(map_fill(dump, known, settings), "cilium_node_map")["full_at_nodes"]
    assert at == 5462  # 16,384 entries, three a node
    for nodes, is_full in ((at, True), (at - 1, False)):
        told = row(map_fill(dump, known, settings, nodes), "cilium_node_map")
        assert (told["ahead"] >= told["limit"]) is is_full


def test_a_map_that_no_metric_tells_is_warned_of_before_it_is_full(dump: Observed) -> None:
    known = drivers_of(dump, POLICY_GROWTH.empty(), SERVICE_GROWTH.empty())
    warned = unseen(map_fill(dump, known, PlanSettings(DUMP), 20_000), dump.limits, "1.17")
    assert any(text.startswith("cilium_node_map is full at 13,108 nodes") for text in warned)
    assert unseen(map_fill(dump, known, PlanSettings(DUMP), 100), dump.limits, "1.17") == []


@pytest.mark.parametrize("version", facts.VERSIONS)
def test_every_map_of_every_version_has_one_equation_or_says_that_it_has_none(version: str) -> None:
    laws = fill(version)
    assert sorted(laws["map"]) == sorted(facts.maps(version)["map"])
    assert set(laws["bound"]) <= set(BOUNDS)
    assert laws["equation"].is_null().to_list() == (laws["bound"] == "observed").to_list()


def test_every_driver_is_used_and_every_name_is_a_driver() -> None:
    laws = pl.concat([fill(version) for version in facts.VERSIONS])["equation"].drop_nulls()
    used = {name for equation in laws for name in names(equation)}
    assert used == set(fill_drivers()["driver"])


@given(st.sampled_from(facts.VERSIONS), st.floats(1, 1e5), st.floats(1, 10), st.data())
def test_a_larger_cluster_never_has_fewer_entries(
    version: str, size: float, times: float, data: st.DataObject
) -> None:
    law = data.draw(st.sampled_from(fill(version).drop_nulls("equation")["equation"].to_list()))
    small = dict.fromkeys(names(law), size)
    large = {name: value * times for name, value in small.items()}
    assert evaluate(law, large) >= evaluate(law, small) * (1 - 1e-12)


def test_drivers_are_read_with_their_faults_named() -> None:
    assert given_drivers(("nodes=5",)) == {"nodes": 5.0}
    with pytest.raises(SettingsError, match="'fragmented_datagrams' is near"):
        given_drivers(("fragmented_datagram=5",))
    with pytest.raises(SettingsError, match="wanted is DRIVER=NUMBER"):
        given_drivers(("nodes=many",))


def test_the_command_tells_one_map_in_full(tmp_path: Path) -> None:
    asked = ("maps", DUMP, "--cilium", "1.17", "--map", "frag")
    done = run(*asked, "--set", "fragmented_datagrams=300", cwd=tmp_path)
    assert done.returncode == 0
    for text in ("9,000", "8,192", "soft", "extraConfig.bpf-fragments-map-max", "by eviction only",
                 "fragment_lifetime", "ipfrag_time"):  # fmt: skip
        assert text in done.stdout


def test_the_command_fails_where_a_map_does_not_hold_the_planned_nodes(tmp_path: Path) -> None:
    asked = ("maps", DUMP, "--cilium", "1.17", "-o", "json", "--nodes")
    done = run(*asked, "20000", cwd=tmp_path)
    assert done.returncode == 1
    told = {one["map"]: one for one in json.loads(done.stdout)}
    assert told["cilium_node_map"]["ahead"] == 25_000
    assert "cilium_vtep_map" not in told


def test_options_tell_families_health_and_ingress_addresses(dump: Observed) -> None:
    def told(**values: str) -> dict[str, float]:
        options = pl.DataFrame(
            [{"option": name.replace("_", "-"), "value": value, "source": "s"}
             for name, value in values.items()],
            schema=dump.inventory.options.schema,
        )  # fmt: skip
        bare = replace(dump.inventory, options=options, nodes=dump.inventory.nodes.clear())
        seen = replace(dump, inventory=bare)
        known = drivers_of(seen, POLICY_GROWTH.empty(), SERVICE_GROWTH.empty())
        return {name: known[name].value for name in (
            "families", "node_addresses", "health_addresses", "ingress_addresses")}  # fmt: skip

    both = {"enable_ipv4": "true", "enable_ipv6": "true"}
    assert list(told(**both, enable_envoy_config="true").values()) == [2, 4, 2, 2]
    assert list(told(enable_ipv4="true", enable_health_checking="false").values()) == [1, 2, 0, 0]


def test_maps_of_features_that_are_off_are_told_apart_from_those_not_known(dump: Observed) -> None:
    known = drivers_of(dump, POLICY_GROWTH.empty(), SERVICE_GROWTH.empty())
    bare = replace(dump, inventory=replace(
        dump.inventory, options=dump.inventory.options.clear(),
        map_entries=dump.inventory.map_entries.clear(),
    ))  # fmt: skip
    unknown = map_fill(bare, known, PlanSettings(DUMP))
    assert row(unknown, "cilium_vtep_map")["in_use"] == "unknown"
    assert row(unknown, "cilium_ipcache")["in_use"] == "yes"
    off = pl.DataFrame([{"option": "routing-mode", "value": "native", "source": "s"}],
                       schema=dump.inventory.options.schema)  # fmt: skip
    told = map_fill(replace(bare, inventory=replace(bare.inventory, options=off)), known,
                    PlanSettings(DUMP))  # fmt: skip
    assert row(told, "cilium_vtep_map")["in_use"] == "no"
    assert row(told, "cilium_auth_map")["why"] == "mutual authentication is off (mesh-auth-enabled)"
