"""Cheaper ways to write the heaviest policies, each proven by resolving the cluster with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
        Column("policy", pl.String, "", "kind/namespace/name; several that only together save"),
        Column("step", pl.Int64, "", "same ones build on those before them, of all policies; null "
               "for others", nullable=True),
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
    """Policies being rewritten: the cluster with what was accepted so far, of all of them."""

    cluster: Cluster
    counted: pl.DataFrame
    steps: int = 0
    found: list[tuple[Any, ...]] = field(default_factory=list)


# A change: the rule, what changes, the changed policies by their place in the cluster
Change = tuple[str, str, Mapping[int, PolicyObject]]
Changes = Callable[[], Iterator[Change]]


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
    each other, over all policies, so that all may be taken; a wider one is judged after those of
    its policy, and not taken.
    """
    order = heaviest(cluster, top=len(cluster.rules) * 8)["policy"]
    chosen = order.unique(maintain_order=True).head(top)
    by_title = {policy.title: n for n, policy in enumerate(cluster.state.policies)}
    places = [by_title[title] for title in chosen]
    search = _Search(cluster, rows.counts(cluster))
    for place in places:
        _accept(search, partial(_rewritten, search, place, rewrites.merged_cidrs))
    _accept(search, partial(_collapsed_together, search, places))
    for place in places:
        _search(search, place)
    new, old = search.cluster.state.policies, cluster.state.policies
    rewritten = [new[place] for place in places if new[place] is not old[place]]
    frame = pl.DataFrame(search.found, schema=CHEAPER.schema, orient="row")
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


def _search(search: _Search, place: int) -> None:
    is_kubernetes = search.cluster.state.policies[place].kind == _KUBERNETES
    ways = [*_SAME_WAYS, *([] if is_kubernetes else [rewrites.denied_excepts])]
    for way in ways:
        _accept(search, partial(_rewritten, search, place, way))
    for wide in (
        rewrites.wider_ranges,
        lambda spec: rewrites.everyone(spec, is_kubernetes=is_kubernetes),
    ):
        changes = _rewritten(search, place, wide)
        for told, policies, (_, counted, differs) in _saving(search, changes, _trials(search)):
            if not differs.is_none:
                row = _row(search, policies, counted, (None, *told, WIDER, differs.gained))
                search.found.append(row)


def _accept(search: _Search, changes: Changes) -> None:
    """Take the changes that save and leave reach the same, one after the other."""
    left = _trials(search)
    while _accept_one(search, changes(), left):
        pass


def _trials(search: _Search) -> Iterator[int]:
    """Count the trials of one way to the end."""
    return iter(range(min(_TRIALS, 1 + _WORK // (1 + len(search.cluster.local)))))


def _accept_one(search: _Search, changes: Iterator[Change], left: Iterator[int]) -> bool:
    for told, policies, (new, counted, differs) in _saving(search, changes, left):
        if not differs.is_none:
            continue
        is_lasting = _is_lasting(search, policies, new)
        step = search.steps + 1 if is_lasting else None
        reach = SAME if is_lasting else SAME_TODAY
        row = _row(search, policies, counted, (step, *told, reach, None))
        if row not in search.found:
            search.found.append(row)
        if is_lasting:
            search.cluster, search.counted, search.steps = new, counted, search.steps + 1
            return True
    return False


def _saving(
    search: _Search, changes: Iterator[Change], left: Iterator[int]
) -> Iterator[
    tuple[
        tuple[str, str],
        Mapping[int, PolicyObject],
        tuple[Cluster, pl.DataFrame, Difference],
    ]
]:
    """Give the changes that cost less and lose nothing, while trials are left."""
    for _, (rule, change, policies) in zip(left, changes, strict=False):
        judged = _judged(search, policies)
        if judged is not None:
            yield (rule, change), policies, judged


def _rewritten(search: _Search, place: int, way: Way) -> Iterator[Change]:
    policy = search.cluster.state.policies[place]
    for n, (start, spec) in enumerate(_placed(policy)):
        for rule, change, made in way(spec):
            specs = (*policy.specs[:n], made, *policy.specs[n + 1 :])
            yield start + rule, change, {place: replace(policy, specs=specs)}


def _placed(policy: PolicyObject) -> Iterator[tuple[str, Spec]]:
    """Give specs, each with what the places of its rules start with."""
    plural = 0
    for spec, is_plural in _specs(policy):
        yield f"specs[{plural}]." if is_plural else "", spec
        plural += is_plural


def _collapsed_together(search: _Search, places: Sequence[int]) -> Iterator[Change]:
    """Collapse CIDRs of all specs and policies at once: apart, shared identities only get more."""
    changed: dict[int, PolicyObject] = {}
    rules = []
    for place in places:
        policy = search.cluster.state.policies[place]
        specs: list[Spec] = []
        for start, spec in _placed(policy):
            first = next(rewrites.merged_cidrs(spec), None)
            specs.append(first[2] if first else spec)
            rules += [start + first[0]] if first else []
        if any(one is not spec for one, spec in zip(specs, policy.specs, strict=True)):
            changed[place] = replace(policy, specs=tuple(specs))
    if len(rules) > 1:
        yield rewrites.named(rules), "collapse CIDRs of all that share them", changed


def _judged(
    search: _Search, changed: Mapping[int, PolicyObject]
) -> tuple[Cluster, pl.DataFrame, Difference] | None:
    """Give the cluster with rewritten policies, where it costs less and loses nothing."""
    old = search.cluster
    policies = tuple(changed.get(n, one) for n, one in enumerate(old.state.policies))
    new = prepare(replace(old.state, policies=policies), old.semantics, old)
    if any(new.statuses[place].status != read.OK for place in changed):
        return None
    counted = rows.counts(new)
    change = counted["total"] - search.counted["total"]
    if change.null_count() or not (change.sum() < 0 and (change <= 0).all()):
        return None
    found = difference(old, new)
    return None if found.has_lost else (new, counted, found)


def _is_lasting(search: _Search, policies: Mapping[int, PolicyObject], new: Cluster) -> bool:
    """Tell whether reach stays the same for pods that each selector alone tells apart."""
    old = search.cluster
    titles = {policy.title for policy in policies.values()}
    changed = [
        group for group in old.groups
        if any(old.rules[n].policy in titles for n in group.rules)
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


def _row(
    search: _Search,
    policies: Mapping[int, PolicyObject],
    counted: pl.DataFrame,
    told: Sequence[Any],
) -> tuple[Any, ...]:
    saved = search.counted["total"] - counted["total"]
    changed = search.counted.with_columns(after=counted["total"], saved=saved).filter(
        pl.col("saved") != 0
    )
    worst = changed.sort("total", "endpoint", descending=[True, False]).row(0, named=True)
    titles = rewrites.named([policy.title for policy in policies.values()])
    return (
        titles, *told, worst["endpoint"], worst["total"],
        worst["after"], worst["saved"], changed.height, int(saved.sum()),
    )  # fmt: skip
