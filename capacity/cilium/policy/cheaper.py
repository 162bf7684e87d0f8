"""Cheaper ways to write the heaviest policies, each proven by resolving the cluster with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl
import yaml

from capacity.cilium.policy import read, rewrites, rows
from capacity.cilium.policy.engine import Cluster, direction_of, prepare
from capacity.cilium.policy.explain import heaviest
from capacity.cilium.policy.reach import Difference, difference
from capacity.cilium.policy.rewrites import Rewrite, Spec
from capacity.cilium.policy.selectors import Selector
from capacity.cilium.policy.state import PolicyObject
from capacity.cilium.policy.witnesses import with_witnesses
from capacity.tables import Column, Table

Way = Callable[[Spec], Iterator[Rewrite]]
SAME: Final = "same"
SAME_TODAY: Final = "same today"
WIDER: Final = "wider"
CHEAPER: Final = Table(
    "cheaper_policies",
    "one way to write a policy with fewer entries; what saves most in one map comes first",
    (
        Column("policy", pl.String, "", "kind/namespace/name"),
        Column("step", pl.Int64, "", "same ones build on those before them; null for others",
               nullable=True),
        Column("rule", pl.String, "", "place in the policy, as the steps before left it"),
        Column("change", pl.String),
        Column(
            "reach", pl.String, "",
            "same: lets the same through; same today: so for pods there are, not for all that may "
            "come; wider: more, see gained",
        ),
        Column("gained", pl.String, "", "what more gets through", nullable=True),
        Column("endpoint", pl.String, "", "the fullest of those that it changes"),
        Column("before", pl.Int64, "entry", "of that endpoint"),
        Column("after", pl.Int64, "entry", "of that endpoint"),
        Column("saved", pl.Int64, "entry", "there"),
        Column("endpoints", pl.Int64, "1", "endpoints that it changes"),
        Column("saved_everywhere", pl.Int64, "entry", "in the maps of all endpoints"),
    ),
)  # fmt: skip
_KUBERNETES: Final = "NetworkPolicy"
# Changes of each kind that are tried of one policy. A trial resolves all CIDRs of the cluster: of
# many CIDRs fewer changes are tried, so that they take as long.
_TRIALS: Final = 200
_WORK: Final = 30_000
# Those first that take a list as a whole: what is left of it is tried one by one
_SAME_WAYS: Final = (
    rewrites.merged_cidrs,
    rewrites.merged_ports,
    rewrites.joined_rules,
    rewrites.removals,
)


@dataclass(frozen=True, slots=True)
class Cheaper:
    """Table `cheaper_policies`, and policies with all changes after which reach is the same."""

    table: pl.DataFrame
    policies: tuple[PolicyObject, ...]


@dataclass(slots=True)
class _Search:
    """One policy being rewritten: the cluster with what was accepted so far."""

    cluster: Cluster
    place: int
    counted: pl.DataFrame
    steps: int = 0
    found: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def policy(self) -> PolicyObject:
        return self.cluster.state.policies[self.place]


def cheaper(cluster: Cluster, *, top: int = 10) -> Cheaper:
    """Look for cheaper ways to write the policies of the heaviest rules.

    Parameters
    ----------
    cluster
        What `capacity.cilium.policy.ready` gives.
    top
        Policies to look at, those of the heaviest rules first.

    Notes
    -----
    Ways are tried one by one, and each is judged by resolving every endpoint: fewer entries, no map
    fuller, and what `capacity.cilium.policy.reach` says. Ways that leave reach the same build on
    each other; a wider one is judged after them, and not taken.
    """
    order = heaviest(cluster, top=len(cluster.rules) * 8)["policy"]
    chosen = order.unique(maintain_order=True).head(top)
    places = {policy.title: n for n, policy in enumerate(cluster.state.policies)}
    counted = rows.counts(cluster)
    found, rewritten = [], []
    for title in chosen:
        search = _Search(cluster, places[title], counted)
        _search(search)
        found += search.found
        if search.cluster is not cluster:
            rewritten.append(search.policy)
    frame = pl.DataFrame(found, schema=CHEAPER.schema, orient="row")
    order_by = ["saved", "saved_everywhere", "policy", "rule", "change"]
    table = frame.sort(order_by, descending=[True, True, False, False, False])
    return Cheaper(table, tuple(rewritten))


def as_yaml(policies: Sequence[PolicyObject]) -> str:
    """Write policies as YAML documents: names and specs; other metadata is not known here."""
    documents = []
    for one in policies:
        group = "networking.k8s.io/v1" if one.kind == _KUBERNETES else "cilium.io/v2"
        metadata = {"name": one.name} | ({"namespace": one.namespace} if one.namespace else {})
        told: dict[str, Any] = {"apiVersion": group, "kind": one.kind, "metadata": metadata}
        plural = [spec for spec, is_plural in _specs(one) if is_plural]
        single = [spec for spec, is_plural in _specs(one) if not is_plural]
        told |= {"spec": single[0]} if single else {}
        told |= {"specs": plural} if plural else {}
        documents.append(told)
    return yaml.safe_dump_all(documents, sort_keys=False)


def _specs(policy: PolicyObject) -> Iterator[tuple[Spec, bool]]:
    for n, spec in enumerate(policy.specs):
        yield spec, n < len(policy.is_plural) and policy.is_plural[n]


def _search(search: _Search) -> None:
    is_kubernetes = search.policy.kind == _KUBERNETES
    ways: list[Way] = list(_SAME_WAYS)
    if not is_kubernetes:
        ways.append(rewrites.denied_excepts)
    for way in ways:
        left = _trials(search)
        while _accept_one(search, way, left):
            pass
    for way in (
        rewrites.wider_ranges,
        lambda spec: rewrites.everyone(spec, is_kubernetes=is_kubernetes),
    ):
        for place, change, (_, counted, differs) in _saving(search, way, _trials(search)):
            if not differs.is_none:
                told = (None, place, change, WIDER, differs.gained)
                search.found.append(_row(search, counted, told))


def _trials(search: _Search) -> Iterator[int]:
    """Count the trials of one way to the end."""
    return iter(range(min(_TRIALS, 1 + _WORK // (1 + len(search.cluster.local)))))


def _accept_one(search: _Search, way: Way, left: Iterator[int]) -> bool:
    for place, change, (new, counted, differs) in _saving(search, way, left):
        if not differs.is_none:
            continue
        is_lasting = _is_lasting(search, new)
        step = search.steps + 1 if is_lasting else None
        reach = SAME if is_lasting else SAME_TODAY
        row = _row(search, counted, (step, place, change, reach, None))
        if row not in search.found:
            search.found.append(row)
        if is_lasting:
            search.cluster, search.counted, search.steps = new, counted, search.steps + 1
            return True
    return False


def _saving(
    search: _Search, way: Way, left: Iterator[int]
) -> Iterator[tuple[str, str, tuple[Cluster, pl.DataFrame, Difference]]]:
    """Give the changes that cost less and lose nothing, while trials are left."""
    for _, (place, change, policy) in zip(left, _rewritten(search.policy, way), strict=False):
        judged = _judged(search, policy)
        if judged is not None:
            yield place, change, judged


def _rewritten(policy: PolicyObject, way: Way) -> Iterator[tuple[str, str, PolicyObject]]:
    plural = 0
    for n, (spec, is_plural) in enumerate(_specs(policy)):
        start = f"specs[{plural}]." if is_plural else ""
        plural += is_plural
        for place, change, made in way(spec):
            specs = (*policy.specs[:n], made, *policy.specs[n + 1 :])
            yield start + place, change, replace(policy, specs=specs)


def _judged(
    search: _Search, policy: PolicyObject
) -> tuple[Cluster, pl.DataFrame, Difference] | None:
    """Give the cluster with a rewritten policy, where it costs less and loses nothing."""
    old = search.cluster
    policies = list(old.state.policies)
    policies[search.place] = policy
    new = prepare(replace(old.state, policies=tuple(policies)), old.semantics, old)
    if new.statuses[search.place].status != read.OK:
        return None
    counted = rows.counts(new)
    change = counted["total"] - search.counted["total"]
    if change.null_count() or not (change.sum() < 0 and (change <= 0).all()):
        return None
    found = difference(old, new)
    return None if found.has_lost else (new, counted, found)


def _is_lasting(search: _Search, new: Cluster) -> bool:
    """Tell whether reach stays the same for pods that each selector alone tells apart."""
    old = search.cluster
    changed = [
        group for group in old.groups
        if any(old.rules[n].policy == search.policy.title for n in group.rules)
    ]  # fmt: skip
    selectors = {
        peer
        for group in changed
        for is_ingress in (True, False)
        for peer in direction_of(old, group, is_ingress=is_ingress).peers
        if isinstance(peer, Selector)
    }
    names = [old.groups[group][0].name for group in changed]
    few = [
        prepare(
            replace(with_witnesses(old.state, names, selectors), policies=one.state.policies),
            old.semantics,
        )
        for one in (old, new)
    ]
    return difference(few[0], few[1]).is_none


def _row(search: _Search, counted: pl.DataFrame, told: Sequence[Any]) -> tuple[Any, ...]:
    saved = search.counted["total"] - counted["total"]
    changed = search.counted.with_columns(after=counted["total"], saved=saved).filter(
        pl.col("saved") != 0
    )
    worst = changed.sort("total", "endpoint", descending=[True, False]).row(0, named=True)
    return (
        search.policy.title, *told, worst["endpoint"], worst["total"],
        worst["after"], worst["saved"], changed.height, int(saved.sum()),
    )  # fmt: skip
