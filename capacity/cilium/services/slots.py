"""Backends → how many slots each frontend has, and which backends any frontend leads to."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from capacity.cilium.services.choices import Choices
from capacity.inventory import Inventory

_SEEN = ("slots", "active", "standby")


@dataclass(frozen=True, slots=True)
class Slots:
    """Frontends with slots, active (backends that take new connections), and backends by family."""

    frontends: pl.DataFrame
    backends: pl.DataFrame


def with_slots(frontends: pl.DataFrame, inventory: Inventory, chosen: Choices) -> Slots:
    """Count the backends that each frontend leads to.

    Returns
    -------
    Slots
        `frontends` gets columns slots (entries beside the master's), active (backends for new
        connections: those that end where there are no others), affine (backends with an affinity
        entry). `backends`: family, address, port, protocol of each distinct backend in use.

    References
    ----------
    .. [1] cilium/cilium pkg/k8s/endpoints.go `ParseEndpointSliceV1`, pkg/service/service.go
       `filterBackends`, `segregateBackends`, b095517e625e (1.17-dev).
    .. [2] cilium/cilium pkg/loadbalancer/writer/writer.go `DefaultSelectBackends`,
       pkg/loadbalancer/reflectors/conversions.go `convertEndpoints`, main of 2026.
    """
    keys = _keys(chosen)
    wanted = (
        frontends.group_by(keys)
        .agg(anywhere=(~pl.col("is_local")).any(), at_home=pl.col("is_local").any())
        .with_row_index("key")
    )
    told = _matched(_backends(frontends, inventory, chosen), frontends, chosen)
    at_home = pl.col("at_home") & pl.col("is_here")
    matched = told.join(wanted, on=keys, how="inner").filter(pl.col("anywhere") | at_home)
    counted = pl.concat(
        [
            _counted(matched.filter("anywhere")).with_columns(is_local=pl.lit(value=False)),
            _counted(matched.filter(at_home)).with_columns(is_local=pl.lit(value=True)),
        ]
    ).join(wanted.select("key", *keys), on="key")
    zero = pl.col(*_SEEN).fill_null(0)
    frame = frontends.join(counted, on=[*keys, "is_local"], how="left", maintain_order="left")
    new = pl.when(pl.col("active") > 0).then("active").otherwise("standby")
    affine = pl.col("active") if chosen.is_rewritten else pl.col("slots")
    frame = frame.with_columns(zero).with_columns(active=new, affine=affine)
    is_health = pl.col("kind") == "HealthCheck"
    one = [pl.when(is_health).then(1).otherwise(name).alias(name) for name in ("slots", "active")]
    used = distinct(matched, chosen.protocols)
    return Slots(frame.with_columns(one).drop("standby", "key"), used)


def distinct(backends: pl.DataFrame, protocols: bool) -> pl.DataFrame:
    """Give distinct backends: family, address (its hash), port, and the protocol if it counts."""
    what = ["address", "port", *(["protocol"] if protocols else [])]
    return backends.select("family", *what, own=_mixed(what)).unique("own").drop("own")


def _mixed(columns: list[str]) -> pl.Expr:
    """Hash several columns into one: comparing one number is several times quicker.

    Two of 1.5 million backends are taken for one with a probability of 6e-8.
    """
    hashes = [pl.col(name).hash(seed) for seed, name in enumerate(columns)]
    return pl.reduce(lambda one, other: one ^ other, hashes)


def _keys(chosen: Choices) -> list[str]:
    """Give what a frontend and a backend must share; the protocol since the rewrite."""
    return ["svc", "family", "name", *(["protocol"] if chosen.is_rewritten else [])]


def _backends(frontends: pl.DataFrame, inventory: Inventory, chosen: Choices) -> pl.DataFrame:
    """Backends of services that have frontends, in numbers: quick to compare."""
    names = frontends.select("svc", "namespace", "service").unique()
    ready = pl.col("ready").fill_null(value=True)
    serving = pl.col("serving").fill_null(ready)
    ending = ~ready & serving & pl.col("terminating").fill_null(value=False)
    listed = ready | serving if chosen.terminating else ready
    if chosen.keeps_unready:
        slot = ready | pl.col("terminating").fill_null(value=False)
        active, is_kept = ready, pl.lit(value=True)
    else:
        slot = is_kept = listed
        active = ~ending
    node = pl.col("node").fill_null("")
    here = node == "" if chosen.node is None else node.is_in(["", chosen.node])
    frame = inventory.backends.filter(is_kept & pl.col("port").is_not_null())
    return (
        frame.with_columns(_service_of(frame, names))
        .drop_nulls("svc")
        .select(
            "svc",
            "port",
            pl.col("protocol").cast(pl.Categorical),
            family=pl.when(pl.col("address").str.contains(":", literal=True)).then(6).otherwise(4),
            name=pl.col("port_name").fill_null("").cast(pl.Categorical),
            address=pl.col("address").hash(),
            is_slot=slot,
            is_active=active & slot,
            is_ending=ending,
            is_here=here,
        )
        .with_columns(pl.col("family").cast(pl.Int8))
    )


def _service_of(backends: pl.DataFrame, names: pl.DataFrame) -> pl.Series:
    """Row of the service of each backend, null where it has no frontends.

    Backends of a service mostly stand together: only the first of a run is looked up.
    """
    own = backends.select("namespace", "service")
    is_first = own.select(
        pl.any_horizontal(pl.all() != pl.all().shift(1)).fill_null(value=True).alias("is_first")
    )["is_first"]
    heads = own.filter(is_first)
    svc = heads.join(names, on=["namespace", "service"], how="left", maintain_order="left")["svc"]
    run = is_first.cum_sum() - 1
    return svc.gather(run).alias("svc")


def _matched(told: pl.DataFrame, frontends: pl.DataFrame, chosen: Choices) -> pl.DataFrame:
    """Give backends by the name of the frontend's port that leads to them.

    Up to 1.17 the names must be equal. Since then a frontend or a backend without a name matches
    any: pkg/loadbalancer/writer/writer.go matchesFrontend.
    """
    if not chosen.is_rewritten:
        return told
    nameless = told.filter(pl.col("name") == "")
    wanted = frontends.select("svc", "name").unique()
    anything = wanted.filter(pl.col("name") == "")["svc"]
    if nameless.is_empty() and anything.is_empty():
        return told
    named = told.filter(pl.col("name") != "")
    own = ["svc", "address", "port", "protocol"]
    nameless = nameless.join(named.select(own).unique(), on=own, how="anti")
    spread = nameless.drop("name").join(wanted.filter(pl.col("name") != ""), on="svc", how="inner")
    whole = told.filter(pl.col("svc").is_in(anything.implode())).with_columns(
        name=pl.lit("").cast(pl.Categorical)
    )
    columns = told.columns
    return pl.concat([named, spread.select(columns), whole.select(columns)]).unique(
        [*own, "name"], keep="first", maintain_order=True
    )


def _counted(matched: pl.DataFrame) -> pl.DataFrame:
    """Count backends by key. One address and port is one backend, whatever the names."""
    once = matched.select(
        "key", "is_slot", "is_active", "is_ending", own=_mixed(["key", "address", "port"])
    ).unique("own")
    return once.group_by("key").agg(
        slots=pl.col("is_slot").sum().cast(pl.Int64),
        active=pl.col("is_active").sum().cast(pl.Int64),
        standby=pl.col("is_ending").sum().cast(pl.Int64),
    )
