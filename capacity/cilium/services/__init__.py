"""Kubernetes services → entries of the load balancer maps of a node, as the agent writes them.

Which frontends there are is frontends.py, how many backends each has slots.py, what is not told by
the services choices.py. Maglev tables themselves are cilium/maglev.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import polars as pl

from capacity import facts
from capacity.cilium.services.choices import Choices, Options, chosen_of, map_size
from capacity.cilium.services.frontends import frontends_in
from capacity.cilium.services.host_ports import with_host_ports
from capacity.cilium.services.node import worst_node
from capacity.cilium.services.slots import with_slots
from capacity.cilium.services.tables import FRONTENDS, LB_ENTRIES, SERVICE_ENTRIES
from capacity.errors import SettingsError
from capacity.inventory import Inventory
from capacity.tables import check

__all__ = [
    "Counted",
    "ServiceIds",
    "count",
    "entries_of",
    "frontends_of",
    "heaviest",
    "heaviest_of",
    "ids_of",
    "lb_entries",
    "lb_map_max",
    "service_ids",
]

_MAPS: Final = {
    "services": "cilium_lb{}_services_v2",
    "backends": "cilium_lb{}_backends_v3",
    "reverse_nat": "cilium_lb{}_reverse_nat",
    "source_range": "cilium_lb{}_source_range",
    "maglev": "cilium_lb{}_maglev",
}
_AFFINITY: Final = "cilium_lb_affinity_match"


@dataclass(frozen=True, slots=True)
class Counted:
    """Frontends with their numbers, distinct backends in use, the node they are counted for."""

    frontends: pl.DataFrame
    backends: pl.DataFrame
    chosen: Choices


@dataclass(frozen=True, slots=True)
class ServiceIds:
    """Service IDs in use, how many there are, and how many services of this mix they serve."""

    used: int
    limit: int
    services: int
    most_services: int | None

    @property
    def share(self) -> float:
        """Used of all there are; no setting adds any."""
        return self.used / self.limit

    @property
    def sentence(self) -> str:
        """Say how many are used, and what fits where they are too many."""
        text = f"{self.services:,} services take {self.used:,} of {self.limit:,} service IDs"
        if self.used <= self.limit:
            return text + f" ({self.share:.1%})."
        return (
            text + f": hard limit, no setting adds any; at most {self.most_services:,} services of "
            "this mix fit: fewer ports or frontends a service, or another cluster."
        )

    def as_dict(self) -> dict[str, int | float | None]:
        """Give the numbers for programs.

        Returns
        -------
        dict
            Each field by its name, and the share used.
        """
        return {
            "used": self.used, "limit": self.limit, "share": self.share,
            "services": self.services, "most_services": self.most_services,
        }  # fmt: skip


def count(inventory: Inventory, *, version: str, options: Options | None = None) -> Counted:
    """Count what the services of an inventory cost a node.

    Parameters
    ----------
    inventory
        Services, backends, and host ports of pods; options and nodes where they are told.
    version
        Cilium version, e.g. ``1.18``.
    options
        Agent flags or the short names of choices.py, which override those of the inventory.
        ``node_name`` names the node; without it the one is taken that has the most backends behind
        traffic policy Local. ``node_port_addresses`` lists its addresses for NodePort; without it
        one of each family is counted.

    Returns
    -------
    Counted
        Frontends with their numbers, backends in use, the node they are counted for.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option is not known or has a value that the agent does not take.
    """
    chosen = chosen_of(inventory, version=version, options=options)
    made = frontends_in(inventory, chosen)
    if chosen.node is None:
        chosen = worst_node(made, inventory, chosen)
    counted = with_slots(made, inventory, chosen)
    return with_host_ports(Counted(counted.frontends, counted.backends, chosen), inventory)


def lb_entries(
    inventory: Inventory, *, version: str, options: Options | None = None
) -> pl.DataFrame:
    """Count the entries of each load balancer map of a node.

    Parameters
    ----------
    inventory, version, options
        As for `count`.

    Returns
    -------
    DataFrame
        Table lb_entries: a row a map of the families that are on.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option is not known or has a value that the agent does not take.

    Examples
    --------
    >>> from capacity.cilium.services.shapes import shape
    >>> table = lb_entries(shape(services=2000, backends=50), version="1.17")
    >>> table.filter(map="cilium_lb4_services_v2")["entries"].item()
    102000
    """
    return entries_of(count(inventory, version=version, options=options), inventory, options)


def entries_of(
    counted: Counted, inventory: Inventory, options: Options | None = None
) -> pl.DataFrame:
    """Give table lb_entries of what was counted.

    Parameters
    ----------
    counted
        By `count`.
    inventory, options
        The same that were counted.

    Returns
    -------
    DataFrame
        Table lb_entries: a row a map, entries as counts.
    """
    shapes = {row["map"]: row for row in facts.maps(counted.chosen.version).iter_rows(named=True)}
    rows = []
    for family in counted.chosen.families:
        own = counted.frontends.filter(family=family)
        used = counted.backends.filter(family=family).height
        for name, entries in _entries(own, used, counted.chosen).items():
            rows.append((_MAPS[name].format(family), entries, own.height))
    ours = counted.frontends.filter("affinity")
    rows.append((_AFFINITY, int(ours["affine"].sum()), ours.height))
    sizes = [map_size(inventory, options, shapes[name]) for name, _, _ in rows]
    frame = pl.DataFrame(
        [(*row[:2], size, row[1] / size if size else None, row[2])
         for row, size in zip(rows, sizes, strict=True)],
        schema=LB_ENTRIES.schema, orient="row",
    )  # fmt: skip
    return check(frame, LB_ENTRIES)


def _entries(own: pl.DataFrame, backends: int, chosen: Choices) -> dict[str, int]:
    wild = own.filter(
        pl.col("kind").is_in(["LoadBalancer", "ClusterIP"])
        & (pl.col("scope") == "external") & pl.col("is_wild")
        & ~pl.col("address").is_in([a for known in chosen.addresses.values() for a in known])
    )["address"].n_unique() if chosen.wildcards else 0  # fmt: skip
    return {
        "services": own.height + int(own["slots"].sum()) + wild,
        "backends": backends,
        "reverse_nat": own.height,
        "source_range": int(own["ranges"].sum()),
        "maglev": own.filter(_has_table()).height,
    }


def _has_table() -> pl.Expr:
    return pl.col("maglev") & (pl.col("active") > 0)


def heaviest(inventory: Inventory, *, version: str, options: Options | None = None) -> pl.DataFrame:
    """Tell what each service costs, the one with most entries of the services map first.

    Parameters
    ----------
    inventory, version, options
        As for `count`.

    Returns
    -------
    DataFrame
        Table service_entries: a row a service, entries as counts.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option is not known or has a value that the agent does not take.
    """
    return heaviest_of(count(inventory, version=version, options=options), inventory)


def heaviest_of(counted: Counted, inventory: Inventory) -> pl.DataFrame:
    """Give table service_entries of what was counted.

    Parameters
    ----------
    counted
        By `count`.
    inventory
        The same that was counted.

    Returns
    -------
    DataFrame
        Table service_entries.
    """
    keys = ["namespace", "service"]
    made = counted.frontends.group_by(keys).agg(
        service_ids=pl.len().cast(pl.Int64),
        services=(pl.col("slots") + 1).sum().cast(pl.Int64),
        affinity_match=pl.col("affine").filter("affinity").sum().cast(pl.Int64),
        source_range=pl.col("ranges").sum().cast(pl.Int64),
        maglev=_has_table().sum().cast(pl.Int64),
    )
    types = inventory.services.select(*keys, "type").unique(keys, keep="last")
    frame = made.join(types, on=keys, how="left").with_columns(pl.col("type").fill_null("HostPort"))
    ordered = frame.sort("services", *keys, descending=[True, False, False])
    return check(ordered, SERVICE_ENTRIES)


def frontends_of(
    inventory: Inventory, name: str, *, version: str, options: Options | None = None
) -> pl.DataFrame:
    """Give table frontends of the service ``namespace/name``; no rows where it has none.

    Parameters
    ----------
    inventory, version, options
        As for `count`.
    name
        ``namespace/name`` of a service.

    Returns
    -------
    DataFrame
        Table frontends: a row an address, port and scope.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option is not known or has a value that the agent does not take.
    """
    counted = count(inventory, version=version, options=options).frontends
    namespace, _, service = name.rpartition("/")
    own = counted.filter(namespace=namespace or "default", service=service)
    frame = own.with_columns(
        affinity_match=pl.when("affinity").then("affine").otherwise(0),
        protocol=pl.col("protocol").cast(pl.String),
        source_range="ranges",
        maglev=_has_table(),
    )
    return check(frame, FRONTENDS)


def service_ids(
    inventory: Inventory, *, version: str, options: Options | None = None
) -> ServiceIds:
    """Tell how many of a node's service IDs are used, and how many services of this mix fit.

    A frontend takes an ID in either family; no setting adds IDs.

    Parameters
    ----------
    inventory, version, options
        As for `count`.

    Returns
    -------
    ServiceIds
        IDs used [1], and how many services of this mix fit [1].

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option is not known or has a value that the agent does not take.
    """
    return ids_of(count(inventory, version=version, options=options))


def ids_of(counted: Counted) -> ServiceIds:
    """Give the service IDs of what was counted.

    Parameters
    ----------
    counted
        By `count`.

    Returns
    -------
    ServiceIds
        As of `service_ids`.
    """
    rows = facts.limits(counted.chosen.version).filter(limit="service-ids")
    limit, used = int(rows["value"][-1]), counted.frontends.height
    services = counted.frontends.select("namespace", "service").unique().height
    most = limit * services // used if used else None
    return ServiceIds(used, limit, services, most)


def lb_map_max(entries: int, *, share: float = 0.7) -> int:
    """Give the bpf.lbMapMax of which entries use no more than a share.

    Parameters
    ----------
    entries
        Of the fullest load balancer map. [entry]
    share
        0…1. [1]

    Returns
    -------
    int
        Rounded up. [entry]

    Raises
    ------
    SettingsError
        If there are less than 0 entries, or the share is outside 0…1.

    Examples
    --------
    >>> lb_map_max(102000, share=0.7)
    145715
    """
    if entries < 0 or not 0 < share <= 1:
        raise SettingsError(f"entries {entries}, share {share}: wanted 0 or more, and 0…1")
    return max(math.ceil(entries / share), 1)
