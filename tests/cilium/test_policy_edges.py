"""Edges of policies that no golden case shows; each names the source that it was read from.

All of cilium/cilium b095517e625e (1.17.0-dev), by hand: Cilium's code was not run on them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from capacity.cilium import policy
from capacity.tables import POLICIES
from tests.cilium.test_policy import ports, shop, small, web


def rows(tables: Any, endpoint: str = "shop/web-0", **options: str) -> pl.DataFrame:
    listed = policy.resolve(tables, version="1.16", options=options)
    return listed.filter(endpoint=endpoint)


def status(tables: Any) -> tuple[str, str]:
    told = policy.statuses(tables, version="1.16").row(0, named=True)
    return told["status"], told["error"]


# pkg/types/portmap.go, NamedPortMap.AddPort
def test_of_two_ports_of_one_name_the_last_counts() -> None:
    twice = json.dumps(
        [{"name": "admin", "port": n, "protocol": "TCP"} for n in (9000, 9001)]
    )  # fmt: skip
    is_web = (pl.col("namespace") == "shop") & (pl.col("pod") == "web-0")
    pods = small().endpoints.with_columns(
        named_ports=pl.when(is_web).then(pl.lit(twice)).otherwise("named_ports")
    )
    told = web(ingress=[{"toPorts": ports("admin")}], egress=[{"toPorts": ports("admin")}])
    listed = rows(shop(told, endpoints=pods)).filter(protocol="TCP")
    assert set(listed["direction"]) == {"ingress", "egress"}
    assert set(listed["port"]) == {9001}


# pkg/policy/mapstate.go, deniesL4: asked before a redirect is made, of the first port
@pytest.mark.parametrize(("denied", "through"), [("8080", 0), ("8081", 1)])
def test_a_range_has_no_proxy_where_its_first_port_is_denied(denied: str, through: int) -> None:
    http = [{"ports": [{"port": "8080", "endPort": 8095, "protocol": "TCP"}], "rules": {"http": [{}]}}]  # fmt: skip  # noqa: E501
    both = web(ingress=[{"toPorts": http}], ingressDeny=[{"toPorts": ports(denied)}])
    listed = rows(shop(both)).filter(direction="ingress", identity=0)
    assert listed["redirect"].drop_nulls().len() == through
    assert listed.filter(action="deny")["port"].to_list() == [int(denied)]


# pkg/k8s/apis/cilium.io/v2/cnp_types.go, Parse: NodeSelector is looked for in spec alone
def test_a_rule_of_specs_may_select_nodes_within_a_namespace() -> None:
    rule = {"nodeSelector": {}, "ingress": [{"toPorts": ports("22")}]}
    row = ("CiliumNetworkPolicy", "shop", "p", 1, "", json.dumps({"specs": [rule]}))
    names = ["kind", "namespace", "policy", "rules", "source", "object"]
    told = pl.DataFrame([dict(zip(names, row, strict=True))], schema=POLICIES.schema)
    tables = replace(shop(), policies=told)
    assert status(tables) == ("ok", None)
    listed = rows(tables, "reserved:host", **{"enable-host-firewall": "true"})
    assert listed.filter(protocol="TCP")["port"].to_list() == [22]
    assert status(shop({"spec": rule}))[0] == "rejected"


# pkg/k8s/network_policy.go, ParseNetworkPolicy, and IngressRule.sanitize
@pytest.mark.parametrize(("word", "told"), [("from", "ingress"), ("to", "egress")])
def test_a_peer_of_pods_and_addresses_is_refused(word: str, told: str) -> None:
    peer = {"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}
    spec = {"podSelector": {}, told: [{word: [peer]}]}
    found = status(shop({"kind": "NetworkPolicy", "spec": spec}))
    name = word.capitalize()
    assert found == (
        "rejected", f"Combining {name}Endpoints and {name}CIDRSet is not supported yet",
    )  # fmt: skip


# pkg/policy/l4.go, l4PolicyMap.Upsert: named ports are kept without their end
def test_rules_of_a_named_port_merge_whatever_their_ends() -> None:
    both = [{"toPorts": ports("http")}, {"toPorts": ports("http", endPort=81)}]
    listed = rows(shop(web(ingress=both))).filter(protocol="TCP", identity=0)
    assert listed.select("port", "prefix_length").rows() == [(80, 16)]


def test_a_port_out_of_range_and_one_that_is_none_are_told_apart() -> None:
    wrong = {
        "65536": "value out of range",
        "-1": "invalid syntax",
        "8 0": "invalid syntax",
    }
    for text, why in wrong.items():
        _, error = status(shop(web(ingress=[{"toPorts": ports(text)}])))
        assert error.endswith(f'Unable to parse port: strconv.ParseUint: parsing "{text}": {why}')


@pytest.mark.parametrize("end", ["9000", 90.5, True])
def test_an_end_that_is_no_whole_number_is_no_policy(end: Any) -> None:
    assert status(shop(web(ingress=[{"toPorts": ports("80", endPort=end)}])))[0] == "decode-error"


# pkg/policy/mapstate.go, MapStateEntry.Merge; a listener without priority has that of its port
@pytest.mark.parametrize(("first", "second", "wins"), [(2, 1, "b"), (1, 2, "a"), (0, 5, "b")])
def test_of_two_listeners_the_one_of_lower_priority_is_used(
    first: int, second: int, wins: str
) -> None:
    def to(label: str, name: str, priority: int) -> dict[str, Any]:
        config = {"kind": "CiliumClusterwideEnvoyConfig", "name": "ec"}
        listener = {"envoyConfig": config, "name": name, "priority": priority}
        key, _, value = label.partition("=")
        return {
            "toEndpoints": [{"matchLabels": {key: value}}],
            "toPorts": [{**ports("8080")[0], "listener": listener}],
        }

    egress = [to("app=api", "a", first), to("tier=backend", "b", second)]
    listed = rows(shop(web(egress=egress)), listeners="/ec/a,/ec/b").filter(protocol="TCP")
    assert listed["redirect"].to_list() == [f"crd:/ec/{wins}"]


# pkg/policy/api/http.go, Sanitize: Go's regular expressions, which are not Python's
@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v1/(?i)items", "ok"),
        (r"/\pL+", "ok"),
        ("/[[:alnum:]]+", "ok"),
        ("/(?!admin).*", "rejected"),
        (r"/(a)\1", "rejected"),
        ("/(", "rejected"),
    ],
)
def test_paths_are_regular_expressions_of_go(path: str, wanted: str) -> None:
    rules = {"http": [{"path": path}]}
    assert status(shop(web(ingress=[{"toPorts": [{**ports("80")[0], "rules": rules}]}])))[0] == wanted  # fmt: skip  # noqa: E501
