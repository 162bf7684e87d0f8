"""Identities against Cilium's own label filter, limits from the facts, savings by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from capacity.cilium import identities
from capacity.cilium.policy.security_labels import identity_labels, label_filter, pod_labels
from capacity.errors import FactError, SettingsError
from capacity.tables import ENDPOINTS, IDENTITIES, check
from tests.cilium.test_policy import GOLDEN, shop, web

CASES = json.loads((GOLDEN / "identity_labels.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_identity_labels_are_those_that_cilium_keeps(case: dict[str, Any]) -> None:
    full = pod_labels(
        case["pod_labels"], case["namespace"], case["namespace_labels"],
        case["service_account"], "default",
    )  # fmt: skip
    patterns = label_filter(tuple(case.get("label_prefixes_option") or ()))
    assert identity_labels(full, patterns) == tuple(sorted(case["identity_labels"]))


def pods(*labels: dict[str, str]) -> pl.DataFrame:
    rows = [
        ("shop", f"p{n}", None, json.dumps(one), None, "x", "[]", None)
        for n, one in enumerate(labels)
    ]
    return pl.DataFrame(rows, schema=ENDPOINTS.schema, orient="row")


def test_dropping_a_label_saves_the_identities_it_tells_apart() -> None:
    tables = shop(
        web(ingress=[{"fromEndpoints": [{"matchLabels": {"version": "v1"}}]}]),
        endpoints=pods(
            {"app": "web", "job-name": "a", "version": "v1"},
            {"app": "web", "job-name": "b", "version": "v1"},
            {"app": "web", "job-name": "c", "version": "v2"},
            {"app": "web", "version": "v2"},
        ),
    )
    found = identities.savings(tables, version="1.17")
    check(found, identities.SAVINGS)
    told = {row["label"]: row for row in found.iter_rows(named=True)}
    assert (told["job-name"]["saved"], told["job-name"]["identities"]) == (2, 2)
    assert told["job-name"]["policies"] == []
    assert told["version"]["saved"] == 0
    assert told["version"]["policies"] == ["CiliumNetworkPolicy/shop/p0"]
    assert told["app"]["values"] == 1


def test_the_pattern_of_a_saving_saves_it() -> None:
    tables = shop(endpoints=pods(*({"app": "web", "job-name": str(n)} for n in range(5))))
    before = identities.listed(tables, version="1.17").filter(scope="cluster")
    row = identities.savings(tables, version="1.17").row(0, named=True)
    after = identities.listed(tables, version="1.17", options={"labels": row["pattern"]})
    assert row["label"] == "job-name"
    assert before.height - after.filter(scope="cluster").height == row["saved"] == 4


def test_listed_identities_have_their_scopes_and_endpoints() -> None:
    tables = shop(web(egress=[{"toCIDR": ["10.0.0.0/8"]}]))
    found = identities.listed(tables, version="1.17")
    check(found, identities.IDENTITIES)
    assert found.filter(scope="reserved").height == 10
    assert found.filter(scope="local")["labels"].to_list() == [
        ["cidr:10.0.0.0/8", "reserved:world"]
    ]
    assert found["endpoints"].sum() == tables.endpoints.height + 2


def test_identities_of_the_inventory_keep_their_numbers() -> None:
    tables = shop(endpoints=pods({"app": "web"}))
    labels = (
        identities.listed(tables, version="1.17").filter(scope="cluster")["labels"][0].to_list()
    )
    told = dict(label.split("=", 1) for label in labels)
    known = pl.DataFrame([(4711, json.dumps(told))], schema=IDENTITIES.schema, orient="row")
    tables = replace(tables, identities=known)
    assert identities.listed(tables, version="1.17").filter(scope="cluster")["identity"][0] == 4711


def test_limits_are_halved_in_a_mesh_of_511_clusters() -> None:
    def of(version: str, cluster: int, mesh: int) -> int:
        return identities.limit(version=version, cluster_id=cluster, max_connected_clusters=mesh)

    found = {(c, m): of("1.17", c, m) for c in (0, 1) for m in (255, 511)}
    assert found == {(0, 255): 65_280, (1, 255): 65_536, (0, 511): 32_512, (1, 511): 32_768}
    with pytest.raises(FactError, match="no fact for Cilium"):
        of("1.14", 1, 511)
    with pytest.raises(SettingsError, match="wanted 255 or 511"):
        of("1.17", 1, 300)
    with pytest.raises(SettingsError, match="wanted 0 to 255"):
        of("1.17", 256, 255)


def test_a_label_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="no regular expression"):
        label_filter(("k8s:(",))
    with pytest.raises(SettingsError, match="has no pattern"):
        label_filter(("k8s:",))
