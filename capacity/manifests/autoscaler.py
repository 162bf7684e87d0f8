"""VerticalPodAutoscaler objects that only watch, within the bounds of the plan."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from capacity import facts
from capacity.manifests.subject import Subject, may
from capacity.manifests.values import documents
from capacity.units import bytes_to_quantity, millicores_to_quantity


def text(subject: Subject) -> str | None:
    """Give one object for each of Cilium's with planned requests, None without any.

    Update mode Off: an agent that an autoscaler evicts takes its node's policies and new pods with
    it. Bounds: at least what the plan's median needs, at most the planned limit.
    """
    if not may(subject, "patches"):
        return None
    rows = subject.recommendation.filter(
        pl.col("setting").str.contains("resources."), pl.col("target").is_not_null()
    )
    made: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for fact in facts.components(subject.version).iter_rows(named=True):
        policy = _policy(fact, rows.filter(component=fact["component"]))
        if policy is not None:
            made.setdefault((fact["kind"], fact["name"]), []).append(policy)
    if not made:
        return None
    return documents(*(_object(kind, name, found) for (kind, name), found in made.items()))


def _policy(fact: dict[str, Any], rows: pl.DataFrame) -> dict[str, Any] | None:
    least: dict[str, str] = {}
    most: dict[str, str] = {}
    for row in rows.iter_rows(named=True):
        bound, resource = row["setting"].removeprefix(f"{fact['resources']}.").split(".")
        lower = row["lower"] if row["lower"] is not None else row["target"]
        if bound == "requests":
            least[resource] = _quantity(min(lower, row["target"]), row["unit"])
        else:
            most[resource] = _quantity(row["target"], row["unit"])
    if not least:
        return None
    policy: dict[str, Any] = {
        "containerName": fact["container"],
        "controlledResources": sorted(least),
        "controlledValues": "RequestsOnly",
        "minAllowed": least,
    }
    return policy | ({"maxAllowed": most} if most else {})


def _quantity(value: float, unit: str) -> str:
    whole = math.ceil(value)
    return bytes_to_quantity(whole, "up") if unit == "byte" else millicores_to_quantity(whole)


def _object(kind: str, name: str, policies: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling.k8s.io/v1",
        "kind": "VerticalPodAutoscaler",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name},
            "updatePolicy": {"updateMode": "Off"},
            "resourcePolicy": {"containerPolicies": policies},
        },
    }
