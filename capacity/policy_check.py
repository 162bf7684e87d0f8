"""The gate: what a change does to the policy map of each endpoint, before it is rolled out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from capacity.cilium.policy import explain, ready, recount, rows, statuses
from capacity.cilium.policy.growth import growth, map_limit
from capacity.errors import SettingsError
from capacity.inventory import Inventory, merge
from capacity.tables import Column, Table, check

GATE: Final = Table(
    "gate",
    "the policy map of one endpoint before and after a change; the fullest first",
    (
        Column("endpoint", pl.String),
        Column("before", pl.Int64, "entry", "null: it is new, or unresolved", nullable=True),
        Column("after", pl.Int64, "entry", "null: its policies conflict", nullable=True),
        Column("limit", pl.Int64, "entry", "bpf-policy-map-max after the change"),
        Column("share", pl.Float64, "1", "after / limit", nullable=True),
        Column(
            "verdict", pl.String, "",
            "fits; short: at the share that fails, and fuller than before; short before: no "
            "fuller; conflict: Cilium cannot merge its policies any more; conflict before",
        ),
        Column("policy", pl.String, "", "policy that makes most of the entries", nullable=True),
        Column("policy_entries", pl.Int64, "entry", "that this policy makes", nullable=True),
        Column("rule", pl.String, "", "its heaviest rule, as ingress[2]", nullable=True),
        Column("rule_entries", pl.Int64, "entry", "that this rule makes", nullable=True),
        Column("source", pl.String, "", "file and document of the policy", nullable=True),
    ),
)  # fmt: skip
REJECTED: Final = Table(
    "rejected",
    "one changed policy that Cilium would not take",
    (
        Column("policy", pl.String, "", "kind/namespace/name"),
        Column("status", pl.String, "", "as `capacity.cilium.policy.statuses` gives it"),
        Column("error", pl.String, "", "reason, with the field where it is known", nullable=True),
        Column("source", pl.String, "", "file and document"),
    ),
)
# Policies are named for so many of the endpoints that run short: the rest have the same ones
_EXPLAINED: Final = 20
_NAME: Final = pl.concat_str("kind", pl.col("namespace").fill_null(""), "policy", separator="/")
_SHORT: Final = ("short", "short before")


@dataclass(frozen=True, slots=True)
class Gate:
    """What a change does: tables `gate` and `rejected`, and one sentence."""

    endpoints: pl.DataFrame
    rejected: pl.DataFrame
    headline: str

    @property
    def passes(self) -> bool:
        """Whether nothing gets short by the change and Cilium takes every changed policy."""
        return self.rejected.is_empty() and self.failing.is_empty()

    @property
    def failing(self) -> pl.DataFrame:
        """Rows of `endpoints` that the change makes short, or impossible to resolve."""
        return self.endpoints.filter(pl.col("verdict").is_in(["short", "conflict"]))


def gate(
    base: Inventory,
    changed: Sequence[Inventory] = (),
    *,
    version: str,
    fail_at: float = 0.9,
    deleted: Iterable[str] = (),
    factor: float = 1.0,
) -> Gate:
    """Compare the policy maps of a cluster before and after a change.

    Parameters
    ----------
    base
        The cluster: pods, namespaces, policies, options.
    changed
        Policies, services and Helm values of the change. What has the kind, namespace and name of
        something in the base takes its place.
    version
        Cilium minor version.
    fail_at
        Share of a policy map's size at which an endpoint is short. [1]
    deleted
        Policies that the change takes away, as ``kind/namespace/name``.
    factor
        Workloads to judge, as a multiple of those there are: see
        `capacity.cilium.policy.growth`. [1]

    Raises
    ------
    SettingsError
        If `fail_at` is not in 0…1, `factor` below 1, or a policy to delete is not in the base.
    """
    if not 0 < fail_at <= 1:
        raise SettingsError(f"fail-at: {fail_at} is outside 0…1, more than 0")
    if not 1 <= factor < math.inf:
        raise SettingsError(f"factor: {factor}; wanted 1 or more, a multiple of the workloads")
    after = merge([_without(base, deleted), *changed])
    if factor == 1:
        cluster = ready(base, version=version)
        counted = rows.counts(cluster)
        _, recounted = recount(cluster, base, after)
    else:
        counted, recounted = (_grown(one, factor, version) for one in (base, after))
    sizes = [map_limit(inventory, version=version) for inventory in (base, after)]
    table = _compared(counted, recounted, sizes, fail_at)
    table = _with_heaviest(table, after, version)
    rejected = _rejected(after, changed, version)
    return Gate(check(table, GATE), rejected, _headline(table, rejected, fail_at))


def _grown(inventory: Inventory, factor: float, version: str) -> pl.DataFrame:
    """Count the entries of each endpoint when there are more workloads, rounded up."""
    more = pl.col("growing") * (factor - 1)
    return growth(inventory, version=version).select(
        "endpoint", total=(pl.col("entries") + more).ceil().cast(pl.Int64)
    )


def _without(base: Inventory, deleted: Iterable[str]) -> Inventory:
    known = set(base.policies.select(_NAME.alias("name"))["name"])
    wanted = list(deleted)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise SettingsError(
            f"deleted: {missing[0]!r} is no policy of the inventory; wanted is KIND/NAMESPACE/NAME"
        )
    return replace(base, policies=base.policies.filter(~_NAME.is_in(wanted)))


def _compared(
    before: pl.DataFrame, after: pl.DataFrame, sizes: list[int], fail_at: float
) -> pl.DataFrame:
    old = before.select("endpoint", before="total", is_new=pl.lit(value=False))
    joined = after.select("endpoint", after="total").join(
        old.unique("endpoint", keep="first"), on="endpoint", how="left"
    )
    joined = joined.with_columns(pl.col("is_new").fill_null(value=True))
    share = pl.col("after") / sizes[1]
    fuller = share > (pl.col("before").fill_null(0) / sizes[0])
    was_resolved = pl.col("before").is_not_null() | pl.col("is_new")
    verdict = (
        pl.when(pl.col("after").is_null() & was_resolved)
        .then(pl.lit("conflict"))
        .when(pl.col("after").is_null())
        .then(pl.lit("conflict before"))
        .when(share.fill_null(0) < fail_at)
        .then(pl.lit("fits"))
        .when(fuller)
        .then(pl.lit("short"))
        .otherwise(pl.lit("short before"))
    )
    return joined.select(
        "endpoint", "before", "after",
        limit=pl.lit(sizes[1], pl.Int64), share=share, verdict=verdict,
    ).sort("share", "endpoint", descending=[True, False], nulls_last=True)  # fmt: skip


def _with_heaviest(table: pl.DataFrame, after: Inventory, version: str) -> pl.DataFrame:
    """Name the policy that makes most entries of each endpoint that is short, and its rule."""
    short = table.filter(pl.col("verdict").is_in(_SHORT))["endpoint"].head(_EXPLAINED)
    if short.is_empty():
        names = [name for name in GATE.schema.names() if name not in table.columns]
        return table.with_columns(pl.lit(None, GATE.schema[name]).alias(name) for name in names)
    cluster = ready(after, version=version, options={"endpoints": ",".join(short)})
    made = explain.contributions(cluster).filter(pl.col("policy") != "")
    titles = [policy.title for policy in cluster.state.policies]
    sources = after.policies.select("source", policy=pl.Series(titles, dtype=pl.String))
    heaviest = (
        made.group_by("endpoint", "policy")
        .agg(policy_entries=pl.col("entries").sum())
        .sort("policy_entries", "policy", descending=[True, False])
        .unique("endpoint", keep="first", maintain_order=True)
        .join(sources.unique("policy", keep="last"), on="policy", how="left")
    )
    rules = explain.rule_contributions(cluster).sort(
        "entries", "rule", descending=[True, False], maintain_order=True
    )
    heaviest_rules = rules.unique(["endpoint", "policy"], keep="first").select(
        "endpoint", "policy", "rule", rule_entries="entries"
    )
    return table.join(heaviest, on="endpoint", how="left", maintain_order="left").join(
        heaviest_rules, on=["endpoint", "policy"], how="left", maintain_order="left"
    )


def _rejected(after: Inventory, changed: Sequence[Inventory], version: str) -> pl.DataFrame:
    if not changed:
        return REJECTED.empty()
    keys = ["kind", "namespace", "policy"]
    own = pl.concat(part.policies.select(*keys, "source") for part in changed)
    told = statuses(after, version=version).filter(pl.col("status") != "ok")
    found = told.join(own, on=keys, nulls_equal=True).select(
        "status", "error", "source",
        policy=_NAME,
    )  # fmt: skip
    return check(found.select(REJECTED.schema.names()).unique().sort("policy"), REJECTED)


def _headline(table: pl.DataFrame, rejected: pl.DataFrame, fail_at: float) -> str:
    changes = table.filter(pl.col("before").ne_missing(pl.col("after"))).height
    text = f"{changes:,} of {len(table):,} endpoints change"
    known = table.drop_nulls("after")
    if not known.is_empty():
        worst = known.row(0, named=True)
        old = "new" if worst["before"] is None else f"{worst['before']:,}"
        text += f"; the fullest is {worst['endpoint']}: {old} → {worst['after']:,} of "
        text += f"{worst['limit']:,} entries ({worst['share']:.1%})"
    counts = {name: table.filter(verdict=name).height for name in _SHORT}
    text += f"; {counts['short']:,} get short (at {fail_at:.0%} or more)"
    text += f", {counts['short before']:,} were and get no fuller" if counts["short before"] else ""
    conflicts = table.filter(verdict="conflict").height
    text += f"; the policies of {conflicts:,} cannot be merged any more" if conflicts else ""
    text += f"; Cilium rejects {len(rejected):,} changed policies" if len(rejected) else ""
    return text + "."
