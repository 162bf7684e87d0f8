"""Scenarios in a forecast: other sizes, versions, options, meshes; each limit and the API server.

What was fitted to the cluster's history is asked about another cluster: drivers are moved, limits
are those of other options or another version. Scenarios that none of the history shows (CES, DSR,
kvstore) move only what is known of them, and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.cilium.api_load import Load, control_plane
from capacity.driver_draws import scenario_draws
from capacity.errors import ModelError, SettingsError
from capacity.facts import limits as fact_limits
from capacity.forecast import Fitted, fit_quantity, quantiles
from capacity.growth import DRAWS, Growth, grow
from capacity.models.linear_drivers import Array
from capacity.observing import Observed, observed
from capacity.scenario_limits import limit_of, notes_of
from capacity.scenario_text import BASE, Change
from capacity.settings import PlanSettings
from capacity.tables import CONTROL_PLANE, SCENARIOS, check
from capacity.telling import resource

# Known to every agent of a mesh: addresses and nodes; the drivers of its memory, and identities
_EVERYWHERE: Final = ("ipcache", "ipcache_v2", "node_map", "node_map_v2", "tunnel_map")
_REMOTE: Final = ("nodes", "endpoints", "identities")
# Kinds of objects that clusters may share; pods and nodes are never two clusters' own
_SHAREABLE: Final = ("services", "backends", "identities", "policies", "policy_entries")
_PER_NODE: Final = "endpoints_per_node"
# Host and health endpoint of a node: no pods
_OWN_ENDPOINTS: Final = 2


@dataclass(frozen=True, slots=True)
class Scenarios:
    """Tables scenarios and control_plane; what could not be told."""

    cluster: str
    scenarios: pl.DataFrame
    control_plane: pl.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Base:
    """What every scenario starts from: the cluster at a time, and all that was fitted to it."""

    seen: Observed
    growth: Growth
    fitted: list[Fitted]
    settings: PlanSettings
    nodes: Array
    index: int


def scenarios(
    settings: PlanSettings, changes: Sequence[Change], *, today: bool = False
) -> Scenarios:
    """Compare scenarios with the cluster as it is, or grows.

    Parameters
    ----------
    settings
        As for `plan`; node counts, `set` and events too are part of every scenario.
    changes
        Scenarios beside the one in which nothing changes.
    today
        Start from the newest time; else from the end of the horizon, where dates are known.

    Raises
    ------
    ModelError
        If nothing of the cluster can be fitted.
    SettingsError
        If two scenarios have one name.
    """
    names = [BASE.name, *(change.name for change in changes)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"change {twice[0]!r}: is there already; give it another name")
    seen = observed(settings, lambda name, share: None)
    for change in changes:  # faults of any before the work of all
        for limit in seen.limits.iter_rows(named=True):
            limit_of(limit, change, seen, settings)
    growth = grow(seen.drivers, settings)
    base, gaps = _base(seen, growth, settings, today=today)
    told, load = [], []
    for change in (BASE, *changes):
        told += [_row(base, item, change) for item in base.fitted]
        load += _load(base, change)
    table = check(pl.DataFrame(told, schema=SCENARIOS.schema), SCENARIOS)
    notes = [growth.note or "", *gaps, *(n for change in changes for n in notes_of(change, seen))]
    return Scenarios(
        seen.cluster, table, check(pl.DataFrame(load, schema=CONTROL_PLANE.schema), CONTROL_PLANE),
        tuple(note for note in notes if note),
    )  # fmt: skip


def _base(
    seen: Observed, growth: Growth, settings: PlanSettings, *, today: bool
) -> tuple[_Base, list[str]]:
    fitted, gaps = [], []
    for limit in seen.limits.iter_rows(named=True):
        try:
            rows = seen.history(limit)
            fitted.append(fit_quantity(limit, rows, seen.drivers, growth, settings, seen.aside))
        except ModelError as error:
            gaps.append(f"{resource(limit)} is not told: {error}")
    if not fitted:
        raise ModelError(f"no scenario can be told: {'; '.join(gaps) or 'no limit is known'}")
    index = -1
    nodes = np.full(DRAWS, float(max(settings.nodes, default=round(growth.now))))
    if growth.paths is not None and not today and not settings.nodes:
        steps = growth.paths.shape[1]
        index = min(max(round(settings.horizon_seconds / growth.step), 1), steps) - 1
        nodes = growth.paths[:, index]
    return _Base(seen, growth, fitted, settings, nodes, index), gaps


def _drivers(base: _Base, rows: pl.DataFrame, names: list[str], change: Change,
             slopes: Any = None, *, everywhere: bool = False) -> dict[str, Array]:  # fmt: skip
    """Draw the drivers of a scenario, each of shape (DRAWS,)."""
    nodes = change.drivers["nodes"].of(base.nodes) if "nodes" in change.drivers else base.nodes
    more = None
    if base.index >= 0:
        more = {name: drawn[:, [base.index]] for name, drawn in base.growth.more.items()}
    drawn = scenario_draws(rows, names, nodes[:, None], base.settings, more, slopes).draws[:, 0]
    out = {name: drawn[:, i] for i, name in enumerate(names)} | {"nodes": nodes}
    _move(out, change, base)
    for name in out:
        out[name] = out[name] * _factor(name, change)
        if everywhere and name in _REMOTE:
            out[name] = out[name] * change.mesh
    return out


def _move(out: dict[str, Array], change: Change, base: _Base) -> None:
    """Apply what is told of drivers; what follows from it moves along."""
    now = base.seen.drivers.select(pl.all().drop_nulls().last()).row(0, named=True)
    for name in set(change.drivers) & set(out) - {"nodes"}:
        out[name] = change.drivers[name].of(out[name])
    # A denser node has more pods; a policy map selects more identities
    for cause, results in ((_PER_NODE, ("endpoints", "policy_entries")),
                           ("identities", ("policy_entries",))):  # fmt: skip
        told, old = change.drivers.get(cause), now.get(cause)
        if told is None or not old:
            continue
        for name in results:
            if name in out and name not in change.drivers:
                out[name] = out[name] * (told.of(old) / old)


def _factor(name: str, change: Change) -> float:
    """Give what a merger or split makes of a driver of one cluster."""
    if name == _PER_NODE or name not in (*_REMOTE, *_SHAREABLE):
        return 1.0
    shared = change.shared if name in _SHAREABLE else 0.0
    merged = change.merge * (1 - shared) + shared
    return merged * (shared + (1 - shared) / change.split)


def _row(base: _Base, item: Fitted, change: Change) -> dict[str, Any]:
    everywhere = item.limit["subject"] in _EVERYWHERE or item.limit["component"] == "agent"
    names = list(item.names)
    drawn = _drivers(base, item.known, names, change, item.slopes, everywhere=everywhere)
    largest = [item.known[name].max() for name in names]
    told = np.column_stack([drawn[name] for name in names])
    # How far beyond anything observed the farthest driver is, in each draw
    reach = (told / np.maximum(np.array(largest, float), 1e-9)).max(axis=1, keepdims=True)
    values = np.maximum(item.model.sample(told[:, None, :], reach=reach), 0.0)[:, 0]
    rng = np.random.default_rng(base.settings.seed + 2)
    values = values * item.season.drawn(DRAWS, rng)
    q = quantiles(values)
    limit, note = limit_of(item.limit, change, base.seen, base.settings)
    high = float(np.quantile(values, 1 - base.settings.risk))
    return {
        "scenario": change.name,
        **{k: item.limit[k] for k in ("cluster", "component", "subject", "quantity", "unit")},
        "nodes": round(float(np.median(drawn["nodes"])) / (change.mesh if everywhere else 1)),
        **dict(zip(("q05", "q50", "q95", "q99"), q.tolist(), strict=True)),
        "limit": limit, "usage": high / limit if limit else None,
        "status": "unknown" if limit is None else "short" if high > limit else "ok",
        "reach": float(np.median(reach)), "note": note,
    }  # fmt: skip


def _load(base: _Base, change: Change) -> list[dict[str, Any]]:
    """Give rows of table control_plane."""
    known = ["endpoints", "identities"]
    rows = base.seen.drivers.drop_nulls(["nodes", *known])
    if rows.is_empty():
        return []
    drawn = _drivers(base, rows, known, change)
    nodes, endpoints, identities = (
        float(np.median(drawn[name])) for name in ("nodes", "endpoints", "identities")
    )
    inventory, version = base.seen.inventory, change.cilium or base.seen.version
    slices = change.ces
    if slices is None:
        slices = inventory.option("enable-cilium-endpoint-slice") == "true"
    kvstore = change.kvstore
    if kvstore is None:
        kvstore = inventory.option("identity-allocation-mode") == "kvstore"
    pods = max(endpoints - _OWN_ENDPOINTS * nodes, 0.0)
    load = Load(nodes, pods, identities, change.churn, slices, kvstore)
    quota = fact_limits(version).filter(limit="etcd-database", default=True)["value"][0]
    return [
        row | {"scenario": change.name, "cluster": base.seen.cluster, "nodes": round(nodes),
               "limit": float(quota) if row["what"] == "etcd database" else None}
        for row in control_plane(load)
    ]  # fmt: skip
