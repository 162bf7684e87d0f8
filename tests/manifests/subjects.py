"""Plans to make manifests from, without planning."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import polars as pl

from capacity.manifests.subject import Subject
from capacity.settings import PlanSettings
from capacity.tables import COVERAGE, EXHAUSTION, FORECAST, RECOMMENDATION

LB = {"setting": "bpf.lbMapMax", "target": 131072.0}
AGENT = {"component": "agent", "setting": "resources.limits.memory", "unit": "byte",
         "target": 1.5 * 2**30, "status": "set"}  # fmt: skip
OPERATOR = {"component": "operator", "setting": "operator.resources.requests.cpu",
            "unit": "millicore", "target": 250.0, "status": "set"}  # fmt: skip


def advice(*rows: dict[str, Any]) -> pl.DataFrame:
    blank = dict.fromkeys(RECOMMENDATION.schema) | {
        "rank": 1, "cluster": "c", "component": "map", "unit": "1", "status": "raise",
        "reason": "why", "evidence": "e", "confidence": "high", "nodes": 100,
    }  # fmt: skip
    return pl.DataFrame([blank | row for row in rows], schema=RECOMMENDATION.schema)


def subject(*rows: dict[str, Any], version: str = "1.17", **more: Any) -> Subject:
    """Give a plan that recommends these rows and knows nothing else."""
    parts = {
        "settings": PlanSettings("x"), "cluster": "c", "version": version, "first_limit": None,
        "recommendation": advice(*rows), "exhaustion": EXHAUSTION.empty(),
        "forecast": FORECAST.empty(), "coverage": COVERAGE.empty(),
    }  # fmt: skip
    made: Any = SimpleNamespace(**(parts | more))
    return made  # type: ignore[no-any-return]
