"""Commands about policies, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from capacity.cilium.policy import count
from capacity.load import read_inventory
from tests.test_policy_check import pod, policy, run

AT = ("base", "--cilium", "1.17")


def listed(*arguments: str, cwd: Path) -> list[dict[str, Any]]:
    done = run("policies", *arguments, "-o", "json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Three pods; one policy with 30 single ports that are a range."""
    pods = [pod(name, name) for name in ("web", "api", "db")]
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    items = [space, *pods, policy("web", range(1024, 1054))]
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "all.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    )
    return tmp_path


def test_explain_names_the_rule_in_the_policy(base: Path) -> None:
    rows = listed("explain", *AT[:1], "shop/web", *AT[1:], cwd=base)
    first = rows[0]
    assert (first["policy"], first["rule"]) == ("CiliumNetworkPolicy/shop/web", "ingress[0]")
    # 30 ports for the three pods of the namespace
    assert (first["entries"], first["alone"]) == (90, 90)


def test_an_endpoint_that_is_not_there_is_told_with_those_that_are(base: Path) -> None:
    done = run("policies", "explain", "base", "shop/none", "--cilium", "1.17", cwd=base)
    assert done.returncode == 2
    assert "shop/api" in done.stderr


def test_the_heaviest_rules_are_listed_with_their_worst_endpoint(base: Path) -> None:
    rows = listed("heaviest", *AT, cwd=base)
    assert [(row["rule"], row["worst_endpoint"], row["worst_entries"]) for row in rows] == [
        ("ingress[0]", "shop/web", 90)
    ]


def test_cheaper_policies_are_told_and_written(base: Path) -> None:
    rows = listed("cheaper", *AT, "--out", "cheaper.yaml", cwd=base)
    best = next(row for row in rows if row["reach"] == "same")
    assert best["change"] == "merge ports into ranges: 30 port prefixes become 4"
    written = yaml.safe_load((base / "cheaper.yaml").read_text())
    assert written["metadata"] == {"name": "web", "namespace": "shop"}
    after = count(read_inventory([base / "base", base / "cheaper.yaml"]), version="1.17")
    assert after.filter(endpoint="shop/web")["total"].item() == best["after"]


def test_identities_are_told_with_their_limit_and_what_labels_cost(base: Path) -> None:
    done = run("policies", "identities", *AT, "-o", "json", cwd=base)
    told = json.loads(done.stdout)
    assert (told["identities"], told["limit"]) == (3, 65280)
    app = next(row for row in told["labels"] if row["label"] == "app")
    assert (app["saved"], app["policies"]) == (2, ["CiliumNetworkPolicy/shop/web"])
    mesh = run("policies", "identities", *AT, "--cluster-id", "3", "--mesh", "511", "-o", "json",
               cwd=base)  # fmt: skip
    assert json.loads(mesh.stdout)["limit"] == 32768


def test_identities_follow_a_custom_label_filter(base: Path) -> None:
    done = run("policies", "identities", *AT, "--labels", "k8s:!app$", "-o", "json", cwd=base)
    told = json.loads(done.stdout)
    assert told["identities"] == 1
    assert "app" not in {row["label"] for row in told["labels"]}


def test_more_identities_than_fit_fail(base: Path) -> None:
    done = run("policies", "identities", *AT, "--fail-at", "0.00001", cwd=base)
    assert done.returncode == 1
    assert "3 of 65,280" in done.stderr
