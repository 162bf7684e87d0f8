"""What we print, given to the tools that will read it: promtool, kubectl, schemas, Grafana's SDK.

And the proof that matters: a plan of a cluster to which the printed files were applied asks for
nothing more.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import capacity
from capacity import shipped
from capacity.manifests import manifests
from capacity.planning import Plan
from capacity.settings import PlanSettings
from capacity.tables import CHANGES
from tests.manifests.test_custom_resources import faults, fields

OURS = ("VerticalPodAutoscaler", "PrometheusRule", "Component")


@pytest.fixture(scope="module")
def lab() -> Plan:
    return capacity.plan(PlanSettings(str(shipped.path("data", "lab")), nodes=(500,)))


@pytest.fixture(scope="module", params=["lab", "demo"])
def files(
    request: pytest.FixtureRequest, lab: Plan, demo: Plan, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Manifests of a real agent's recording, and of the demo, on disk."""
    folder = tmp_path_factory.mktemp(request.param)
    write(lab if request.param == "lab" else demo, folder)
    return folder


def write(plan: Plan, folder: Path) -> None:
    for path, text in manifests(plan).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def run(tool: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed: apt install prometheus kubernetes-client")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def objects(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.rglob("*.yaml")):
        for item in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            yield path.name, item


def test_promtool_takes_the_rules(files: Path) -> None:
    told = run("promtool", "check", "rules", files / "prometheus" / "rules.yaml")
    assert "SUCCESS" in told


def test_promtool_sees_each_alert_fire_where_it_must(lab: Plan, tmp_path: Path) -> None:
    write(lab, tmp_path)
    tests = tmp_path / "prometheus" / "rules-test.yaml"
    told = run("promtool", "test", "rules", tests)
    assert "SUCCESS" in told
    names = {
        case["alertname"]
        for test in yaml.safe_load(tests.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert len(names) == 5


def test_a_rule_that_never_fires_is_seen_by_the_tests(lab: Plan, tmp_path: Path) -> None:
    """The printed tests can fail: a threshold that is moved breaks them."""
    texts = manifests(lab)
    for name in ("rules.yaml", "rules-test.yaml"):
        text = texts[f"prometheus/{name}"]
        (tmp_path / name).write_text(text.replace("> 0.95", "> 0.999"), encoding="utf-8")
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    done = subprocess.run([tool, "test", "rules", tmp_path / "rules-test.yaml"], check=False,
                          capture_output=True)  # fmt: skip
    assert done.returncode != 0


def test_the_custom_resource_holds_the_same_rules(files: Path) -> None:
    plain = yaml.safe_load((files / "prometheus" / "rules.yaml").read_text())
    wrapped = yaml.safe_load((files / "prometheus" / "prometheusrule.yaml").read_text())
    assert wrapped["spec"] == plain
    assert wrapped["apiVersion"] == "monitoring.coreos.com/v1"
    assert list(faults(fields("PrometheusRule"), "spec", wrapped["spec"])) == []
    # The definition leaves to the operator that a rule has one of both
    rules = [rule for group in wrapped["spec"]["groups"] for rule in group["rules"]]
    assert all(("alert" in rule) != ("record" in rule) for rule in rules)


def test_promtool_takes_the_scrape_jobs(files: Path, tmp_path: Path) -> None:
    """Debian's build has no Kubernetes discovery: fixed targets stand in for it."""
    source = files / "prometheus" / "scrape.yaml"
    if not source.exists():
        assert "demo" in str(files)  # all its metrics are there
        return
    jobs = yaml.safe_load(source.read_text())
    for job in jobs["scrape_configs"]:
        assert job.pop("kubernetes_sd_configs")[0]["role"] == "pod"
        job["static_configs"] = [{"targets": ["localhost:1"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(jobs))
    run("promtool", "check", "config", tmp_path / "prometheus.yml")


@pytest.mark.parametrize("version", ["1.28", "1.37"])
def test_kubernetes_objects_hold_their_schema(files: Path, version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    kinds = set()
    for name, item in objects(files):
        if "kind" not in item or item["kind"] in OURS:
            continue
        whole = completed(item) if name.endswith("-resources.yaml") else item
        schemas.validate(whole, version, strict=True)
        kinds.add(item["kind"])
    assert kinds >= {"CronJob", "ClusterRole", "Role", "DaemonSet", "ConfigMap"}


def completed(patch: dict[str, Any]) -> dict[str, Any]:
    """A patch with what the schema wants and a patch leaves out."""
    labels = {"k8s-app": "x"}
    template = patch["spec"]["template"]
    made = {"metadata": {"labels": labels}, **template}
    return {**patch, "spec": {"selector": {"matchLabels": labels}, "template": made}}


def test_a_wrong_field_does_not_hold_its_schema(files: Path) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    job = next(item for _, item in objects(files) if item.get("kind") == "CronJob")
    job["spec"]["shedule"] = job["spec"].pop("schedule")
    with pytest.raises(schemas.ValidationError):
        schemas.validate(job, "1.37", strict=True)


def test_the_weekly_jobs_script_is_bash_and_may_only_read(files: Path) -> None:
    items = [item for name, item in objects(files) if name == "weekly-report.yaml"]
    verbs = {v for item in items for rule in item.get("rules", ()) for v in rule["verbs"]}
    assert verbs == {"get", "list"}
    (job,) = [item for item in items if item["kind"] == "CronJob"]
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    run("bash", "-n", "-c", pod["containers"][0]["command"][2])
    assert pod["securityContext"]["runAsNonRoot"]


def test_grafanas_own_types_take_the_dashboard(files: Path) -> None:
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    raw = json.loads((files / "grafana-dashboard.json").read_text(encoding="utf-8"))
    board = models.Dashboard.from_json(raw)
    back = json.loads(json.dumps(board.to_json(), default=lambda item: item.to_json()))
    assert {key: back[key] for key in ("uid", "title", "schemaVersion")} == {
        key: raw[key] for key in ("uid", "title", "schemaVersion")
    }
    assert len(back["panels"]) == len(raw["panels"])
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in raw["panels"]}
    assert len(places) == len(raw["panels"])


def test_promtool_reads_every_query_of_the_dashboard(files: Path, tmp_path: Path) -> None:
    board = json.loads((files / "grafana-dashboard.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [{"record": f"q{i}", "expr": query} for i, query in enumerate(queries)]
    (tmp_path / "q.yaml").write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": rules}]}))
    run("promtool", "check", "rules", tmp_path / "q.yaml")


BASE = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: cilium, namespace: kube-system}
spec:
  selector: {matchLabels: {k8s-app: cilium}}
  template:
    metadata: {labels: {k8s-app: cilium}}
    spec:
      hostNetwork: true
      containers:
        - {name: cilium-agent, image: cilium, args: [--config-dir=/tmp/cilium/config-map]}
        - {name: other, image: other}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cilium-config, namespace: kube-system}
data: {enable-ipv4: "true", bpf-policy-map-max: "16384"}
"""


def test_patch_and_original_are_what_was_intended_and_a_second_plan_asks_for_nothing(
    lab: Plan, tmp_path: Path
) -> None:
    """`kubectl kustomize` applies what we printed; the cluster as it is then is planned again."""
    write(lab, tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    overlay = {"resources": ["base.yaml"], "components": ["kustomize"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    version = re.search(r"v1\.(\d+)", run("kubectl", "version", "--client"))
    if version is None or int(version[1]) < 21:
        pytest.skip("kubectl before 1.21 knows no kustomize components")
    applied = tmp_path / "applied"
    applied.mkdir()
    (applied / "objects.yaml").write_text(run("kubectl", "kustomize", tmp_path))
    items = {
        item["kind"]: item for item in yaml.safe_load_all((applied / "objects.yaml").read_text())
    }
    first, other = items["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    assert first["args"] == ["--config-dir=/tmp/cilium/config-map"]
    assert first["resources"]["limits"]["memory"].endswith("i")
    assert "resources" not in other
    assert items["ConfigMap"]["data"]["enable-ipv4"] == "true"
    again = capacity.plan(PlanSettings(lab.settings.source, inventory=str(applied), nodes=(500,)))
    assert_settled(lab, again)


def test_a_plan_of_the_applied_helm_values_asks_for_nothing(lab: Plan, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(manifests(lab)["helm-values.yaml"], encoding="utf-8")
    again = capacity.plan(PlanSettings(lab.settings.source, inventory=str(tmp_path), nodes=(500,)))
    assert_settled(lab, again)
    assert "helm-values.yaml" not in manifests(again)


def assert_settled(before: Plan, after: Plan) -> None:
    assert not before.recommendation.filter(pl.col("status").is_in(CHANGES)).is_empty()
    left = after.recommendation.filter(pl.col("status").is_in([*CHANGES, "error"]))
    assert left.is_empty(), left.select("setting", "current", "target", "status")
    policy = after.recommendation.filter(setting="bpf.policyMapMax").row(0, named=True)
    assert "agents still run with 16,384: roll it out" in policy["reason"]
