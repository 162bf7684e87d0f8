"""Acceptance scenarios about services, conntrack, NAT, Maglev, L2 and egress: inputs → numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from capacity.cilium.conntrack import diagnose, port_use
from capacity.cilium.egress import egress_entries
from capacity.cilium.l2 import lease_load
from capacity.cilium.maglev import advice
from capacity.cilium.services import lb_entries, lb_map_max, service_ids
from capacity.cilium.services.shapes import shape
from tests.command import run

VERSION = "1.17"


@pytest.fixture
def scenarios(shared: Path) -> dict[str, dict[str, Any]]:
    text = (shared / "facts" / "users" / "scenarios.yaml").read_text(encoding="utf-8")
    return {one["id"]: one for one in yaml.safe_load(text)}


def test_s07_services_map_of_2000_services_with_50_backends(scenarios: dict[str, Any]) -> None:
    given, out = scenarios["S07"]["in"], scenarios["S07"]["out"]
    made = shape(services=given["services"], ports=given["ports"], backends=given["endpoints"],
                 families=given["families"], type=given["type"])  # fmt: skip
    table = lb_entries(made, version=VERSION, options={"bpf-lb-map-max": given["lbMapMax"]})
    row = table.filter(map="cilium_lb4_services_v2").row(0, named=True)
    assert row["entries"] == out["exact_with_master"]
    assert row["entries"] - given["services"] == out["docs_heuristic"]
    assert row["share"] == pytest.approx(out["pressure"], abs=5e-4)
    assert lb_map_max(row["entries"], share=0.7) == out["lbMapMax_for_70pct"]


def test_s08_many_ports_fill_three_limits(scenarios: dict[str, Any]) -> None:
    given, out = scenarios["S08"]["in"], scenarios["S08"]["out"]
    made = shape(services=given["services"], ports=given["ports_per_service"],
                 backends=given["endpoints"])  # fmt: skip
    table = lb_entries(made, version=VERSION, options={"bpf-lb-map-max": given["lbMapMax"]})
    rows = {row["map"]: row for row in table.iter_rows(named=True)}
    ids = service_ids(made, version=VERSION)
    assert rows["cilium_lb4_services_v2"]["entries"] == out["services_map"]
    assert rows["cilium_lb4_services_v2"]["share"] > 1
    assert rows["cilium_lb4_backends_v3"]["entries"] == out["backends_map"]
    assert rows["cilium_lb4_backends_v3"]["share"] == pytest.approx(
        out["backends_pressure"], abs=5e-4
    )
    assert ids.used == out["service_ids"]
    assert ids.share == pytest.approx(out["id_pressure"], abs=5e-4)


def test_s09_service_ids_are_a_hard_limit(scenarios: dict[str, Any]) -> None:
    given, out = scenarios["S09"]["in"], scenarios["S09"]["out"]
    made = shape(services=given["services"], ports=given["ports"], type=given["type"])
    # The scenario counts no node address: cluster IP, surrogate and load balancer address a port
    least = service_ids(made, version=VERSION, options={"node_port_addresses": []})
    assert (least.used, least.limit) == (out["ids"], out["limit"])
    assert least.most_services == out["max_services_of_this_shape"]
    assert "no setting adds any" in least.sentence
    assert service_ids(made, version=VERSION).used == 120_000


def test_s10_ports_toward_one_remote(scenarios: dict[str, Any]) -> None:
    for given, out in zip(scenarios["S10"]["in"], scenarios["S10"]["out"], strict=True):
        end = given.get("nodePortRangeMax")
        use = port_use(given["conns"], version=VERSION, addresses=given.get("egress_ips", 1),
                       node_port_range=f"30000,{end}" if end else None)  # fmt: skip
        assert use.limit == out.get("limit", use.limit)
        assert use.use == pytest.approx(out["use"], abs=5e-4)
        assert use.fits is (out.get("verdict") != "fail")
        assert use.addresses_needed == out.get("egress_ips_needed", 1)


def test_s17_leases_of_l2_announcements(scenarios: dict[str, Any]) -> None:
    for given, out in zip(scenarios["S17"]["in"], scenarios["S17"]["out"], strict=True):
        load = lease_load(given["services"], version=VERSION, qps=given["qps"],
                          renew_deadline=given["leaseRenewDeadline_s"])  # fmt: skip
        assert load.needed_qps == out["needed_qps"]
        assert load.fits is (out["verdict"] != "fail")


def test_s18_table_size_of_maglev(scenarios: dict[str, Any]) -> None:
    for given, out in zip(scenarios["S18"]["in"], scenarios["S18"]["out"], strict=True):
        told = advice(given["max_backends"], version=VERSION)
        assert told.table_size == out["tableSize"]
        assert (told.warning is not None) is ("warning" in out)
    assert "1,310" in str(told.warning)


def test_s23_drops_of_an_empty_map_are_no_reason_to_resize(scenarios: dict[str, Any]) -> None:
    given, out = scenarios["S23"]["in"], scenarios["S23"]["out"]
    found = diagnose(
        given["drop_rate_ct_insert"], pressure=given["ct4_global_pressure"], kernel=given["kernel"],
        coincides_with_collection=given["drops_coincide_with_gc"],
    )  # fmt: skip
    assert found.finding == out["finding"]
    assert found.recommend_resize is out["recommend_resize"]
    assert found.pointer == out["pointer"]


def test_s31_egress_policies(scenarios: dict[str, Any]) -> None:
    given, out = scenarios["S31"]["in"], scenarios["S31"]["out"]
    told = egress_entries(given["selected_pods"], given["destination_cidrs"], version=VERSION)
    assert (told.entries, told.limit, told.fits) == (out["entries"], out["limit"], False)
    assert told.size_needed == out["fix"]["egressGateway.maxPolicyEntries"]


@pytest.mark.parametrize(
    ("arguments", "code", "key", "value"),
    [
        (["ports", "--connections", "40000"], 1, "addresses_needed", 2),
        (["ports", "--connections", "25000"], 0, "limit", 32768),
        (["maglev", "--backends", "160"], 0, "table_size", 251),
        (["diagnose", "--drops", "12", "--pressure", "0.03", "--kernel", "5.14"], 0, "finding",
         "kernel_lock_contention"),
        (["diagnose", "--drops", "12", "--pressure", "0.98"], 1, "finding", "map_full"),
        (["conntrack", "--traffic", "pod/client rate=100 duration=30s"], 0, "alive", 4000.0),
        (["conntrack", "--traffic", "pod/client rate=900 duration=30 ends=left", "--memory", "8Gi"],
         1, "max_entries", 131072),
    ],
)  # fmt: skip
def test_commands_tell_the_same(
    tmp_path: Path, arguments: list[str], code: int, key: str, value: Any
) -> None:
    version = [] if arguments[0] == "diagnose" else ["--cilium", VERSION]
    done = run("services", *arguments, *version, "-o", "json", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)[0][key] == value


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["conntrack", "--traffic", "pod/client"], "wanted is 'PATH/ROLE rate=…"),
        (["conntrack", "--traffic", "pod/client rate=1 color=red"], "wanted is 'PATH/ROLE rate=…"),
        (["conntrack", "--traffic", "pod/x rate=1"], "no such path"),
        (["conntrack", "--traffic", "pod/client rate=1", "--set", "a"], "'a' is no NAME=VALUE"),
    ],
)
def test_wrong_arguments_are_told(tmp_path: Path, arguments: list[str], why: str) -> None:
    done = run("services", *arguments, "--cilium", VERSION, cwd=tmp_path)
    assert done.returncode == 2
    assert why in done.stderr.replace("\n", " ")
