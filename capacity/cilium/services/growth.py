"""How load balancer maps and service IDs grow with a cluster: which entries do, which do not.

A cluster of twice the nodes is taken to have twice the services of the same mix. Services with a
backend on nearly every node (of DaemonSets) stay as many and get a backend more a node.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.cilium.services import Counted, count, entries_of, heaviest_of, ids_of
from capacity.cilium.services.choices import Options
from capacity.inventory import Inventory
from capacity.tables import SERVICE_GROWTH, check

IDS: Final = "service IDs"
# A service with backends on this share of the nodes is taken to have one on each
_ON_EACH_NODE: Final = 0.9
_FEW_NODES: Final = 5


def service_growth(
    inventory: Inventory, *, version: str, options: Options | None = None
) -> pl.DataFrame:
    """Tell how the load balancer maps of a node grow with the cluster; the first to be full first.

    Parameters and Raises as in `capacity.cilium.services.count`.

    Returns
    -------
    DataFrame
        Table service_growth.

    Examples
    --------
    >>> from capacity.cilium.services.shapes import shape
    >>> table = service_growth(shape(services=1000, backends=30), version="1.17")
    >>> table.select("resource", "entries", pl.col("factor").round(3)).row(0)
    ('cilium_lb4_services_v2', 31000, 2.114)
    """
    counted = count(inventory, version=version, options=options)
    maps, ids = entries_of(counted, inventory, options), ids_of(counted)
    daemons = _on_each_node(counted, inventory)
    fixed = counted.frontends.join(daemons, on=["namespace", "service"], how="semi")
    heaviest = heaviest_of(counted, inventory).head(1)
    rows = [
        _row(row["map"], "settable", "bpf.lbMapMax", row["entries"], row["max_entries"],
             _constant(row["map"], fixed))
        for row in maps.iter_rows(named=True)
    ]  # fmt: skip
    rows.append(_row(IDS, "hard", None, ids.used, ids.limit, fixed.height))
    named = heaviest.select(
        service=pl.format("{}/{}", "namespace", "service"), service_entries="services"
    )
    frame = pl.DataFrame(rows, orient="row", schema=_SCHEMA).with_columns(
        pl.lit(named["service"][0] if len(named) else None, pl.String).alias("service"),
        pl.lit(named["service_entries"][0] if len(named) else None, pl.Int64).alias(
            "service_entries"
        ),
    )
    return check(frame.sort("factor", "resource", nulls_last=True), SERVICE_GROWTH)


_SCHEMA: Final = {
    name: SERVICE_GROWTH.schema[name]
    for name in ("resource", "kind", "setting", "entries", "constant", "growing", "limit", "factor")
}


def _row(
    resource: str, kind: str, setting: str | None, entries: int, limit: int | None, constant: int
) -> tuple[str | int | float | None, ...]:
    growing = entries - constant
    factor = None if limit is None or growing <= 0 else (limit - constant) / growing
    return resource, kind, setting, entries, constant, growing, limit, factor


def _constant(name: str, fixed: pl.DataFrame) -> int:
    """Entries of a map that stay as they are: those of frontends, not of backends."""
    if "backends" in name or "affinity" in name:
        return 0
    own = fixed.filter(family=6 if "lb6" in name else 4)
    if "source_range" in name:
        return int(own["ranges"].sum())
    if "maglev" in name:
        return own.filter(pl.col("maglev") & (pl.col("active") > 0)).height
    return own.height


def _on_each_node(counted: Counted, inventory: Inventory) -> pl.DataFrame:
    """Services that have a backend on nearly every node."""
    keys = ["namespace", "service"]
    nodes = inventory.nodes.height
    told = inventory.backends.drop_nulls("node").group_by(keys).agg(pl.col("node").n_unique())
    if nodes < _FEW_NODES:
        return told.select(keys).clear()
    return told.filter(pl.col("node") >= _ON_EACH_NODE * nodes).select(keys)
