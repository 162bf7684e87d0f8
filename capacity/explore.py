"""What if, in a live notebook: sliders on nodes, pods, services and policies that plan anew.

Needs the extra `notebook` (ipywidgets). In a page, or without it, a chart with a slider of its own
on node counts is shown instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from capacity import charts
from capacity.display import Html, verdict
from capacity.findings import nodes_now
from capacity.planning import Plan
from capacity.planning import plan as plan_anew

if TYPE_CHECKING:
    from ipywidgets import VBox

# Drivers besides the node count that a reader may move, where the export tells them
MOVED: Final = ("endpoints", "services", "policies")
_CHART: Final = "application/vnd.plotly.v1+json"
_WIDGET: Final = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A plan to play with: widgets where a notebook is live, else the chart of the same plan."""

    plan: Plan

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle = {_CHART: json.loads(charts.what_if(self.plan).to_json())}
        if find_spec("ipywidgets") is not None:
            bundle[_WIDGET] = sliders(self.plan)._repr_mimebundle_()[_WIDGET]
        return bundle


def sliders(plan: Plan) -> VBox:
    """Give sliders on the drivers, and below them what a plan of these would say.

    Parameters
    ----------
    plan
        Where the sliders start; each move plans anew with the same settings but `nodes` and `set`.
    """
    from ipywidgets import HTML, IntSlider, VBox

    told = HTML(verdict(plan).html)
    moved = {
        name: IntSlider(
            value=now, min=0 if name != "nodes" else 1, max=max(5 * now, 10),
            description=name, continuous_update=False,
        )
        for name, now in starts(plan).items()
    }  # fmt: skip

    def again(_: Any) -> None:
        told.value = "<p>planning …</p>"
        told.value = _verdict(plan, {name: slider.value for name, slider in moved.items()}).html

    for slider in moved.values():
        slider.observe(again, names="value")
    return VBox([*moved.values(), told])


def starts(plan: Plan) -> dict[str, int]:
    """Give the newest value of each driver that a reader may move."""
    out = {"nodes": round(nodes_now(plan))}
    for name in MOVED:
        known = plan.drivers[name].drop_nulls()
        if len(known):
            out[name] = round(known[-1])
    return out


def _verdict(plan: Plan, chosen: dict[str, int]) -> Html:
    """Plan for the chosen drivers; those left where they were follow the nodes as before."""
    at_start = starts(plan)
    changed = [f"{k}={v}" for k, v in chosen.items() if k != "nodes" and v != at_start[k]]
    settings = replace(
        plan.settings, nodes=(chosen["nodes"],), set=(*plan.settings.set, *changed)
    )  # fmt: skip
    return verdict(plan_anew(settings))
