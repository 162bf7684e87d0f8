"""Growth of policy maps: predicted from one copy of the workloads, checked on many."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from capacity.cilium import policy
from capacity.cilium.policy.growth import (
    GROWING_POLICIES,
    NAMES,
    growing_policies,
    growth,
)
from capacity.errors import SettingsError
from capacity.inventory import Inventory
from capacity.tables import IDENTITIES, POLICY_GROWTH, check
from tests.cilium.test_policy import cases, inventory, ports, shop


def cloned(tables: Inventory, times: int, keys: tuple[str, ...]) -> Inventory:
    """The inventory with each pod `times` more, each time with other values of some labels."""
    copies = [tables.endpoints]
    for n in range(1, times + 1):
        labels = [json.loads(text) for text in tables.endpoints["labels"]]
        for one in labels:
            one.update({key: f"{one[key]}-new{n}" for key in keys if key in one})
            if not keys:
                one["some-label"] = f"new{n}"
        copies.append(
            tables.endpoints.with_columns(
                pl.col("pod") + f"-new{n}", labels=pl.Series([json.dumps(one) for one in labels])
            )
        )
    return replace(tables, endpoints=pl.concat(copies))


def resolved(tables: Inventory, version: str) -> dict[str, int]:
    return dict(policy.count(tables, version=version).select("endpoint", "total").iter_rows())


@pytest.mark.parametrize("version", ["1.16", "1.17", "1.20"])
@pytest.mark.parametrize("keys", [NAMES, ()])
def test_a_cluster_that_really_grows_has_the_entries_that_were_foretold(
    version: str, keys: tuple[str, ...]
) -> None:
    tables = inventory(cases("c")["c1-200x60"])
    told = growth(tables, version=version, names=keys)
    for times in (1, 4):
        really = resolved(cloned(tables, times, keys), version)
        foretold = told.select("endpoint", pl.col("entries") + times * pl.col("growing"))
        assert dict(foretold.iter_rows()) == {name: really[name] for name in told["endpoint"]}
    # The cluster has rules of both kinds, else this would show nothing
    assert told["growing"].max() > 20  # type: ignore[operator]
    assert (told["constant"] > 0).any()


def test_the_golden_features_grow_as_foretold() -> None:
    # Every third feature: each costs two resolutions
    for name, case in [*cases("b").items()][::3]:
        tables = inventory(case)
        told = growth(tables, version="1.16")
        really = resolved(cloned(tables, 3, NAMES), "1.16")
        foretold = told.select("endpoint", pl.col("entries") + 3 * pl.col("growing"))
        for endpoint, entries in foretold.iter_rows():
            assert really[endpoint] == entries, (name, endpoint)


def spec(**rules: Any) -> dict[str, Any]:
    return {"spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, **rules}}


def of_web(told: pl.DataFrame) -> dict[str, Any]:
    return told.row(by_predicate=pl.col("endpoint") == "shop/web-0", named=True)


def test_a_rule_by_name_does_not_grow_and_one_by_namespace_does() -> None:
    by_name = {"matchLabels": {"app": "api"}}
    whole = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "shop"}}
    one = {"name": "one", **spec(ingress=[{"fromEndpoints": [by_name]}])}
    all_ = {"name": "all", **spec(ingress=[{"fromEndpoints": [whole], "toPorts": ports("80")}])}
    tables = shop(one, all_)
    told = growing_policies(tables, endpoints=["shop/web-0"], version="1.17")
    grows = {(row["direction"], row["policy"]): row["growing"] for row in told.to_dicts()}
    home = "CiliumNetworkPolicy/shop"
    assert grows["ingress", f"{home}/one"] == 0
    identities = policy.count(tables, version="1.17").filter(
        pl.col("endpoint").str.starts_with("shop/")
    )["identity"]
    assert grows["ingress", f"{home}/all"] == identities.n_unique()


def test_rules_for_addresses_names_and_entities_do_not_grow() -> None:
    tables = shop(
        spec(
            egress=[
                {"toCIDR": ["10.0.0.0/8"]},
                {"toEntities": ["world", "remote-node"]},
                {"toFQDNs": [{"matchPattern": "*"}]},
            ]
        )
    )
    row = of_web(growth(tables, version="1.17"))
    assert row["growing"] == 0
    assert row["factor"] is None
    assert row["constant"] == row["entries"] > 3


def test_the_factor_is_where_the_limit_is_reached() -> None:
    tables = shop(spec(ingress=[{"fromEntities": ["cluster"]}]))
    row = of_web(growth(tables, version="1.17", limit=100))
    assert row["growing"] > 0
    assert row["constant"] + row["factor"] * row["growing"] == pytest.approx(100)
    assert row["per_percent"] == row["growing"] / 100
    passed = of_web(growth(tables, version="1.17", limit=row["entries"] - 1))
    assert passed["factor"] < 1


def test_the_limit_is_of_the_options_then_of_the_version() -> None:
    empty = Inventory()
    assert growth(empty, version="1.17")["limit"].unique().to_list() == [16384]
    told = growth(empty, version="1.17", options={"bpf-policy-map-max": 500})
    assert told["limit"].unique().to_list() == [500]
    with pytest.raises(SettingsError, match="wanted a number"):
        growth(empty, version="1.17", options={"bpf-policy-map-max": "many"})
    with pytest.raises(SettingsError, match="at least 1"):
        growth(empty, version="1.17", limit=0)


def test_identities_without_pods_grow_too() -> None:
    peer = {"fromEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "far"}}]}
    labels = {
        "app": "far-away",
        "io.cilium.k8s.policy.cluster": "default",
        "io.kubernetes.pod.namespace": "far",
    }
    told = pl.DataFrame(
        [{"identity": 5000, "labels": json.dumps(labels)}], schema=IDENTITIES.schema
    )
    row = of_web(growth(shop(spec(ingress=[peer]), identities=told), version="1.17"))
    assert row["growing"] == 1


def test_growth_is_of_the_declared_tables() -> None:
    tables = shop(spec(ingress=[{"fromEntities": ["cluster"]}]))
    told = check(growth(tables, version="1.17"), POLICY_GROWTH)
    assert told["entries"].is_sorted(descending=True)
    check(growing_policies(tables, endpoints=["shop/web-0"], version="1.17"), GROWING_POLICIES)
