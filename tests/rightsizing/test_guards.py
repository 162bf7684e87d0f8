"""Quotas, defaults, disruption budgets and autoscalers that follow from right-sizing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity import facts
from capacity.inventory import Inventory
from capacity.load import read_inventory
from capacity.manifests.workload_guards import texts
from capacity.manifests.workload_patches import patches
from capacity.rightsizing import Sizing, rightsize
from capacity.rightsizing.guards import _budget, _There, guards
from capacity.rightsizing_settings import GUARD_NAMES, RightsizingSettings
from capacity.tables import GUARDS, OBJECTS
from capacity.units import parse_bytes, parse_millicores
from tests.rightsizing.pods import Pods
from tests.rightsizing.test_rightsizing import DAY, memory, used

WEB = ("ReplicaSet", "web-7d9f8c6b5d")
NEED = {"cpu": parse_millicores, "memory": parse_bytes}


def workload(kind: str, name: str, replicas: int, cpu: str, held: str) -> dict[str, Any]:
    labels = {"app": name}
    sizes = {"requests": {"cpu": cpu, "memory": held}, "limits": {"memory": held}}
    told = {"name": "app", "image": "app", "resources": sizes}
    spec: dict[str, Any] = {
        "replicas": replicas, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": {**labels, "v": "1"}}, "spec": {"containers": [told]}},
    }  # fmt: skip
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {"apiVersion": "apps/v1", "kind": kind, "spec": spec,
            "metadata": {"name": name, "namespace": "shop"}}  # fmt: skip


BASE = (
    workload("Deployment", "web", 8, "1", "1Gi"),
    workload("StatefulSet", "db", 3, "2", "2Gi"),
    workload("Deployment", "one", 1, "2", "2Gi"),
)


@pytest.fixture(scope="module")
def pods() -> Pods:
    made = Pods()
    made.replica_set("web-7d9f8c6b5d", "web")
    made.replica_set("one-7d9f8c6b5d", "one")
    # A third of the day is busy, all replicas alike
    swing = np.where(np.arange(3 * DAY) % DAY < DAY // 3, 1.0, 0.25)
    for k in range(8):
        made.pod(f"web-7d9f8c6b5d-x2x2{'bcdfghjk'[k]}", swing * used(level=0.3, seed=k),
                 memory(seed=k), owner=WEB, minutes=5)  # fmt: skip
    for k in range(3):
        made.pod(f"db-{k}", used(seed=k), memory(seed=k), owner=("StatefulSet", "db"), minutes=5)
    made.pod("one-7d9f8c6b5d-x2x2x", used(), memory(), minutes=5,
             owner=("ReplicaSet", "one-7d9f8c6b5d"))  # fmt: skip
    return made


def inventory_of(folder: Path, *objects: dict[str, Any]) -> Inventory:
    folder.mkdir(exist_ok=True)
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    return read_inventory(str(folder))


def planned(pods: Pods, inventory: Inventory, **more: Any) -> Sizing:
    return rightsize(pods.metrics(), RightsizingSettings(**{"guards": GUARD_NAMES, **more}),
                     inventory)  # fmt: skip


@pytest.fixture(scope="module")
def made(pods: Pods, tmp_path_factory: pytest.TempPathFactory) -> Sizing:
    return planned(pods, inventory_of(tmp_path_factory.mktemp("base"), *BASE))


def field(made: Sizing, guard: str, name: str, workload: str | None = None) -> dict[str, Any]:
    rows = made.guards.filter(guard=guard, field=name)
    rows = rows if workload is None else rows.filter(workload=workload)
    assert len(rows) == 1, rows
    return rows.row(0, named=True)


def test_a_quota_holds_planned_and_present_requests_in_a_rollout_and_growth(made: Sizing) -> None:
    told = {
        (row["workload"], row["setting"]): max(row["current"], row["target"])
        for row in made.resources.filter(setting="requests.cpu").iter_rows(named=True)
    }
    most = field(made, "hpa", "maxReplicas", "web")["target"]
    pods = {"web": most + -(-most // 4), "db": 3, "one": 2}
    need = sum(pods[name] * value for (name, _), value in told.items())
    assert field(made, "quota", "hard.requests.cpu")["target"] == -(-need * 5 // 4)


def test_defaults_are_the_median_request_and_a_high_limit_of_the_namespace(made: Sizing) -> None:
    requests = sorted(made.resources.filter(setting="requests.cpu")["target"])
    assert field(made, "limit-range", "defaultRequest.cpu")["target"] == requests[1]
    limits = made.resources.filter(setting="limits.memory")
    largest = max(*limits["target"], *limits["current"])
    assert field(made, "limit-range", "max.memory")["target"] == -(-largest * 5 // 4)
    assert field(made, "limit-range", "default.memory")["target"] == max(limits["target"])


def test_budgets_let_go_of_pods_that_the_rest_can_stand_in_for(made: Sizing) -> None:
    assert field(made, "pdb", "maxUnavailable", "db")["target"] == 1
    told = field(made, "pdb", "maxUnavailable", "web")
    # The median load is a third of the request: a quarter of eight may go
    assert (told["target"], json.loads(told["selector"])) == (2, {"matchLabels": {"app": "web"}})
    assert made.guards.filter(workload="one").is_empty()


def test_an_autoscaler_spans_median_and_peak_where_pods_share_a_swinging_load(
    made: Sizing,
) -> None:
    use = made.usage.filter(workload="web", resource="cpu").row(0, named=True)
    request = made.resources.filter(workload="web", setting="requests.cpu")["target"][0]
    room = request * 0.8
    assert field(made, "hpa", "minReplicas", "web")["target"] == int(np.ceil(8 * use["p50"] / room))
    peak = int(np.ceil(8 * use["largest"] / room))
    assert field(made, "hpa", "maxReplicas", "web")["target"] == peak > 8
    assert set(made.guards.filter(guard="hpa")["workload"]) == {"web"}


@pytest.fixture(scope="module")
def built(made: Sizing, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What kubectl makes of the base, the patches of sizes, and the guards."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is missing")
    folder = tmp_path_factory.mktemp("built")
    (folder / "base.yaml").write_text(yaml.safe_dump_all(BASE))
    for name, files in (("sized", patches(made.resources)), ("guards", texts(made.guards))):
        (folder / name).mkdir()
        for path, text in files.items():
            (folder / name / path).write_text(text)
    sized = yaml.safe_load((folder / "sized" / "kustomization.yaml").read_text())
    own = {"resources": ["base.yaml", "guards"],
           "patches": [{"path": f"sized/{one['path']}"} for one in sized["patches"]]}  # fmt: skip
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("version", ["1.28", "1.37"])
def test_what_kubectl_builds_holds_the_schemas(built: list[dict[str, Any]], version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    for item in built:
        schemas.validate(item, version, strict=True)
    assert {item["kind"] for item in built} == {
        "Deployment", "StatefulSet", "ResourceQuota", "LimitRange", "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
    }  # fmt: skip


def test_a_second_run_on_what_was_applied_plans_nothing(
    built: list[dict[str, Any]], made: Sizing, pods: Pods, tmp_path: Path
) -> None:
    again = planned(pods, inventory_of(tmp_path, *built), allow_hpa=True)
    assert again.guards.is_empty(), again.guards
    assert texts(again.guards) == {}
    (quota,) = (item for item in built if item["kind"] == "ResourceQuota")
    for name, amount in quota["spec"]["hard"].items():
        row = field(made, "quota", f"hard.{name}")
        # Rounding never goes below
        assert NEED[name.split(".")[1]](amount) >= row["target"]


def test_a_quota_that_is_too_small_is_patched_under_its_name(pods: Pods, tmp_path: Path) -> None:
    small = {"apiVersion": "v1", "kind": "ResourceQuota",
             "metadata": {"name": "team", "namespace": "shop"},
             "spec": {"hard": {"requests.cpu": "1", "requests.memory": "1Ti"}}}  # fmt: skip
    told = planned(pods, inventory_of(tmp_path, *BASE, small), guards=("quota",))
    assert set(told.guards["name"]) == {"team"}
    assert field(told, "quota", "hard.requests.cpu")["current"] == 1000
    files = texts(told.guards)
    listed = yaml.safe_load(files["kustomization.yaml"])
    assert listed["patches"] == [{"path": "shop-quota-team.yaml"}]
    assert "resources" not in listed
    assert "# 3 workloads, with a quarter more pods" in files["shop-quota-team.yaml"]


def test_a_quota_under_the_short_name_of_requests_is_held_to_them_too(
    pods: Pods, tmp_path: Path
) -> None:
    small = {"apiVersion": "v1", "kind": "ResourceQuota",
             "metadata": {"name": "team", "namespace": "shop"},
             "spec": {"hard": {"cpu": "1", "pods": "100"}}}  # fmt: skip
    told = planned(pods, inventory_of(tmp_path, *BASE, small), guards=("quota",))
    # cpu is requests.cpu; memory, of which it says nothing, stays free of a quota
    assert list(told.guards["field"]) == ["hard.cpu"]
    assert field(told, "quota", "hard.cpu")["current"] == 1000


def test_a_name_that_another_object_has_is_not_taken_from_it(pods: Pods, tmp_path: Path) -> None:
    other = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
             "metadata": {"name": "web", "namespace": "shop"},
             "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "site"}}}}  # fmt: skip
    told = planned(pods, inventory_of(tmp_path, *BASE, other), guards=("pdb",))
    assert field(told, "pdb", "maxUnavailable", "web")["name"] == "web-deployment"


def test_objects_whose_names_run_together_get_a_file_each() -> None:
    row = {"guard": "quota", "field": "hard.limits.memory", "unit": "byte", "target": 1 << 30,
           "exists": False, "reason": "growth"}  # fmt: skip
    named = [("a", "b-quota-c"), ("a-quota-b", "c")]
    rows = [{**row, "namespace": space, "name": name} for space, name in named]
    made = texts(pl.DataFrame(rows, schema=GUARDS.schema))
    objects = [yaml.safe_load(text)["metadata"] for name, text in made.items() if name[0] != "k"]
    assert sorted((one["namespace"], one["name"]) for one in objects) == named


def test_patches_whose_names_run_together_get_a_file_each(made: Sizing) -> None:
    changed = made.resources.filter(workload="web")
    assert set(changed["kind"]) == {"Deployment"}
    named = [("a", "b-deployment-c"), ("a-deployment-b", "c")]
    told = pl.concat(
        [changed.with_columns(namespace=pl.lit(a), workload=pl.lit(b)) for a, b in named]
    )
    files = patches(told)
    objects = [yaml.safe_load(text)["metadata"] for name, text in files.items() if name[0] != "k"]
    assert sorted((one["namespace"], one["name"]) for one in objects) == named


def test_two_workloads_of_one_name_get_a_budget_each(tmp_path: Path) -> None:
    made = Pods()
    made.replica_set("web-7d9f8c6b5d", "web")
    for k in range(2):
        made.pod(f"web-7d9f8c6b5d-x2x2{'bc'[k]}", used(seed=k), memory(seed=k), owner=WEB)
        made.pod(f"web-{k}", used(seed=k), memory(seed=k), owner=("StatefulSet", "web"))
    members = workload("StatefulSet", "web", 2, "1", "1Gi")
    members["spec"]["selector"] = {"matchLabels": {"app": "members"}}
    members["spec"]["template"]["metadata"]["labels"] = {"app": "members"}
    inventory = inventory_of(tmp_path, workload("Deployment", "web", 2, "1", "1Gi"), members)
    files = texts(planned(made, inventory, guards=("pdb",)).guards)
    assert set(files) == {"kustomization.yaml", "shop-pdb-web.yaml",
                          "shop-pdb-web-statefulset.yaml"}  # fmt: skip


def test_a_second_budget_for_the_same_pods_is_not_made(pods: Pods, tmp_path: Path) -> None:
    mine = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "mine", "namespace": "shop"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"v": "1"}}}}  # fmt: skip
    told = planned(pods, inventory_of(tmp_path, *BASE, mine), guards=("pdb",))
    assert told.guards.is_empty()


def test_budgets_of_ciliums_own_name_the_value_of_its_chart(tmp_path: Path) -> None:
    own, made = [], Pods()
    for name in ("cilium-operator", "hubble-relay", "clustermesh-apiserver"):
        item = workload("Deployment", name, 2, "1", "1Gi")
        item["metadata"]["namespace"] = "kube-system"
        own.append(item)
        made.pod(f"{name}-7d9f8c6b5d-x2x2x", used(), memory(), minutes=5, namespace="kube-system",
                 owner=("Deployment", name))  # fmt: skip
    told = planned(made, inventory_of(tmp_path, *own), guards=("pdb",)).guards
    values = facts.chart_values("1.18")["key"].to_list()
    for name, key in (
        ("cilium-operator", "operator.podDisruptionBudget.enabled"),
        ("hubble-relay", "hubble.relay.podDisruptionBudget.enabled"),
        ("clustermesh-apiserver", "clustermesh.apiserver.podDisruptionBudget.enabled"),
    ):
        assert f"rather {key}: true" in told.filter(workload=name)["reason"][0]
        assert key in values


@settings(max_examples=25, deadline=None)
@given(
    replicas=st.integers(1, 500), margin=st.floats(0, 1), more=st.integers(0, 5000),
    strays=st.booleans(),
)  # fmt: skip
def test_more_pods_or_larger_ones_never_get_a_smaller_quota(
    made: Sizing, replicas: int, margin: float, more: int, strays: bool
) -> None:
    own = RightsizingSettings(guards=("quota",), quota_margin=margin)

    def quota(many: int, size: int) -> dict[str, int]:
        sized = made.resources.with_columns(replicas=many, target=made.resources["target"] + size)
        told = guards(sized, made.usage, Inventory().objects, own)
        return dict(told.select("field", "target").iter_rows())

    less, larger = quota(replicas, 0), quota(replicas + strays, more)
    assert set(less) == set(larger)
    assert all(larger[name] >= less[name] for name in less)
    requests = made.resources.filter(setting="requests.memory")
    assert less["hard.requests.memory"] >= replicas * requests["target"].sum()


@pytest.mark.parametrize("odd", ["x", 5, ["x"]])
def test_objects_of_another_shape_tell_nothing(odd: Any) -> None:
    rows = [
        ("PodDisruptionBudget", {"spec": {"selector": {"matchLabels": odd}}}),
        ("ResourceQuota", {"spec": odd}),
        ("HorizontalPodAutoscaler", {"spec": {"scaleTargetRef": odd}}),
        ("Deployment", {"labels": odd, "selector": {"matchLabels": {"app": "web"}}}),
    ]
    told = [{"kind": kind, "namespace": "shop", "name": "web", "source": "x",
             "object": json.dumps(made)} for kind, made in rows]  # fmt: skip
    there = _There.of(pl.DataFrame(told, schema=OBJECTS.schema))
    one = {"namespace": "shop", "kind": "Deployment", "workload": "web", "replicas": 4,
           "cpu p50": None, "cpu requests": None}  # fmt: skip
    # A selector that cannot be read may select the pods: no second budget
    assert list(_budget(one, there)) == []
