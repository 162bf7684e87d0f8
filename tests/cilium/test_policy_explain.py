"""Who makes entries, and cheaper ways to write policies: each proven, none taken on trust."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.cilium import policy
from capacity.cilium.policy import cheaper as cheaper_module
from capacity.cilium.policy import explain
from capacity.cilium.policy.cheaper import CHEAPER, SAME, WIDER, as_yaml, cheaper
from capacity.cilium.policy.engine import prepare
from capacity.cilium.policy.reach import difference
from capacity.inventory import Inventory
from capacity.tables import check
from tests.cilium.test_policy import cases, inventory, ports, shop, web
from tests.cilium.test_policy_properties import FEW, VERSIONS, allowing, objects, reachable

API = {"matchLabels": {"app": "api"}}


def made(tables: Inventory, version: str = "1.17") -> dict[str, int]:
    listed = policy.rule_contributions(tables, version=version)
    one = listed.filter(pl.col("policy") != "", endpoint="shop/web-0")
    return dict(one.select("rule", "entries").iter_rows())


def test_rules_are_named_by_their_place_in_the_policy() -> None:
    rule = {"toPorts": ports("80")}
    denial = {"fromEntities": ["host"]}
    tables = shop(web(ingress=[{"fromEndpoints": [{}]}, rule], ingressDeny=[denial], egress=[rule]))
    assert set(made(tables)) == {"ingress[0]", "ingress[1]", "ingressDeny[0]", "egress[0]"}


def test_rules_of_specs_are_named_by_their_spec() -> None:
    specs = [web(ingress=[{"toPorts": ports(n)}])["spec"] for n in ("80", "443")]
    told = shop(web())
    text = json.dumps({"specs": specs})
    tables = Inventory(
        endpoints=told.endpoints,
        namespaces=told.namespaces,
        policies=told.policies.with_columns(object=pl.lit(text)),
    )
    assert made(tables) == {"specs[0].ingress[0]": 1, "specs[1].ingress[0]": 1}


def test_rules_of_kubernetes_policies_are_named_too() -> None:
    spec = {"podSelector": {}, "ingress": [
        {"from": [{"podSelector": {}}, {"namespaceSelector": {}}]}, {"ports": [{"port": 80}]},
    ]}  # fmt: skip
    found = made(shop({"kind": "NetworkPolicy", "spec": spec}))
    assert found["ingress[1]"] == 1
    assert found["ingress[0]"] > 1


def test_what_rules_make_alone_is_no_more_than_what_their_policy_makes() -> None:
    tables = inventory(cases("c")["c1-200x60"])
    cluster = policy.ready(tables, version="1.16")
    by_rule = check(explain.rule_contributions(cluster), explain.RULE_CONTRIBUTIONS)
    by_policy = explain.contributions(cluster)
    keys = ["endpoint", "direction", "policy"]
    sums = by_rule.group_by(keys).agg(pl.col("entries").sum(), most=pl.col("entries").max(), alone=pl.col("alone").sum())  # fmt: skip  # noqa: E501
    both = by_policy.join(sums, on=keys, how="full", coalesce=True, suffix="_of_rules")
    assert both.filter(pl.col("entries") > pl.col("entries_of_rules")).is_empty()
    assert both.filter(pl.col("most") > pl.col("entries")).is_empty()
    assert both.filter(pl.col("alone_of_rules") > pl.col("entries")).is_empty()
    assert both.null_count().pipe(sum).item() == 0


def test_the_heaviest_rule_is_the_one_that_makes_most_in_one_map() -> None:
    tables = inventory(cases("c")["c1-200x60"])
    cluster = policy.ready(tables, version="1.16")
    listed = explain.rule_contributions(cluster).filter(pl.col("policy") != "")
    heaviest = check(explain.heaviest(cluster, top=10), explain.HEAVIEST)
    assert heaviest.height == 10
    first = heaviest.row(0, named=True)
    assert first["worst_entries"] == listed["entries"].max()
    own = listed.filter(policy=first["policy"], rule=first["rule"])
    assert (first["entries"], first["endpoints"]) == (own["entries"].sum(), own.height)
    total = policy.count(tables, version="1.16").filter(endpoint=first["worst_endpoint"])
    assert first["worst_total"] == total["total"].item()


def ways(tables: Inventory, version: str = "1.17", reach: str = SAME) -> list[tuple[str, int]]:
    found = check(cheaper(policy.ready(tables, version=version)).table, CHEAPER)
    return found.filter(reach=reach).select("change", "saved").rows()


@pytest.mark.parametrize(
    ("spec", "version", "change", "saved"),
    [
        ({"ingress": [{"toPorts": ports(*map(str, range(8000, 8030)))}]}, "1.17",
         "merge ports into ranges: 30 port prefixes become 4", 26),
        ({"ingress": [{"toPorts": ports(str(n))} for n in range(8000, 8004)]}, "1.17",
         "join with ingress[1], ingress[2], ingress[3]; merge ports and CIDRs", 3),
        ({"egress": [{"toCIDR": ["10.0.0.0/25", "10.0.0.128/25", "10.0.1.0/24"]}]}, "1.17",
         "collapse CIDRs: 3 become 1", 2),
        ({"egress": [{"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.2.0/24"]}]}]}, "1.17",
         "deny what is excepted (1 CIDRs); no rule to come can allow it then", 14),
        ({"ingress": [{"fromEndpoints": [{}]}, {"fromEndpoints": [API], "toPorts": ports("80")}]},
         "1.17", "leave out the rule: others cover it", 1),
        # Before 1.17 each port for anyone has a copy for the host
        ({"ingress": [{"toPorts": ports("80", "81")}]}, "1.16",
         "merge ports into ranges: 2 port prefixes become 1", 2),
    ],
)  # fmt: skip
def test_a_cheaper_way_saves_what_it_tells(
    spec: dict[str, Any], version: str, change: str, saved: int
) -> None:
    tables = shop(web(**spec))
    found = cheaper(policy.ready(tables, version=version))
    assert (change, saved) in found.table.select("change", "saved").rows()
    # The policies it writes have the entries it tells
    told = found.policies[0]
    again = policy.count(shop({"spec": told.specs[0]}), version=version)
    least = found.table.filter(reach=SAME)["after"].min()
    assert again.filter(endpoint="shop/web-0")["total"].item() == least


NEIGHBORS = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(300)]
# Every other one: none meets another
APART = NEIGHBORS[::2]


@pytest.mark.parametrize(
    ("rules", "version", "saved"),
    [
        ({"egress": [{"toCIDR": NEIGHBORS}]}, "1.17", 296),
        ({"egress": [{"toCIDRSet": [{"cidr": one} for one in NEIGHBORS]}]}, "1.16", 296),
        ({"egress": [{"toCIDR": [one]} for one in NEIGHBORS]}, "1.17", 296),
        # Identities are shared: each rule alone would add some
        ({"ingress": [{"fromCIDR": NEIGHBORS}], "egress": [{"toCIDR": NEIGHBORS}]}, "1.17", 592),
        ({"egress": [{"toCIDR": [f"2001:db8:{n:x}::/48" for n in range(256)]}]}, "1.17", 255),
    ],
)
def test_a_long_list_of_cidrs_that_meet_is_merged_by_one_resolution(
    rules: dict[str, Any], version: str, saved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = resolutions(monkeypatch)
    found = cheaper(policy.ready(shop(web(**rules)), version=version))
    row = found.table.row(0, named=True)
    assert (row["reach"], row["step"], row["saved"]) == (SAME, 1, saved)
    # One proof of it and, of the few CIDRs that are left, one each; two clusters of pods to come
    assert len(resolved) < 20
    after = policy.count(shop({"spec": found.policies[0].specs[0]}), version=version)
    assert after.filter(endpoint="shop/web-0")["total"].item() == row["after"]


def test_merged_neighbors_keep_out_what_is_excepted() -> None:
    hole = {"cidr": "10.64.0.0/16", "except": ["10.64.4.0/24", "10.64.5.0/24"]}
    sets = [*({"cidr": one} for one in NEIGHBORS[:16]), hole]
    found = cheaper(policy.ready(shop(web(egress=[{"toCIDRSet": sets}])), version="1.17"))
    merged = found.table.filter(step=1).row(0, named=True)
    assert (merged["reach"], merged["saved"]) == (SAME, 15)
    excepted = found.table.filter(pl.col("change").str.starts_with("deny what is excepted"))
    assert set(excepted["reach"]) <= {SAME}


def test_a_long_list_that_cannot_be_merged_costs_few_resolutions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cheaper_module, "_WORK", 9 * (1 + len(APART)))
    resolved = resolutions(monkeypatch)
    spec = web(egress=[{"toCIDR": APART}])
    assert cheaper(policy.ready(shop(spec), version="1.17")).table.is_empty()
    assert len(resolved) == 10


def resolutions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the clusters that are resolved from here on."""
    made: list[int] = []

    def counted(*told: Any) -> Any:
        made.append(len(told))
        return prepare(*told)

    monkeypatch.setattr(cheaper_module, "prepare", counted)
    return made


def test_policies_that_cover_each_other_are_not_both_left_out() -> None:
    some = [API, {"matchLabels": {"app": "web"}}]
    both = [
        web(ingress=[{"fromEndpoints": [API], "toPorts": ports("80", endPort=81)}]),
        web(ingress=[
            {"fromEndpoints": [API], "toPorts": ports("80")},
            {"fromEndpoints": some, "toPorts": ports("81")},
        ]),
    ]  # fmt: skip
    found = cheaper(policy.ready(shop(*both), version="1.17"))
    written = {one.name: {"spec": one.specs[0]} for one in found.policies}
    after = shop(*(written.get(f"p{n}", one) for n, one in enumerate(both)))
    reached = [reachable(policy.resolve(one, version="1.17")) for one in (shop(*both), after)]
    assert reached[0] == reached[1]


def test_policies_with_the_same_cidrs_are_merged_together() -> None:
    api = {"endpointSelector": API, "egress": [{"toCIDR": NEIGHBORS}]}
    told = [web(egress=[{"toCIDR": NEIGHBORS}]), {"spec": api}]
    found = cheaper(policy.ready(shop(*told), version="1.17"))
    first = found.table.row(0, named=True)
    assert first["policy"] == "CiliumNetworkPolicy/shop/p0, CiliumNetworkPolicy/shop/p1"
    assert (first["step"], first["reach"], first["saved"]) == (1, SAME, 296)
    after = shop(*({"spec": one.specs[0]} for one in found.policies))
    totals = [policy.count(one, version="1.17")["total"].sum() for one in (shop(*told), after)]
    assert totals[0] - totals[1] == first["saved_everywhere"] > 296


def test_kubernetes_policies_get_cheaper_too() -> None:
    blocks = [{"ipBlock": {"cidr": f"10.0.{n}.0/24"}} for n in range(4)]
    numbers = [{"port": n, "protocol": "TCP"} for n in (80, 81)]
    spec = {"podSelector": {}, "egress": [{"to": blocks, "ports": numbers}], "policyTypes": ["Egress"]}  # fmt: skip  # noqa: E501
    tables = shop({"kind": "NetworkPolicy", "spec": spec})
    found = cheaper(policy.ready(tables, version="1.17"))
    assert found.table.filter(reach=SAME)["saved_everywhere"].sum() > 0
    written = yaml.safe_load(as_yaml(found.policies))
    rule = {"to": [{"ipBlock": {"cidr": "10.0.0.0/22"}}],
            "ports": [{"port": 80, "endPort": 81, "protocol": "TCP"}]}  # fmt: skip
    assert written["spec"]["egress"] == [rule]
    assert (written["kind"], written["metadata"]) == ("NetworkPolicy", {"name": "p0", "namespace": "shop"})  # fmt: skip  # noqa: E501


def test_what_lets_more_through_is_told_as_wider_and_not_written() -> None:
    tables = shop(web(ingress=[{"toPorts": ports("1", endPort=65535)}]))
    found = cheaper(policy.ready(tables, version="1.17"))
    row = found.table.row(0, named=True)
    assert (row["reach"], row["saved"], row["step"]) == (WIDER, 15, None)
    assert "TCP 0" in row["gained"]
    assert found.policies == ()


def test_what_is_covered_by_chance_of_labels_is_same_today_only() -> None:
    has_app = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    some = {"fromEndpoints": [{}], "toPorts": ports("80")}

    def reaches(*rules: dict[str, Any]) -> list[tuple[str, str]]:
        found = cheaper(policy.ready(shop(web(ingress=rules)), version="1.17")).table
        leave = found.filter(change="leave out the rule: others cover it")
        return leave.select("rule", "reach").rows()

    assert reaches({"fromEndpoints": [{}]}, some) == [("ingress[1]", SAME)]
    # Each pod there is has the label, one to come may not
    assert reaches({"fromEndpoints": [has_app]}, some) == [("ingress[1]", "same today")]


def test_a_denial_is_not_left_out_because_nothing_is_allowed_today() -> None:
    tables = shop(web(
        ingress=[{"fromEntities": ["health"]}],
        ingressDeny=[{"fromCIDR": ["10.0.0.0/8"]}],
    ))  # fmt: skip
    assert ways(tables) == []


@FEW
@given(st.lists(objects, min_size=1, max_size=3), st.sampled_from(VERSIONS))
def test_cheaper_policies_reach_the_same_pods(told: list[dict[str, Any]], version: str) -> None:
    tables = shop(*told)
    found = cheaper(policy.ready(tables, version=version))
    better = {one.name: {"spec": one.specs[0]} for one in found.policies}
    after = shop(*(better.get(f"p{n}", one) for n, one in enumerate(told)))
    assert reachable(policy.resolve(after, version=version)) == reachable(
        policy.resolve(tables, version=version)
    )  # noqa: E501
    saved = found.table.filter(pl.col("step").is_not_null())["saved_everywhere"].sum()
    totals = [policy.count(one, version=version)["total"].sum() for one in (tables, after)]
    assert totals[0] - totals[1] == saved


@settings(max_examples=25, deadline=None)
@given(st.lists(objects, min_size=1, max_size=3), allowing, st.sampled_from(VERSIONS))
def test_a_difference_is_told_just_where_pods_reach_otherwise(
    told: list[dict[str, Any]], more: dict[str, Any], version: str
) -> None:
    first = web(ingress=[{"fromEntities": ["health"]}])
    one, two = shop(first, *told), shop(first, *told, more)
    before = policy.ready(one, version=version)
    after, _ = policy.recount(before, one, two)
    found = difference(before, after)
    # World identities of one family only are none here: the cluster has IPv4 alone
    reached = [
        {
            peer
            for peer in reachable(policy.resolve(tables, version=version))
            if peer[0] not in (9, 10)
        }
        for tables in (one, two)
    ]
    assert not found.has_lost
    if found.is_none:
        assert reached[0] == reached[1]
    if reached[0] != reached[1]:
        assert found.gained


@settings(max_examples=25, deadline=None)
@given(st.lists(objects, min_size=1, max_size=4))
def test_the_insertion_rules_of_all_versions_let_the_same_through(
    told: list[dict[str, Any]],
) -> None:  # noqa: E501
    tables = shop(*told)
    found = difference(*(policy.ready(tables, version=version) for version in VERSIONS))
    assert found.is_none, found
