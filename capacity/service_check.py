"""The gate for services: load balancer maps and service IDs before and after a change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from capacity.cilium.services import Counted, count, entries_of, heaviest_of, ids_of
from capacity.cilium.services.growth import IDS
from capacity.inventory import Inventory, merge
from capacity.tables import Column, Table, check

SERVICE_GATE: Final = Table(
    "service_gate",
    "one load balancer map, or the service IDs, of a node before and after a change",
    (
        Column("resource", pl.String, "", "pinned name of the map, or service IDs"),
        Column("before", pl.Int64, "entry"),
        Column("after", pl.Int64, "entry"),
        Column("limit", pl.Int64, "entry", "after the change", nullable=True),
        Column("share", pl.Float64, "1", "after / limit", nullable=True),
        Column(
            "verdict", pl.String, "",
            "fits; short: at the share that fails, and fuller than before; short before: no fuller",
        ),
        Column("service", pl.String, "", "that adds most entries", nullable=True),
        Column("service_entries", pl.Int64, "entry", "it adds to the services map", nullable=True),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServiceGate:
    """What a change does: table service_gate, and one sentence (None: no services are told)."""

    maps: pl.DataFrame
    headline: str | None

    @property
    def passes(self) -> bool:
        """Whether no map gets short by the change."""
        return self.failing.is_empty()

    @property
    def failing(self) -> pl.DataFrame:
        """Rows of `maps` that the change makes short."""
        return self.maps.filter(verdict="short")


def service_gate(
    base: Inventory, changed: Sequence[Inventory] = (), *, version: str, fail_at: float = 0.9
) -> ServiceGate:
    """Compare the load balancer maps of a node before and after a change.

    Parameters
    ----------
    base
        The cluster: services, backends, options.
    changed
        Services, their backends and Helm values of the change; what has the namespace and name of
        something in the base takes its place. A new service without backends is counted with none.
    version
        Cilium minor version.
    fail_at
        Share of a limit at which a map is short. [1]
    """
    after = merge([base, *changed])
    if after.services.is_empty():
        return ServiceGate(SERVICE_GATE.empty(), None)
    base = _told(base, after)
    counted = [count(one, version=version) for one in (base, after)]
    old, new = (_uses(*pair) for pair in zip(counted, (base, after), strict=True))
    table = new.join(old, on="resource", how="left", suffix="_before").with_columns(
        pl.col("entries_before").fill_null(0), share=pl.col("entries") / pl.col("limit")
    )
    old_share = pl.col("entries_before") / pl.col("limit_before")
    fuller = (pl.col("share") > old_share.fill_null(0)).fill_null(value=False)
    full = (pl.col("share") >= fail_at).fill_null(value=False)
    verdict = (
        pl.when(full & fuller)
        .then(pl.lit("short"))
        .when(full)
        .then(pl.lit("short before"))
        .otherwise(pl.lit("fits"))
    )
    name, entries = _most_added(counted[0], counted[1], base, after)
    frame = table.select(
        "resource",
        "limit",
        "share",
        before="entries_before",
        after="entries",
        verdict=verdict,
        service=pl.lit(name, pl.String),
        service_entries=pl.lit(entries, pl.Int64),
    ).sort("share", "resource", descending=[True, False], nulls_last=True)
    frame = check(frame, SERVICE_GATE)
    return ServiceGate(frame, _headline(frame, fail_at))


def _told(base: Inventory, after: Inventory) -> Inventory:
    """Give the base with what the change tells of its features, where it tells none itself.

    Values that are told for the first time are not a change of how services are written. Sizes of
    maps are: whether they shrink one is what the gate is asked.
    """
    if not base.options.is_empty():
        return base
    features = after.options.filter(~pl.col("option").str.ends_with("-max"))
    return replace(base, options=features)


def _uses(counted: Counted, inventory: Inventory) -> pl.DataFrame:
    """Entries and limits by resource."""
    maps = entries_of(counted, inventory).select(
        "entries", resource="map", limit="max_entries"
    )  # fmt: skip
    ids = ids_of(counted)
    own = pl.DataFrame(
        {"entries": [ids.used], "resource": [IDS], "limit": [ids.limit]}, schema=maps.schema
    )
    return pl.concat([maps, own])


def _most_added(
    before: Counted, after: Counted, base: Inventory, changed: Inventory
) -> tuple[str | None, int | None]:
    """Give the service that adds most entries to the services map."""
    keys = ["namespace", "service"]
    old, new = (
        heaviest_of(counted, inventory).select(*keys, "services")
        for counted, inventory in ((before, base), (after, changed))
    )
    added = new.join(old, on=keys, how="left", suffix="_before").with_columns(
        more=pl.col("services") - pl.col("services_before").fill_null(0)
    )
    most = added.filter(pl.col("more") > 0).sort("more", *keys, descending=[True, False, False])
    if most.is_empty():
        return None, None
    row = most.row(0, named=True)
    return f"{row['namespace']}/{row['service']}", int(row["more"])


def _headline(table: pl.DataFrame, fail_at: float) -> str:
    row = table.row(0, named=True)
    text = f"Services: {row['resource']} {row['before']:,} → {row['after']:,}"
    text += f" of {row['limit']:,} ({row['share']:.1%})" if row["limit"] else ""
    short = table.filter(verdict="short").height
    text += f"; {short} of {len(table)} limits get short (at {fail_at:.0%} or more)"
    before = table.filter(verdict="short before").height
    text += f", {before} were and get no fuller" if before else ""
    if row["service"]:
        text += f"; {row['service']} adds most ({row['service_entries']:,} entries)"
    if not table.filter(resource=IDS, verdict="short").is_empty():
        text += "; no setting adds service IDs"
    return text + "."


def sentence(row: dict[str, object]) -> str:
    """Say what happens to one limit."""
    limit = f"{row['limit']:,}" if row["limit"] is not None else "?"
    text = f"{row['resource']}: {row['before']:,} → {row['after']:,} of {limit}"
    if row["service"]:
        text += f"; most are added by {row['service']} ({row['service_entries']:,})"
    return text
