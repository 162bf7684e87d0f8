"""Kustomize component: patches of requests, limits and options, for installations without Helm."""

from __future__ import annotations

from typing import Any

from capacity import facts
from capacity.manifests import config_patch
from capacity.manifests.subject import Subject, may
from capacity.manifests.values import Tree, changes, put, reason, scalar, to_yaml

_CONFIG = "cilium-config.yaml"


def texts(subject: Subject) -> dict[str, str]:
    """Give a patch for each object that changes, and the component that lists them.

    A component patches what stands in the overlay that names it; Cilium's objects must be there.
    """
    if not may(subject, "patches"):
        return {}
    made = {}
    for (kind, name), items in _objects(subject.version).items():
        patch = _patch(subject, kind, name, items)
        if patch is not None:
            made[f"{name}-resources.yaml"] = patch
    config = config_patch.text(subject)
    if config is not None:
        made[_CONFIG] = config
    if not made:
        return {}
    made["kustomization.yaml"] = to_yaml(
        {
            "apiVersion": "kustomize.config.k8s.io/v1alpha1",
            "kind": "Component",
            "patches": [{"path": path} for path in sorted(made)],
        }
    )
    return {f"kustomize/{path}": text for path, text in sorted(made.items())}


def _objects(version: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Objects of Cilium with their containers; names as the chart gives them."""
    out: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for fact in facts.components(version).iter_rows(named=True):
        out.setdefault((fact["kind"], fact["name"]), []).append(fact)
    return out


def _patch(subject: Subject, kind: str, name: str, containers: list[dict[str, Any]]) -> str | None:
    found: list[Tree] = []
    comments: dict[str, str] = {}
    for fact in containers:
        resources: Tree = {}
        start = f"{fact['resources']}."
        at = f"spec.template.spec.containers.{len(found)}.resources."
        for row in changes(subject.recommendation).sort("setting", "target").iter_rows(named=True):
            if row["component"] == fact["component"] and row["setting"].startswith(start):
                path = row["setting"].removeprefix(start)
                put(resources, path, scalar(row))
                comments[at + path] = reason(row)
        if resources:
            found.append({"name": fact["container"], "resources": resources})
    if not found:
        return None
    tree = {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"template": {"spec": {"containers": found}}},
    }
    return to_yaml(tree, comments)
