"""An inventory as the state of a cluster that policies are resolved for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Final

import orjson
import polars as pl

from capacity.cilium.policy.security_labels import told
from capacity.cilium.policy.state import AgentOptions, ClusterState, Pod, PolicyObject, Service
from capacity.errors import SettingsError
from capacity.inventory import Inventory

_SWITCHES: Final = {
    "enable-ipv4": "ipv4",
    "enable-ipv6": "ipv6",
    "enable-host-firewall": "host_firewall",
    "enable-l7-proxy": "l7_proxy",
    "enable-icmp-rules": "icmp_rules",
    "enable-node-selector-labels": "node_selector_labels",
}
_CLUSTERWIDE: Final = (
    "CiliumClusterwideNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy",
    "ClusterNetworkPolicy",
)  # fmt: skip
_ENVOY: Final = ("CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig")
_LISTENER: Final = "type.googleapis.com/envoy.config.listener.v3.Listener"
_MODES: Final = ("default", "always", "never")
# Endpoints to resolve, separated by commas; all where left out. No flag of the agent.
ENDPOINTS_OPTION: Final = "endpoints"

Options = Mapping[str, str | bool | int]


def cluster_state(inventory: Inventory, options: Options | None = None) -> ClusterState:
    """Take from an inventory what policy entries depend on.

    Parameters
    ----------
    inventory
        Tables and columns that it lacks are taken as empty.
    options
        Agent flags that override those of the inventory.

    Raises
    ------
    SettingsError
        If an option has a value that the agent does not take.
    """
    given = dict(inventory.options.select("option", "value").iter_rows())
    given |= {key: _text(value) for key, value in (options or {}).items()}
    endpoints = given.get(ENDPOINTS_OPTION)
    return ClusterState(
        pods=tuple(_pods(inventory)),
        namespaces={row["namespace"]: _labels(row) for row in _rows(inventory, "namespaces")},
        nodes=tuple((row["node"], _labels(row)) for row in _rows(inventory, "nodes")),
        services=tuple(_services(inventory)),
        cidr_groups={
            row["name"]: tuple(_list(row["cidrs"])) for row in _rows(inventory, "cidr_groups")
        },
        cidr_group_labels={row["name"]: _labels(row) for row in _rows(inventory, "cidr_groups")},
        dns=_grouped((row["name"], row["address"]) for row in _rows(inventory, "dns")),
        prefix_labels={
            row["prefix"]: tuple(_prefix_labels(row["labels"]))
            for row in _rows(inventory, "prefixes")
        },
        policies=tuple(_policies(inventory)),
        options=_agent_options(given, tuple(_listeners(inventory))),
        identities=_identities(inventory),
        endpoints=tuple(filter(None, endpoints.split(","))) if endpoints else None,
    )


def with_policies(
    state: ClusterState, before: Inventory, inventory: Inventory
) -> ClusterState | None:
    """Give a state with the policies of another inventory; those that are the same stay as objects.

    Parameters
    ----------
    state
        What `cluster_state` made of `before`.
    before, inventory
        Inventories.

    Returns
    -------
    ClusterState
        None where the inventories differ in more than policies.
    """
    tables = (one.name for one in fields(Inventory) if one.name not in ("policies", "sources"))
    for name in tables:
        old, new = getattr(before, name), getattr(inventory, name)
        if old is not new and not old.equals(new):
            return None
    columns = ["kind", "namespace", "policy", "object"]
    known = dict(zip(before.policies.select(columns).iter_rows(), state.policies, strict=True))
    policies = tuple(
        known.get(row) or _policy(*row) for row in inventory.policies.select(columns).iter_rows()
    )
    return replace(state, policies=policies)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rows(inventory: Inventory, name: str) -> Iterator[dict[str, Any]]:
    frame = getattr(inventory, name, None)
    if isinstance(frame, pl.DataFrame):
        yield from frame.iter_rows(named=True)


def _json(text: Any) -> Any:
    return orjson.loads(text) if isinstance(text, str | bytes) and text else text


def _labels(row: Mapping[str, Any]) -> dict[str, str]:
    return {str(k): str(v) for k, v in (_json(row.get("labels")) or {}).items()}


def _list(value: Any) -> list[Any]:
    told_list = _json(value)
    return list(told_list) if told_list is not None else []


def _prefix_labels(value: Any) -> Iterator[str]:
    labels = _json(value) or []
    if isinstance(labels, Mapping):
        yield from (told(*_sourced(str(key)), str(text or "")) for key, text in labels.items())
    else:
        yield from (str(label) for label in labels)


def _sourced(key: str) -> tuple[str, str]:
    source, colon, name = key.partition(":")
    return (source, name) if colon else ("k8s", source)


def _grouped(pairs: Iterator[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in found.items()}


def _pods(inventory: Inventory) -> Iterator[Pod]:
    for row in _rows(inventory, "endpoints"):
        ports = tuple(
            (str(port.get("name") or ""), int(port["port"]), str(port.get("protocol") or "TCP"))
            for port in _list(row.get("named_ports"))
        )
        account = row.get("service_account") or ""
        yield Pod(row["namespace"], row["pod"], _labels(row), account, ports)


def _services(inventory: Inventory) -> Iterator[Service]:
    addresses: dict[tuple[str, str], dict[str, None]] = {}
    for row in _rows(inventory, "backends"):
        if row.get("ready") is False and row.get("serving") is False:
            continue  # pkg/k8s/endpoints.go leaves it out
        addresses.setdefault((row["namespace"], row["service"]), {})[row["address"]] = None
    for row in _rows(inventory, "services"):
        described = _json(row.get("object")) or {}
        spec = described.get("spec") or described
        home = row["namespace"], row["service"]
        has_selector = bool(spec.get("selector"))
        yield Service(*home, _labels(row), has_selector, tuple(addresses.get(home, ())))


def _policies(inventory: Inventory) -> Iterator[PolicyObject]:
    for row in _rows(inventory, "policies"):
        yield _policy(row["kind"], row["namespace"], row["policy"], row["object"])


def _policy(kind: str, namespace: str | None, name: str, text: str) -> PolicyObject:
    described = _json(text) or {}
    single, plural = described.get("spec"), described.get("specs") or []
    specs = ([single] if single is not None else []) + list(plural)
    are_plural = (False,) * (single is not None) + (True,) * len(plural)
    # An API server puts objects of namespaced kinds without one there
    home = "" if kind in _CLUSTERWIDE else namespace or "default"
    return PolicyObject(kind, home, name, tuple(specs), are_plural)


def _identities(inventory: Inventory) -> dict[tuple[str, ...], int]:
    """Numbers of the identities that the cluster has: labels with their sources to number."""
    found = {}
    for row in _rows(inventory, "identities"):
        labels = sorted(told(*_sourced(key), value) for key, value in _labels(row).items())
        found[tuple(labels)] = int(row["identity"])
    return found


def _listeners(inventory: Inventory) -> Iterator[str]:
    """Name the listeners of CiliumEnvoyConfigs as policies do: namespace/config/listener.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/api/l4.go, ResourceQualifiedName, b095517e625e.
    """
    for row in _rows(inventory, "objects"):
        if row["kind"] not in _ENVOY:
            continue
        resources = ((_json(row["object"]) or {}).get("spec") or {}).get("resources")
        for resource in resources if isinstance(resources, list) else []:
            is_listener = isinstance(resource, Mapping) and resource.get("@type") == _LISTENER
            if is_listener and resource.get("name"):
                yield f"{row['namespace'] or ''}/{row['name']}/{resource['name']}"


def _agent_options(given: Mapping[str, str], listeners: tuple[str, ...]) -> AgentOptions:
    switches = {
        field: _switch(flag, given[flag]) for flag, field in _SWITCHES.items() if flag in given
    }
    mode = given.get("enable-policy", "default")
    if mode not in _MODES:
        raise SettingsError(f"enable-policy: {mode!r}; wanted default, always or never")
    localhost = given.get("allow-localhost", "auto")
    if localhost not in ("auto", "always", "policy"):
        raise SettingsError(f"allow-localhost: {localhost!r}; wanted auto, always or policy")
    return AgentOptions(
        **switches,
        policy_mode=mode,
        cluster_name=given.get("cluster-name", "default"),
        # auto is always where the agent runs in Kubernetes
        allow_localhost=localhost != "policy",
        listeners=(*filter(None, given.get("listeners", "").split(",")), *listeners),
        labels=tuple(given.get("labels", "").split()),
    )


def _switch(flag: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise SettingsError(f"{flag}: {value!r}; wanted true or false")
    return value.lower() == "true"
