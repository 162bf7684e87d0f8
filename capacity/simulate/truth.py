"""What a planner should find: the laws with their coefficients, and where limits are reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

from capacity.simulate import laws
from capacity.simulation_settings import SimulationSettings
from capacity.units import parse_bytes

SCHEMA: Final = "capacity.simulation/1"
# Identities 256…65535 of a cluster with cluster ID 0 and at most 255 clusters in its mesh:
# cilium/cilium v1.17 pkg/identity/numericidentity.go
IDENTITIES: Final = 65_280
# Service IDs of a node, one a frontend: cilium/cilium v1.17 pkg/service/const.go
SERVICE_IDS: Final = 65_535
# Node counts looked at
_FARTHEST: Final = 1_000_000
# Seconds ahead, beyond which no date is told
_FAR: Final = 100 * 365 * 86_400.0

_Law = Callable[[int], float]


def truth(settings: SimulationSettings, now: dict[str, int]) -> dict[str, Any]:
    """Give settings, laws, coefficients, present counts and exhaustion as plain values.

    Parameters
    ----------
    settings
        Of the simulation.
    now
        Counts at the last step as they were drawn. [1]

    Returns
    -------
    dict
        Keys schema, settings, formulas, coefficients, limits (max_entries), now (drawn,
        law; agents' and operator's memory in bytes), exhaustion (see `exhaustion`).
    """
    nodes = settings.nodes
    law = laws.cluster_law(settings, nodes)
    population = laws.Population.draw(settings)
    return {
        "schema": SCHEMA,
        "synthetic": True,
        "settings": asdict(settings) | {"nodes_start": settings.first_nodes},
        "formulas": laws.FORMULAS,
        "coefficients": coefficients(),
        "limits": laws.map_limits(settings),
        "now": {
            "drawn": now,
            "law": {name: round(float(v), 1) for name, v in law.items()},
            "agent": {
                f"{quantity}, {statistic}": round(_memory_law(population, level, maps)(nodes))
                for quantity, maps in _AGENT_QUANTITIES.items()
                for statistic, level in _AGENT_LEVELS.items()
            },
            "operator_memory": round(laws.operator_memory(settings, nodes)),
        },
        "exhaustion": exhaustion(settings),
    }


def coefficients() -> dict[str, Any]:
    """Give the numbers in the laws: costs by object, kinds of services, classes of nodes."""
    return {
        "agent": asdict(laws.AGENT),
        "operator": asdict(laws.OPERATOR),
        "maps": asdict(laws.MAPS),
        "connections": [asdict(c) | {"median": c.median} for c in laws.CONNECTIONS],
        "connection_sigma": laws.CONNECTION_SIGMA,
        "connection_noise": laws.CONNECTION_NOISE,
        "week": laws.WEEK,
        "week_cpu": laws.WEEK_CPU,
        "node_classes": [
            dict(zip(("class", "share", "heavy_endpoints", "worst_rows"), c, strict=True))
            for c in laws.CLASSES
        ],
        "services_per_pod": laws.SERVICES_PER_POD,
        "identities": laws.IDENTITIES,
        "policies": laws.POLICIES,
        "ipcache": laws.IPCACHE,
        "policy_ports": laws.POLICY_PORTS,
        "count_noise": laws.COUNT_NOISE,
        "service_kinds": [asdict(kind) for kind in laws.BLOCK],
        "pods_autocorrelation_days": laws.PODS_DAYS,
        "memory_autocorrelation_days": laws.MEMORY_DAYS,
    }


def exhaustion(settings: SimulationSettings) -> list[dict[str, Any]]:
    """Each limited resource: the first node count at which the law's median reaches the limit.

    Returns
    -------
    list of dict
        component, subject, quantity, statistic, unit, limit, nodes, date; soonest first. `nodes`
        and `date` are null where the resource does not grow with nodes, or not within a million of
        them. `date` supposes that nodes go on growing at the mean pace of the history;
        null beyond 100 years.
    """
    rows = [
        *(_map_row(settings, name, limit) for name, limit in laws.map_limits(settings).items()),
        *_id_rows(settings),
        *_memory_rows(settings),
    ]
    return sorted(rows, key=lambda row: (row["nodes"] is None, row["nodes"], str(row["subject"])))


def _map_row(settings: SimulationSettings, name: str, limit: int) -> dict[str, Any]:
    key = "policy_worst" if name == "cilium_policy_*" else name
    nodes = None
    if key in laws.cluster_law(settings, 1):  # connection maps and lxc do not grow with nodes
        nodes = _reach(_cluster_law(settings, key), limit)
    return _row(settings, ("map", name, "map_entries", "worst node"), limit, nodes)


def _id_rows(settings: SimulationSettings) -> list[dict[str, Any]]:
    out = []
    for subject, key, limit in (
        ("identities", "identities", IDENTITIES),
        ("service_ids", "lb4_reverse_nat", SERVICE_IDS),
    ):
        reach = _reach(_cluster_law(settings, key), limit)
        out.append(_row(settings, ("cluster", subject, "count", "total"), limit, reach))
    return out


_AGENT_LEVELS: Final[dict[str, Callable[[int], float]]] = {
    "median node": lambda n: 0.5,
    "99th percentile of the nodes": lambda n: 0.99,
    "worst node": lambda n: 0.5 ** (1 / n),  # median of the largest of n
}


# Quantity → whether the memory of maps is in it, as in what a pod's limit is held against: the
# kernel charges maps to the pod that made them, the first agent after boot
_AGENT_QUANTITIES: Final = {"memory": True, "memory_rss": False}


def _memory_rows(settings: SimulationSettings) -> list[dict[str, Any]]:
    limit = parse_bytes(settings.agent_memory_limit)
    population = laws.Population.draw(settings)
    out = []
    for quantity, maps in _AGENT_QUANTITIES.items():
        for statistic, level in _AGENT_LEVELS.items():
            reach = _reach(_memory_law(population, level, maps), limit)
            out.append(_row(settings, ("agent", None, quantity, statistic), limit, reach))
    limit = parse_bytes(settings.operator_memory_limit)
    reach = _reach(lambda n: laws.operator_memory(settings, n), limit)
    return [*out, _row(settings, ("operator", None, "memory", "leader"), limit, reach)]


def _cluster_law(settings: SimulationSettings, key: str) -> _Law:
    return lambda n: float(laws.cluster_law(settings, n)[key])


def _memory_law(population: laws.Population, level: Callable[[int], float], maps: bool) -> _Law:
    return lambda n: population.memory(n, level(n), maps=maps)


def _reach(law: _Law, limit: float) -> int | None:
    """First node count at which a law that never falls is at its limit; None where too far."""
    low, high = 1, _FARTHEST
    if law(high) < limit:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if law(middle) >= limit else (middle + 1, high)
    return low


def _row(
    settings: SimulationSettings, key: tuple[str, str | None, str, str], limit: int,
    nodes: int | None,
) -> dict[str, Any]:  # fmt: skip
    component, subject, quantity, statistic = key
    pace = (settings.nodes - settings.first_nodes) / (settings.steps - 1)
    ahead = (nodes - settings.nodes) / pace * settings.step_seconds if nodes and pace else _FAR
    date = None
    if abs(ahead) < _FAR:
        date = settings.end_time + timedelta(seconds=round(ahead))
    return {
        "component": component,
        "subject": subject,
        "quantity": quantity,
        "statistic": statistic,
        "unit": "byte" if quantity.startswith("memory") else "1",
        "limit": limit,
        "nodes": nodes,
        "date": None if date is None else f"{date:%Y-%m-%dT%H:%M:%SZ}",
    }
