"""Settings of a simulated cluster: the fields become options of `capacity simulate`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final

from capacity.errors import SettingsError
from capacity.units import parse_bytes, parse_duration

# The laws name the maps of these releases: 1.15 and older have no pressure of connection maps,
# 1.18 renames ipcache and policy maps and drops the tunnel map.
VERSIONS: Final = ("1.16", "1.17")
# Agent × step matrices are held in memory, about 300 bytes a cell at the peak.
_MOST_CELLS: Final = 5_000_000
# Fewer pods cannot back the services; more need more node ports than there are
_PODS: Final = (200, 1_000_000)
_DAY: Final = 86_400.0


# Written by capacity/simulate/files.py and formats.py
FORMATS: Final = ("tables", "openmetrics", "text", "dump", "json", "csv", "parquet", "blocks")


def _field(default: Any, help: str, unit: str = "", *bounds: float) -> Any:
    return field(default=default, metadata={"help": help, "unit": unit, "bounds": bounds or None})


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """What a simulated cluster is like; the defaults are the shipped demo.

    Raises
    ------
    SettingsError
        On construction, with all faults in one message.
    """

    nodes: int = _field(1000, "Nodes at the end of the history.", "1", 2, 20_000)
    nodes_start: int | None = _field(
        None, "Nodes at its start; 70 % of the nodes where left out.", "1", 2, 20_000
    )
    days: int = _field(90, "Length of the history.", "d", 1, 3650)
    step: str = _field("1d", "Spacing of the samples.", "duration")
    pods_per_node: int = _field(30, "Mean pods with an address of their own.", "1", 1, 150)
    seed: int = _field(7, "Seed; the same seed gives the same files.", "", 0, 2**32 - 1)
    version: str = _field("1.17", f"Cilium version, one of {', '.join(VERSIONS)}.")
    memory: str = _field("30Gi", "Memory of a node; sizes the dynamic maps.", "byte")
    ratio: float = _field(0.0025, "bpf-map-dynamic-size-ratio.", "1", 1e-6, 1.0)
    lb_map_max: int = _field(65536, "bpf-lb-map-max.", "1", 1, 1 << 24)
    policy_map_max: int = _field(16384, "bpf-policy-map-max.", "1", 256, 65536)
    end: str = _field("2026-11-01T00:00:00Z", "Time of the last sample, RFC 3339.")
    cluster: str = _field("demo", "Name of the cluster.")
    noise: float = _field(1.0, "Noise as a multiple of the documented one; 0: laws.", "1", 0, 5)
    gaps: float = _field(0.01, "Share of scrapes that are missing.", "1", 0, 0.9)
    restarts: float = _field(0.004, "Restarts of an agent.", "1/d", 0, 10)
    replacements: float = _field(0.0005, "Replacements of a node by a new one.", "1/d", 0, 1)
    agent_memory_limit: str = _field("1Gi", "Memory limit of the agent.", "byte")
    operator_memory_limit: str = _field("512Mi", "Memory limit of the operator.", "byte")
    format: str = _field(
        "tables", f"Of the metrics, one of {', '.join(FORMATS)}; blocks needs promtool."
    )
    with_pods: bool = _field(default=False, help="Make an inventory of pods as well.")

    def __post_init__(self) -> None:
        faults = _faults(self)
        if faults:
            raise SettingsError("; ".join(faults))

    @property
    def first_nodes(self) -> int:
        """Nodes at the start of the history."""
        if self.nodes_start is not None:
            return self.nodes_start
        return max(2, round(0.7 * self.nodes))

    @property
    def step_seconds(self) -> float:
        """Spacing of the samples [s]."""
        return parse_duration(self.step, what="step")

    @property
    def steps(self) -> int:
        """Samples of a series that is never interrupted."""
        return round(self.days * _DAY / self.step_seconds)

    @property
    def end_time(self) -> datetime:
        """Time of the last sample."""
        return datetime.fromisoformat(self.end).astimezone(UTC)


def _faults(settings: SimulationSettings) -> list[str]:
    out = [fault for name in _BYTES if (fault := _byte_fault(name, getattr(settings, name)))]
    for item in fields(settings):
        bounds, value = item.metadata["bounds"], getattr(settings, item.name)
        if bounds and value is not None and not bounds[0] <= value <= bounds[1]:
            out.append(f"{item.name}: {value} is outside {bounds[0]:g}…{bounds[1]:g}")
    if settings.version not in VERSIONS:
        out.append(f"version: {settings.version!r} is not simulated; known: {VERSIONS}")
    if settings.format not in FORMATS:
        out.append(f"format: {settings.format!r} is none of {', '.join(FORMATS)}")
    if not settings.cluster:
        out.append("cluster: is empty; give a name")
    if settings.nodes_start is not None and settings.nodes_start > settings.nodes:
        out.append(f"nodes_start: {settings.nodes_start} is more than nodes {settings.nodes}")
    pods = settings.nodes * settings.pods_per_node
    if not _PODS[0] <= pods <= _PODS[1]:
        out.append(
            f"nodes x pods_per_node: {settings.nodes} x {settings.pods_per_node} is {pods} pods, "
            f"outside {_PODS[0]}…{_PODS[1]}; the laws of services hold within"
        )
    return out + _time_faults(settings)


_BYTES: Final = ("memory", "agent_memory_limit", "operator_memory_limit")


def _byte_fault(name: str, text: str) -> str | None:
    try:
        return None if parse_bytes(text, what=name) > 0 else f"{name}: {text!r} is not more than 0"
    except SettingsError as error:
        return str(error)


def _time_faults(settings: SimulationSettings) -> list[str]:
    try:
        if datetime.fromisoformat(settings.end).tzinfo is None:
            return [f"end: {settings.end!r} has no time zone; write for example {settings.end}Z"]
    except ValueError:
        return [f"end: {settings.end!r} is not a time; write for example 2026-11-01T00:00:00Z"]
    try:
        step = settings.step_seconds
    except SettingsError as error:
        return [str(error)]
    if not (1 <= step < math.inf) or settings.steps < 2:
        return [f"step: {settings.step!r} must be 1s or more, and fit twice into {settings.days} d"]
    cells = settings.steps * settings.nodes
    if cells > _MOST_CELLS:
        return [
            f"nodes x steps: {settings.nodes} x {settings.steps} is {cells}, more than "
            f"{_MOST_CELLS}; take a longer step, fewer days or fewer nodes"
        ]
    return []
