"""How much there is of each resource: table limits, from metrics, options, sizing rules, facts.

What the running agents report wins over what was configured, that over Cilium's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from capacity import facts
from capacity.cilium.map_sizes import dynamic_sizes
from capacity.errors import SettingsError
from capacity.inventory import Inventory
from capacity.observe import map_sizes
from capacity.settings import PlanSettings
from capacity.tables import LIMITS, check
from capacity.units import parse_bytes


def limits(
    steps: pl.DataFrame, inventory: Inventory, settings: PlanSettings, version: str
) -> pl.DataFrame:
    """Give table limits of all clusters in the steps.

    Parameters
    ----------
    steps
        Table steps.
    inventory
        Options and node memory, where no metric tells a size.
    version
        Cilium minor version, e.g. ``1.17``.
    """
    rows: list[dict[str, Any]] = []
    for cluster in steps["cluster"].unique().sort():
        own = steps.filter(pl.col("cluster") == cluster)
        rows += _maps(cluster, own, inventory, settings, version)
        rows += _hard(cluster, own, version)
        rows += _pods(cluster, own, inventory, version)
    return check(pl.DataFrame(rows, schema=LIMITS.schema), LIMITS)


def _row(cluster: str, component: str, subject: str | None, quantity: str, **more: Any) -> Any:
    blank = {"limit": None, "setting": None, "upper": None, "verified": None, "unit": "1"}
    keys = {"cluster": cluster, "component": component, "subject": subject, "quantity": quantity}
    return blank | keys | more


def _maps(
    cluster: str,
    steps: pl.DataFrame,
    inventory: Inventory,
    settings: PlanSettings,
    version: str,
) -> list[dict[str, Any]]:
    used = pl.col("quantity").is_in(["map_pressure", "map_entries"])
    reported = dict(map_sizes(steps).select("subject", "max_entries").iter_rows())
    sizing = configured_sizes(inventory, settings, version)
    shapes = {row["map"]: row for row in facts.maps(version).iter_rows(named=True)}
    out = []
    for subject in steps.filter(used)["subject"].drop_nulls().unique().sort():
        fact = shapes.get(facts.map_of_label(subject, version) or "")
        size, source = _size(fact, reported.get(subject), sizing, version)
        out.append(
            _row(
                cluster, "map", subject, "map_entries" if subject in reported else "map_pressure",
                limit=float(size) if subject in reported and size is not None else 1.0,
                kind=fact["kind"] if fact else "settable",
                setting=helm_value(fact) if fact else None,
                upper=float(fact["max"]) if fact and fact["max"] is not None else None,
                verified=bool(fact["verified"]) if fact else False,
                source=source if subject in reported else "the agent's own ratio",
            )
        )  # fmt: skip
    return out


def helm_value(fact: Mapping[str, Any]) -> str | None:
    """Give the Helm value; an agent flag without one is set through extraConfig."""
    if fact["helm_value"]:
        return str(fact["helm_value"])
    return f"extraConfig.{fact['option']}" if fact["option"] else None


def _size(
    fact: dict[str, Any] | None, reported: float | None, sizing: dict[str, Any], version: str
) -> tuple[float | None, str]:
    if reported is not None:
        return reported, "cilium_bpf_map_capacity, newest, smallest over nodes"
    if fact is None:
        return None, f"no fact about this map in Cilium {version}"
    if fact["option"] in sizing:
        value, how = sizing[fact["option"]]
        return float(value), how
    return fact["max_entries"], f"default of Cilium {version}: {fact['source']}"


def configured_sizes(
    inventory: Inventory, settings: PlanSettings, version: str
) -> dict[str, tuple[int, str]]:
    """Give agent option → (entries, where it comes from): explicit options, then dynamic sizing.

    The ratio is the option bpf-map-dynamic-size-ratio, else the chart's default; the memory is
    `settings.memory`, else the smallest node of the inventory. Unknown where neither is there.
    """
    explicit = {
        name: int(value)
        for name, value in inventory.options.select("option", "value").iter_rows()
        if name.startswith("bpf-") and name.endswith("-max") and value.isdecimal()
    }
    out = {name: (value, f"option {name}") for name, value in explicit.items()}
    memory = node_memory(inventory, settings)
    if memory is None:
        return out
    ratio = _ratio(inventory, version)
    sizes = dynamic_sizes(memory, ratio, version=version, explicit=explicit)
    how = f"dynamic sizing: ratio {ratio:g} of {memory} bytes"
    return {name: (size, how) for name, size in sizes.items()} | out


def node_memory(inventory: Inventory, settings: PlanSettings) -> int | None:
    """Give `settings.memory`, else the memory of the smallest node of the inventory. [byte]."""
    if settings.memory is not None:
        return parse_bytes(settings.memory)
    smallest = inventory.nodes["memory"].min()
    return int(smallest) if isinstance(smallest, int) else None


def _ratio(inventory: Inventory, version: str) -> float:
    name = "bpf-map-dynamic-size-ratio"
    text = inventory.option(name)
    if text is None:
        row = facts.options(version).filter(pl.col("option") == name)
        text = str(row["chart_default"][0])
    try:
        return float(text)
    except ValueError:
        raise SettingsError(f"option {name}: {text!r} is not a number of 0…1") from None


def _hard(cluster: str, steps: pl.DataFrame, version: str) -> list[dict[str, Any]]:
    """Limits that no setting moves and whose use a metric or map tells."""
    usual = facts.limits(version).filter(pl.col("default"))
    known = {row["limit"]: row for row in usual.iter_rows(named=True)}
    quantities = set(steps["quantity"].unique())
    out = []
    for limit, quantity in (("service-ids", "service_ids"), ("cluster-identities", "identities")):
        fact = known.get(limit)
        if fact is not None and quantity in quantities:
            out.append(
                _row(
                    cluster, "cluster", limit, quantity, limit=float(fact["value"]),
                    kind=fact["kind"], verified=bool(fact["verified"]),
                    source=f"Cilium {version}: {fact['source']}",
                )
            )  # fmt: skip
    return out


def _pods(
    cluster: str, steps: pl.DataFrame, inventory: Inventory, version: str
) -> list[dict[str, Any]]:
    """Limits of Cilium's containers: what runs, else what the inventory sets."""
    out = []
    told = {(c, q) for c, q in steps.select("component", "quantity").unique().iter_rows()}
    for fact in facts.components(version).iter_rows(named=True):
        component = fact["component"]
        for resource, unit in (("memory", "byte"), ("cpu", "millicore")):
            if (component, resource) not in told:
                continue
            bounds = steps.filter(
                pl.col("component") == component, pl.col("quantity") == f"{resource}_limit"
            )["smallest"]
            asked = inventory.workloads.filter(
                kind=fact["kind"], workload=fact["name"], container=fact["container"]
            )[f"{resource}_limit"].drop_nulls()
            bound = bounds.min() if not bounds.is_empty() else asked.min()
            source = "kube_pod_container_resource_limits, smallest over pods"
            if bounds.is_empty():
                source = f"{fact['kind']} {fact['name']} or Helm values of the inventory"
            out.append(
                _row(
                    cluster, component, None, resource, unit=unit,
                    limit=None if bound is None else float(bound),  # type: ignore[arg-type]
                    kind="settable", setting=f"{fact['resources']}.limits.{resource}",
                    source=source if bound is not None
                    else "no limit is set, or kube-state-metrics is not in the export",
                )
            )  # fmt: skip
    return out
