"""The gate before a rollout, through the command line as a pipeline runs it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest
import yaml

import capacity
from capacity import charts, overview
from capacity.cilium.policy import count
from capacity.errors import SettingsError
from capacity.inventory import Inventory, merge
from capacity.load import read_inventory
from capacity.policy_check import gate
from capacity.settings import PlanSettings
from tests.command import run

DOCS = Path(__file__).parents[1] / "docs" / "ci-gate.md"


def pod(name: str, app: str) -> dict[str, object]:
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
        "spec": {"nodeName": "n1"}, "status": {"podIP": f"10.0.0.{len(name) + ord(name[-1])}"},
    }  # fmt: skip


def policy(name: str, ports: range, app: str = "web") -> dict[str, object]:
    allowed = [{"port": str(port), "protocol": "TCP"} for port in ports]
    rule = {"fromEndpoints": [{}], "toPorts": [{"ports": allowed[i : i + 40]}
            for i in range(0, len(allowed), 40)]}  # fmt: skip
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": [rule]},
    }  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A cluster of 20 workloads with one policy; changes beside it."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    items = [namespace, pod("web-0", "web"), *(pod(f"p{i}", f"app{i}") for i in range(19))]
    options = {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cilium-config", "namespace": "kube-system"},
        "data": {"bpf-policy-map-max": "1024"},
    }  # fmt: skip
    items += [policy("web", range(1000, 1010)), options]
    (tmp_path / "base").mkdir()
    listed = {"apiVersion": "v1", "kind": "List", "items": items}
    (tmp_path / "base" / "all.json").write_text(json.dumps(listed))
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(policy("web", range(1000, 1060))))
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(policy("web", range(1000, 1010))))
    (tmp_path / "values.yaml").write_text("bpf:\n  policyMapMax: 16384\n")
    bad = policy("broken", range(1, 2))
    bad["spec"] = {"endpointSelector": {}, "ingress": [{"fromCIDR": ["10.0.0.0/99"]}]}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(bad))
    return tmp_path


CHECK = ("check", "--inventory", "base", "--cilium", "1.17")


def test_a_change_that_overflows_a_map_fails_and_names_policy_and_endpoint(cluster: Path) -> None:
    # S28 of the acceptance scenarios in small: entries before and after, exit 1, the names
    done = run(*CHECK, "--policies", "large.yaml", "-o", "json", cwd=cluster)
    told = json.loads(done.stdout)
    worst = told["endpoints"][0]
    assert done.returncode == 1
    assert not told["passes"]
    assert worst["endpoint"] == "shop/web-0"
    assert worst["policy"] == "CiliumNetworkPolicy/shop/web"
    assert (worst["rule"], worst["rule_entries"]) == ("ingress[0]", worst["policy_entries"])
    assert worst["source"].startswith("large.yaml")
    assert worst["limit"] == 1024
    base = read_inventory(cluster / "base")
    counts = dict(count(base, version="1.17").select("endpoint", "total").iter_rows())
    assert worst["before"] == counts["shop/web-0"]
    # 60 ports are 6 x what 10 ports are, Cilium's own entries stay
    assert worst["after"] == pytest.approx(6 * worst["before"], rel=0.05)
    assert "1 of 22 endpoints change" in done.stderr


def test_a_change_of_services_changes_the_entries_of_rules_that_name_them(cluster: Path) -> None:
    rule = {"toServices": [{"k8sService": {"serviceName": "far", "namespace": "shop"}}]}
    far = policy("far", range(1, 2))
    far["spec"] = {"endpointSelector": {"matchLabels": {"app": "web"}}, "egress": [rule]}
    (cluster / "base" / "far.yaml").write_text(yaml.safe_dump(far))
    name = {"name": "far", "namespace": "shop"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": name,
               "spec": {"clusterIP": "10.9.9.9", "ports": [{"port": 80}]}}  # fmt: skip
    addresses = [{"ip": f"192.0.2.{n}"} for n in range(5)]
    backends = {"apiVersion": "v1", "kind": "Endpoints", "metadata": name,
                "subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]}  # fmt: skip
    (cluster / "services.yaml").write_text(yaml.safe_dump_all([service, backends]))
    done = run(*CHECK, "--services", "services.yaml", "-o", "json", cwd=cluster)
    told = {row["endpoint"]: row for row in json.loads(done.stdout)["endpoints"]}["shop/web-0"]
    assert told["after"] - told["before"] == 5


def test_values_that_change_how_policies_are_enforced_are_judged(cluster: Path) -> None:
    (cluster / "always.yaml").write_text("policyEnforcementMode: always\nbpf: {}\n")
    done = run(*CHECK, "--values", "always.yaml", "-o", "json", cwd=cluster)
    told = {row["endpoint"]: row for row in json.loads(done.stdout)["endpoints"]}
    # A pod without policies: localhost stays, what was allowed to and from anyone goes
    assert (told["shop/p0"]["before"], told["shop/p0"]["after"]) == (3, 1)


def test_workloads_to_come_are_judged_with_a_factor(cluster: Path) -> None:
    same = (*CHECK, "--policies", "same.yaml", "-o", "json")
    at = {factor: run(*same, "--factor", factor, cwd=cluster)
          for factor in ("1", "2", "6")}  # fmt: skip
    worst = {factor: json.loads(done.stdout)["endpoints"][0] for factor, done in at.items()}
    # 10 ports for each pod of the namespace: 20 workloads now
    assert worst["2"]["after"] - worst["1"]["after"] == 200
    assert [done.returncode for done in at.values()] == [0, 0, 0]
    assert worst["6"]["verdict"] == "short before"
    with pytest.raises(SettingsError, match="factor"):
        gate(Inventory(), version="1.17", factor=0.5)


def test_a_larger_map_lets_the_change_pass(cluster: Path) -> None:
    arguments = ("--policies", "large.yaml", "--values", "values.yaml", "-o", "json")
    done = run(*CHECK, *arguments, cwd=cluster)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["endpoints"][0]["limit"] == 16384


def test_the_same_policies_change_nothing(cluster: Path) -> None:
    done = run(*CHECK, "--policies", "same.yaml", "-o", "json", cwd=cluster)
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert [row["before"] for row in told["endpoints"]] == [
        row["after"] for row in told["endpoints"]
    ]


def test_what_was_short_before_does_not_fail_a_change_elsewhere(cluster: Path) -> None:
    base = read_inventory(cluster / "base")
    full = gate(base, [read_inventory(cluster / "same.yaml")], version="1.17", fail_at=0.1)
    assert full.passes
    assert full.endpoints["verdict"][0] == "short before"
    fuller = gate(base, [read_inventory(cluster / "large.yaml")], version="1.17", fail_at=0.1)
    assert not fuller.passes


def test_a_deleted_policy_frees_its_entries(cluster: Path) -> None:
    base = read_inventory(cluster / "base")
    name = "CiliumNetworkPolicy/shop/web"
    row = gate(base, version="1.17", deleted=[name]).endpoints.filter(endpoint="shop/web-0")
    assert row["after"].item() < row["before"].item()
    done = run(*CHECK, "--deleted", "CiliumNetworkPolicy/shop/wep", cwd=cluster)
    assert done.returncode == 2
    assert "wep" in done.stderr


def test_a_policy_that_cilium_rejects_fails_with_its_file(cluster: Path) -> None:
    done = run(*CHECK, "--policies", "bad.yaml", "-o", "sarif", cwd=cluster)
    assert done.returncode == 1
    (found,) = json.loads(done.stdout)["runs"][0]["results"]
    assert found["ruleId"] == "policy-rejected"
    assert "unable to parse CIDR" in found["message"]["text"]
    place = found["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "bad.yaml"


def test_policies_that_cannot_be_merged_any_more_fail(cluster: Path) -> None:
    def with_rules(name: str, rules: dict[str, object]) -> str:
        made = policy(name, range(80, 81))
        port = {"ports": [{"port": "80", "protocol": "TCP"}], "rules": rules}
        made["spec"] = {"endpointSelector": {}, "ingress": [{"toPorts": [port]}]}
        return yaml.safe_dump(made)

    (cluster / "base" / "http.yaml").write_text(with_rules("http", {"http": [{"path": "/"}]}))
    (cluster / "kafka.yaml").write_text(with_rules("kafka", {"kafka": [{"topic": "t"}]}))
    done = run(*CHECK, "--policies", "kafka.yaml", "-o", "sarif", cwd=cluster)
    assert done.returncode == 1, done.stdout
    found = json.loads(done.stdout)["runs"][0]["results"]
    assert {one["ruleId"] for one in found} == {"policy-conflict"}
    assert len(found) == 20
    assert "the policies of 20 cannot be merged any more" in done.stderr


def test_junit_counts_what_fails(cluster: Path) -> None:
    arguments = ("--policies", "bad.yaml", "--policies", "large.yaml", "-o", "junit")
    done = run(*CHECK, *arguments, cwd=cluster)
    suite = ElementTree.fromstring(done.stdout)
    assert (suite.get("tests"), suite.get("failures")) == ("2", "2")
    messages = [str(failure.get("message")) for failure in suite.iter("failure")]
    assert any("CiliumNetworkPolicy/shop/web" in text for text in messages)


def test_a_share_that_makes_no_sense_is_wrong_input(cluster: Path) -> None:
    done = run(*CHECK, "--fail-at", "90", cwd=cluster)
    assert done.returncode == 2
    assert "fail-at: 90" in done.stderr


def test_entries_and_explain_agree_with_the_count(cluster: Path) -> None:
    done = run("policies", "entries", "base", "--cilium", "1.17", "-o", "json", cwd=cluster)
    rows = {row["endpoint"]: row for row in json.loads(done.stdout)}
    counts = count(read_inventory(cluster / "base"), version="1.17")
    assert {k: row["entries"] for k, row in rows.items()} == dict(
        counts.select("endpoint", "total").iter_rows()
    )
    told = run("policies", "explain", "base", "shop/web-0", "--cilium", "1.17", "-o", "json",
               cwd=cluster)  # fmt: skip
    made = pl.DataFrame(json.loads(told.stdout))
    assert made["policy"][0] == "CiliumNetworkPolicy/shop/web"
    assert made["entries"].sum() == rows["shop/web-0"]["entries"]


def test_an_endpoint_that_is_not_there_is_named(cluster: Path) -> None:
    done = run("policies", "explain", "base", "shop/gone", "--cilium", "1.17", cwd=cluster)
    assert done.returncode == 2
    assert "shop/gone" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_examples_of_the_docs_parse_and_their_command_runs(cluster: Path) -> None:
    text = DOCS.read_text(encoding="utf-8")
    files = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]
    assert len(files) == 3
    (cluster / "cluster").symlink_to(cluster / "base")
    (cluster / "policies").mkdir()
    (cluster / "policies" / "web.yaml").symlink_to(cluster / "same.yaml")
    commands = set(re.findall(r"capacity (check [^\n>|]+)", text))
    assert commands
    for command in commands:
        done = run(*command.split(), cwd=cluster)
        assert done.returncode == 0, (command, done.stderr)


def with_history(cluster: Path) -> PlanSettings:
    """Write a node count that grows for three weeks; give the settings of a plan with the base."""
    metrics = []
    for i in range(21 * 24):
        at = 1_767_225_600_000 + i * 3_600_000
        metrics.append(f'cilium_nodes_all_num{{node="a"}} {20 + i // 24} {at}')
        metrics.append(f'cilium_bpf_map_pressure{{map_name="lxc",node="a"}} {0.01 + i * 1e-6} {at}')
    (cluster / "metrics.prom").write_text("\n".join(metrics) + "\n")
    return PlanSettings(str(cluster / "metrics.prom"), inventory=str(cluster / "base"),
                         cilium="1.17", nodes=(60,))  # fmt: skip


def test_views_of_policies_name_the_fullest_map_and_the_heaviest_rules(cluster: Path) -> None:
    asked = with_history(cluster)
    plan = capacity.plan(asked)
    title = charts.policies(plan).layout.title.text.replace("<br>", " ")
    assert title.startswith("Shop/web-0 has the fullest policy map")
    assert overview.policies(plan)["endpoint"][0] == "shop/web-0"
    rules = overview.heaviest_rules(asked, "1.17")
    assert rules["worst_entries"].is_sorted(descending=True)


def test_a_plan_tells_when_the_fullest_policy_map_is_full(cluster: Path) -> None:
    asked = with_history(cluster)
    plan = capacity.plan(asked)
    row = plan.policy_growth.drop_nulls("factor").sort("factor").row(0, named=True)
    assert row["endpoint"] == "shop/web-0"
    assert plan.first_limit is not None
    assert plan.first_limit["resource"] == "policy map of shop/web-0"
    nodes = plan.first_limit["nodes"]
    assert nodes == math.ceil(40 * row["factor"])
    assert f"{nodes:,} nodes if workloads grow as the nodes do" in plan.headline
    assert nodes > 60
    assert plan.verdict == "fits"
    assert capacity.plan(dataclasses.replace(asked, nodes=(nodes,))).verdict == "short"
    # Really grown by that much, the map is full
    base = read_inventory(cluster / "base")
    apps = round(20 * row["factor"])
    more = [pod(f"q{i}", f"new{i}") for i in range(apps - 20)]
    (cluster / "more.json").write_text(json.dumps({"kind": "List", "items": more}))
    grown = merge([base, read_inventory(cluster / "more.json")])
    total = count(grown, version="1.17").filter(endpoint="shop/web-0")["total"].item()
    assert total == pytest.approx(row["limit"], abs=15)
