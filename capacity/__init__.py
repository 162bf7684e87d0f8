"""Capacity planning for Cilium on Kubernetes: what breaks first, when, and what to set today.

>>> import capacity
>>> plan = capacity.plan(capacity.PlanSettings(horizon="90d"))
>>> plan.verdict in ("fits", "short", "unknown")
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from capacity import charts, cilium, facts, models
    from capacity.backtesting import backtest
    from capacity.errors import CapacityError
    from capacity.export import Metrics
    from capacity.fleet_settings import FleetSettings
    from capacity.inventory import Inventory
    from capacity.load import read, read_inventory
    from capacity.planning import Plan, plan
    from capacity.scenario_settings import ScenarioSettings
    from capacity.settings import PlanSettings

# Public name → module; loaded when first used, so that `capacity --help` stays quick
_PUBLIC: Final = {
    "CapacityError": "capacity.errors",
    "FleetSettings": "capacity.fleet_settings",
    "Inventory": "capacity.inventory",
    "Metrics": "capacity.export",
    "Plan": "capacity.planning",
    "PlanSettings": "capacity.settings",
    "ScenarioSettings": "capacity.scenario_settings",
    "backtest": "capacity.backtesting",
    "plan": "capacity.planning",
    "read": "capacity.load",
    "read_inventory": "capacity.load",
}
_ROOMS: Final = ("charts", "cilium", "facts", "models")

__all__ = [
    "CapacityError",
    "FleetSettings",
    "Inventory",
    "Metrics",
    "Plan",
    "PlanSettings",
    "ScenarioSettings",
    "backtest",
    "charts",
    "cilium",
    "facts",
    "models",
    "plan",
    "read",
    "read_inventory",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        found = getattr(import_module(_PUBLIC[name]), name)
    elif name in _ROOMS:
        found = import_module(f"capacity.{name}")
    else:
        raise AttributeError(f"module 'capacity' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
