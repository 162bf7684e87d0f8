"""Services of one shape, as an inventory: what if there were N of these."""

from __future__ import annotations

import json
from typing import Final

import polars as pl

from capacity.errors import SettingsError
from capacity.inventory import Inventory
from capacity.tables import BACKENDS, SERVICES, check

_TYPES: Final = ("ClusterIP", "NodePort", "LoadBalancer")
_MOST: Final = 1 << 24


def shape(
    *,
    services: int,
    type: str = "ClusterIP",  # noqa: A002 - the name Kubernetes gives it
    ports: int = 1,
    backends: int = 1,
    families: int = 1,
    local: bool = False,
    affinity: bool = False,
) -> Inventory:
    """Give an inventory of services that are all alike, each with backends of its own.

    Parameters
    ----------
    services, ports, backends
        Services; ports of each; pods behind each. [1]
    type
        ClusterIP, NodePort or LoadBalancer (with one address a family).
    families
        1: IPv4; 2: IPv4 and IPv6.
    local
        externalTrafficPolicy Local.
    affinity
        sessionAffinity ClientIP.

    Raises
    ------
    SettingsError
        If there is no such shape, or it is beyond 16,777,216 backends.

    Examples
    --------
    >>> shape(services=3, ports=2, backends=5).backends.height
    30
    """
    if type not in _TYPES:
        raise SettingsError(f"type: {type!r} is none of {', '.join(_TYPES)}")
    if min(services, ports) < 1 or backends < 0 or families not in (1, 2):
        raise SettingsError("a shape has 1 or more services and ports, and 1 or 2 families")
    if services * ports * max(backends, 1) * families > _MOST:
        raise SettingsError(f"more than {_MOST:,} backends; use fewer services, ports or backends")
    names = ["IPv4", "IPv6"][:families]
    spec = {
        "ipFamilies": names,
        "ports": [{"name": f"p{i}", "port": i + 1, "protocol": "TCP"} for i in range(ports)],
    }
    number = pl.int_range(services, dtype=pl.Int64, eager=True)
    table = pl.DataFrame({"number": number}).select(
        namespace=pl.lit("default"),
        service=pl.format("shape-{}", "number"),
        type=pl.lit(type),
        ports=pl.lit(ports, pl.Int64),
        cluster_ips=pl.lit(families, pl.Int64),
        external_ips=pl.lit(0, pl.Int64),
        load_balancer_ips=pl.lit(families if type == "LoadBalancer" else 0, pl.Int64),
        external_policy=pl.lit("Local" if local else "Cluster"),
        internal_policy=pl.lit("Cluster"),
        affinity=pl.lit(affinity),
        node_ports=pl.lit(type != "ClusterIP"),
        labels=pl.lit("{}"),
        object=pl.lit(json.dumps({"spec": spec}, sort_keys=True)),
    )
    return Inventory(
        services=check(table, SERVICES),
        backends=check(_backends(services, ports, backends, families), BACKENDS),
    )


def _backends(services: int, ports: int, backends: int, families: int) -> pl.DataFrame:
    ranges = {"service": services, "port": ports, "pod": backends, "family": families}
    frame = pl.DataFrame({"service": pl.int_range(services, eager=True)})
    for name in ("port", "pod", "family"):
        other = pl.DataFrame({name: pl.int_range(ranges[name], eager=True)})
        frame = frame.join(other, how="cross")
    number = pl.col("service") * max(backends, 1) + pl.col("pod")
    parts = [number // 65536, number // 256 % 256, number % 256]
    four = pl.format("10.{}.{}.{}", *parts)
    six = pl.format("fd00::{}:{}:{}", *parts)
    return frame.select(
        namespace=pl.lit("default"),
        service=pl.format("shape-{}", "service"),
        address=pl.when(pl.col("family") == 0).then(four).otherwise(six),
        port=pl.col("port") + 8001,
        protocol=pl.lit("TCP"),
        port_name=pl.format("p{}", "port"),
        node=pl.lit(None, pl.String),
        ready=pl.lit(value=True),
        terminating=pl.lit(value=False),
        serving=pl.lit(value=True),
    )
