"""What options and another Cilium version do beside limits: bytes of maps, entries of each map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.cilium.services.growth import service_growth
from capacity.kernel_memory import kernel_memory
from capacity.map_fill import counted, drivers_of, map_fill
from capacity.observing import Observed
from capacity.scenario_text import Change
from capacity.settings import PlanSettings
from capacity.tables import POLICY_GROWTH, SERVICE_GROWTH
from capacity.units import format_bytes

_LB: Final = "bpf-lb-map-max"
# Up to which version policies of a mesh select the pods of all clusters, unless an option says no
_SELECTS_ALL: Final = "1.18"
_LOCAL: Final = "policy-default-local-cluster"


@dataclass(frozen=True, slots=True)
class Effect:
    """Entries in a scenario as a multiple of those now, by label of the map; bytes of maps.

    `more` is what all maps of a node take beside today's [byte], `slopes` what one more of a
    driver makes of it; None where they are as they are.
    """

    times: Mapping[str, float]
    more: float = 0.0
    slopes: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()


def effect(change: Change, seen: Observed, settings: PlanSettings) -> Effect:
    """Tell what a scenario's version and options do to the maps of a node.

    Parameters
    ----------
    change
        The scenario.
    seen
        What the source tells of the cluster.
    settings
        Memory of a node, where sizes follow from it.
    """
    version = change.cilium or seen.version
    if version == seen.version and not change.options:
        return Effect({})
    times = _times(seen, settings, version) if version != seen.version else {}
    # Of bpftool only the maps there are: what others would take follows from formulas
    inventory = replace(seen.inventory, bpf_maps=seen.inventory.bpf_maps.clear())
    old = kernel_memory(seen.steps, seen.drivers, inventory, settings, seen.version)
    options = pl.concat([
        inventory.options.filter(~pl.col("option").is_in(list(change.options))),
        pl.DataFrame([{"option": n, "value": v, "source": change.name}
                      for n, v in _spelled(change.options).items()],
                     schema=inventory.options.schema),
    ])  # fmt: skip
    steps = seen.steps.with_columns(pl.col("subject").replace(_renamed(seen, version)))
    new = kernel_memory(steps, seen.drivers, replace(inventory, options=options), settings, version)
    more = (new.reported - old.reported) * seen.kernel.ratio
    notes = tuple(f"entries of {name} x {n:.3g} by what fills them" for name, n in times.items())
    if abs(more) >= 1:
        words = "more" if more > 0 else "less"
        notes = (*notes, f"maps take {format_bytes(round(abs(more)))} {words} on each node")
    return Effect(times, more, new.paid, notes)


def selects_all(change: Change, seen: Observed) -> bool:
    """Whether policies select the pods of all clusters of a mesh."""
    told = change.options.get(_LOCAL) or seen.inventory.option(_LOCAL)
    if told is not None:
        return told != "true"
    version = change.cilium or seen.version
    return facts.VERSIONS.index(version) <= facts.VERSIONS.index(_SELECTS_ALL)


def _spelled(options: Mapping[str, str]) -> dict[str, str]:
    """Tell the sizes of single load balancer maps too, which follow the common one."""
    out = dict(options)
    if _LB in options:
        names = facts.maps()["option"].drop_nulls().unique()
        out |= {n: options[_LB] for n in names if n.startswith("bpf-lb-") and n not in out}
    return out


def successor(label: str, version: str) -> str | None:
    """Give the label that another version has for the same map; None where it has none.

    >>> successor("ipcache", "1.18"), successor("tunnel_map", "1.18")
    ('ipcache_v2', None)
    """
    for name in (label, f"{label}_v2", label.removesuffix("_v2")):
        if facts.map_of_label(name, version) is not None:
            return name
    return None


def _renamed(seen: Observed, version: str) -> dict[str, str]:
    labels = seen.steps.filter(component="map")["subject"].drop_nulls().unique()
    named = {label: successor(label, version) for label in labels}
    return {old: new for old, new in named.items() if new is not None and new != old}


def _times(seen: Observed, settings: PlanSettings, version: str) -> dict[str, float]:
    """Give entries by the equations of another version, as a multiple of those of this one."""
    old, new = (_predicted(seen, settings, one) for one in (seen.version, version))
    out = {}
    for label in seen.limits.filter(component="map")["subject"].drop_nulls():
        then = successor(label, version)
        before = old.get(facts.map_of_label(label, seen.version) or "")
        after = new.get(facts.map_of_label(then, version) or "") if then else None
        if before and after and after != before:
            out[label] = after / before
    return out


def frontends_and_slots(seen: Observed) -> dict[str, tuple[float, float]]:
    """Give label of a services map → its frontends, and backends over all of them."""
    services = SERVICE_GROWTH.empty()
    if not seen.inventory.services.is_empty():
        services = service_growth(seen.inventory, version=seen.version)
    known = drivers_of(seen, POLICY_GROWTH.empty(), services)
    return {
        f"lb{family}_services_v2": (
            known[f"frontends{family}"].value,
            known[f"slots{family}"].value,
        )
        for family in "46"
        if f"frontends{family}" in known and f"slots{family}" in known
    }


def _predicted(seen: Observed, settings: PlanSettings, version: str) -> dict[str, int]:
    own = replace(seen, version=version)
    table = map_fill(own, counted(own), settings)
    rows: Any = table.filter(bound="exact").drop_nulls("predicted").select("map", "predicted")
    return dict(rows.iter_rows())
