"""Scenarios in a forecast: other sizes, versions, options, meshes; each limit and the API server.

What was fitted to the cluster's history is asked about another cluster: drivers are moved, limits
are those of other options or another version. Scenarios that none of the history shows (CES, DSR,
kvstore) move only what is known of them, and say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.cilium.api_load import Load, control_plane
from capacity.costs import churn_cpu
from capacity.driver_draws import scenario_draws
from capacity.errors import ModelError, SettingsError
from capacity.facts import limits as fact_limits
from capacity.forecast import Fitted, fit_quantity, quantiles
from capacity.growth import DRAWS, PER_NODE, Growth, grow
from capacity.models.linear_drivers import Array
from capacity.observing import Observed, observed
from capacity.scenario_effects import Effect, effect, frontends_and_slots, selects_all
from capacity.scenario_limits import limit_of, notes_of
from capacity.scenario_moves import REMOTE, moved, share, with_map_bytes
from capacity.scenario_text import BASE, Change
from capacity.settings import PlanSettings
from capacity.tables import CONTROL_PLANE, SCENARIOS, check
from capacity.telling import resource

# Known to every agent of a mesh: addresses and nodes; the drivers of its memory, and identities
_EVERYWHERE: Final = ("ipcache", "ipcache_v2", "node_map", "node_map_v2", "tunnel_map")
# Host and health endpoint of a node: no pods
_OWN_ENDPOINTS: Final = 2


@dataclass(frozen=True, slots=True)
class Scenarios:
    """Tables scenarios and control_plane; what could not be told."""

    cluster: str
    scenarios: pl.DataFrame
    control_plane: pl.DataFrame
    notes: tuple[str, ...]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class _Base:
    """What every scenario starts from: the cluster at a time, and all that was fitted to it."""

    seen: Observed
    growth: Growth
    fitted: list[Fitted]
    settings: PlanSettings
    nodes: Array
    index: int
    services: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Item:
    """What drivers are drawn for: rows with their history, names, bytes of maps one more makes."""

    rows: pl.DataFrame
    names: tuple[str, ...]
    slopes: Mapping[str, float] | None
    everywhere: bool = False

    @classmethod
    def of(cls, item: Fitted, *, everywhere: bool) -> _Item:
        """Take over what was fitted; `everywhere`: it counts the objects of all clusters."""
        return cls(item.known, tuple(item.names), item.slopes, everywhere)


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
    notes = [growth.note or "", *gaps]
    for change in (BASE, *changes):
        does = effect(change, seen, settings)
        times = _times(base, change)
        told += [_row(base, item, change, does, times) for item in base.fitted]
        load += _load(base, change)
        notes += [*notes_of(change, seen), *(f"{change.name}: {note}" for note in does.notes)]
    table = check(pl.DataFrame(told, schema=SCENARIOS.schema), SCENARIOS)
    return Scenarios(
        seen.cluster, table, check(pl.DataFrame(load, schema=CONTROL_PLANE.schema), CONTROL_PLANE),
        tuple(note for note in notes if note), (BASE, *changes),
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
    return _Base(seen, growth, fitted, settings, nodes, index, frontends_and_slots(seen)), gaps


def _drivers(
    base: _Base, item: _Item, change: Change, effect: Effect, times: _Times
) -> dict[str, Array]:
    """Draw the drivers of a scenario, each of shape (DRAWS,)."""
    told = [n for n in change.drivers if n in item.rows.columns and n != "nodes"]
    # A driver that is not known at some time is taken as it was before
    rows = item.rows.with_columns(pl.col(name).forward_fill().backward_fill() for name in told)
    # Before those of the quantity itself: bytes of maps follow what stands before them
    names = [*(n for n in told if n not in item.names and not rows[n].null_count()), *item.names]
    more = None
    if base.index >= 0:
        more = {name: drawn[:, [base.index]] for name, drawn in base.growth.more.items()}

    def at(nodes: Array) -> dict[str, Array]:
        made = scenario_draws(rows, names, nodes[:, None], base.settings, more, item.slopes)
        return {name: made.draws[:, 0, i] for i, name in enumerate(names)} | {"nodes": nodes}

    plain = at(base.nodes)
    there = at(_nodes(base, change)) if "nodes" in change.drivers else plain
    out = moved(plain, there, change, times.policies)
    for name in out:
        out[name] = out[name] * share(name, change)
        if item.everywhere and name in REMOTE:
            out[name] = out[name] * change.mesh
    slopes = effect.slopes if effect.slopes is not None else item.slopes
    return with_map_bytes(out, there, slopes or {}, effect.more)


def _nodes(base: _Base, change: Change) -> Array:
    told = change.drivers.get("nodes")
    return np.asarray(base.nodes if told is None else told.of(base.nodes))


@dataclass(frozen=True, slots=True)
class _Times:
    """How many times as much of each a scenario has beside what its node count makes."""

    policies: float = 1.0
    services: float = 1.0
    backends: float = 1.0


def _times(base: _Base, change: Change) -> _Times:
    """Tell what follows from a scenario's drivers, at the median."""
    same = {name: amount for name, amount in change.drivers.items() if name == "nodes"}
    plain = replace(BASE, drivers=same)
    rows = base.seen.drivers.drop_nulls("nodes")
    times: dict[str, float] = {}
    # One by one: an export may tell none of them, or never two at once
    for name in ("services", "backends", "identities"):
        known = rows.drop_nulls(name)
        if known.is_empty():
            continue
        item = _Item(known, (name,), None)
        before, after = (
            _drivers(base, item, one, Effect({}), _Times())[name] for one in (plain, _only(change))
        )
        times[name] = float(np.median(after / np.maximum(before, 1e-9)))
    return _Times(
        _policies(base, plain, change, times), times.get("services", 1.0),
        times.get("backends", 1.0),
    )  # fmt: skip


def _only(change: Change, mesh: int = 1) -> Change:
    return replace(BASE, drivers=change.drivers, mesh=mesh)


def _policies(base: _Base, plain: Change, change: Change, times: Mapping[str, float]) -> float:
    """By what was fitted to the fullest policy map; else as many times as there are identities."""
    everywhere = change.mesh > 1 and selects_all(change, base.seen)
    fits = [i for i in base.fitted if str(i.limit["subject"]).startswith("cilium_policy")]
    if not fits:
        return times.get("identities", 1.0) * (change.mesh if everywhere else 1)
    item = _Item.of(fits[0], everywhere=everywhere)
    values = []
    for one in (plain, _only(change, change.mesh)):
        drawn = _drivers(base, item, one, Effect({}), _Times())
        told = np.array([[float(np.median(drawn[name])) for name in item.names]])
        values.append(max(float(fits[0].model.predict(told)[0]), 0.0))
    return values[1] / values[0] if values[0] > 0 else 1.0


def _counted_times(base: _Base, subject: str, change: Change, times: _Times) -> float | None:
    """Give how many times as full a load balancer map is, by what it holds; None for others.

    What was fitted cannot tell services from backends where both always grew together.
    """
    if "_backends_v" in subject and "services" not in change.drivers:
        return times.backends
    if subject not in base.services:
        return None
    frontends, slots = base.services[subject]
    now = frontends + slots
    return (frontends * times.services + slots * times.backends) / now if now else None


def _without_services(change: Change) -> Change:
    gone = ("services", "backends", "endpoints", PER_NODE)
    kept = {name: amount for name, amount in change.drivers.items() if name not in gone}
    return replace(change, drivers=kept)


def _row(
    base: _Base, item: Fitted, change: Change, effect: Effect, times: _Times
) -> dict[str, Any]:
    subject = item.limit["subject"]
    everywhere = subject in _EVERYWHERE or item.limit["component"] == "agent"
    if str(subject).startswith("cilium_policy"):
        everywhere = selects_all(change, base.seen)
    names = list(item.names)
    counted = _counted_times(base, str(subject), change, times)
    asked = change if counted is None else _without_services(change)
    drawn = _drivers(base, _Item.of(item, everywhere=everywhere), asked, effect, times)
    largest = [item.known[name].max() for name in names]
    told = np.column_stack([drawn[name] for name in names])
    # How far beyond anything observed the farthest driver is, in each draw
    reach = (told / np.maximum(np.array(largest, float), 1e-9)).max(axis=1, keepdims=True)
    values = np.maximum(item.model.sample(told[:, None, :], reach=reach), 0.0)[:, 0]
    rng = np.random.default_rng(base.settings.seed + 2)
    values = values * item.season.drawn(DRAWS, rng) * effect.times.get(str(subject), 1.0)
    values = values * (1.0 if counted is None else counted)
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
    drawn = _drivers(base, _Item(rows, tuple(known), None), change, Effect({}), _Times())
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
    told = control_plane(load)
    if change.churn is not None:
        told += churn_cpu(change.churn, nodes, identities / pods if pods else 0.0)
    quota = fact_limits(version).filter(limit="etcd-database", default=True)["value"][0]
    return [
        row | {"scenario": change.name, "cluster": base.seen.cluster, "nodes": round(nodes),
               "limit": float(quota) if row["what"] == "etcd database" else None}
        for row in told
    ]  # fmt: skip
