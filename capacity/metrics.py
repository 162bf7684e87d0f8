"""Metrics of the planner itself, as a file for node_exporter's textfile collector."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capacity.errors import SettingsError
from capacity.report.runs import main_outcome, read_run
from capacity.telling import resource
from capacity.writing import write

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def of_run(run: Path, out: Path, began: datetime, ended: datetime, code: int) -> None:
    """Write the metrics of a run; the file appears whole.

    Parameters
    ----------
    run
        Folder of the run.
    out
        The file; its name must end in .prom for the collector.
    began, ended
        When the run began and ended.
    code
        Exit code: 0 fits, 1 short, 2 something failed.

    Raises
    ------
    SettingsError
        If prometheus_client is not installed, or the file cannot be written.
    """
    told = read_run(run)
    rows: list[Row] = [
        ("run_timestamp_seconds", "When the newest run ended.", {}, ended.timestamp()),
        ("run_duration_seconds", "How long the newest run took.", {},
         (ended - began).total_seconds()),
        ("run_exit_code", "0 fits, 1 short, 2 something failed.", {}, code),
        ("run_changes", "What changed since the run before.", {}, len(told["changes"])),
    ]  # fmt: skip
    for status in ("ok", "failed"):
        count = sum(row["status"] == status for row in told["notebooks"].values())
        rows.append(("run_pages", "Pages of the newest run.", {"status": status}, count))
    outcome = main_outcome(run, told["notebooks"])
    if outcome is not None:
        rows += _of_outcome(outcome)
    write(out, text([(name, help, {"cluster": told["cluster"], **labels}, value)
                     for name, help, labels, value in rows]))  # fmt: skip


Row = tuple[str, str, dict[str, str], float]


def _of_outcome(outcome: dict[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for verdict in ("fits", "short", "unknown"):
        rows.append(
            ("verdict", "The plan's verdict: 1 for the one that holds.", {"verdict": verdict},
             float(outcome["verdict"] == verdict))
        )  # fmt: skip
    for row in outcome["findings"]:
        labels = {"resource": resource(row), "kind": str(row["kind"])}
        if row["usage"] is not None:
            rows.append(("resource_usage_ratio", "Use divided by the limit.", labels, row["usage"]))
        if row["nodes_early"] is not None:
            rows.append(
                ("runs_out_nodes", "Node count at which a resource runs out at the accepted risk.",
                 labels, row["nodes_early"])
            )  # fmt: skip
        if row["date_early"] is not None:
            at = datetime.fromisoformat(row["date_early"]).astimezone(UTC).timestamp()
            rows.append(
                ("runs_out_timestamp_seconds",
                 "When a resource runs out at the accepted risk.", labels, at)
            )  # fmt: skip
    return rows


def text(rows: list[Row]) -> str:
    """Give rows as Prometheus' text format; label values are escaped, families sorted as given.

    Raises
    ------
    SettingsError
        If prometheus_client is not installed.
    """
    if find_spec("prometheus_client") is None:
        raise SettingsError("--metrics needs `pip install 'cilium-capacity[report]'`")
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry: CollectorRegistry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for name, help, labels, value in rows:
        if name not in gauges:
            gauges[name] = Gauge(f"capacity_{name}", help, sorted(labels), registry=registry)
        gauges[name].labels(**labels).set(value)
    return generate_latest(registry).decode()
