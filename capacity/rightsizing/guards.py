"""What keeps workloads within a plan: quotas, defaults, disruption budgets, autoscalers.

Each follows from table rightsizing and the use it rests on; what is there already is left alone,
but a quota that is too small: a larger one refuses nothing, and the sizes of before need it until
the new ones are rolled out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.errors import CapacityError
from capacity.rightsizing_settings import RightsizingSettings
from capacity.tables import GUARDS, check
from capacity.units import parse_bytes, parse_millicores

Row = dict[str, Any]
_RESOURCES: Final = ("cpu", "memory")
_UNITS: Final = {"cpu": "millicore", "memory": "byte"}
_WORKLOAD: Final = ("namespace", "kind", "workload")
_SCALED: Final = ("Deployment", "StatefulSet")
# kubernetes/kubernetes pkg/apis/apps/v1/defaults.go (v1.32): maxSurge of a Deployment, rounded up
_SURGE: Final = 0.25
# At most this share of the pods may be evicted at a time, however little they do
_MOST_AWAY: Final = 0.25
# An autoscaler pays where the load of a usual peak is so many times the median one, and only
# follows it where pods share the load: the mean pod does so much of what the busiest does
_SWING: Final = 1.5
_SHARED: Final = 0.7
# Share of the request at which replicas are added: the rest carries the load until they are there
_UTILIZATION: Final = 80


def guards(
    resources: pl.DataFrame, usage: pl.DataFrame, objects: pl.DataFrame,
    settings: RightsizingSettings,
) -> pl.DataFrame:  # fmt: skip
    """Give table guards: a row a field of each object, with its reason.

    Parameters
    ----------
    resources
        Table rightsizing.
    usage
        As `workload_usage` gives it.
    objects
        Table objects of the inventory: what is there, and the selectors of workloads.
    """
    there = _There.of(objects)
    rows = _planned(resources, usage).partition_by(_WORKLOAD, maintain_order=True)
    workloads = [_workload(own) for own in rows]
    made = [row for one in workloads for row in (*_autoscaler(one, there), *_budget(one, there))]
    if "hpa" in settings.guards:
        there.most.update({
            (row["namespace"], row["kind"], row["workload"]): row["target"]
            for row in made
            if row["field"] == "maxReplicas"
        })  # fmt: skip
    for namespace in sorted({one["namespace"] for one in workloads}):
        own = [one for one in workloads if one["namespace"] == namespace]
        made += _quota(namespace, own, there, settings)
        made += _defaults(namespace, own, there, settings)
    wanted = [row for row in made if row["guard"] in settings.guards]
    return check(pl.DataFrame(wanted, schema=GUARDS.schema), GUARDS)


@dataclass(frozen=True, slots=True)
class _There:
    """What the inventory tells: objects by namespace, selectors, and most replicas of workloads."""

    objects: dict[tuple[str, str], list[tuple[str, Row]]]
    selectors: Mapping[tuple[str, str, str], Row]
    most: dict[tuple[str, str, str], int]

    @classmethod
    def of(cls, objects: pl.DataFrame) -> _There:
        """Sort table objects by what they are."""
        found: dict[tuple[str, str], list[tuple[str, Row]]] = {}
        selectors, most = {}, {}
        for row in objects.iter_rows(named=True):
            namespace, told = row["namespace"] or "", json.loads(row["object"])
            spec = _mapping(told.get("spec"))
            if row["kind"] in _SCALED:
                selectors[namespace, row["kind"], row["name"]] = told
                continue
            found.setdefault((namespace, row["kind"]), []).append((row["name"], spec))
            if row["kind"] == "HorizontalPodAutoscaler":
                aim = _mapping(spec.get("scaleTargetRef"))
                key = namespace, str(aim.get("kind")), str(aim.get("name"))
                told_most = spec.get("maxReplicas")
                most[key] = told_most if isinstance(told_most, int) else 1
        return cls(found, selectors, most)


def _mapping(told: Any) -> Row:
    """Give what an object tells, nothing where it is of another shape."""
    return told if isinstance(told, dict) else {}


def _planned(resources: pl.DataFrame, usage: pl.DataFrame) -> pl.DataFrame:
    """Give a row a container and resource: request and limit as planned and as they are, and use.

    What is not known or refused stays as it is.
    """
    keys = [*_WORKLOAD, "container", "resource"]
    told = resources.with_columns(
        resource=pl.col("setting").str.split(".").list.get(1),
        bound=pl.col("setting").str.split(".").list.get(0),
        planned=pl.when(pl.col("status").is_in(["unknown", "refused"]))
        .then("current").otherwise("target"),
    )  # fmt: skip
    parts = [
        told.filter(bound=bound).select(
            *keys,
            "replicas",
            pl.col("planned").alias(bound),
            pl.col("current").alias(f"{bound} now"),
        )
        for bound in ("requests", "limits")
    ]
    both = parts[0].join(parts[1].drop("replicas"), on=keys)
    use = usage.select(*keys, "p50", "p95", "largest", "shared", "hpa")
    return both.join(use, on=keys, how="left").sort(keys)


def _workload(rows: pl.DataFrame) -> Row:
    """Put the containers of a workload together: a pod's sums, null where one is not known."""
    first = rows.row(0, named=True)
    out: Row = {name: first[name] for name in _WORKLOAD}
    out["replicas"] = None if rows["replicas"].has_nulls() else int(rows["replicas"][0])
    out["hpa"] = rows["hpa"].is_not_null().any()
    for resource in _RESOURCES:
        own = rows.filter(resource=resource)
        for name in ("requests", "requests now", "limits", "limits now", "p50", "p95", "largest"):
            out[f"{resource} {name}"] = None if own[name].has_nulls() else own[name].sum()
        out[f"{resource} shared"] = own["shared"].min()
        out[f"{resource} each"] = own.select("requests", "limits", "limits now").rows()
    return out


def _row(one: Row, guard: str, name: str, field: str, unit: str, target: int, reason: str) -> Row:
    return {
        "guard": guard, "namespace": one["namespace"], "name": name,
        "kind": one.get("kind"), "workload": one.get("workload"),
        "field": field, "unit": unit, "current": None, "target": target, "exists": False,
        "selector": None, "reason": reason,
    }  # fmt: skip


def _budget(one: Row, there: _There) -> Iterator[Row]:
    """Give a disruption budget for a workload of two pods or more that has none."""
    key = (one["namespace"], one["kind"], one["workload"])
    told, many = there.selectors.get(key), one["replicas"]
    if told is None or many is None or many < 2 or one["kind"] not in _SCALED:
        return
    budgets = there.objects.get((one["namespace"], "PodDisruptionBudget"), [])
    labels = _mapping(told.get("labels"))
    if not told.get("selector") or any(
        _selects(spec.get("selector"), labels) for _, spec in budgets
    ):
        return
    away, why = 1, "one of a StatefulSet at a time, as members may vote"
    if one["kind"] == "Deployment":
        away, why = _away(one, many)
    helm = _helm_key(one)
    why += f"; where Helm installs it, rather {helm}.enabled: true" if helm else ""
    name = _new_name(one, there, "PodDisruptionBudget", {"selector": told["selector"]})
    row = _row(one, "pdb", name, "maxUnavailable", "1", away, why)
    yield {**row, "selector": json.dumps(told["selector"], sort_keys=True)}


def _new_name(one: Row, there: _There, kind: str, spec: Row) -> str:
    """Give a new object the name of its workload; with its kind, where another object has that."""
    others = there.objects.setdefault((one["namespace"], kind), [])
    taken = {name for name, _ in others}
    longer = f"{one['workload']}-{one['kind'].lower()}"
    names = chain((one["workload"], longer), (f"{longer}-{number}" for number in count(2)))
    name = next(name for name in names if name not in taken)
    others.append((name, spec))
    return str(name)


def _helm_key(one: Row) -> str | None:
    """Give the value of Cilium's chart that makes a budget for one of its own Deployments."""
    if one["namespace"] != "kube-system":
        return None
    own = facts.components().filter(kind=one["kind"], name=one["workload"])
    keys = [f"{key.removesuffix('.resources')}.podDisruptionBudget" for key in own["resources"]]
    return min(keys, key=len) if keys else None


def _away(one: Row, many: int) -> tuple[int, str]:
    """Give how many pods may go so that the rest does the median load within its requests."""
    use, request = one["cpu p50"], one["cpu requests"]
    if use is None or not request:
        return 1, f"one of {many} pods: their CPU is not known"
    room = math.floor(many * (1 - use / request))
    away = max(1, min(room, math.floor(many * _MOST_AWAY)))
    short = "" if room >= 1 else "; at the median load the rest uses more than its requests then"
    told = f"{away} of {many} pods: p50 {math.ceil(use)}m of {request}m a pod{short}"
    return away, told


def _selects(selector: Any, labels: Mapping[str, str]) -> bool:
    """Tell whether a selector may take pods of these labels; expressions may always."""
    if not isinstance(selector, dict):
        return False
    # What is no mapping excludes nothing, as nothing would
    wanted = _mapping(selector.get("matchLabels"))
    return all(labels.get(name) == value for name, value in wanted.items())


def _autoscaler(one: Row, there: _There) -> Iterator[Row]:
    """Give an autoscaler for a Deployment whose pods share a load that swings."""
    key = (one["namespace"], one["kind"], one["workload"])
    many, request = one["replicas"], one["cpu requests"]
    low, high, peak = (one[f"cpu {name}"] for name in ("p50", "p95", "largest"))
    is_known = many is not None and request and None not in (low, high, peak)
    if one["kind"] != "Deployment" or one["hpa"] or key in there.most or not is_known or many < 2:
        return
    is_shared = (one["cpu shared"] or 0) >= _SHARED
    if not is_shared or low <= 0 or high < _SWING * low:
        return
    room = request * _UTILIZATION / 100
    least, most = max(2, math.ceil(many * low / room)), max(many, math.ceil(many * peak / room))
    if least >= many:
        return
    swing = f"p50 {math.ceil(low)}m, p95 {math.ceil(high)}m, peak {math.ceil(peak)}m a pod"
    told = (
        ("maxReplicas", "1", most, f"{many} pods at their peak fill so many to {_UTILIZATION} %"),
        ("minReplicas", "1", least, f"the median load fills so many of {many}; {swing}"),
        ("averageUtilization", "percent", _UTILIZATION,
         f"of the request of {request}m: the rest carries the load until a pod is there"),
    )  # fmt: skip
    name = _new_name(one, there, "HorizontalPodAutoscaler", {})
    for field, unit, target, reason in told:
        yield _row(one, "hpa", name, field, unit, target, reason)


def _pods(one: Row, there: _There) -> int | None:
    """Give the pods there are at most: those of an autoscaler, and one more a rollout starts."""
    if one["replicas"] is None:
        return None
    key = (one["namespace"], one["kind"], one["workload"])
    many = max(int(one["replicas"]), there.most.get(key, 1))
    return many + (math.ceil(many * _SURGE) if one["kind"] == "Deployment" else 0)


def _quota(
    namespace: str, workloads: list[Row], there: _There, settings: RightsizingSettings
) -> Iterator[Row]:
    """Give a quota that holds all planned requests with room for a rollout and for growth."""
    found = there.objects.get((namespace, "ResourceQuota"), [])
    if len(found) > 1:
        return
    name, spec = found[0] if found else ("planned", {})
    hard = spec.get("hard")
    hard = hard if isinstance(hard, dict) else {}
    reason = (
        f"{len(workloads)} workloads, with a quarter more pods of Deployments in a rollout, and "
        f"{settings.quota_margin:.0%} for growth"
    )
    for bound, resource in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        need = _need(workloads, there, bound, resource)
        for key in _keys(hard, bound, resource) if found else [f"{bound}.{resource}"]:
            current = _amount(hard.get(key), resource)
            if need and (current is None or current < need):
                target = math.ceil(need * (1 + settings.quota_margin))
                row = _row({"namespace": namespace}, "quota", name, f"hard.{key}",
                           _UNITS[resource], target, reason)  # fmt: skip
                yield {**row, "current": current, "exists": bool(found)}


def _keys(hard: Row, bound: str, resource: str) -> list[str]:
    """Give the names under which a quota bounds a resource; requests have a short one, too.

    One that is not bounded stays so: pods that do not tell it would be refused from then on.
    """
    usual = f"{bound}.{resource}"
    # kubernetes/kubernetes pkg/quota/v1/evaluator/core/pods.go, podComputeUsageHelper
    names = [usual, resource] if bound == "requests" else [usual]
    return [name for name in names if name in hard]


def _need(workloads: list[Row], there: _There, bound: str, resource: str) -> int | None:
    """Give the sum over all pods; None where one is not known."""
    need = 0
    for one in workloads:
        many, new = _pods(one, there), one[f"{resource} {bound}"]
        if many is None or new is None:
            return None
        # While a rollout goes on both sizes are there
        need += many * max(new, one[f"{resource} {bound} now"] or 0)
    return need


def _amount(told: Any, resource: str) -> int | None:
    """Read what a quota says; nothing where that is no quantity."""
    try:
        parse = parse_millicores if resource == "cpu" else parse_bytes
        return None if told is None else parse(str(told))
    except CapacityError:
        return None


def _defaults(
    namespace: str, workloads: list[Row], there: _There, settings: RightsizingSettings
) -> Iterator[Row]:
    """Give defaults for containers without requests, and the most memory that one may have.

    No smallest: init containers, which no metric tells of, may be smaller than all others. No limit
    of CPU: one that is not there throttles nobody. Memory only where each container has a limit: a
    default would newly limit those without.
    """
    if there.objects.get((namespace, "LimitRange")):
        return
    each = {name: [row for one in workloads for row in one[f"{name} each"]] for name in _RESOURCES}
    for resource, rows in each.items():
        requests = sorted(row[0] for row in rows if row[0] is not None)
        if len(requests) < len(rows) or not rows:
            return
        if resource == "memory" and all(row[1] is not None for row in rows):
            limits = sorted(row[1] for row in rows)
            high = max(_upper(limits, 0.9), _upper(requests, 0.5))
            most = max(max(row[1], row[2] or 0) for row in rows)
            yield _limit_row(
                namespace,
                "max.memory",
                resource,
                math.ceil(most * (1 + settings.quota_margin)),
                f"the largest limit here, and {settings.quota_margin:.0%} for growth",
            )
            yield _limit_row(
                namespace,
                "default.memory",
                resource,
                high,
                f"90th percentile of the limits of {len(rows)} containers here",
            )
        yield _limit_row(namespace, f"defaultRequest.{resource}", resource, _upper(requests, 0.5),
                         f"median of the requests of {len(rows)} containers here")  # fmt: skip


def _limit_row(namespace: str, field: str, resource: str, target: int, reason: str) -> Row:
    unit = _UNITS[resource]
    return _row({"namespace": namespace}, "limit-range", "planned", field, unit, target, reason)


def _upper(values: list[int], share: float) -> int:
    """Give the least of some values, in order, that so large a share of them does not exceed."""
    return values[max(math.ceil(share * len(values)) - 1, 0)]
