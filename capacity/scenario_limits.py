"""Limits under other options, another Cilium version, or in a mesh."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.errors import SettingsError
from capacity.limits import configured_sizes
from capacity.observing import Observed
from capacity.scenario_effects import selects_all, successor
from capacity.scenario_text import Change
from capacity.settings import PlanSettings
from capacity.shapes import cluster_identities
from capacity.upgrade import upgrade

_RATIO: Final = "bpf-map-dynamic-size-ratio"
_MODE: Final = "bpf-lb-mode"
_LB: Final = "bpf-lb-map-max"
_NAT: Final = ("snat_v4_external", "snat_v6_external")
# Sizes of a mesh, chosen when it is installed: facts/limits.csv
_SMALL_MESH: Final = 255


def limit_of(
    limit: dict[str, Any], change: Change, seen: Observed, settings: PlanSettings
) -> tuple[float | None, str | None]:
    """Give a resource's limit in a scenario, and what has to be said about it.

    Raises
    ------
    SettingsError
        If a map's new size is outside what agents take, or dynamic sizes need a node's memory.
    """
    version = change.cilium or seen.version
    if limit["subject"] == "cluster-identities" and change.mesh > 1:
        large = 511 if change.mesh > _SMALL_MESH else _SMALL_MESH
        told = cluster_identities(version, cluster_id=1, clusters=large)
        return float(told), f"identities of one cluster of a mesh of up to {large}"
    if limit["component"] != "map" or limit["limit"] is None:
        return limit["limit"], None
    return _map(limit, change, seen, settings, version)


def _map(
    limit: dict[str, Any], change: Change, seen: Observed, settings: PlanSettings, version: str
) -> tuple[float | None, str | None]:
    then = successor(limit["subject"], version) or limit["subject"]
    if version != seen.version and _shape(then, version) is None:
        return None, f"Cilium {version} has no such map"
    old, new = _shape(limit["subject"], seen.version), _shape(then, version)
    now = float(limit["limit"])
    note = None if then == limit["subject"] else f"called {then} in Cilium {version}"
    if old and new and now == old["max_entries"] and new["max_entries"] is not None:
        now = float(new["max_entries"])
        if now != old["max_entries"]:
            note = f"default of Cilium {version}"
    option = (new or old or {}).get("option")
    if option and option.startswith("bpf-lb-") and option not in change.options:
        # Sizes of single load balancer maps are 0: they follow the common one
        option = _LB if _LB in change.options else option
    if option and option in change.options:
        now, note = _told(option, change.options[option], new or old or {}), f"option {option}"
    elif option and (new or {}).get("dynamic") and _RATIO in change.options:
        now, note = _dynamic(option, change, seen, settings, version)
    if change.options.get(_MODE) in ("dsr", "hybrid") and limit["subject"] in _NAT:
        note = "an upper bound: connections through node ports make no NAT entry with DSR"
    return now, note


def _shape(subject: str, version: str) -> dict[str, Any] | None:
    name = facts.map_of_label(subject, version)
    rows = facts.maps(version).filter(pl.col("map") == name) if name else None
    return None if rows is None or rows.is_empty() else rows.row(0, named=True)


def _told(option: str, text: str, shape: dict[str, Any]) -> float:
    low, high = shape.get("min"), shape.get("max")
    if not (text.isascii() and text.isdigit()):
        raise SettingsError(f"{option}: {text!r} is no number of entries")
    size = int(text)
    if size < max(low or 0, 1) or (high is not None and size > high):
        most = f" to {high:,}" if high is not None else " or more"
        raise SettingsError(
            f"{option}: {size:,} is outside {max(low or 0, 1):,}{most} that agents take"
        )
    return float(size)


def _dynamic(
    option: str, change: Change, seen: Observed, settings: PlanSettings, version: str
) -> tuple[float, str]:
    kept = seen.inventory.options.filter(~pl.col("option").is_in([_RATIO, option]))
    told = pl.DataFrame({"option": [_RATIO], "value": [change.options[_RATIO]]})
    options = pl.concat([kept, told], how="diagonal")
    sizes = configured_sizes(replace(seen.inventory, options=options), settings, version)
    if option not in sizes:
        raise SettingsError(
            f"{_RATIO}: sizes of maps follow from the node's memory; give it with --memory, or an "
            "inventory with nodes"
        )
    return float(sizes[option][0]), sizes[option][1]


# Slim endpoints under CES: pkg/k8s/watchers/cilium_endpoint_slice_subscriber.go of cilium/cilium
# (cepToCESmap). The operator's bytes: data/lab-scale, ciliumendpoints_pods and ces_pods_ceps
_MODES: Final = (
    "CES and kvstore: the load of the servers is counted; memory of agents and operator is not "
    "modeled and stays as it is, since no source measures it with and without. An agent keeps an "
    "endpoint a pod of the cluster under CES, too; a recorded operator held 7.2 kB a pod with CES, "
    "5.9 kB without"
)


def notes_of(change: Change, seen: Observed) -> list[str]:
    """Say what a scenario does that no history of the cluster shows."""
    drivers = seen.drivers
    unknown = [n for n in change.drivers if not len(drivers[n].drop_nulls())]
    notes = [f"{name} are not known of this cluster: the change moves nothing" for name in unknown]
    if change.cilium is not None and change.cilium != seen.version:
        before, after = sorted((seen.version, change.cilium), key=facts.VERSIONS.index)
        count = len(upgrade(before, after, seen.inventory))
        notes.append(f"from {before} to {after} {count} facts change: capacity upgrade tells them; "
                     "what objects cost an agent is taken from your history")  # fmt: skip
    if change.options.get(_MODE) in ("dsr", "hybrid"):
        notes.append("DSR: table lb_tier of capacity plan tells nodes for the packet rate; how "
                     "many NAT entries it saves is not in the metrics")  # fmt: skip
    if change.ces or change.kvstore:
        notes.append(_MODES)
    if change.mesh > 1 or change.merge > 1:
        notes.append("the other clusters are taken to be like this one")
    if change.mesh > 1 and selects_all(change, seen):
        notes.append("policies select the pods of all clusters: up to Cilium 1.18 they do, unless "
                     "policy-default-local-cluster is on")  # fmt: skip
        if not len(seen.drivers["identities"].drop_nulls()):
            notes.append("identities are not known: policy maps are told as of one cluster")
    if change.mesh > max(_sizes(change.cilium or seen.version)):
        notes.append(f"{change.mesh} clusters are more than a mesh can have")
    return [f"{change.name}: {note}" for note in notes]


def _sizes(version: str) -> list[int]:
    return facts.limits(version).filter(pl.col("limit") == "clusters")["value"].to_list()
