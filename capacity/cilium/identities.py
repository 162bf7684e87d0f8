"""Security identities of a cluster: which there are, how many fit, what a label costs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from capacity import facts
from capacity.cilium.policy import ready
from capacity.cilium.policy.adapter import Options, cluster_state
from capacity.cilium.policy.allocation import cluster_identities
from capacity.cilium.policy.labels import (
    ANY,
    CLUSTER,
    K8S,
    NAMESPACE,
)
from capacity.cilium.policy.rules import Rule
from capacity.cilium.policy.security_labels import untold
from capacity.cilium.policy.universe import Universe
from capacity.errors import FactError, SettingsError
from capacity.inventory import Inventory
from capacity.tables import Column, Table

# What Cilium needs itself to tell pods apart; never offered as labels to drop
_NEEDED: Final = (NAMESPACE, CLUSTER)
_MESHES: Final = (255, 511)
IDENTITIES: Final = Table(
    "security_identities",
    "one identity that a node with all endpoints knows",
    (
        Column("identity", pl.Int64),
        Column("scope", pl.String, "", "reserved, cluster (pods) or local (CIDRs, DNS names)"),
        Column("labels", pl.List(pl.String), "", "sorted"),
        Column("endpoints", pl.Int64, "1", "endpoints that have it"),
    ),
)
SAVINGS: Final = Table(
    "identity_savings",
    "one label of identities, and what dropping it would save",
    (
        Column("label", pl.String),
        Column("values", pl.Int64, "1", "values it has"),
        Column("identities", pl.Int64, "1", "identities there would be without it"),
        Column("saved", pl.Int64, "1"),
        Column("policies", pl.List(pl.String), "", "policies that select by it"),
        Column("pattern", pl.String, "", "entry of the agent's option labels that drops it"),
    ),
)


def listed(inventory: Inventory, *, version: str, options: Options | None = None) -> pl.DataFrame:
    """List the identities that a node with all endpoints knows.

    Parameters
    ----------
    inventory
        Pods, namespaces and policies.
    version
        Cilium version.
    options
        Agent flags that override those of the inventory, ``labels`` among them.

    Returns
    -------
    DataFrame
        identity; scope: reserved, cluster (pods) or local (CIDRs of rules, DNS names); labels,
        sorted; endpoints that have it [1].

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.
    """
    cluster = ready(inventory, version=version, options=options)
    used = Counter(endpoint.identity for endpoint in cluster.endpoints)
    rows = [
        (one.number, _scope(cluster.universe, one.number), list(one.labels), used[one.number])
        for one in cluster.universe.identities
    ]
    return pl.DataFrame(rows, schema=IDENTITIES.schema, orient="row")


def _scope(universe: Universe, number: int) -> str:
    one = universe.identities[universe.bit_of[number] - 1]
    if one.is_local:
        return "local"
    return "reserved" if one.labels[0].startswith("reserved:") else "cluster"


def limit(*, version: str, cluster_id: int = 0, max_connected_clusters: int = 255) -> int:
    """Give how many identities pods of one cluster can have.

    Parameters
    ----------
    version
        Cilium version.
    cluster_id
        0 where the cluster is in no mesh.
    max_connected_clusters
        255, or 511 where every cluster of the mesh has half the identities.

    Returns
    -------
    int
        Identities. [1]

    Raises
    ------
    FactError
        If nothing is known about the version, or it has no such mesh.
    SettingsError
        If there is no such mesh or cluster.

    Notes
    -----
    The values are rows ``cluster-identities`` of facts/limits.csv, with their sources.

    Examples
    --------
    >>> limit(version="1.17"), limit(version="1.17", cluster_id=3, max_connected_clusters=511)
    (65280, 32768)
    """
    if max_connected_clusters not in _MESHES:
        raise SettingsError(f"max-connected-clusters: {max_connected_clusters}; wanted 255 or 511")
    if not 0 <= cluster_id <= max_connected_clusters:
        raise SettingsError(f"cluster-id: {cluster_id}; wanted 0 to {max_connected_clusters}")
    found = facts.limits(version).filter(pl.col("limit") == "cluster-identities")
    is_511 = pl.col("condition").str.contains("511", literal=True)
    is_large = pl.col("condition").str.contains("max-connected-clusters", literal=True) & is_511
    is_alone = pl.col("condition").str.starts_with("cluster-id 0")
    wanted = (is_large if max_connected_clusters == _MESHES[1] else ~is_large) & (
        is_alone if cluster_id == 0 else ~is_alone
    )
    values = found.filter(wanted)["value"]
    if len(values) != 1:
        raise FactError(
            f"cluster-identities: no fact for Cilium {version}, cluster-id {cluster_id}, "
            f"max-connected-clusters {max_connected_clusters}; see capacity facts limits"
        )
    return int(values[0])


def savings(inventory: Inventory, *, version: str, options: Options | None = None) -> pl.DataFrame:
    """Tell what dropping each label from the identities would save, and which policies use it.

    Parameters
    ----------
    inventory, version, options
        As for `listed`.

    Returns
    -------
    DataFrame
        label; values it has [1]; identities there would be without it [1]; saved [1]; policies
        that select by it; pattern, an entry for the agent's option ``labels`` that drops it.
        The largest savings first. Saved identities are merged ones: a policy that uses the
        label would then select other pods.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.
    """
    state = cluster_state(inventory, options)
    _, identities = cluster_identities(state)
    sets = {one.labels for one in identities}
    users = _users(ready(inventory, version=version, options=options).rules)
    values: dict[str, set[str]] = {}
    holders: dict[str, list[tuple[str, ...]]] = {}
    for labels in sets:
        for label in labels:
            source, key, value = untold(label)
            if source == K8S and key not in _NEEDED:
                values.setdefault(key, set()).add(value)
                holders.setdefault(key, []).append(labels)
    rows = []
    for key, having in holders.items():
        left = {tuple(one for one in labels if untold(one)[1] != key) for labels in having}
        saved = len(having) - len(left - (sets - set(having)))
        rows.append(
            (key, len(values[key]), len(sets) - saved, saved, sorted(users.get(key, ())),
             f"{K8S}:!{re.escape(key)}$")
        )  # fmt: skip
    frame = pl.DataFrame(rows, schema=SAVINGS.schema, orient="row")
    return frame.sort(["saved", "label"], descending=[True, False])


@dataclass(frozen=True, slots=True)
class Usage:
    """Identities that pods need [1], how many fit [1], and table identity_savings."""

    identities: int
    limit: int
    labels: pl.DataFrame

    @property
    def headline(self) -> str:
        """One sentence."""
        share = self.identities / self.limit
        text = f"pods need {self.identities:,} of {self.limit:,} identities ({share:.1%})"
        if not self.labels.is_empty():
            best = self.labels.row(0, named=True)
            used = len(best["policies"])
            text += f"; without label {best['label']} {best['saved']:,} fewer"
            text += f", and {used:,} policies select by it" if used else ", and no policy uses it"
        return f"{text}."


def usage(inventory: Inventory, *, version: str, options: Options | None = None) -> Usage:
    """Tell how many identities the pods of a cluster need, how many fit, and what labels cost.

    Parameters
    ----------
    inventory, version, options
        As for `listed`; ``cluster-id`` and ``max-connected-clusters`` choose the limit.

    Returns
    -------
    Usage
        Identities needed and there are [1], and table savings by label.

    Raises
    ------
    FactError
        If nothing is known about the version, or it has no such mesh.
    SettingsError
        If an option has a value that the agent does not take.

    Examples
    --------
    >>> usage(Inventory(), version="1.17").headline
    'pods need 0 of 65,280 identities (0.0%).'
    """
    own = {name: _number(inventory, options, name, default)
           for name, default in (("cluster-id", 0), ("max-connected-clusters", 255))}  # fmt: skip
    most = limit(
        version=version,
        cluster_id=own["cluster-id"],
        max_connected_clusters=own["max-connected-clusters"],
    )
    _, identities = cluster_identities(cluster_state(inventory, options))
    count = len(identities)
    return Usage(count, most, savings(inventory, version=version, options=options))


def _number(inventory: Inventory, options: Options | None, name: str, default: int) -> int:
    given = (options or {}).get(name, inventory.option(name))
    try:
        return default if given is None else int(given)
    except ValueError:
        raise SettingsError(f"{name}: {given!r}; wanted a number") from None


def _users(rules: Iterable[Rule]) -> dict[str, set[str]]:
    """Policies by the keys of labels that they select by."""
    found: dict[str, set[str]] = {}
    for rule in rules:
        keys = set(rule.subject.keys())
        for traffic in (*rule.ingress, *rule.egress):
            for selector in (*(traffic.peers or ()), *(traffic.others or ()), *traffic.requires):
                keys.update(selector.keys())
        for key in keys:
            source, _, name = key.partition(".")
            if source in (ANY, K8S):
                found.setdefault(name, set()).add(rule.policy)
    return found
