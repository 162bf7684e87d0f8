"""One shape of a cluster: its numbers, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Final

from capacity.errors import SettingsError

# Addresses of a node that agents know: its own, that of cilium_host, health and ingress; reports of
# a full node map of 16,384 entries begin above 4,000 nodes (cilium/cilium issues 42787 and 31380)
NODE_IPS: Final = 4.0


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape of a cluster.

    `identities` are cluster-wide ones and `policy_entries` those of the fullest policy map, at this
    size; both grow with pods. `backends` are those of a service; pods back more services as they
    get more. `node_ips` are addresses of a node, `options` agent options that are set. Each
    node gets a part of size `pod_mask` of `pod_cidr`, the pool of cluster-pool IPAM. `agent_memory`
    is the memory limit of an agent. [byte]

    Raises
    ------
    SettingsError
        On construction, with all faults in one message.
    """

    nodes: int
    pods_per_node: float
    services: int = 0
    service_type: str = "ClusterIP"
    ports: int = 1
    backends: int = 1
    identities: int | None = None
    policy_entries: int | None = None
    families: int = 1
    node_ips: float = NODE_IPS
    pod_cidr: str | None = None
    pod_mask: int = 24
    agent_memory: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = [
            f"{name}: {getattr(self, name)} is not {wanted}"
            for name, is_wrong, wanted in (
                ("nodes", self.nodes < 1, "1 or more"),
                ("pods_per_node", not 0 < self.pods_per_node < 65536, "within 0 … 65,535"),
                ("services", self.services < 0, "0 or more"),
                ("families", self.families not in (1, 2), "1 or 2"),
                ("node_ips", not 1 <= self.node_ips <= 1000, "within 1 … 1,000"),
                ("identities", (self.identities or 0) < 0, "0 or more"),
                ("policy_entries", (self.policy_entries or 0) < 0, "0 or more"),
                ("agent_memory", (self.agent_memory or 1) < 1, "1 byte or more"),
            )
            if is_wrong
        ]
        if self.pod_cidr is not None:
            faults += self._pool_faults(self.pod_cidr)
        if faults:
            raise SettingsError("; ".join(faults))

    def _pool_faults(self, cidr: str) -> list[str]:
        try:
            pool = ip_network(cidr)
        except ValueError:
            return [f"pod_cidr: {cidr!r} is no network; write for example 10.0.0.0/8"]
        if not pool.prefixlen <= self.pod_mask <= pool.max_prefixlen - 2:
            return [f"pod_mask: /{self.pod_mask} is no part of {cidr}"]
        if self.pods_per_node > self.pod_ips:
            return [
                f"pods_per_node: {self.pods_per_node:g} in a /{self.pod_mask}, which has "
                f"{self.pod_ips:,} addresses; take a smaller mask"
            ]
        return []

    @property
    def pod_ips(self) -> int:
        """Addresses of a node's pod CIDR, its first and last left out."""
        bits = 32 if self.pod_cidr is None else ip_network(self.pod_cidr).max_prefixlen
        return int(2 ** (bits - self.pod_mask)) - 2

    @property
    def pods(self) -> float:
        """Pods with an address of their own."""
        return self.nodes * self.pods_per_node
