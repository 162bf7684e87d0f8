"""Quotas, defaults, disruption budgets and autoscalers of workloads, each with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import polars as pl

from capacity.manifests.values import Tree, put, to_yaml
from capacity.manifests.workload_patches import check_names, free_path
from capacity.units import bytes_to_quantity, millicores_to_quantity

# API versions: kubernetes/api v0.32 (autoscaling/v2 and policy/v1 from 1.23 and 1.21 on)
_OBJECTS: Final = {
    "quota": ("v1", "ResourceQuota"),
    "limit-range": ("v1", "LimitRange"),
    "pdb": ("policy/v1", "PodDisruptionBudget"),
    "hpa": ("autoscaling/v2", "HorizontalPodAutoscaler"),
}
_KEYS: Final = ("guard", "namespace", "name")
Spec = tuple[Tree, dict[str, str]]


def texts(guards: pl.DataFrame) -> dict[str, str]:
    """Give a file for each object, and the kustomization that lists them.

    An object that is there already is patched, others are added.

    Parameters
    ----------
    guards
        Table guards.

    Returns
    -------
    dict
        Path below a folder → YAML; empty without guards.

    Raises
    ------
    ManifestError
        If a name is none that Kubernetes would take, or a file does not read back.
    """
    made: dict[str, str] = {}
    added: list[str] = []
    patched: list[str] = []
    for rows in guards.partition_by(_KEYS, maintain_order=True):
        first = rows.row(0, named=True)
        what = f"{first['guard']} in {first['namespace'][:80]!r}"
        check_names([first["namespace"], first["name"], first["workload"] or "x"], what)
        path = free_path((first["namespace"], first["guard"], first["name"]), made)
        made[path] = _object(rows.rows(named=True))
        (patched if first["exists"] else added).append(path)
    if not made:
        return {}
    tree: Tree = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    if added:
        tree["resources"] = sorted(added)
    if patched:
        tree["patches"] = [{"path": path} for path in sorted(patched)]
    return {"kustomization.yaml": to_yaml(tree), **dict(sorted(made.items()))}


def _object(rows: list[dict[str, Any]]) -> str:
    first = rows[0]
    version, kind = _OBJECTS[first["guard"]]
    spec, comments = _SPECS[first["guard"]](rows)
    tree = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": first["name"], "namespace": first["namespace"]},
        "spec": spec,
    }
    return to_yaml(tree, {f"spec.{path}": text for path, text in comments.items()})


def _quantity(row: dict[str, Any]) -> str | int:
    if row["unit"] == "byte":
        return bytes_to_quantity(row["target"], "up")
    return millicores_to_quantity(row["target"]) if row["unit"] == "millicore" else row["target"]


def _quota(rows: list[dict[str, Any]]) -> Spec:
    hard = {row["field"].removeprefix("hard."): _quantity(row) for row in rows}
    return {"hard": hard}, {row["field"]: row["reason"] for row in rows}


def _limit_range(rows: list[dict[str, Any]]) -> Spec:
    limit: Tree = {"type": "Container"}
    for row in rows:
        put(limit, row["field"], _quantity(row))
    return {"limits": [limit]}, {f"limits.0.{row['field']}": row["reason"] for row in rows}


def _budget(rows: list[dict[str, Any]]) -> Spec:
    (row,) = rows
    spec = {"maxUnavailable": row["target"], "selector": json.loads(row["selector"])}
    return spec, {"maxUnavailable": row["reason"]}


def _autoscaler(rows: list[dict[str, Any]]) -> Spec:
    told = {row["field"]: row for row in rows}
    target = {"type": "Utilization", "averageUtilization": told["averageUtilization"]["target"]}
    first = rows[0]
    spec = {
        "maxReplicas": told["maxReplicas"]["target"],
        "minReplicas": told["minReplicas"]["target"],
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        "scaleTargetRef": {
            "apiVersion": "apps/v1", "kind": first["kind"], "name": first["workload"],
        },
    }  # fmt: skip
    places = {"averageUtilization": "metrics.0.resource.target.averageUtilization"}
    return spec, {places.get(name, name): row["reason"] for name, row in told.items()}


_SPECS: Final[dict[str, Callable[[list[dict[str, Any]]], Spec]]] = {
    "quota": _quota,
    "limit-range": _limit_range,
    "pdb": _budget,
    "hpa": _autoscaler,
}
