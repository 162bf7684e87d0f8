"""CIDR groups by name and by label, and what released versions make of prefixes since 1.17."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from capacity.cilium import policy
from capacity.errors import SettingsError
from capacity.tables import CIDR_GROUPS
from tests.cilium.test_policy import shop

LABELED = {"prefix-identities": "labels"}
VPN = ("vpn", {"kind": "office", "site": "a"}, [f"192.0.2.{n}/32" for n in range(20)])
SITES = ("sites", {"kind": "office"}, ["198.51.100.0/24", "203.0.113.0/24"])
OTHER = ("other", {"kind": "partner"}, ["10.9.0.0/16"])


def groups(*told: tuple[str, dict[str, str], list[str]]) -> pl.DataFrame:
    rows = [(name, json.dumps(labels), json.dumps(cidrs)) for name, labels, cidrs in told]
    return pl.DataFrame(rows, schema=CIDR_GROUPS.schema, orient="row")


def web(*rules: Any, deny: tuple[Any, ...] = ()) -> dict[str, Any]:
    spec = {"endpointSelector": {"matchLabels": {"app": "web"}}, "egress": [{"toCIDRSet": [*rules]}]}  # fmt: skip  # noqa: E501
    return {"spec": spec | ({"egressDeny": [{"toCIDRSet": [*deny]}]} if deny else {})}


def chosen(**labels: str) -> dict[str, Any]:
    return {"cidrGroupSelector": {"matchLabels": labels}}


def egress(tables: Any, version: str = "1.17", options: Any = None) -> int:
    counted = policy.count(tables, version=version, options=options)
    return int(counted.filter(endpoint="shop/web-0")["egress"].item())


def local(tables: Any, options: Any = LABELED) -> set[tuple[str, ...]]:
    made = policy.ready(tables, version="1.18", options=options)
    return {one.labels for one in made.universe.identities if one.is_local}


def test_groups_are_selected_by_their_labels() -> None:
    told = groups(VPN, SITES, OTHER)
    expression = {"key": "kind", "operator": "NotIn", "values": ["office"]}
    not_office = {"cidrGroupSelector": {"matchExpressions": [expression]}}
    assert egress(shop(web(chosen(kind="office")), cidr_groups=told)) == 22
    assert egress(shop(web(chosen(kind="office", site="a")), cidr_groups=told)) == 20
    assert egress(shop(web(not_office), cidr_groups=told)) == 1
    assert egress(shop(web(chosen(kind="none")), cidr_groups=told)) == 0


def test_before_1_17_no_rule_selects_groups_by_label() -> None:
    tables = shop(web(chosen(kind="office")), cidr_groups=groups(VPN))
    told = policy.statuses(tables, version="1.16").row(0, named=True)
    assert told["status"] == "rejected"
    assert policy.statuses(tables, version="1.17").row(0, named=True)["status"] == "ok"


def test_a_selector_of_groups_that_is_none_is_refused() -> None:
    wrong = {"cidrGroupSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}
    for options in (None, LABELED):
        told = policy.statuses(shop(web(wrong)), version="1.17", options=options)
        assert told["status"].to_list() == ["rejected"]
        assert "failed to parse cidrGroupSelector" in told["error"][0]


# cilium/cilium pull request 36087 shows these identities for a group of two prefixes
def test_prefixes_of_a_group_share_one_identity_by_labels() -> None:
    example = ("example", {"foo": "bar"}, ["1.1.1.0/24", "1.2.0.0/16"])
    by_label = shop(web(chosen(foo="bar")), cidr_groups=groups(example))
    by_name = shop(web({"cidrGroupRef": "example"}), cidr_groups=groups(example))
    name = "cidrgroup:io.cilium.policy.cidrgroupname/example"
    assert ("cidrgroup:foo=bar", name, "reserved:world") in local(by_label)
    for tables in (by_label, by_name):
        assert egress(tables, options=LABELED) == 1
        assert egress(tables) == 2


def test_what_is_excepted_of_a_group_is_left_out() -> None:
    example = ("example", {"foo": "bar"}, ["1.1.1.0/24"])
    rule = chosen(foo="bar") | {"except": ["1.1.1.1/32"]}
    tables = shop(web(rule), cidr_groups=groups(example))
    # Another rule for the excepted address shows that it has an identity of its own
    both = shop(web(rule), web({"cidr": "1.1.1.1/32"}), cidr_groups=groups(example))
    assert egress(tables, options=LABELED) == 1
    assert egress(both, options=LABELED) == 2


def test_an_except_carves_out_of_one_identity() -> None:
    tables = shop(web({"cidr": "10.0.0.0/8", "except": ["10.1.2.0/24"]}))
    assert egress(tables) == 16
    assert egress(tables, options=LABELED) == 1
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.2.0/24"]}}
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "egress": [{"to": [block]}],
            "policyTypes": ["Egress"]}  # fmt: skip
    plain = shop({"kind": "NetworkPolicy", "spec": spec})
    assert egress(plain) == 16
    assert egress(plain, options=LABELED) == 1


def test_released_versions_since_1_17_give_prefixes_identities_by_their_labels() -> None:
    told = shop(web({"cidr": "10.0.0.0/8", "except": ["10.1.2.0/24"]}))
    # Golden cases are of a tree before that, and say so; other inventories do not
    assert told.option("prefix-identities") == "prefix"
    real = replace(told, options=told.options.clear())
    assert [egress(real, version) for version in ("1.16", "1.17", "1.20")] == [16, 1, 1]
    assert egress(real, "1.18", {"prefix-identities": "prefix"}) == 16


# The example in the comment of cilium/cilium pkg/ipcache/metadata.go, mergeParentLabels
def test_a_prefix_has_the_labels_of_those_around_it() -> None:
    told = groups(
        ("g8", {"a": "b", "foo": "bar"}, ["10.0.0.0/8"]),
        ("g16", {"a": "c"}, ["10.1.0.0/16"]),
        ("g24", {"d": "e"}, ["10.1.1.0/24"]),
    )
    names = {f"cidrgroup:io.cilium.policy.cidrgroupname/g{n}" for n in (8, 16, 24)}
    found = {frozenset(one) - names - {"reserved:world"} for one in local(shop(cidr_groups=told))}
    labels = ("cidrgroup:a=c", "cidrgroup:d=e", "cidrgroup:foo=bar")
    assert frozenset(labels) in found
    # Of the prefixes around it only the narrowest CIDR is taken
    tables = shop(web({"cidr": "10.0.0.0/8"}, {"cidr": "10.1.0.0/16"}), cidr_groups=told)
    narrow = [one for one in local(tables) if "cidrgroup:d=e" in one]
    assert [label for label in narrow[0] if label.startswith("cidr:")] == ["cidr:10.1.0.0/16"]


def test_one_rule_names_one_kind_of_prefixes() -> None:
    for rule, reason in (
        ({"cidr": "10.0.0.0/8", "cidrGroupRef": "vpn"}, "more than one of cidr"),
        ({"except": ["10.0.0.0/8"]}, "one of cidr, cidrGroupRef, or cidrGroupSelector is required"),
    ):
        told = policy.statuses(shop(web(rule)), version="1.18", options=LABELED)
        assert reason in told["error"][0]


def test_denials_by_label_of_a_group_win() -> None:
    rule, told = chosen(site="a"), groups(VPN, SITES)
    tables = shop(web(chosen(kind="office"), deny=(rule,)), cidr_groups=told)
    listed = policy.resolve(tables, version="1.18", options=LABELED)
    mine = listed.filter(endpoint="shop/web-0", direction="egress")
    assert mine["action"].sort().to_list() == ["allow", "deny"]


def test_identities_by_labels_are_of_1_17_and_later() -> None:
    with pytest.raises(SettingsError, match=r"from 1\.17"):
        policy.count(shop(), version="1.16", options=LABELED)
    with pytest.raises(SettingsError, match="prefix-identities"):
        policy.count(shop(), version="1.18", options={"prefix-identities": "some"})


def test_cluster_network_policies_are_told_by_version() -> None:
    tables = shop({"kind": "ClusterNetworkPolicy", "spec": {}})
    old, new = (policy.statuses(tables, version=v).row(0, named=True) for v in ("1.19", "1.20"))
    assert old["status"] == new["status"] == "unsupported-kind"
    assert "enable-k8s-cluster-network-policy" in new["error"]
    assert "does not enforce" in old["error"]
