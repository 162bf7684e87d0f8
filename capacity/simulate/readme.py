"""README of a simulation: how it was made, its laws and its truth, in tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from capacity.simulation_settings import SimulationSettings

_HEAD: Final = """# A synthetic Cilium cluster with known truth

**Synthetic:** no cluster was measured. Metrics and objects follow the laws below, with noise, so
that what a planner finds can be compared with what is true. Costs of objects were measured on a
recorded agent (see `coefficients` in `truth.json`); everything else is chosen.
"""
_EXHAUSTION: Final = """
Node count at which the median of the law reaches the limit; dates suppose that nodes go on growing
at the mean pace of the history. No node count: it does not grow with nodes, or is too far.
"""
_NOTES: Final = """
## What is in the metrics

- One sample a step and agent, as a query over a range gives them; missing scrapes have no sample.
- Agents restart (counters begin anew, `cilium_process_start_time_seconds` tells when); a replaced
  node has a new name and pod and takes over the address of the old one (label `instance`).
- `cilium_identity{type="cluster_local"}` counts what the agent's own endpoints use, as a real agent
  does; all identities of the cluster are in `cilium_operator_identity_gc_entries{status="alive"}`.
- `cilium_bpf_map_capacity` comes as `max by (map_group)`: all agents have the same sizes.
- `cilium_bpf_map_pressure{map_name="cilium_policy_*"}` is absent at or below 0.1, as is
  `cilium_services_events_total{action="delete"}` before the first deletion.
- An agent's memory limit is held against `memory`: resident memory and that of its BPF maps
  (`cilium_bpf_maps_virtual_memory_max_bytes`), charged to the first agent pod after boot.
- Policy objects are not in the inventory; `cilium_policy` counts rules.
"""


def command(settings: SimulationSettings) -> str:
    """Command that makes the simulation anew, without settings that have their default."""
    changed = [
        f"--{f.name.replace('_', '-')} {getattr(settings, f.name)}"
        for f in fields(settings)
        if getattr(settings, f.name) != f.default and f.name != "with_pods"
    ]
    flag = ["--with-pods"] if settings.with_pods else []
    return " ".join(["capacity simulate --out DIR", *changed, *flag])


def text(settings: SimulationSettings, truth: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    """Give the README.

    Parameters
    ----------
    settings, truth
        Of the simulation.
    sizes
        Files by path. [byte]
    """
    parts = [
        _HEAD,
        f"Made by `{command(settings)}` (DIR: this folder), seed {settings.seed}. Equal settings "
        "give\nequal files; running the command again replaces the folder, this file included.",
        "## Where limits are reached",
        _table(
            ("component", "subject", "statistic", "limit", "unit", "nodes", "date"),
            [_exhaustion(row) for row in truth["exhaustion"]],
        ),
        _EXHAUSTION,
        "## Laws (n nodes, p pods per node)",
        _table(("what", "law"), list(truth["formulas"].items())),
        "## At the last step",
        _table(("count", "drawn", "law", "unit"), _now(truth["now"])),
        _NOTES,
        "## Settings",
        _table(
            ("setting", "value", "unit", "meaning"),
            [
                (f.name, str(truth["settings"][f.name]), f.metadata["unit"], f.metadata["help"])
                for f in fields(settings)
            ],
        ),
        "## Files",
        _table(("file", "bytes"), [(name, f"{size:,}") for name, size in sizes.items()]),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _exhaustion(row: Mapping[str, Any]) -> tuple[str, ...]:
    nodes = "" if row["nodes"] is None else f"{row['nodes']:,}"
    what = row["subject"] or row["quantity"]
    limit, date = f"{row['limit']:,}", (row["date"] or "")[:10]
    return row["component"], what, row["statistic"], limit, row["unit"], nodes, date


def _now(now: Mapping[str, Any]) -> list[tuple[str, ...]]:
    law = now["law"]
    rows = [
        (name, f"{count:,}", f"{law[name]:,.0f}" if name in law else "", "1")
        for name, count in now["drawn"].items()
    ]
    memory = {f"agent {k}": v for k, v in now["agent"].items()}
    memory["operator memory, leader"] = now["operator_memory"]
    return [*rows, *((name, "", f"{value:,}", "byte") for name, value in memory.items())]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
