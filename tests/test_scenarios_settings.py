"""Acceptance scenarios about settings, Helm keys and costs: inputs → what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from capacity.cilium.map_sizes import validate
from capacity.load import helm, read_inventory
from capacity.policy_check import gate
from tests.test_policy_check import pod, run

OPTIONS = {
    "ctTcpMax": "bpf-ct-global-tcp-max", "ctAnyMax": "bpf-ct-global-any-max",
    "natMax": "bpf-nat-global-max", "policyMapMax": "bpf-policy-map-max",
}  # fmt: skip


@pytest.fixture
def scenarios(shared: Path) -> dict[str, dict[str, Any]]:
    text = (shared / "facts" / "users" / "scenarios.yaml").read_text(encoding="utf-8")
    return {one["id"]: one for one in yaml.safe_load(text)}


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    items = {"apiVersion": "v1", "kind": "List", "items": [pod("web-0", "web")]}
    (tmp_path / "base" / "all.json").write_text(json.dumps(items))
    return tmp_path


def checked(cluster: Path, values: dict[str, Any]) -> Any:
    (cluster / "values.yaml").write_text(yaml.safe_dump(values))
    return run("check", "--inventory", "base", "--values", "values.yaml", "--cilium", "1.17",
               cwd=cluster)  # fmt: skip


def test_s05_nat_larger_than_both_tables_does_not_reach_the_cluster(
    scenarios: dict[str, Any], cluster: Path
) -> None:
    given, out = scenarios["S05"]["in"], scenarios["S05"]["out"]
    done = checked(cluster, {"bpf": given})
    assert done.returncode == out["exit"]
    tables = given["ctTcpMax"] + given["ctAnyMax"]
    assert f"{given['natMax']} exceeds both CT tables together ({tables})" in done.stderr
    fits = checked(cluster, {"bpf": given | {"natMax": 524288}})
    assert fits.returncode == 0, fits.stderr


def test_s06_sizes_are_clamped_or_refused_as_the_agent_does(
    scenarios: dict[str, Any], cluster: Path
) -> None:
    for given, out in zip(scenarios["S06"]["in"], scenarios["S06"]["out"], strict=True):
        options = {OPTIONS[name]: value for name, value in given.items()}
        (found,) = [f for f in validate(options, version="1.17") if f.option in options]
        refused = out.get("verdict") == "invalid"
        assert found.level == ("error" if refused else out["level"])
        assert found.effective == (None if refused else out["effective"])
        assert str(out.get("min", out.get("max", out.get("effective")))) in found.message
        assert checked(cluster, {"bpf": given}).returncode == (2 if refused else 0)


def test_s28_the_gate_holds_a_change_against_the_map_it_is_for(
    scenarios: dict[str, Any], tmp_path: Path
) -> None:
    """The numbers of the scenario: identities x ports of the worst endpoint, before and after."""
    given, out = scenarios["S28"]["in"], scenarios["S28"]["out"]
    ports = given[0]["added"]["ports"]
    added = given[0]["added"]["identities"]
    old = given[0]["worst_endpoint_entries"] // ports
    groups = {"old": range(1000, 1000 + old), "new": range(20_000, 20_000 + added)}
    identities = [
        {"apiVersion": "cilium.io/v2", "kind": "CiliumIdentity", "metadata": {"name": str(number)},
         "security-labels": {"k8s:group": group, "k8s:app": f"a{number}",
                             "k8s:io.kubernetes.pod.namespace": "shop"}}
        for group, numbers in groups.items() for number in numbers
    ]  # fmt: skip
    items = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
             pod("web-0", "web"), allow("old", ports), *identities]  # fmt: skip
    (tmp_path / "base").mkdir()
    listed = {"apiVersion": "v1", "kind": "List", "items": items}
    (tmp_path / "base" / "all.json").write_text(json.dumps(listed))
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(allow("new", ports)))
    (tmp_path / "small.yaml").write_text(f"bpf: {{policyMapMax: {given[0]['policyMapMax']}}}\n")
    (tmp_path / "large.yaml").write_text(f"bpf: {{policyMapMax: {given[1]['policyMapMax']}}}\n")
    done = run("check", "--inventory", "base", "--policies", "new.yaml", "--values", "small.yaml",
               "--cilium", "1.17", "-o", "json", cwd=tmp_path)  # fmt: skip
    assert done.returncode == out[0]["exit"]
    worst = json.loads(done.stdout)["endpoints"][0]
    assert worst["policy"] == "CiliumNetworkPolicy/shop/old"  # the one that makes most
    told = gate(
        read_inventory(tmp_path / "base"),
        [read_inventory(tmp_path / name) for name in ("new.yaml", "large.yaml")], version="1.17",
    )  # fmt: skip
    assert told.passes == (out[1]["exit"] == 0)
    for found, wanted in zip((worst, told.endpoints.row(0, named=True)), out, strict=True):
        assert found["endpoint"] == "shop/web-0"
        # Cilium's own entries of an endpoint (the host, egress that no policy limits) come on top
        assert 0 <= found["after"] - out[0]["entries"] <= 4
        assert found["after"] / found["limit"] == pytest.approx(wanted["pressure"], abs=0.001)


def allow(group: str, ports: int) -> dict[str, Any]:
    told = [{"port": str(8000 + i), "protocol": "TCP"} for i in range(ports)]
    rule = {"fromEndpoints": [{"matchLabels": {"group": group}}], "toPorts": [{"ports": told}]}
    spec = {"endpointSelector": {"matchLabels": {"app": "web"}}, "ingress": [rule]}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "spec": spec,
            "metadata": {"name": group, "namespace": "shop"}}  # fmt: skip


def test_s29_requests_of_1000_nodes(scenarios: dict[str, Any]) -> None:
    from capacity.recommend.cost import totals
    from capacity.recommend.present import Present
    from capacity.settings import PlanSettings

    given, out = scenarios["S29"]["in"], scenarios["S29"]["out"]
    nobody = Present("1.17", {}, {}, {}, None)
    rows = {
        "cpu_cores": ("resources.requests.cpu", "millicore", 1000 * given["cpu"], 1000),
        "mem_gib": ("resources.requests.memory", "byte", given["mem_mib"] * 2.0**20, 2**30),
    }
    for name, (setting, unit, cost, scale) in rows.items():
        row = {"component": "agent", "setting": setting, "unit": unit, "cost": cost}
        told = totals(row, given["nodes"], nobody, PlanSettings())
        assert told["cost_total"] / scale == out[name]


def test_s30_helm_keys_that_do_nothing_or_fail_are_named(
    scenarios: dict[str, Any], cluster: Path
) -> None:
    given = scenarios["S30"]["in"]["values"]
    values: dict[str, Any] = {"tunnel": given["tunnel"], "bpf": {}}
    values["bpf"]["ctGlobalTCPMax"] = given["bpf.ctGlobalTCPMax"]
    done = checked(cluster, values)
    assert done.returncode == 2
    assert "did you mean bpf.ctTcpMax" in done.stderr
    assert "fails from 1.15 on: use routingMode" in done.stderr
    # `capacity read` says so too, for whatever version
    assert any("bpf.ctTcpMax" in note for note in helm.unknown_keys(values))
