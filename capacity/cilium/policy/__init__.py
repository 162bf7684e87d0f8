"""Policies resolved into the entries of each endpoint's policy map, as Cilium resolves them.

In here: labels, selectors, the kinds of policies, filters, the insertion rules of the versions.
Not in here: reading files (load/), what to do about full maps (recommend).
"""

from __future__ import annotations

import polars as pl

from capacity.cilium.policy import explain, rows
from capacity.cilium.policy.adapter import Options, cluster_state, with_policies
from capacity.cilium.policy.engine import Cluster, prepare
from capacity.cilium.policy.versions import chosen
from capacity.inventory import Inventory

__all__ = [
    "conflicts",
    "contributions",
    "count",
    "heaviest",
    "ready",
    "recount",
    "resolve",
    "rule_contributions",
    "statuses",
]


def ready(inventory: Inventory, *, version: str, options: Options | None = None) -> Cluster:
    """Read the policies of an inventory and group its endpoints: what the others start from.

    Parameters
    ----------
    inventory
        Pods, namespaces, policies and what policies refer to.
    version
        Cilium version, as "1.16".
    options
        Agent flags, as ``{"enable-ipv6": "true"}``, which override those of the inventory;
        ``endpoints`` names those to resolve, ``wildcard-rows`` (1 or 5) the rows of an entry for
        anyone in 1.20, ``prefix-identities`` (prefix or labels) whether prefixes get identities
        each, or by their labels, as since 1.17; ``proxy-precedence`` (true or false) whether a
        redirect leaves out what it covers, as since 1.17.

    Returns
    -------
    Cluster
        What `rows` and `explain` list and count from.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.
    """
    return prepare(cluster_state(inventory, options), chosen(version, inventory, options))


def resolve(inventory: Inventory, *, version: str, options: Options | None = None) -> pl.DataFrame:
    """List the entries of every endpoint's policy map, in the steady state.

    Parameters
    ----------
    inventory, version, options
        See `ready`.

    Returns
    -------
    DataFrame
        Table policy_entries: one row per entry, by endpoint.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.

    Notes
    -----
    Endpoints are all pods, the host and the health endpoint. Every peer is taken as known to the
    node, every proxy as running.

    References
    ----------
    .. [1] cilium/cilium pkg/policy, b095517e625e (1.17-dev); pull request 35449 for 1.17 and later.

    Examples
    --------
    >>> resolve(Inventory(), version="1.16").filter(pl.col("endpoint") == "reserved:health").height
    3
    """
    return rows.entries(ready(inventory, version=version, options=options))


def count(inventory: Inventory, *, version: str, options: Options | None = None) -> pl.DataFrame:
    """Count the entries of every endpoint's policy map without listing them.

    Parameters
    ----------
    inventory, version, options
        See `ready`.

    Returns
    -------
    DataFrame
        Table policy_counts: endpoint, identity, ingress, egress, allow, deny, redirect, total.
        Counts are null for an endpoint of `conflicts`.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.

    Examples
    --------
    >>> count(Inventory(), version="1.16").select("endpoint", "total").rows()
    [('reserved:host', 2), ('reserved:health', 3)]
    """
    return rows.counts(ready(inventory, version=version, options=options))


def recount(
    before: Cluster, old: Inventory, new: Inventory, *, options: Options | None = None
) -> tuple[Cluster, pl.DataFrame]:
    """Count again after a change, from what was found before it.

    Parameters
    ----------
    before
        What `ready` gave for `old`. It stays as it is.
    old, new
        The inventory before and after the change. Where they differ in policies only, only the
        policies and endpoints that changed are resolved; else all are.
    options
        As they were given to `ready`.

    Returns
    -------
    Cluster
        What `ready` gives for `new`: to count again from.
    DataFrame
        Table policy_counts, as `count` gives it for `new`.

    Raises
    ------
    SettingsError
        If an option has a value that the agent does not take.

    Examples
    --------
    >>> old = Inventory()
    >>> _, counted = recount(ready(old, version="1.16"), old, Inventory())
    >>> counted.equals(count(old, version="1.16"))
    True
    """
    state = with_policies(before.state, old, new)
    if state is None:
        cluster = prepare(cluster_state(new, options), before.semantics)
    else:
        cluster = prepare(state, before.semantics, before)
    return cluster, rows.counts(cluster)


def contributions(
    inventory: Inventory, *, version: str, options: Options | None = None
) -> pl.DataFrame:
    """Count what each policy makes at each endpoint.

    Parameters
    ----------
    inventory, version, options
        See `ready`.

    Returns
    -------
    DataFrame
        Table policy_contributions: endpoint, direction, policy, entries, alone.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.
    """
    return explain.contributions(ready(inventory, version=version, options=options))


def rule_contributions(
    inventory: Inventory, *, version: str, options: Options | None = None
) -> pl.DataFrame:
    """Count what each rule of each policy makes at each endpoint.

    Parameters
    ----------
    inventory, version, options
        See `ready`.

    Returns
    -------
    DataFrame
        Table rule_contributions: endpoint, direction, policy, rule, entries, alone.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.
    """
    return explain.rule_contributions(ready(inventory, version=version, options=options))


def heaviest(
    inventory: Inventory, *, version: str, options: Options | None = None, top: int = 10
) -> pl.DataFrame:
    """List the rules that fill policy maps most, over the whole cluster.

    Parameters
    ----------
    inventory, version, options
        See `ready`.
    top
        Rules to list.

    Returns
    -------
    DataFrame
        Table heaviest_rules, the rule that makes most entries in one map first.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.
    """
    return explain.heaviest(ready(inventory, version=version, options=options), top=top)


def statuses(inventory: Inventory, *, version: str, options: Options | None = None) -> pl.DataFrame:
    """List what becomes of each policy.

    Parameters
    ----------
    inventory, version, options
        See `ready`.

    Returns
    -------
    DataFrame
        kind, namespace, policy, status, rules (those of the agent), error. Status is ok; rejected,
        with the agent's reason; decode-error; skipped-requires-derivative (toGroups); ignored-kind;
        unsupported-kind (AdminNetworkPolicy and its relatives). Only ok ones make entries.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.
    """
    return rows.statuses(ready(inventory, version=version, options=options))


def conflicts(
    inventory: Inventory, *, version: str, options: Options | None = None
) -> pl.DataFrame:
    """List endpoints whose policies Cilium cannot merge: endpoint, direction, reason.

    Parameters
    ----------
    inventory, version, options
        See `ready`.

    Returns
    -------
    DataFrame
        A row an endpoint and direction whose rules cannot be merged, with the reason.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.
    """
    return rows.conflicts(ready(inventory, version=version, options=options))
