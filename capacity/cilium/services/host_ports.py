"""Host ports of the pods of a node: frontends that only this node has."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from capacity.cilium.services.choices import Choices
from capacity.cilium.services.slots import distinct
from capacity.inventory import Inventory

if TYPE_CHECKING:
    from capacity.cilium.services import Counted


def with_host_ports(counted: Counted, inventory: Inventory) -> Counted:
    """Add frontends and backends of host ports, where the agent serves them.

    References
    ----------
    .. [1] cilium/cilium pkg/k8s/watchers/pod.go `genServiceMappings`, b095517e625e.
    """
    chosen = counted.chosen
    if not chosen.replaces_kube_proxy:
        return counted
    pods = inventory.endpoints.drop_nulls("host_ports")
    node = chosen.node
    if node is None and len(pods):
        node = str(pods["node"].drop_nulls().value_counts(sort=True)["node"][0] if
                   pods["node"].null_count() < len(pods) else "") or None  # fmt: skip
    here = pods.filter(pl.col("node").is_null() | (pl.col("node") == pl.lit(node, pl.String)))
    told = [
        (row["namespace"], row["pod"], port)
        for row in here.iter_rows(named=True)
        for port in json.loads(row["host_ports"])
    ]
    made = [
        row for namespace, pod, port in told for row in _frontends(namespace, pod, port, chosen)
    ]
    if not made:
        return counted
    return _joined(counted, made)


def _frontends(
    namespace: str, pod: str, port: dict[str, Any], chosen: Choices
) -> Iterator[dict[str, Any]]:
    low, high = chosen.node_ports
    if low <= port["host_port"] <= high:
        return
    for family in chosen.families:
        own = [one for one in port["addresses"] if (":" in one) == (family == 6)]
        if not own:
            continue
        for address in _addresses(port["host_ip"], family, chosen):
            yield {
                "namespace": namespace, "service": pod, "kind": "HostPort", "address": address,
                "family": family, "port": port["host_port"], "protocol": port["protocol"],
                "name": "", "scope": "external", "is_local": False, "affinity": False,
                "maglev": chosen.maglev and address not in ("0.0.0.0", "::"),  # noqa: S104
                "ranges": 0, "slots": len(own), "active": len(own), "affine": 0, "is_wild": False,
                "backends": [(family, one, port["port"], port["protocol"]) for one in own],
            }  # fmt: skip


def _addresses(host_ip: str, family: int, chosen: Choices) -> list[str]:
    """Give the addresses a host port is at: its own, or all of the node and the surrogate."""
    surrogate = "::" if family == 6 else "0.0.0.0"  # noqa: S104
    try:
        told = ipaddress.ip_address(host_ip) if host_ip else None
    except ValueError:
        told = None
    if told is None or told.is_unspecified:
        return [*chosen.addresses[family], surrogate]
    if told.version != family:
        return []
    return [surrogate] if told.is_loopback else [str(told)]


def _joined(counted: Counted, made: list[dict[str, Any]]) -> Counted:
    """Join both; a service keeps an address and port that a host port asks for too."""
    known = counted.frontends
    columns = [name for name in known.columns if name in made[0]]
    rows = pl.DataFrame([{name: row[name] for name in columns} for row in made])
    rows = rows.cast({name: known.schema[name] for name in columns})
    keys = ["address", "port", "scope", *(["protocol"] if counted.chosen.protocols else [])]
    new = rows.unique(keys, keep="last", maintain_order=True).join(known, on=keys, how="anti")
    backends = pl.DataFrame(
        [entry for row in made for entry in row["backends"]],
        schema={"family": pl.Int8, "address": pl.String, "port": pl.Int64, "protocol": pl.String},
        orient="row",
    ).with_columns(pl.col("address").hash(), pl.col("protocol").cast(pl.Categorical))
    both = pl.concat([counted.backends, backends.select(counted.backends.columns)])
    return replace(
        counted,
        frontends=pl.concat([known, new], how="diagonal"),
        backends=distinct(both, counted.chosen.protocols),
    )
