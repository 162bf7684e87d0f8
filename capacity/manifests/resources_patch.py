"""Kustomize patches of requests and limits, for installations that do not use Helm."""

from __future__ import annotations

from typing import Any

import polars as pl

from capacity.manifests.values import Tree, changes, put, scalar, to_yaml

# Names as the chart gives them: cilium/cilium install/kubernetes/cilium/templates
# (cilium-agent/daemonset.yaml, cilium-operator/deployment.yaml), 1.14 to 1.20.
_AGENT = ("DaemonSet", "cilium", "cilium-agent")
_OPERATOR = ("Deployment", "cilium-operator", "cilium-operator")


def agent(recommendation: pl.DataFrame) -> str | None:
    """Give the patch of the agent's DaemonSet, or None where nothing changes."""
    return _patch(recommendation, "agent", *_AGENT)


def operator(recommendation: pl.DataFrame) -> str | None:
    """Give the patch of the operator's Deployment, or None where nothing changes."""
    return _patch(recommendation, "operator", *_OPERATOR)


def kustomization(recommendation: pl.DataFrame) -> str | None:
    """Give the kustomization that lists the patches there are."""
    made = {"agent-resources.yaml": agent, "operator-resources.yaml": operator}
    paths = [path for path, make in made.items() if make(recommendation) is not None]
    if not paths:
        return None
    return to_yaml(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "patches": [{"path": path} for path in paths],
        }
    )


def _patch(
    recommendation: pl.DataFrame, component: str, kind: str, name: str, container: str
) -> str | None:
    rows = changes(recommendation).filter(
        pl.col("component") == component, pl.col("setting").str.contains("resources.", literal=True)
    )
    if rows.is_empty():
        return None
    resources: Tree = {}
    for row in rows.iter_rows(named=True):
        put(resources, row["setting"].split("resources.", 1)[1], scalar(row))
    spec: dict[str, Any] = {"containers": [{"name": container, "resources": resources}]}
    return to_yaml(
        {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": "kube-system"},
            "spec": {"template": {"spec": spec}},
        }
    )
