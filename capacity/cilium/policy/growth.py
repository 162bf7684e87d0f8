"""How the policy map of each endpoint grows as workloads come: which entries do, which do not.

New workloads are copies of those there are, each told apart by its name labels. What they add is
resolved, not estimated. More nodes add nothing: all remote nodes share one identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from typing import Final

import polars as pl

from capacity import facts
from capacity.cilium.policy import explain, rows
from capacity.cilium.policy.adapter import ENDPOINTS_OPTION, Options, cluster_state
from capacity.cilium.policy.engine import Cluster, prepare
from capacity.cilium.policy.security_labels import told, untold
from capacity.cilium.policy.state import ClusterState
from capacity.cilium.policy.versions import chosen
from capacity.errors import SettingsError
from capacity.inventory import Inventory
from capacity.tables import Column, Table

GROWING_POLICIES: Final = Table(
    "growing_policies",
    "what one policy makes at one endpoint, and how that grows; the fastest first",
    (
        Column("endpoint", pl.String),
        Column("direction", pl.String),
        Column("policy", pl.String, "", "kind/namespace/name; empty for Cilium's own entries"),
        Column("entries", pl.Int64, "entry", "now, made alone or with others"),
        Column("growing", pl.Int64, "entry", "more with twice the workloads"),
    ),
)
# Labels that name a workload: Kubernetes' recommended ones and the two older customs.
# kubernetes/website content/en/docs/concepts/overview/working-with-objects/common-labels.md
NAMES: Final = ("app", "k8s-app", "app.kubernetes.io/name", "app.kubernetes.io/instance")
_LIMIT: Final = "bpf-policy-map-max"
# No label value holds a space: no selector names a workload that is to come
_MORE: Final = " more"
_EXTRA: Final = "workload"


def growth(
    inventory: Inventory,
    *,
    version: str,
    options: Options | None = None,
    limit: int | None = None,
    names: Iterable[str] = NAMES,
) -> pl.DataFrame:
    """Tell how the policy map of every endpoint grows with the workloads of the cluster.

    Parameters
    ----------
    inventory, version, options
        See `capacity.cilium.policy.ready`.
    limit
        Entries of a policy map. [entry] None: bpf-policy-map-max of the inventory or options, else
        the default of the version.
    names
        Keys of labels by which new workloads differ from those there are. A rule that selects by
        their values selects no new workload. Empty: new workloads differ by a label that no policy
        names, so that every rule that selects pods grows: the upper bound.

    Returns
    -------
    DataFrame
        Table policy_growth.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take, or the limit is below 1.

    Notes
    -----
    Assumed: new workloads come in the same namespaces, with the same other labels and in the same
    proportions as those there are. Then entries = constant + factor * growing: each round of
    copies adds identities of the same labels but the names, which rules select alike. Pods without
    any of the name labels come as replicas, which share their identity, unless `names` is empty.
    Entries of CIDRs, DNS names, reserved identities and everyone stay.

    Examples
    --------
    >>> growth(Inventory(), version="1.17").select("endpoint", "growing", "factor").rows()
    [('reserved:health', 0, None), ('reserved:host', 0, None)]
    """
    most = map_limit(inventory, version=version, options=options, limit=limit)
    now, then = _both(inventory, version, options, names)
    counted, more = (rows.counts(one).select("endpoint", "total") for one in (now, then))
    entries, growing = pl.col("total"), pl.col("total_right") - pl.col("total")
    factor = pl.when(growing > 0).then((most - entries + growing) / growing)
    return (
        counted.join(more, on="endpoint", how="left", maintain_order="left")
        .select(
            "endpoint",
            entries=entries,
            constant=entries - growing,
            growing=growing,
            per_percent=growing / 100,
            limit=pl.lit(most, pl.Int64),
            factor=factor,
        )
        .sort("entries", "growing", "endpoint", descending=[True, True, False], nulls_last=True)
    )


def growing_policies(
    inventory: Inventory,
    *,
    endpoints: Iterable[str],
    version: str,
    options: Options | None = None,
    names: Iterable[str] = NAMES,
) -> pl.DataFrame:
    """Tell which policies make the entries of some endpoints grow, and which do not.

    Parameters
    ----------
    inventory, version, options, names
        See `growth`.
    endpoints
        Names of the endpoints, as the worst ones of `growth`.

    Returns
    -------
    DataFrame
        Table growing_policies.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.
    """
    chosen = {**(options or {}), ENDPOINTS_OPTION: ",".join(endpoints)}
    now, then = (explain.contributions(one) for one in _both(inventory, version, chosen, names))
    keys = ["endpoint", "direction", "policy"]
    entries, more = pl.col("entries"), pl.col("entries_right")
    return (
        now.join(then, on=keys, how="left", maintain_order="left")
        .select(*keys, entries, growing=more - entries)
        .sort("growing", "entries", *keys, descending=[True, True, False, False, False])
    )


def map_limit(
    inventory: Inventory, *, version: str, options: Options | None = None, limit: int | None = None
) -> int:
    """Give the size of every policy map: as asked, else as configured, else the default. [entry].

    Parameters
    ----------
    inventory, version, options, limit
        As for `growth`.

    Returns
    -------
    int
        Entries of a policy map. [entry]

    Raises
    ------
    SettingsError
        If the size that is asked for or configured is not a number of 1 or more.

    Examples
    --------
    >>> map_limit(Inventory(), version="1.17")
    16384
    """
    if limit is None:
        given = (options or {}).get(_LIMIT, inventory.option(_LIMIT))
        known = facts.options(version).filter(pl.col("option") == _LIMIT)["default"]
        try:
            limit = int(known.item() if given is None else given)
        except ValueError:
            raise SettingsError(f"{_LIMIT}: {given!r}; wanted a number of entries") from None
    if limit < 1:
        raise SettingsError(f"limit of a policy map: {limit}; wanted at least 1 entry")
    return limit


def _both(
    inventory: Inventory, version: str, options: Options | None, names: Iterable[str]
) -> tuple[Cluster, Cluster]:
    """Give the cluster as it is, and with a copy of each workload, for the same endpoints."""
    state, how = cluster_state(inventory, options), chosen(version, inventory, options)
    now = prepare(state, how)
    endpoints = tuple(endpoint.name for endpoint in now.endpoints)
    grown = replace(_grown(state, tuple(names)), endpoints=endpoints)
    return now, prepare(grown, how)


def _grown(state: ClusterState, names: tuple[str, ...]) -> ClusterState:
    pods = [replace(pod, name=f"{pod.name}{_MORE}", labels=_renamed(pod.labels, names))
            for pod in state.pods]  # fmt: skip
    return replace(
        state,
        pods=(*state.pods, *pods),
        identities={**state.identities, **dict(_more_identities(state, names))},
    )


def _renamed(labels: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    if not names:
        return {**labels, _EXTRA: _MORE}
    return {key: f"{text}{_MORE}" if key in names else text for key, text in labels.items()}


def _more_identities(
    state: ClusterState, names: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], int]]:
    """Copy the identities of the inventory, numbered after all of them."""
    numbers = count(max(state.identities.values(), default=0) + 1)
    for labels in state.identities:
        parts = [untold(label) for label in labels]
        by_key = {key: text for source, key, text in parts if source == "k8s"}
        changed = _renamed(by_key, names)
        if changed != by_key and len(by_key) == len(labels):
            yield tuple(sorted(told("k8s", *pair) for pair in changed.items())), next(numbers)
