"""What metrics tell (observed.csv), which drivers move it (structure.csv), costs (priors.csv)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import polars as pl


@cache
def _rows(name: str) -> pl.DataFrame:
    with files("capacity.facts").joinpath(name).open("rb") as file:
        return pl.read_csv(file.read(), infer_schema=False)


@cache
def observed() -> pl.DataFrame:
    """Rows of observed.csv: component, quantity, metric, label, where, kind, scale.

    `scale` turns the metric's unit into the quantity's (cores into millicores). `where` names
    label values that must hold, as ``a=b;c=d*``; a star stands for any end.
    """
    rows = _rows("observed.csv").drop("source")
    return rows.with_columns(pl.col("scale").cast(pl.Float64), pl.col("where").fill_null(""))


@cache
def conditions() -> tuple[str, ...]:
    """All single conditions of column `where`."""
    clauses = observed()["where"].str.split(";").explode().unique().sort()
    return tuple(clause for clause in clauses if clause)


@cache
def labels(role: str) -> list[str]:
    """Give the labels that may hold a name (labels.csv), best first.

    Roles are cluster, node, namespace, pod, container and replica.

    >>> labels("pod")
    ['exported_pod']
    """
    rows = _rows("labels.csv")
    return rows.filter(pl.col("role") == role)["label"].to_list()


@cache
def features() -> pl.DataFrame:
    """Rows of features.csv: condition `when` of a map (maps.csv) and the agent option of it.

    `absent` says what an option means that is not there: off, or unknown.
    """
    return _rows("features.csv").drop("source")


def structure(component: str, subject: str | None, quantity: str) -> pl.DataFrame:
    """Drivers of one quantity: columns driver, per_unit (null where the cost is fitted).

    Rows of the subject itself, else of the quantity, else those that hold for the whole component.

    Examples
    --------
    >>> structure("map", "ipcache", "map_entries")["driver"].to_list()
    ['endpoints', 'nodes']
    """
    rows = _rows("structure.csv").filter(pl.col("component") == component)
    for key in (subject, quantity, None):
        found = rows.filter(pl.col("subject").eq_missing(pl.lit(key, pl.String)))
        if not found.is_empty():
            break
    return found.select("driver", pl.col("per_unit").cast(pl.Float64))


@cache
def connections() -> pl.DataFrame:
    """Rows of connections.csv: entries that one connection makes on a node, by path and role.

    ct, service: entries of the connection tracking map of its protocol, of either kind of timeout;
    nat; sock: of the socket map; related: entries of the other map, one a pair of addresses.

    Examples
    --------
    >>> connections().filter(path="nodeport-snat", role="entry")["nat"].to_list()
    [2]
    """
    counts = ("ct", "service", "nat", "sock", "related")
    return _rows("connections.csv").with_columns(
        *(pl.col(name).cast(pl.Int64) for name in counts), verified=pl.col("verified") == "true"
    )


@cache
def priors(component: str, quantity: str) -> pl.DataFrame:
    """Costs of objects measured elsewhere: driver (or base), per_unit (median), low, high, basis.

    Examples
    --------
    >>> priors("agent", "memory_rss").filter(pl.col("driver") == "nodes")["per_unit"].to_list()
    [18500.0]
    """
    rows = _rows("priors.csv").filter(component=component, quantity=quantity)
    numbers = [pl.col(name).cast(pl.Float64) for name in ("per_unit", "low", "high")]
    return rows.select("driver", *numbers, "basis", "source")


@cache
def objects() -> dict[str, dict[str, int]]:
    """Rows of objects.csv by object: bytes of key, value, and each endpoint in it.

    >>> objects()["ciliumidentities"]["bytes"]
    531
    """
    rows = _rows("objects.csv").with_columns(
        pl.col("key", "bytes", "per_endpoint").cast(pl.Int64).fill_null(0)
    )
    return {row["object"]: row for row in rows.iter_rows(named=True)}
