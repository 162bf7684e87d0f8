"""Table coverage: what the planner wants to know, and whether the export tells it."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.facts import derivations
from capacity.inventory import Inventory
from capacity.tables import COVERAGE, check

# What to do where a metric is missing; Helm keys: cilium/cilium install/kubernetes/cilium
# values.yaml (prometheus.enabled and operator.prometheus.enabled), 1.14 to 1.20.
_AGENT: Final = "switch agent metrics on: Helm prometheus.enabled=true, and scrape port 9962"
_OPERATOR: Final = "operator metrics: Helm operator.prometheus.enabled=true, and scrape port 9963"
_STATE: Final = "export kube-state-metrics too, or there is no limit set on the container"
_CADVISOR: Final = "export cAdvisor's container metrics too; RSS plus map memory is used instead"
_INVENTORY: Final = {
    "nodes": "kubectl get nodes -o json; ciliumnodes for all addresses",
    "endpoints": "kubectl get pods -A -o json",
    "identities": "kubectl get ciliumidentities -o json",
    "services": "kubectl get services -A -o json",
    "policies": "kubectl get cnp,ccnp,netpol -A -o json",
    "options": "kubectl -n kube-system get configmap cilium-config -o yaml",
    "bpf_maps": "bpftool map show -j on a node",
}


def coverage(steps: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Give table coverage: metrics and inventory tables wanted, and how to get those missing."""
    told = {
        (component, quantity)
        for component, quantity in steps.select("component", "quantity").unique().iter_rows()
    }
    rows = []
    for component, quantity, metric in (
        derivations.observed().select("component", "quantity", "metric").iter_rows()
    ):
        present = (component, quantity) in told
        rows.append(
            {
                "want": f"{component} {quantity}",
                "status": "present" if present else "missing",
                "source": metric,
                "hint": None if present else _hint(metric),
            }
        )
    for name, hint in _INVENTORY.items():
        present = not getattr(inventory, name).is_empty()
        rows.append(
            {
                "want": f"inventory {name}",
                "status": "present" if present else "missing",
                "source": "inventory",
                "hint": None if present else hint,
            }
        )
    return check(pl.DataFrame(rows, schema=COVERAGE.schema), COVERAGE)


def _hint(metric: str) -> str:
    if metric.startswith("cilium_operator_"):
        return _OPERATOR
    if metric.startswith("kube_"):
        return _STATE
    return _CADVISOR if metric.startswith("container_") else _AGENT
