"""Drivers of the equations of facts/fill.csv: what metrics, inventory and options tell of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

import polars as pl

from capacity.cilium.identities import listed
from capacity.errors import SettingsError
from capacity.facts.filling import fill_drivers
from capacity.inventory import Inventory
from capacity.observing import Observed

# Host and health endpoint: of each node's endpoints, those that are no pods
_OWN_ENDPOINTS: Final = 2
# Entries of any map are far fewer, and whole numbers up to here are doubles themselves
_MOST: Final = 1e12
# Where only assumed: so many of each family
_OF_EACH_FAMILY: Final = ("node_addresses", "host_addresses", "health_addresses", "pod_cidrs")
# What a frontend of facts/fill_drivers.csv is counted in: map of table service_growth
_COUNTED: Final = {
    "frontends": "cilium_lb{}_reverse_nat",
    "backends": "cilium_lb{}_backends_v3",
    "source_ranges": "cilium_lb{}_source_range",
    "maglev_frontends": "cilium_lb{}_maglev",
}


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver's value now, how much more there is with twice the nodes, what tells it.

    `told` is what the source tells where another value is tried out; None where it is the value.
    """

    value: float
    growing: float
    basis: str
    told: float | None = None

    @property
    def seen(self) -> float:
        """The value that belongs to what is observed."""
        return self.value if self.told is None else self.told

    def at(self, ratio: float) -> float:
        """Give the value where the cluster has `ratio` times the nodes, at constant density."""
        return self.value + self.growing * (ratio - 1)


def drivers_of(
    seen: Observed,
    policies: pl.DataFrame,
    services: pl.DataFrame,
    given: Mapping[str, float] | None = None,
) -> dict[str, Driver]:
    """Give the drivers that are known: those given, else counted, observed, or assumed.

    Parameters
    ----------
    seen
        What the source tells.
    policies, services
        Tables policy_growth and service_growth of its inventory; empty where it has none.
    given
        Values by driver, which override all else.

    Returns
    -------
    dict
        By driver of facts/fill_drivers.csv; those that nothing tells are left out.
    """
    facts = {row["driver"]: row for row in fill_drivers().iter_rows(named=True)}
    options = dict(seen.inventory.options.select("option", "value").iter_rows())
    assumed = {n: row["default"] for n, row in facts.items() if row["default"] is not None}
    told: dict[str, tuple[float, str]] = {
        **{name: (value, "assumed") for name, value in assumed.items()},
        **_of_options(options, assumed),
        **_of_inventory(seen.inventory, seen.version),
        **_of_metrics(seen),
    }
    if "nodes" in told and "pods" not in told and not seen.inventory.endpoints.is_empty():
        told["pods"] = (float(len(seen.inventory.endpoints)), "inventory")
    out = {
        name: Driver(value, value if facts[name]["grows"] else 0.0, basis)
        for name, (value, basis) in told.items()
    }
    out |= _counted(policies, services)
    for name, value in (given or {}).items():
        old = out.get(name)
        share = old.growing / old.value if old and old.value else float(facts[name]["grows"])
        # Who names what was only assumed knows it; else it is tried out
        told_now = None if old is None or old.basis.startswith("assumed") else old.seen
        out[name] = Driver(value, value * share, "given", told_now)
    return out


def given(texts: tuple[str, ...]) -> dict[str, float]:
    """Read drivers as users give them, ``nodes=500``.

    Raises
    ------
    SettingsError
        If one is not known, or has no value of 0 or more.

    Examples
    --------
    >>> given(("nodes=500", "fragmented_datagrams=20"))
    {'nodes': 500.0, 'fragmented_datagrams': 20.0}
    """
    known = fill_drivers()["driver"].to_list()
    out = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in known:
            near = get_close_matches(name, known, 1)
            meant = f"{near[0]!r} is near; " if near else ""
            raise SettingsError(
                f"--set {text!r}: no driver {name!r}; {meant}`capacity facts drivers` lists them"
            )
        try:
            out[name] = float(value)
        except ValueError:
            out[name] = -1.0
        if not 0 <= out[name] <= _MOST:
            raise SettingsError(f"--set {text!r}: wanted is DRIVER=NUMBER, 0 to {_MOST:g}")
    return out


def _of_options(
    options: Mapping[str, str], assumed: Mapping[str, float]
) -> dict[str, tuple[float, str]]:
    """Tell what the agent's options switch on."""
    out: dict[str, tuple[float, str]] = {}
    families = [options.get(f"enable-ipv{family}") for family in "46"]
    if any(families):
        out["families"] = (max(families.count("true"), 1), "options")
    checks = ("enable-health-checking", "enable-endpoint-health-checking")
    both = out.get("families", (1.0, ""))[0]
    for name in _OF_EACH_FAMILY:
        out[name] = (assumed[name] * both, "assumed")
    if any(name in options for name in checks):
        on = all(options.get(name, "true") == "true" for name in checks)
        out["health_addresses"] = (both if on else 0.0, "options")
    if "enable-envoy-config" in options:
        on = options["enable-envoy-config"] == "true"
        out["ingress_addresses"] = (both if on else 0.0, "options")
    zones = [zone for zone in options.get("fixed-zone-mapping", "").split(",") if zone]
    if zones:
        out["act_zones"] = (len(zones), "options")
    ends = options.get("vtep-endpoint", "").split()
    if ends:
        out["vtep_endpoints"] = (len(ends), "options")
    return out


def _of_inventory(inventory: Inventory, version: str) -> dict[str, tuple[float, str]]:
    """Tell what is counted in the inventory, but for policies and services."""
    out: dict[str, tuple[float, str]] = {}
    if inventory.node_addresses is not None:
        out["node_addresses"] = (inventory.node_addresses, "inventory")
    if cidrs := inventory.nodes["pod_cidrs"].drop_nulls().to_list():
        out["pod_cidrs"] = (sum(cidrs) / len(cidrs), "inventory")
    most = inventory.nodes["cpu"].max()
    if isinstance(most, int):
        out["cpus"] = (-(-most // 1000), "inventory: those online")
    if not inventory.policies.is_empty() and not inventory.endpoints.is_empty():
        local = listed(inventory, version=version).filter(scope="local")
        out["cidrs"] = (float(len(local)), "inventory: policies, without addresses of names")
    return out


def _of_metrics(seen: Observed) -> dict[str, tuple[float, str]]:
    """Tell what metrics do; nodes and endpoints may come from the inventory."""
    out: dict[str, tuple[float, str]] = {}
    newest = seen.drivers.select(pl.all().drop_nulls().last()).row(0, named=True)
    nodes, endpoints = newest["nodes"], newest["endpoints"]
    if nodes:
        out["nodes"] = (nodes, "observed")
    local = _newest(seen.steps, pl.col("quantity") == "endpoints")
    if local is not None:
        out["local_endpoints"] = (local, "observed")
    if nodes and endpoints and not _is_of_ipcache(seen.steps, nodes, endpoints):
        own = 0 if local is None else _OWN_ENDPOINTS
        out["pods"] = (max(endpoints - own * nodes, 0.0), "observed")
    # Both families share these metrics: known for one family only
    if newest["services"]:
        out |= {"frontends4": (newest["services"], "observed: the map itself")}
    if newest["backends"]:
        out |= {
            "backends4": (newest["backends"], "observed: the map itself"),
            "slots4": (newest["backends"], "assumed: as many as backends, a lower bound"),
        }
    return out


def _is_of_ipcache(steps: pl.DataFrame, nodes: float, endpoints: float) -> bool:
    """Whether endpoints were told by the ipcache: its equation would go in circles."""
    held = _newest(steps, pl.col("subject").is_in(["ipcache", "ipcache_v2"]))
    return held is not None and abs(held - 3 * nodes - endpoints) < 0.5


def _newest(steps: pl.DataFrame, which: pl.Expr) -> float | None:
    rows = steps.filter(which).drop_nulls("largest")
    largest = rows.filter(pl.col("time") == pl.col("time").max())["largest"].max()
    return float(largest) if isinstance(largest, float) else None


def _counted(policies: pl.DataFrame, services: pl.DataFrame) -> dict[str, Driver]:
    """Take over what policies and services of the inventory make, and how that grows."""
    out: dict[str, Driver] = {}
    basis = "inventory, counted"
    known = policies.drop_nulls(["entries", "growing"]).sort("entries", descending=True)
    if not known.is_empty():
        row = known.row(0, named=True)
        out["policy_entries"] = Driver(row["entries"], row["growing"], basis)
    rows = {row["resource"]: row for row in services.iter_rows(named=True)}
    for family in "46":
        for name, counted in _COUNTED.items():
            if whole := rows.get(counted.format(family)):
                out[name + family] = Driver(whole["entries"], whole["growing"], basis)
        if whole := rows.get(f"cilium_lb{family}_services_v2"):
            own = out["frontends" + family]
            out["slots" + family] = Driver(
                whole["entries"] - own.value, whole["growing"] - own.growing, basis
            )
    if whole := rows.get("cilium_lb_affinity_match"):
        out["affinity_backends"] = Driver(whole["entries"], whole["growing"], basis)
    return out
