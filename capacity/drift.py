"""What runs against what was planned: the recommendations of a plan on disk and a cluster today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.errors import SettingsError
from capacity.export import Metrics
from capacity.inventory import Inventory
from capacity.observe import drivers, map_sizes, steps
from capacity.recommend.present import Present, present
from capacity.tables import CHANGES, DRIFT, STEPS, check

_SCHEMA: Final = "capacity.outcome/1"
_WANTED: Final = (*CHANGES, "ok")


def read_outcome(folder: Path) -> dict[str, Any]:
    """Read outcome.json of a plan.

    Raises
    ------
    SettingsError
        If the folder holds no plan, or one of another schema.
    """
    file = folder / "outcome.json" if folder.is_dir() else folder
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{folder}: holds no plan; `capacity plan --out` writes one") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SettingsError(f"{file}: is no outcome.json: {error}") from None
    if not isinstance(told, dict) or told.get("schema") != _SCHEMA:
        raise SettingsError(f"{file}: is no outcome of schema {_SCHEMA}; plan anew")
    missing = {"recommendations", "versions"} - told.keys()
    if missing:
        raise SettingsError(f"{file}: has no {', '.join(sorted(missing))}; plan anew")
    return told


def drift(outcome: dict[str, Any], metrics: Metrics, inventory: Inventory) -> pl.DataFrame:
    """Give table drift: what is not as it was planned first.

    Parameters
    ----------
    outcome
        As `read_outcome` gives it.
    metrics, inventory
        The cluster today; what neither tells is `unknown`.
    """
    version = str(outcome["versions"]["cilium"])
    now = steps(metrics) if len(metrics.series) else None
    at = present(now if now is not None else STEPS.empty(), inventory, version, None)
    running = _running(now, inventory, version)
    rows = [
        _row(told, at, running)
        for told in outcome["recommendations"]
        if told["status"] in _WANTED and told["target"] is not None
    ]
    rows = _once(rows) + _nodes(outcome, now, inventory)
    frame = pl.DataFrame(rows, schema=DRIFT.schema)
    order = pl.col("status").replace_strict(
        {"open": 0, "moved": 1, "pending": 2, "unknown": 3, "applied": 4}, return_dtype=pl.Int64
    )
    return check(frame.sort(order, maintain_order=True), DRIFT)


def _running(now: pl.DataFrame | None, inventory: Inventory, version: str) -> dict[str, float]:
    """Sizes that agents run with: map as the plan names it → entries, the smallest over nodes."""
    out: dict[str, float] = {}
    for name, size in inventory.bpf_maps.select("name", "max_entries").iter_rows():
        known = facts.map_of_label(str(name), version)
        if known is not None:
            out[known] = min(out.get(known, float(size)), float(size))
    if now is not None:
        for label, size in map_sizes(now).select("subject", "max_entries").rows():
            known = facts.map_of_label(label, version)
            if known is not None:
                out[known] = float(size)
    return out


def _row(told: dict[str, Any], at: Present, running: dict[str, float]) -> dict[str, Any]:
    target, before = float(told["target"]), told["current"]
    known = told["subject"] and facts.map_of_label(told["subject"], at.version)
    runs = running.get(known) if known else None
    is_set = at.sizes.get(told["setting"])
    value = is_set if is_set is not None else runs
    if value is None:
        status, words = "unknown", "neither the inventory nor the metrics tell it"
    elif value == target and runs is not None and runs != target:
        status, words = "pending", f"set, but agents run with {runs:,.0f}: restart them"
    elif value == target:
        status, words = "applied", "as planned"
    elif told["status"] != "ok" and value == before:
        status, words = "open", f"not applied yet: {told['reason']}"
    else:
        status, words = "moved", "neither what it was at the plan nor what was planned"
    return {
        "setting": told["setting"], "subject": told["subject"], "unit": told["unit"],
        "planned": target, "set": is_set, "running": runs, "status": status, "detail": words,
    }  # fmt: skip


def _once(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Several maps share a setting: the row that is furthest from the plan tells of it."""
    rank = {"moved": 0, "open": 1, "pending": 2, "unknown": 3, "applied": 4}
    best: dict[str, dict[str, Any]] = {}
    largest: dict[str, float] = {}
    for row in rows:
        largest[row["setting"]] = max(largest.get(row["setting"], 0.0), row["planned"])
    for row in rows:
        if row["planned"] < largest[row["setting"]]:
            continue
        seen = best.get(row["setting"])
        if seen is None or rank[row["status"]] < rank[seen["status"]]:
            best[row["setting"]] = row
    return list(best.values())


def _nodes(
    outcome: dict[str, Any], now: pl.DataFrame | None, inventory: Inventory
) -> list[dict[str, Any]]:
    """Nodes today against the node count that was planned for."""
    planned = max((row.get("nodes") or 0 for row in outcome["recommendations"]), default=0)
    counted = float(len(inventory.nodes)) or None
    if now is not None:
        told = drivers(now)["nodes"].drop_nulls()
        counted = float(told[-1]) if len(told) else counted
    if not planned or counted is None:
        return []
    fits = counted <= planned
    return [{
        "setting": "nodes", "subject": None, "unit": "1", "planned": float(planned), "set": None,
        "running": counted, "status": "applied" if fits else "moved",
        "detail": "within the plan" if fits else "more than was planned for: plan anew",
    }]  # fmt: skip
