"""Grafana dashboard: used share of each limited resource, with what the plan expects of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from capacity.manifests.queries import Resource, planned_nodes, resources
from capacity.manifests.subject import Subject

# Grafana's grid is 24 wide; schema 39 is that of Grafana 10.4 to 11, later versions migrate it
_SCHEMA: Final = 39
_WIDTH, _HEIGHT = 12, 8
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def text(subject: Subject) -> str | None:
    """Give the dashboard as JSON, None where no metric tells a limited resource.

    It shows what the rules record (prometheus/rules.yaml): load these first.
    """
    found = resources(subject)
    if not found:
        return None
    panels = [_nodes(subject, found), *(_panel(subject, item) for item in found)]
    for i, panel in enumerate(panels):
        place = {"x": i % 2 * _WIDTH, "y": i // 2 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
        panel |= {"id": i + 1, "gridPos": place, "datasource": _SOURCE}
    board = {
        "uid": "capacity-" + hashlib.sha256(subject.cluster.encode()).hexdigest()[:12],
        "title": f"Cilium capacity: {subject.cluster}",
        "description": "Made by `capacity plan`: limits and expectations are those of the plan.",
        "tags": ["cilium", "capacity"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "refresh": "5m",
        "time": {"from": "now-30d", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}
        ]},
        "annotations": {"list": []},
        "panels": panels,
    }  # fmt: skip
    return json.dumps(board, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _target(expr: str, legend: str, ref: str) -> dict[str, Any]:
    return {"datasource": _SOURCE, "expr": expr, "legendFormat": legend, "refId": ref}


def _series(
    title: str, description: str, unit: str, targets: list[dict[str, Any]], marks: list[Any]
) -> dict[str, Any]:
    """Make a panel of lines; marks are (value, color) from which a color holds."""
    steps = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for value, color in sorted(marks)]
    return {
        "type": "timeseries",
        "title": title,
        "description": description,
        "targets": targets,
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "custom": {"thresholdsStyle": {"mode": "line"}, "fillOpacity": 0},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _nodes(subject: Subject, found: list[Resource]) -> dict[str, Any]:
    first = next((item for item in found if item.nodes is not None), None)
    marks: list[Any] = [(planned_nodes(subject), "yellow")]
    title = f"Nodes: planned for {planned_nodes(subject):,}"
    if first is not None:
        marks.append((first.nodes, "red"))
        title += f"; {first.name} lasts to {first.nodes:,}"
    expr = "max by (cluster) (cilium_nodes_all_num)"
    words = "Yellow: the plan ends. Red: the first limit is reached with the accepted risk."
    return _series(title, words, "short", [_target(expr, "nodes {{cluster}}", "A")], marks)


def _panel(subject: Subject, item: Resource) -> dict[str, Any]:
    chosen = f'{{resource="{item.name}"}}'
    targets = [
        _target(f"capacity:usage:ratio{chosen}", "used {{cluster}}", "A"),
        _target(
            f"predict_linear(capacity:usage:ratio{chosen}[7d], 2592000)",
            "in 30 days, by the trend of 7", "B",
        ),
    ]  # fmt: skip
    marks: list[Any] = [(1.0, "red")]
    words = f"Limit: {item.kind}. To do: {item.advice}."
    if item.planned is not None:
        marks.append((round(min(item.planned, 0.99), 4), "yellow"))
        words += f" Yellow: the plan's 99 % quantile at {planned_nodes(subject):,} nodes."
    lasts = f" lasts to {item.nodes:,} nodes" if item.nodes is not None else " is not in sight"
    return _series(f"{item.name}{lasts}", words, "percentunit", targets, marks)
