"""The cluster as policy resolution sees it; made of an inventory in adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod: labels as written, named ports as (name, port, protocol)."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    service_account: str = ""
    ports: tuple[tuple[str, int, str], ...] = ()

    @property
    def endpoint(self) -> str:
        """Name of its endpoint."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Service:
    """One service without selector, or any other: only the former are selectable by policies."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    has_selector: bool
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyObject:
    """One policy object as read from its file; `specs` is its spec, or specs, or both."""

    kind: str
    namespace: str
    name: str
    specs: tuple[Mapping[str, Any], ...]
    is_plural: tuple[bool, ...] = ()

    @property
    def title(self) -> str:
        """Name by which tables and findings call it."""
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind}/{where}{self.name}"


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Options of the agent that change what policies come to; defaults are Cilium's."""

    ipv4: bool = True
    ipv6: bool = False
    host_firewall: bool = False
    policy_mode: str = "default"
    cluster_name: str = "default"
    allow_localhost: bool = True
    l7_proxy: bool = True
    icmp_rules: bool = True
    node_selector_labels: bool = False
    listeners: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterState:
    """All that policy entries depend on."""

    pods: tuple[Pod, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    nodes: tuple[tuple[str, Mapping[str, str]], ...] = ()
    services: tuple[Service, ...] = ()
    cidr_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cidr_group_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prefix_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    policies: tuple[PolicyObject, ...] = ()
    options: AgentOptions = field(default_factory=AgentOptions)
    identities: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    endpoints: tuple[str, ...] | None = None
