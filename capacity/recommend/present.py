"""What is set now: options, Helm values and objects of the inventory, else what metrics tell.

A setting that is in the inventory counts as set, also where the agents do not run with it yet:
what is recommended is a change of settings, not of running agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.inventory import Inventory

_BOUNDS: Final = {
    ("limits", "memory"): "memory_limit", ("limits", "cpu"): "cpu_limit",
    ("requests", "memory"): "memory_request", ("requests", "cpu"): "cpu_request",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Present:
    """Settings as they are: Helm value → size, agent option → text, and the nodes' memory.

    `sizes` hold entries, bytes or millicores; `options` only what is set explicitly. `replicas`
    are pods by component, null facts left out. `memory` is the smallest node's. [byte]
    """

    version: str
    sizes: Mapping[str, float]
    options: Mapping[str, str]
    replicas: Mapping[str, int]
    memory: int | None


def present(steps: pl.DataFrame, inventory: Inventory, version: str, memory: int | None) -> Present:
    """Collect what is set.

    Parameters
    ----------
    steps
        Table steps: requests and limits of pods, where the inventory does not tell them.
    inventory
        Options and workloads.
    version
        Cilium minor version.
    memory
        Memory of the smallest node, None where it is not known. [byte]
    """
    options = dict(inventory.options.select("option", "value").iter_rows())
    sizes = _of_metrics(steps, version) | _of_objects(inventory, version)
    for option, value in options.items():
        number = _number(value)
        if number is not None:
            sizes[helm_value(option, version)] = number
    return Present(version, sizes, options, _replicas(inventory, version), memory)


def helm_value(option: str, version: str) -> str:
    """Give the Helm value of an agent option; one that the chart has none for goes through."""
    named = facts.options(version).filter(pl.col("option") == option)["helm_value"].drop_nulls()
    known = set(facts.chart_values(version)["key"])
    return str(named[0]) if len(named) and named[0] in known else f"extraConfig.{option}"


def option_of(setting: str, version: str) -> str | None:
    """Give the agent option that a Helm value sets; None where it sets none of ours.

    Examples
    --------
    >>> option_of("bpf.lbMapMax", "1.17"), option_of("resources.limits.memory", "1.17")
    ('bpf-lb-map-max', None)
    """
    if setting.startswith("extraConfig."):
        return setting.removeprefix("extraConfig.")
    found = facts.options(version).filter(pl.col("helm_value") == setting)["option"]
    return str(found[0]) if len(found) else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _of_metrics(steps: pl.DataFrame, version: str) -> dict[str, float]:
    """Give requests and limits by kube-state-metrics: the smallest over pods, newest."""
    out = {}
    newest = steps.sort("time").group_by("component", "quantity").last()
    told = {(row["component"], row["quantity"]): row["smallest"] for row in newest.to_dicts()}
    for fact in facts.components(version).iter_rows(named=True):
        for (bound, resource), quantity in _BOUNDS.items():
            value = told.get((fact["component"], quantity))
            if value is not None:
                out[f"{fact['resources']}.{bound}.{resource}"] = float(value)
    return out


def _of_objects(inventory: Inventory, version: str) -> dict[str, float]:
    out = {}
    for fact, row in _objects(inventory, version):
        for bound, resource in _BOUNDS:
            value = row[f"{resource}_{bound.removesuffix('s')}"]
            if value is not None:
                out[f"{fact['resources']}.{bound}.{resource}"] = float(value)
    return out


def _objects(inventory: Inventory, version: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Cilium's containers in the inventory, each with its fact; an object wins over Helm values."""
    rows = {
        (row["kind"], row["workload"], row["container"]): row
        for row in inventory.workloads.iter_rows(named=True)
    }
    found = []
    for fact in facts.components(version).iter_rows(named=True):
        row = rows.get((fact["kind"], fact["name"], fact["container"]))
        if row is not None:
            found.append((fact, row))
    return found


def _replicas(inventory: Inventory, version: str) -> dict[str, int]:
    usual = facts.components(version).drop_nulls("replicas")
    out = dict(usual.select("component", "replicas").iter_rows())
    told = [(fact["component"], row["replicas"]) for fact, row in _objects(inventory, version)]
    return out | {component: many for component, many in told if many is not None}
