from __future__ import annotations

import dataclasses

import polars as pl
import pytest

import capacity
from capacity import facts, shipped
from capacity.planning import Plan
from capacity.settings import MANAGED, PlanSettings
from capacity.tables import CHANGES


@pytest.fixture(scope="module")
def lab() -> Plan:
    return capacity.plan(PlanSettings(str(shipped.path("data", "lab")), nodes=(3000,)))


def test_each_change_tells_all_that_a_user_must_know(demo: Plan) -> None:
    changes = demo.recommendation.filter(pl.col("status").is_in(CHANGES))
    for name in ("target", "percentile", "cost", "cost_total", "side_effect", "alternative"):
        assert changes[name].null_count() == 0, name
    assert changes["restart"].all()
    lb = changes.filter(setting="bpf.lbMapMax").row(0, named=True)
    assert "services interrupted" in lb["side_effect"]
    for part in ("cilium_bpf_map_pressure", "worst node", "2026-", "UTC"):
        assert part in lb["evidence"], part
    assert set(demo.recommendation["confidence"]) <= {"high", "medium", "low"}


def test_what_breaks_first_comes_first(demo: Plan) -> None:
    # Maps of services are told in one row, from the inventory's services
    is_other = ~pl.col("subject").str.contains("^lb|^service-ids")
    subjects = demo.recommendation.filter(is_other, component="map")["subject"].to_list()
    order = demo.exhaustion.filter(is_other, component="map")["subject"].to_list()
    assert len(subjects) > 5
    assert subjects == order
    assert demo.recommendation["rank"].is_sorted()


def test_a_larger_load_balancer_map_is_paid_for_each_map_it_sizes(demo: Plan) -> None:
    lb = demo.recommendation.filter(setting="bpf.lbMapMax", status="raise").row(0, named=True)
    sized = facts.maps("1.17").filter(pl.col("helm_value") == "bpf.lbMapMax", family=4)
    # The session table is an LRU map of 65,536 elements more: 48 + 16 + 16 bytes each at least
    assert len(sized) > 3
    assert lb["cost"] > 65536 * 80


def test_s29_requests_cost_what_nodes_times_request_is() -> None:
    from capacity.recommend.cost import totals
    from capacity.recommend.present import Present

    settings = PlanSettings(price_cpu=20.0, price_memory=3.0)
    nobody = Present("1.17", {}, {}, {"operator": 2}, None)
    cpu = {"component": "agent", "setting": "resources.requests.cpu", "unit": "millicore",
           "cost": 100.0}  # fmt: skip
    memory = cpu | {"setting": "resources.requests.memory", "unit": "byte", "cost": 512.0 * 2**20}
    assert totals(cpu, 1000, nobody, settings) == {"cost_total": 100_000.0, "money": 2000.0}
    assert totals(memory, 1000, nobody, settings) == {"cost_total": 500.0 * 2**30, "money": 1500.0}
    limit = memory | {"setting": "resources.limits.memory"}
    assert totals(limit, 1000, nobody, settings)["money"] is None
    assert totals(memory | {"component": "operator"}, 9, nobody, settings)["cost_total"] == 2**30


def test_a_map_at_its_cap_is_raised_to_it_and_the_rest_is_a_redesign(lab: Plan) -> None:
    far = capacity.plan(dataclasses.replace(lab.settings, nodes=(100_000,)))
    rows = far.recommendation.filter(subject="cilium_policy_*").to_dicts()
    raised, last = rows
    assert (raised["setting"], raised["target"]) == ("bpf.policyMapMax", 65536)
    assert raised["status"] == "raise"
    assert last["status"] == "redesign"
    assert last["target"] is None
    assert "clusters of at most" in last["alternative"]


def test_more_nodes_never_get_less(lab: Plan) -> None:
    plans = [
        capacity.plan(dataclasses.replace(lab.settings, nodes=(nodes,)))
        for nodes in (200, 2000, 20_000)
    ]
    for small, large in zip(plans, plans[1:], strict=False):
        pairs = small.recommendation.drop_nulls("target").join(
            large.recommendation.drop_nulls("target"),
            on=["component", "subject", "setting"], nulls_equal=True,
        )  # fmt: skip
        assert len(pairs) > 5
        assert (pairs["target"] <= pairs["target_right"]).all()


def test_an_over_provisioned_map_is_lowered_with_its_saving(tmp_path) -> None:  # type: ignore[no-untyped-def]
    lab = shipped.path("data", "lab")
    (tmp_path / "values.yaml").write_text("bpf: {ctTcpMax: 16777216, policyMapMax: 65536}\n")
    told = capacity.plan(PlanSettings(str(lab), inventory=str(tmp_path), nodes=(500,)))
    row = told.recommendation.filter(setting="bpf.ctTcpMax").row(0, named=True)
    assert (row["status"], row["current"], row["target"]) == ("lower", 16_777_216, 524_288)
    assert row["cost"] < -(1 << 30)
    assert row["rank"] > told.recommendation.filter(status="ok")["rank"].max()
    # Policy maps cost next to nothing while empty: not worth a restart of all endpoints
    policy = told.recommendation.filter(setting="bpf.policyMapMax").row(0, named=True)
    assert policy["status"] == "ok"


def test_managed_services_of_the_settings_are_those_of_the_facts() -> None:
    assert tuple(facts.managed()["provider"]) == MANAGED
    with pytest.raises(capacity.errors.SettingsError, match="managed: 'openshift' is not one of"):
        PlanSettings(managed="openshift")
    with pytest.raises(capacity.errors.SettingsError, match="price_cpu: -1"):
        PlanSettings(price_cpu=-1.0)


def test_components_name_values_of_every_chart() -> None:
    for version in facts.VERSIONS:
        known = set(facts.chart_values(version)["key"])
        for row in facts.components(version).iter_rows(named=True):
            named = (row["resources"], row["metrics_key"], row["replicas_key"])
            assert {key for key in named if key} <= known


def test_on_a_managed_service_nothing_is_told_to_be_set(lab: Plan) -> None:
    told = capacity.plan(dataclasses.replace(lab.settings, managed="aks")).recommendation
    assert told.filter(pl.col("status").is_in(CHANGES)).is_empty()
    asked = told.filter(pl.col("reason").str.contains("not yours to set"))
    assert not asked.is_empty()
    assert asked["alternative"].str.contains("Azure's support").all()
