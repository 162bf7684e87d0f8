from __future__ import annotations

import json
import re
from typing import Any

import polars as pl
import pytest
import yaml

from capacity import facts
from capacity.errors import ManifestError
from capacity.manifests import KINDS, manifests
from capacity.settings import PlanSettings
from capacity.tables import COVERAGE
from tests.manifests.subjects import AGENT, LB, OPERATOR, subject


def test_helm_values_hold_changed_keys_with_their_reasons_and_nothing_else() -> None:
    same = {"setting": "bpf.policyMapMax", "target": 16384.0, "status": "ok"}
    lb = LB | {"side_effect": "services interrupted"}
    text = manifests(subject(lb, same, AGENT, OPERATOR))["helm-values.yaml"]
    assert yaml.safe_load(text) == {
        "bpf": {"lbMapMax": 131072},
        "operator": {"resources": {"requests": {"cpu": "250m"}}},
        "resources": {"limits": {"memory": "1536Mi"}},
    }
    assert text.index("# raise: why; services interrupted") < text.index("lbMapMax")


def test_lowered_settings_are_written_too() -> None:
    text = manifests(subject(LB | {"status": "lower"}))["helm-values.yaml"]
    assert "# lower: why" in text


def test_a_value_that_the_chart_does_not_know_is_refused_and_extra_config_is_text() -> None:
    node_map = {"setting": "bpf.nodeMapMax", "target": 32768.0}
    with pytest.raises(ManifestError, match=r"bpf\.nodeMapMax: no value of the chart"):
        manifests(subject(node_map, version="1.14"))
    assert "nodeMapMax: 32768" in manifests(subject(node_map))["helm-values.yaml"]
    own = {"setting": "extraConfig.bpf-fragments-map-max", "target": 16384.0}
    made = manifests(subject(own))
    assert yaml.safe_load(made["helm-values.yaml"]) == {
        "extraConfig": {"bpf-fragments-map-max": "16384"}
    }
    config = yaml.safe_load(made["kustomize/cilium-config.yaml"])
    assert config["data"] == {"bpf-fragments-map-max": "16384"}


@pytest.mark.parametrize("version", facts.VERSIONS)
def test_every_setting_of_a_map_is_a_value_of_its_chart(version: str) -> None:
    named = facts.maps(version)["helm_value"].drop_nulls().unique()
    for setting in named:
        assert manifests(subject({"setting": setting, "target": 4096.0}, version=version))


def test_patches_name_the_charts_objects_and_containers() -> None:
    made = manifests(subject(AGENT, OPERATOR, LB))
    agent = yaml.safe_load(made["kustomize/cilium-resources.yaml"])
    assert (agent["kind"], agent["metadata"]["name"]) == ("DaemonSet", "cilium")
    container = agent["spec"]["template"]["spec"]["containers"][0]
    assert container == {"name": "cilium-agent", "resources": {"limits": {"memory": "1536Mi"}}}
    listed = yaml.safe_load(made["kustomize/kustomization.yaml"])["patches"]
    assert {f"kustomize/{item['path']}" for item in listed} == {
        path for path in made if path.startswith("kustomize/")
    } - {"kustomize/kustomization.yaml"}


def test_containers_of_one_pod_share_a_patch() -> None:
    rows = [
        {"component": component, "setting": f"{prefix}.limits.memory", "unit": "byte",
         "target": 2.0**30, "status": "set"}
        for component, prefix in (
            ("clustermesh-etcd", "clustermesh.apiserver.etcd.resources"),
            ("clustermesh-kvstoremesh", "clustermesh.apiserver.kvstoremesh.resources"),
            ("envoy", "envoy.resources"), ("hubble-relay", "hubble.relay.resources"),
        )
    ]  # fmt: skip
    made = manifests(subject(*rows))
    mesh = yaml.safe_load(made["kustomize/clustermesh-apiserver-resources.yaml"])
    names = [c["name"] for c in mesh["spec"]["template"]["spec"]["containers"]]
    assert names == ["etcd", "kvstoremesh"]
    assert "kustomize/cilium-envoy-resources.yaml" in made
    assert "kustomize/hubble-relay-resources.yaml" in made


def test_autoscalers_only_watch_and_stay_within_the_plan() -> None:
    request = AGENT | {"setting": "resources.requests.memory", "target": 2.0**30, "lower": 1e9}
    text = manifests(subject(AGENT, request))["vertical-pod-autoscalers.yaml"]
    spec = yaml.safe_load(text)["spec"]
    assert spec["updatePolicy"] == {"updateMode": "Off"}
    (policy,) = spec["resourcePolicy"]["containerPolicies"]
    assert policy["maxAllowed"] == {"memory": "1536Mi"}
    assert policy["minAllowed"] == {"memory": "954Mi"}  # 1e9 bytes are 953.7Mi: rounded up


def test_nothing_to_change_writes_no_manifest() -> None:
    assert manifests(subject({"setting": "bpf.lbMapMax", "target": 1.0, "status": "ok"})) == {}
    assert manifests(subject()) == {}


def test_a_limit_without_a_setting_never_becomes_a_value() -> None:
    redesign = {"setting": "(no setting) service-ids", "status": "redesign", "target": None}
    refused = LB | {"status": "error", "target": None}
    assert manifests(subject(redesign, refused)) == {}


def test_of_two_rows_for_one_setting_the_larger_wins() -> None:
    text = manifests(subject(LB, LB | {"target": 65536.0}))["helm-values.yaml"]
    assert yaml.safe_load(text) == {"bpf": {"lbMapMax": 131072}}


def test_the_order_of_rows_changes_no_byte() -> None:
    rows = [LB, AGENT, OPERATOR]
    assert manifests(subject(*rows)) == manifests(subject(*rows[::-1]))


def test_a_reason_from_untrusted_labels_cannot_break_out_of_its_comment() -> None:
    evil = LB | {"reason": "x\nevil: true\r\n- y \u2028z: 1"}
    text = manifests(subject(evil))["helm-values.yaml"]
    assert yaml.safe_load(text) == {"bpf": {"lbMapMax": 131072}}


def covered(*rows: tuple[str, str, str]) -> pl.DataFrame:
    told = [(want, status, source, None) for want, status, source in rows]
    return pl.DataFrame(told, schema=COVERAGE.schema, orient="row")


def test_missing_metrics_are_switched_on_by_the_charts_values() -> None:
    coverage = covered(
        ("operator cpu", "off", "cilium_operator_process_cpu_seconds_total"),
        ("agent cpu", "present", "cilium_process_cpu_seconds_total"),
        ("agent memory_rss", "off", "cilium_fqdn_active_names"),
    )
    text = manifests(subject(coverage=coverage))["helm-values-metrics.yaml"]
    assert yaml.safe_load(text) == {
        "operator": {"prometheus": {"enabled": True, "serviceMonitor": {"enabled": True}}},
        "prometheus": {"metrics": ["+cilium_fqdn_active_names"]},
    }
    assert "helm-values-metrics.yaml" not in manifests(subject(coverage=covered()))


@pytest.mark.parametrize(
    ("provider", "kept"), [("gke", set()), ("aks", set()), ("eks", {"helm-values.yaml"})]
)
def test_managed_services_get_only_what_their_users_can_change(
    provider: str, kept: set[str]
) -> None:
    managed = PlanSettings("x", managed=provider)
    made = manifests(subject(LB, AGENT, settings=managed))
    changing = {path for path in made if path.startswith(("helm", "kustomize", "vertical"))}
    assert changing == kept


def test_every_kind_has_a_path_below_the_folder() -> None:
    assert all(not path.startswith(("/", "..")) for path in KINDS)


def test_labels_of_an_export_get_into_no_query_and_no_script(demo: Any) -> None:
    made = manifests(demo)
    assert json.loads(made["grafana-dashboard.json"])["title"] == "Cilium capacity: demo"
    rules = yaml.safe_load(made["prometheus/rules.yaml"])["groups"]
    names = {rule.get("alert") for group in rules for rule in group["rules"]} - {None}
    assert len(names) == 6


def test_thresholds_of_alerts_come_from_the_plan(demo: Any) -> None:
    rules = [
        rule
        for group in yaml.safe_load(manifests(demo)["prometheus/rules.yaml"])["groups"]
        for rule in group["rules"]
    ]
    first = demo.exhaustion.row(0, named=True)
    (near,) = [rule for rule in rules if rule.get("alert") == "CiliumCapacityNodesNearLimit"]
    assert near["expr"].endswith(f">= {int(first['nodes_early'] * 0.9)}")
    assert near["labels"]["resource"] == first["subject"]
    assert "bpf.lbMapMax" in near["annotations"]["description"]
    planned = {
        rule["labels"]["resource"]: float(rule["expr"].removeprefix("vector(").rstrip(")"))
        for rule in rules if rule.get("record") == "capacity:planned:ratio"
    }  # fmt: skip
    lb = demo.recommendation.filter(setting="bpf.lbMapMax", status="raise").row(0, named=True)
    # The 99 % quantile of the need over the size that is recommended, not over the present one
    need = int(re.search(r"needs ([\d,]+)", lb["reason"])[1].replace(",", ""))  # type: ignore[index]
    assert planned["lb4_services_v2"] == pytest.approx(need / lb["target"], rel=0.02)
    assert set(planned) >= {"ipcache", "agent memory", "operator memory", "service-ids"}
