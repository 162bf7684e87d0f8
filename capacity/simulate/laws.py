"""Laws of the simulated cluster: medians as functions of the node count, and where limits lie.

All laws in words: `FORMULAS` below, which truth.json and the README of a simulation print. Costs
of objects are measured (see `AgentCosts`, `OperatorCosts`), the rest is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from capacity.cilium.map_sizes import dynamic_sizes
from capacity.simulation_settings import SimulationSettings
from capacity.units import parse_bytes

Array = npt.NDArray[np.float64]

PAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of service: type (Headless is ClusterIP without an IP), ports, backend pods."""

    type: str
    ports: int
    backends: int

    @property
    def frontends(self) -> int:
        """Frontends, one address family, one node address for NodePorts, traffic policy Cluster.

        ClusterIP 1 a port; NodePort 1 a node address + 1 surrogate besides; LoadBalancer 1 a load
        balancer address besides. cilium/cilium v1.17 pkg/k8s/service.go,
        pkg/k8s/watchers/service.go (datapathSVCs).
        """
        return (
            self.ports
            * {"Headless": 0, "ClusterIP": 1, "NodePort": 3, "LoadBalancer": 4}[self.type]
        )

    @property
    def has_node_ports(self) -> bool:
        """Whether its ports are node ports as well."""
        return self.type in ("NodePort", "LoadBalancer")

    @property
    def lb_services(self) -> int:
        """Entries of lb4_services_v2: a master and a slot a backend for each frontend.

        cilium/cilium v1.17 pkg/maps/lbmap/lbmap.go.
        """
        return self.frontends * (1 + self.backends)

    @property
    def lb_backends(self) -> int:
        """Entries of lb4_backends_v3: address and port of backends; headless are not loaded."""
        return self.ports * self.backends if self.frontends else 0


# Every 20 services hold these, in an order drawn anew: any number of services is near the mean.
BLOCK: Final = (
    *(Template("ClusterIP", 1, 3),) * 4,
    *(Template("ClusterIP", 1, 7),) * 4,
    *(Template("ClusterIP", 2, 13),) * 4,
    Template("ClusterIP", 4, 20),
    Template("ClusterIP", 1, 50),
    *(Template("Headless", 1, 5),) * 2,
    *(Template("NodePort", 1, 16),) * 2,
    Template("NodePort", 2, 12),
    Template("LoadBalancer", 2, 25),
)
# Service default/kubernetes, in every cluster: three API servers behind one ClusterIP.
KUBERNETES: Final = Template("ClusterIP", 1, 3)
# Map → attribute of a service kind that counts its entries
LB_MAPS: Final = {
    "lb4_services_v2": "lb_services",
    "lb4_reverse_nat": "frontends",
    "lb4_backends_v3": "lb_backends",
}
SERVICES_PER_POD: Final = 1.3 / 30
IDENTITIES: Final = (100, 2.9)  # base, per node
POLICIES: Final = (30, 0.57)  # base, per node
IPCACHE: Final = (40, 3)  # CIDR rules and API servers; node, router and health address of a node
POLICY_PORTS: Final = 3  # ports on which a heavy endpoint takes every identity


@dataclass(frozen=True, slots=True)
class AgentCosts:
    """Resident memory of an agent by object, and its CPU.

    Costs: least-squares slopes of rss_kib in recorded agent runs, one factor at a time (Cilium
    1.17.0-dev b095517e625e, Linux 6.18, scale/agent_scale.json). A policy row: 20 endpoints, 20 to
    240 policies, rows = 20 × pressure × 16,384. A node without its 3 ipcache entries (21.1 − 6.8).
    A load-balancer entry: 17.5 KiB a service of 11 entries. CPU terms are chosen: about 0.2 cores
    at 1,000 nodes, the order of cilium/cilium PR 40227 (0.24 to 0.39 cores at 1,000 nodes).
    """

    base_kib: float = 150 * 1024
    endpoint_kib: float = 390.0
    identity_kib: float = 1.71
    ipcache_kib: float = 2.27
    node_kib: float = 14.3
    lb_service_kib: float = 1.59
    policy_kib: float = 20.6
    policy_row_kib: float = 1.12
    noise_kib: float = 8 * 1024
    restart_dip: float = 0.08
    base_cores: float = 0.03
    pod_cores: float = 2e-6
    identity_cores: float = 3e-5


@dataclass(frozen=True, slots=True)
class OperatorCosts:
    """Resident memory and CPU of the leading operator.

    Slopes of rss_kib and cpu_s by factor, recorded operator of the same build
    (operator/operator_scale.json). CPU of the recording is per object listed; here a day's churn
    is taken as ten listings.
    """

    base_kib: float = 112 * 1024
    pod_kib: float = 6.96
    identity_kib: float = 1.73
    node_kib: float = 3.37
    policy_kib: float = 19.9
    noise_kib: float = 4 * 1024
    base_cores: float = 0.01
    node_cores: float = 10 * 1.24e-3 / 86_400
    pod_cores: float = 10 * 3.69e-4 / 86_400


@dataclass(frozen=True, slots=True)
class MapCosts:
    """Memory of all BPF maps of a node [byte]: per entry of the dynamic TCP connection map, etc.

    Recorded agent, maps_vm of scale/agent_scale.json: 158,097,208 B in all at 221,723 entries
    (dynamic maps are most of it), 56 B an ipcache entry, 56 B a policy row, 640 B an endpoint.
    Load-balancer maps do not move the metric there.
    """

    sized: int = 713
    ipcache: int = 56
    policy_row: int = 56
    endpoint: int = 640


@dataclass(frozen=True, slots=True)
class Connections:
    """Entries of a connection map: rate × lifetime, lognormal over nodes, none of it by size.

    `median` entries = connections/s of the median node × lifetime; chosen.
    """

    map: str
    option: str
    rate: float
    lifetime: float

    @property
    def median(self) -> float:
        """Entries of the median node at the mean of the week."""
        return self.rate * self.lifetime


CONNECTIONS: Final = (
    Connections("ct4_global", "bpf-ct-global-tcp-max", 50.0, 400.0),
    Connections("ct_any4_global", "bpf-ct-global-any-max", 100.0, 80.0),
    Connections("snat_v4_external", "bpf-nat-global-max", 15.0, 400.0),
)
CONNECTION_SIGMA: Final = 0.45  # of the logarithm, over nodes
CONNECTION_NOISE: Final = 0.08  # of the logarithm, over time
WEEK: Final = 0.25  # amplitude of the week for connections
WEEK_CPU: Final = 0.15  # amplitude of the week for CPU
PODS_DAYS: Final = 5.0  # time constant of the pods of a node around their mean
MEMORY_DAYS: Final = 2.0  # time constant of memory noise, and of the dip after a restart
COUNT_NOISE: Final = 0.003  # of identities, policies, services over time, as a share
# Nodes by what they host: share of nodes, heavy endpoints as a share of the pods (low, high), rows
# of the worst endpoint as a share of a heavy one (low, high; equal on all heavy nodes).
CLASSES: Final = (
    ("heavy", 0.1, (0.60, 0.73), (1.0, 1.0)),
    ("middle", 0.4, (0.10, 0.40), (0.3, 0.8)),
    ("light", 0.5, (0.00, 0.02), (0.02, 0.08)),
)
AGENT: Final = AgentCosts()
MAPS: Final = MapCosts()
OPERATOR: Final = OperatorCosts()

FORMULAS: Final[dict[str, str]] = {
    "pods": "p·n, Poisson-like per node; cilium_endpoint = pods of the node + 2 (host, health)",
    "identities": f"{IDENTITIES[0]} + {IDENTITIES[1]}·n",
    "services": f"1 + {SERVICES_PER_POD:.4f}·n·p, in blocks of {len(BLOCK)} fixed kinds",
    "policies": f"{POLICIES[0]} + {POLICIES[1]}·n",
    "ipcache": f"pods + {IPCACHE[1]}·n + {IPCACHE[0]}",
    "tunnel_map": "n - 1",
    "lxc": "pods of the node + 3 (health, and two addresses of the host)",
    "lb4_services_v2": "sum over frontends of (1 + backends)",
    "lb4_reverse_nat": "frontends: a port of a ClusterIP 1, NodePort 3, LoadBalancer 4, headless 0",
    "lb4_backends_v3": "backends × ports of services with frontends",
    "cilium_policy_*": f"heavy endpoint: {POLICY_PORTS}·identities + policies; lighter on "
    f"{1 - CLASSES[0][1]:.0%} of the nodes; absent at or below 0.1 of the map",
    "connection maps": f"connections/s × lifetime, lognormal over nodes (σ {CONNECTION_SIGMA}), "
    f"weekly ±{WEEK:.0%}, no trend",
    "agent memory_rss": "base + Σ cost × objects of the node + AR(1) noise, "
    f"less a dip of {AGENT.restart_dip:.0%} after a restart that heals with {MEMORY_DAYS:g} days",
    "agent memory": "memory_rss + memory of BPF maps, which the kernel charges to the agent's pod",
    "memory of BPF maps": f"{MAPS.sized}·max_entries of ct4_global + {MAPS.ipcache}·ipcache + "
    f"{MAPS.policy_row}·policy rows + {MAPS.endpoint}·endpoints bytes",
    "agent cpu": f"{AGENT.base_cores} + {AGENT.pod_cores:g}·pods + {AGENT.identity_cores:g}·"
    f"identities cores, weekly ±{WEEK_CPU:.0%}",
    "operator memory": "base + Σ cost × objects of the cluster + AR(1) noise",
    "operator cpu": f"{OPERATOR.base_cores} + {OPERATOR.node_cores:.2g}·n + "
    f"{OPERATOR.pod_cores:.2g}·pods cores",
}


def cluster_law(settings: SimulationSettings, nodes: npt.ArrayLike) -> dict[str, Array]:
    """Medians of cluster-wide counts at node counts.

    Parameters
    ----------
    settings
        Pods per node matter; the rest does not.
    nodes : array, shape (m,)
        Node counts. [1]

    Returns
    -------
    dict of ndarray, shape (m,)
        pods, identities, policies, services, ipcache, tunnel_map, lb4_services_v2,
        lb4_reverse_nat, lb4_backends_v3, policy_worst. [1]
    """
    n = np.asarray(nodes, float)
    pods = settings.pods_per_node * n
    services = 1 + SERVICES_PER_POD * pods
    out = {"pods": pods, "services": services, "tunnel_map": n - 1}
    out["identities"] = IDENTITIES[0] + IDENTITIES[1] * n
    out["policies"] = POLICIES[0] + POLICIES[1] * n
    out["ipcache"] = ipcache(pods, n)
    for name, attribute in LB_MAPS.items():
        each = sum(getattr(kind, attribute) for kind in BLOCK) / len(BLOCK)
        out[name] = getattr(KUBERNETES, attribute) + each * (services - 1)
    return out | {"policy_worst": policy_rows(out["identities"], out["policies"])}


def ipcache(pods: npt.ArrayLike, nodes: npt.ArrayLike) -> Array:
    """Entries of ipcache: an address a pod, three a node, and a fixed rest.

    cilium/cilium v1.17 pkg/node/manager/manager.go (node, router and health address).
    """
    base, each = IPCACHE
    return np.asarray(np.asarray(pods, float) + each * np.asarray(nodes, float) + base)


def policy_rows(identities: Array, policies: Array) -> Array:
    """Policy-map rows of a heavy endpoint: all identities on each port, and one row a policy."""
    return np.asarray(POLICY_PORTS * identities + policies)


def agent_memory_kib(counts: dict[str, Any], endpoints: Any, rows: Any) -> Any:
    """Resident memory of an agent without noise [KiB].

    Parameters
    ----------
    counts
        identities, ipcache, nodes, lb4_services_v2, policies of the cluster. [1]
    endpoints, rows
        Endpoints of the node; policy-map rows of all of them. [1]
    """
    return (
        AGENT.base_kib
        + AGENT.endpoint_kib * endpoints
        + AGENT.identity_kib * counts["identities"]
        + AGENT.ipcache_kib * counts["ipcache"]
        + AGENT.node_kib * counts["nodes"]
        + AGENT.lb_service_kib * counts["lb4_services_v2"]
        + AGENT.policy_kib * counts["policies"]
        + AGENT.policy_row_kib * rows
    )


def map_bytes(settings: SimulationSettings, ipcache: Any, endpoints: Any, rows: Any) -> Any:
    """Memory of all BPF maps of a node [byte], from its entries, endpoints and policy rows."""
    sized = MAPS.sized * map_limits(settings)["ct4_global"]
    each = MAPS.ipcache * ipcache + MAPS.policy_row * rows + MAPS.endpoint * endpoints
    return sized + each


def operator_memory_kib(counts: dict[str, Any]) -> Any:
    """Resident memory of the leading operator without noise [KiB]."""
    return (
        OPERATOR.base_kib
        + OPERATOR.pod_kib * counts["pods"]
        + OPERATOR.identity_kib * counts["identities"]
        + OPERATOR.node_kib * counts["nodes"]
        + OPERATOR.policy_kib * counts["policies"]
    )


def map_limits(settings: SimulationSettings) -> dict[str, int]:
    """max_entries by pressure label.

    Fixed sizes: cilium/cilium v1.17 pkg/maps/{ipcache,lxcmap,tunnel}; the rest from the settings
    and the agent's dynamic sizing.
    """
    sizes = dynamic_sizes(parse_bytes(settings.memory), settings.ratio, version=settings.version)
    return {
        "ipcache": 512_000,
        "lxc": 65_535,
        "tunnel_map": 65_536,
        "cilium_policy_*": settings.policy_map_max,
        **dict.fromkeys(LB_MAPS, settings.lb_map_max),
        **{kind.map: sizes[kind.option] for kind in CONNECTIONS},
    }


def draw_load(size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw what nodes host, shapes (size,).

    First: heavy endpoints as a share of the pods; second: rows of the worst endpoint as a share of
    a heavy one's. Classes hold their shares exactly, in random order; the first node is heavy.
    """
    ends = np.cumsum([share for _, share, _, _ in CLASSES])
    rank = np.append(0, 1 + rng.permutation(size - 1)) if size > 1 else np.zeros(1)
    kind = np.searchsorted(ends, (rank + 0.5) / size).clip(max=len(CLASSES) - 1)
    kind[0] = 0
    low, high = (np.array([c[2][i] for c in CLASSES])[kind] for i in (0, 1))
    heavy = low + (high - low) * rng.random(size)
    low, high = (np.array([c[3][i] for c in CLASSES])[kind] for i in (0, 1))
    return heavy, low + (high - low) * rng.random(size)


def node_rows(pods: Any, heavy: Any, worst_rows: Any, pods_per_node: int) -> Any:
    """Policy-map rows of all endpoints of a node: heavy endpoints, and 3 of every other one.

    An endpoint without policy holds 3 rows: any peer in and out, and the host
    (cilium/cilium v1.17 pkg/policy/mapstate.go).
    """
    many = np.minimum(np.round(heavy * pods_per_node), pods)
    return many * worst_rows + 3 * (pods + 2 - many)


def draw_pods(deviation: Array, mean: int) -> Array:
    """Pods of a node from a standard normal deviation: Poisson-like, none below 1."""
    return np.asarray(np.clip(np.round(mean + np.sqrt(mean) * deviation), 1, None))


_POPULATION: Final = 100_000


@dataclass(frozen=True, slots=True)
class Population:
    """Nodes drawn once from the laws, with a seed of their own: what quantiles are taken over."""

    settings: SimulationSettings
    heavy: Array
    pods: Array
    noise_kib: Array

    @classmethod
    def draw(cls, settings: SimulationSettings) -> Population:
        """Draw 100,000 nodes."""
        rng = np.random.default_rng(0)
        heavy, _ = draw_load(_POPULATION, rng)
        pods = draw_pods(rng.normal(size=_POPULATION) * settings.noise, settings.pods_per_node)
        noise = AGENT.noise_kib * settings.noise * rng.normal(size=_POPULATION)
        return cls(settings, heavy, pods, noise)

    def memory(self, nodes: int, level: float, *, maps: bool) -> float:
        """Quantile over nodes of an agent's resident memory, with that of its maps or without.

        Nodes in the cluster [1]; the result in bytes.
        """
        counts = cluster_law(self.settings, nodes) | {"nodes": np.asarray(float(nodes))}
        worst = counts["policy_worst"]
        rows = node_rows(self.pods, self.heavy, worst, self.settings.pods_per_node)
        memory = 1024 * (agent_memory_kib(counts, self.pods + 2, rows) + self.noise_kib)
        if maps:
            memory = memory + map_bytes(self.settings, counts["ipcache"], self.pods + 2, rows)
        return float(np.quantile(memory, level))


def operator_memory(settings: SimulationSettings, nodes: int) -> float:
    """Resident memory of the leading operator at a node count, without noise [byte]."""
    counts = cluster_law(settings, nodes) | {"nodes": np.asarray(float(nodes))}
    return float(operator_memory_kib(counts)) * 1024
