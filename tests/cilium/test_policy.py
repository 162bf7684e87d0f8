"""Policy entries against Cilium's own resolver: every endpoint of every golden case."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest

from capacity.cilium import policy
from capacity.cilium.policy import explain, rows
from capacity.cilium.policy.engine import Cluster, direction_of
from capacity.cilium.policy.ports import masked_ports
from capacity.errors import FactError, SettingsError
from capacity.inventory import Inventory
from capacity.load.inventories import read_inventory
from capacity.tables import POLICIES, check

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "policy"
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "policy"
RULES = {"1.16": "expected", "1.17": "expected_post35449"}


@cache
def cases(group: str) -> dict[str, dict[str, Any]]:
    """Cases of a group by name: ours from the tree, third-party ones from beside it."""
    if group in "bc":
        found: dict[str, dict[str, Any]] = json.loads(
            gzip.decompress((GOLDEN / f"{group}.json.gz").read_bytes())
        )
        return found
    if not (SHARED / group).is_dir():
        pytest.skip("third-party golden policies are not beside this checkout")
    return {
        folder.name: {
            "inputs": json.loads((folder / "inputs.json").read_text()),
            "policies": {f.name: f.read_text() for f in sorted((folder / "policies").iterdir())},
            **{name: json.loads((folder / f"{name}.json").read_text()) for name in RULES.values()},
        }
        for folder in sorted((SHARED / group).iterdir())
    }


def inventory(case: dict[str, Any]) -> Inventory:
    """The inventory of a case, by read_inventory of its files."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "inputs.json").write_text(json.dumps(case["inputs"]))
        (Path(folder) / "policies").mkdir()
        for name, content in case["policies"].items():
            told = content if isinstance(content, str) else "---\n".join(map(document, content))
            (Path(folder) / "policies" / name).write_text(told)
        return read_inventory(folder)


def document(told: Any) -> str:
    return json.dumps(told) + "\n"


def lines(frame: pl.DataFrame) -> dict[str, list[str]]:
    """Rows of each endpoint as golden lines."""
    number = pl.col("identity")
    local = pl.format("L{}", number - (1 << 24))
    name = pl.when(number >= 1 << 24).then(local).otherwise(number.cast(pl.String))
    through = pl.format("redirect={}", "redirect")
    protocols = {"ANY": 0, "ICMP": 1, "TCP": 6, "UDP": 17, "ICMPv6": 58, "SCTP": 132}
    told = (
        frame.with_columns(
            name=name,
            does=pl.when(pl.col("redirect").is_null()).then("action").otherwise(through),
            auths=pl.format(" auth={}", "auth").fill_null(""),
            ranked=pl.col("protocol").replace_strict(protocols, return_dtype=pl.Int64),
        )
        .sort(
            "endpoint", pl.col("direction") == "egress", pl.col("name").str.len_chars(),
            "name", "ranked", "port", "prefix_length",
        )
        .select(
            "endpoint",
            line=pl.format(
                "{} {} {} {}/{} {} {}{}", "direction", "name", "protocol", "port",
                "prefix_length", "lpm_prefix", "does", "auths",
            ),
        )
        .group_by("endpoint", maintain_order=True)
        .agg("line")
    )  # fmt: skip
    return dict(told.iter_rows())


def differences(case: dict[str, Any]) -> list[str]:
    """What of a case is not as Cilium has it, in any version; its files are read once."""
    tables = inventory(case)
    return [
        f"{version}: {wrong}"
        for version, rules in RULES.items()
        for wrong in version_differences(tables, case[rules], version)
    ]


def version_differences(tables: Inventory, expected: dict[str, Any], version: str) -> list[str]:
    cluster = policy.ready(tables, version=version)
    listed = rows.entries(cluster)
    counted = {row["endpoint"]: row for row in rows.counts(cluster).iter_rows(named=True)}
    wrong = []
    # Endpoints of a group have the same rows: their lines are written once, those of its first
    first = {one.name: group[0].name for group in cluster.groups.values() for one in group}
    told = lines(listed.filter(pl.col("endpoint").is_in(set(first.values()))))
    for one in expected["endpoints"]:
        name = one["endpoint"]
        own = told.get(first[name], [])
        if "entries_sha256" in one:
            found = hashlib.sha256("".join(f"{line}\n" for line in own).encode()).hexdigest()
            wrong += [f"{name}: entries"] * (found != one["entries_sha256"])
        else:
            wrong += [f"{name}: entries"] * (own != one.get("entries", []))
        if counted[name]["identity"] != one["identity"]:
            wrong.append(f"{name}: identity")
        for key in ("total", "ingress", "egress", "allow", "deny", "redirect"):
            if counted[name][key] != one["counts"][key]:
                wrong.append(f"{name}: {key} {counted[name][key]} for {one['counts'][key]}")
    return [
        *wrong, *nameless(listed), *enforcement(cluster, expected), *status(cluster, expected),
    ]  # fmt: skip


def nameless(listed: pl.DataFrame) -> list[str]:
    """Rows that no policy makes: only Cilium's own may be such."""
    nobody = listed.filter(pl.col("rules").list.len() == 0)
    own = (pl.col("protocol") == "ANY") & pl.col("identity").is_in([0, 1])
    return [f"{name}: a row of no policy" for name in nobody.filter(~own)["endpoint"]]


def enforcement(cluster: Cluster, expected: dict[str, Any]) -> list[str]:
    of_endpoint = {e.name: group for group, members in cluster.groups.items() for e in members}
    return [
        f"{one['endpoint']}: {word} enforcement"
        for one in expected["endpoints"]
        for word in ("ingress", "egress")
        if direction_of(
            cluster, of_endpoint[one["endpoint"]], is_ingress=word == "ingress"
        ).is_enforced
        != one[f"{word}_enforced"]
    ]


def status(cluster: Cluster, expected: dict[str, Any]) -> list[str]:
    # A policy that a case tells twice is one object of the cluster
    told = {
        (p["kind"], p["name"], p["status"], p["rules"], p.get("error"))
        for p in expected["policies"]
    }
    found = {
        (
            one.policy.kind,
            one.policy.name,
            one.status,
            len(one.rules),
            one.error if one.status == "rejected" else None,
        )
        for one in cluster.statuses
    }
    names = {str(i["id"]): i["labels"] for i in expected["identities"]}
    mine = {
        f"L{one.number - (1 << 24)}" if one.is_local else str(one.number): ",".join(one.labels)
        for one in cluster.universe.identities
    }
    return [f"policies: {told - found} {found - told}"] * (told != found) + ["identities"] * (
        names != mine
    )


@pytest.mark.parametrize("group", ["a", "b", "c", "d"])
def test_every_endpoint_has_the_entries_that_cilium_gives_it(group: str) -> None:
    """Of every version; and each row names the policies that make it."""
    found = {name: differences(case) for name, case in cases(group).items()}
    assert {name: wrong[:3] for name, wrong in found.items() if wrong} == {}


def test_ranges_are_masked_as_cilium_masks_them() -> None:
    with (GOLDEN / "port_ranges.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            wanted = {tuple(map(int, one.split("/"))) for one in row["masked_ports"].split()}
            found = masked_ports(int(row["start"]), int(row["end"]))
            assert set(found) == wanted, row
            assert len(found) == int(row["count"]), row


def shop(*objects: dict[str, Any], **changed: pl.DataFrame) -> Inventory:
    """The small cluster of group b with other policies."""
    described = [
        {
            "kind": one.get("kind", "CiliumNetworkPolicy"),
            "namespace": one.get("namespace", "shop"),
            "policy": one.get("name", f"p{n}"),
            "rules": 1,
            "source": "",
            "object": json.dumps({"spec": one["spec"]}),
        }
        for n, one in enumerate(objects)
    ]
    policies = pl.DataFrame(described, schema=POLICIES.schema)
    return replace(small(), policies=policies, **changed)


@cache
def small() -> Inventory:
    """The small cluster of group b without policies."""
    return inventory(cases("b")["none"])


def web(**rules: Any) -> dict[str, Any]:
    return {"spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, **rules}}


def ports(*numbers: str, **more: Any) -> list[dict[str, Any]]:
    return [{"ports": [{"port": n, "protocol": "TCP", **more} for n in numbers]}]


def test_ranges_before_1_16_are_their_first_port() -> None:
    tables = shop(web(ingress=[{"toPorts": ports("8000", endPort=9000)}]))
    old = policy.resolve(tables, version="1.15").filter(endpoint="shop/web-0", protocol="TCP")
    new = policy.resolve(tables, version="1.16").filter(endpoint="shop/web-0", protocol="TCP")
    assert set(old["port"]) == {8000}
    assert len(set(new["port"])) == 7


def test_a_rule_for_anyone_takes_five_rows_in_1_20_unless_told_otherwise() -> None:
    tables = shop(web(ingress=[{"toPorts": ports("80")}]))
    totals = {
        rows_of: policy.count(tables, version="1.20", options={"wildcard-rows": rows_of})
        .filter(endpoint="shop/web-0")["total"]
        .item()
        for rows_of in ("1", "5")
    }
    # Ingress at the port and egress are for anyone, ingress from the host is not
    assert totals == {"1": 3, "5": 11}
    listed = policy.resolve(tables, version="1.20").filter(endpoint="shop/web-0")
    assert (listed.height, listed["identity"].null_count()) == (11, 8)


def test_a_redirect_leaves_out_what_it_covers_since_1_17() -> None:
    http = [{"ports": [{"port": "80", "endPort": 95, "protocol": "TCP"}], "rules": {"http": [{}]}}]
    api = {"fromEndpoints": [{"matchLabels": {"app": "api"}}]}
    told = shop(web(ingress=[{"toPorts": http}, api | {"toPorts": ports("80", "443")}]))
    tables = replace(told, options=told.options.clear())

    def inside(version: str, **options: Any) -> set[tuple[int, int, bool]]:
        listed = policy.resolve(tables, version=version, options=options)
        mine = listed.filter(endpoint="shop/web-0", direction="ingress", protocol="TCP")
        rows = mine.filter(pl.col("identity") != 1).select("identity", "port", "redirect").rows()
        return {(number, port, proxy is not None) for number, port, proxy in rows}

    number = next(n for n, port, _ in inside("1.17") if port == 443)
    covered = (number, 80, False)
    assert inside("1.16") - inside("1.17") == {covered}
    assert inside("1.17") == {(0, 80, True), (number, 443, False)}
    assert covered in inside("1.18", **{"proxy-precedence": "false"})
    with pytest.raises(SettingsError, match="proxy-precedence"):
        policy.count(tables, version="1.16", options={"proxy-precedence": True})


def test_every_row_names_the_policies_that_make_it() -> None:
    tables = shop(
        {"name": "one", **web(ingress=[{"toPorts": ports("80")}])},
        {"name": "two", **web(ingress=[{"toPorts": ports("80", "443")}])},
    )
    listed = policy.resolve(tables, version="1.17").filter(endpoint="shop/web-0", protocol="TCP")
    told = dict(listed.select("port", "rules").iter_rows())
    one, two = "CiliumNetworkPolicy/shop/one", "CiliumNetworkPolicy/shop/two"
    assert told == {80: [one, two], 443: [two]}
    parts = policy.contributions(tables, version="1.17").filter(
        endpoint="shop/web-0", direction="ingress"
    )
    assert parts.select("policy", "entries", "alone").rows() == [
        ("", 1, 1),
        (one, 1, 0),
        (two, 2, 1),
    ]


def test_resolved_rows_are_of_the_declared_table() -> None:
    tables = shop(web(ingress=[{"toPorts": ports("80")}]))
    check(policy.resolve(tables, version="1.16"), rows.ENTRIES)
    check(policy.count(tables, version="1.16"), rows.COUNTS)
    check(policy.contributions(tables, version="1.16"), explain.CONTRIBUTIONS)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"ingress": [{"toPorts": ports("70000")}]}, "Unable to parse port"),
        ({"ingress": [{"fromEntities": ["all"], "fromCIDR": ["10.0.0.0/8"]}]}, "Combining"),
        ({"ingress": [{"fromCIDR": ["10.0.0.0/33"]}]}, "unable to parse CIDR"),
        ({"egress": [{"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}]}]}, "does not contain"),  # noqa: E501
        ({"egress": [{"toFQDNs": [{"matchName": "a b"}]}]}, "Invalid characters"),
        ({"ingress": [{"toPorts": [{"ports": [{"port": "53"}], "rules": {"dns": [{}]}}]}]}, "not supported on ingress"),  # noqa: E501
        ({"ingress": [{"fromEndpoints": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]}]}, "must be specified"),  # noqa: E501
        ({"egress": [{"icmps": [{"fields": [{"type": 8}]}], "toPorts": ports("1")}]}, "ICMPs block"),  # noqa: E501
    ],
)  # fmt: skip
def test_a_policy_that_the_agent_refuses_makes_no_entry(spec: dict[str, Any], reason: str) -> None:
    tables = shop(web(**spec))
    told = policy.statuses(tables, version="1.17").row(0, named=True)
    assert told["status"] == "rejected"
    assert reason in told["error"]
    none = policy.count(shop(), version="1.17")
    assert policy.count(tables, version="1.17").equals(none)


@pytest.mark.parametrize(
    ("kind", "status_told"),
    [
        ("AdminNetworkPolicy", "unsupported-kind"),
        ("BaselineAdminNetworkPolicy", "unsupported-kind"),
        ("Deployment", "ignored-kind"),
    ],
)
def test_kinds_that_cilium_does_not_enforce_are_named(kind: str, status_told: str) -> None:
    told = policy.statuses(shop({"kind": kind, "spec": {}}), version="1.18").row(0, named=True)
    assert told["status"] == status_told
    assert kind in told["error"]


def test_a_port_that_is_no_text_is_no_policy() -> None:
    tables = shop(web(ingress=[{"toPorts": [{"ports": [{"port": 80}]}]}]))
    told = policy.statuses(tables, version="1.17").row(0, named=True)
    assert told["status"] == "decode-error"
    assert "write it in quotes" in told["error"]


def test_policies_that_cannot_be_merged_are_told_and_not_counted() -> None:
    def l7(name: str) -> dict[str, Any]:
        rules = {"http": [{}]} if name == "http" else {"l7proto": name, "l7": [{"a": "b"}]}
        return web(ingress=[{"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": rules}]}])  # fmt: skip  # noqa: E501

    tables = shop(l7("http"), l7("memcache"))
    told = policy.conflicts(tables, version="1.17")
    assert set(told["endpoint"]) == {"shop/web-0", "shop/web-1", "shop/web-canary"}
    assert "cannot merge conflicting L7 parsers" in told["reason"][0]
    total = policy.count(tables, version="1.17").filter(endpoint="shop/web-0")["total"].item()
    assert total is None


def test_versions_and_options_that_are_not_known_are_refused() -> None:
    with pytest.raises(FactError, match=r"1\.13"):
        policy.count(shop(), version="1.13")
    with pytest.raises(FactError, match="x"):
        policy.count(shop(), version="x")
    for options in ({"enable-policy": "often"}, {"enable-ipv6": "maybe"}, {"wildcard-rows": 3}):
        with pytest.raises(SettingsError, match="wanted"):
            policy.count(shop(), version="1.17", options=options)


def test_options_override_those_of_the_inventory() -> None:
    always = policy.count(shop(), version="1.17", options={"enable-policy": "always"})
    assert always.filter(endpoint="shop/web-0")["total"].item() == 1


def test_a_listener_of_an_envoy_config_is_one_that_policies_can_name() -> None:
    case = cases("b")["l7-listener"]
    told = case["inputs"]
    hidden = told | {"options": told["options"] | {"listeners": []}}
    listener = {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "lst"}
    config = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideEnvoyConfig",
        "metadata": {"name": "ec"},
        "spec": {"resources": [listener]},
    }
    without = case | {"inputs": hidden}
    beside = without | {"policies": {**case["policies"], "envoy.yaml": [config]}}

    assert differences(without)
    assert differences(beside) == []
