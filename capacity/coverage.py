"""Table coverage: what the planner wants to know, whether the export tells it, and if not, why.

A status is a conclusion from what is there: other metrics of the same exporter, the agent's
options, the version's facts. Where nothing decides, it is `unknown`, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import polars as pl

from capacity import facts
from capacity.facts import derivations
from capacity.inventory import Inventory
from capacity.tables import COVERAGE, check
from capacity.throughput.live import COUNTERS

PRESSURE: Final = "cilium_bpf_map_pressure"
_INVENTORY: Final = {
    "nodes": "kubectl get nodes -o json; ciliumnodes for all addresses",
    "endpoints": "kubectl get pods -A -o json",
    "identities": "kubectl get ciliumidentities -o json",
    "services": "kubectl get services -A -o json",
    "policies": "kubectl get cnp,ccnp,netpol -A -o json",
    "options": "kubectl -n kube-system get configmap cilium-config -o yaml",
    "bpf_maps": "bpftool map show -j on a node",
    "map_entries": "cilium-dbg bpf lb|ct|nat|policy list -o json on a node",
}


_ALWAYS: Final = frozenset({"map", "agent", "operator", "driver"})


class _Exporter(NamedTuple):
    name: str
    prefix: str
    helm: str | None
    # Key of cilium-config: there where the chart switches the exporter on (cilium/charts
    # cilium-1.16.19 and 1.18.12, templates/cilium-configmap.yaml)
    option: str | None
    port: str


# Longest prefix first
_EXPORTERS: Final = (
    _Exporter("the operator", "cilium_operator_", "operator.prometheus.enabled=true",
              "operator-prometheus-serve-addr", "port 9963"),
    _Exporter("the agent", "cilium_", "prometheus.enabled=true", "prometheus-serve-addr",
              "port 9962"),
    _Exporter("kube-state-metrics", "kube_", None, None, "its metrics"),
    _Exporter("node_exporter", "node_", None, None, "its metrics (collector cpu)"),
    _Exporter("cAdvisor", "container_", None, None, "the kubelet's /metrics/cadvisor"),
)  # fmt: skip


class _Told(NamedTuple):
    status: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What conclusions rest on: names of metrics, (component, quantity), pressure labels."""

    metrics: frozenset[str]
    quantities: frozenset[tuple[str, str]]
    maps: frozenset[str]
    options: dict[str, str]
    version: str


def coverage(
    names: pl.Series, steps: pl.DataFrame, inventory: Inventory, version: str
) -> pl.DataFrame:
    """Give table coverage.

    Parameters
    ----------
    names
        Names of all metrics in the export, those that no plan needs too.
    steps
        Table steps of the export.
    inventory
        Its options decide what is switched off or unused.
    version
        Cilium minor version.
    """
    pairs = steps.select("component", "quantity").unique().iter_rows()
    pressed = steps.filter(pl.col("quantity") == "map_pressure")["subject"].drop_nulls()
    seen = _Seen(
        frozenset(names),
        frozenset((component, quantity) for component, quantity in pairs),
        frozenset(pressed),
        dict(inventory.options.select("option", "value").iter_rows()),
        version,
    )
    rows = [*_metric_rows(seen), *_map_rows(seen), *_packet_rows(seen)]
    for name, hint in _INVENTORY.items():
        there = not getattr(inventory, name).is_empty()
        told = _Told("present", None) if there else _Told("unknown", hint)
        rows.append((f"inventory {name}", "inventory", told))
    frame = pl.DataFrame(
        {"want": want, "status": told.status, "source": source, "hint": told.hint}
        for want, source, told in rows
    )
    return check(frame.cast(COVERAGE.schema), COVERAGE)


def _metric_rows(seen: _Seen) -> list[tuple[str, str, _Told]]:
    wanted = derivations.observed().select("component", "quantity", "metric").iter_rows()
    # Parts of Cilium that most clusters do not run are wanted where something tells of them
    running = {component for component, _ in seen.quantities} | _ALWAYS
    return [
        (
            f"{component} {quantity}",
            metric,
            _Told("present", None) if (component, quantity) in seen.quantities
            else _absent(metric, seen),
        )
        for component, quantity, metric in wanted
        if component in running
    ]  # fmt: skip


def _packet_rows(seen: _Seen) -> list[tuple[str, str, _Told]]:
    """Say whether the table lb_tier has what it rests on."""
    rows = []
    for want, name in (("packets forwarded", "packets"), ("softirq time", "softirq")):
        metric = COUNTERS[name]
        told = _Told("present", None) if metric in seen.metrics else _absent(metric, seen)
        if name == "softirq" and told.status != "present":
            hint = f"{told.hint}; not asked of a server: `capacity lb live URL` asks"
            told = _Told(told.status, hint)
        rows.append((f"{want} (table lb_tier)", metric, told))
    return rows


def _absent(metric: str, seen: _Seen) -> _Told:
    """Conclude why a metric tells nothing."""
    exporter = next(e for e in _EXPORTERS if metric.startswith(e.prefix))
    if metric in seen.metrics:
        return _Told("unknown", "in the export, but without the labels or samples it takes")
    known = facts.metrics().filter(pl.col("metric") == metric)
    fact = facts.metrics(seen.version).filter(pl.col("metric") == metric)
    if fact.is_empty() and not known.is_empty():
        since = ", ".join(f"{row[0]} to {row[1]}" for row in known.select("since", "until").rows())
        return _Told("off", f"Cilium {seen.version} has no such metric; versions {since} have")
    if not fact.is_empty() and not fact["default_on"].all():
        return _Told("off", f"Helm {fact['helm'][0]}")
    if any(_exporter_of(name) is exporter for name in seen.metrics):
        if exporter.option is None:
            return _Told("unknown", f"{exporter.name} is exported: nothing set, or dropped")
        return _Told(
            "dropped",
            f"other metrics of {exporter.name} are here: look for metricRelabelings that drop it, "
            "or it was left out of the export",
        )
    return _not_exported(exporter, seen)


def _exporter_of(metric: str) -> _Exporter | None:
    return next((e for e in _EXPORTERS if metric.startswith(e.prefix)), None)


def _not_exported(exporter: _Exporter, seen: _Seen) -> _Told:
    """Conclude why nothing at all of an exporter is there."""
    if exporter.helm is None or exporter.option is None:
        return _Told("unknown", f"nothing of {exporter.name} is here: export {exporter.port} too")
    if exporter.option in seen.options:
        return _Told("dropped", f"{exporter.name} serves metrics: scrape {exporter.port}")
    if seen.options:
        return _Told("off", f"Helm {exporter.helm}, then scrape {exporter.port}")
    return _Told("unknown", f"Helm {exporter.helm}, and scrape {exporter.port}")


def _map_rows(seen: _Seen) -> list[tuple[str, str, _Told]]:
    covered = facts.maps(seen.version).filter(pl.col("pressure")).sort("map")
    rows = []
    for fact in covered.iter_rows(named=True):
        label = _subject(fact["metric_label"])
        told = _Told("present", None) if label in seen.maps else _no_pressure(fact, label, seen)
        rows.append((f"pressure of map {label}", f'{PRESSURE}{{map_name="{label}"}}', told))
    return rows


def _subject(label: str) -> str:
    """Name a map as table steps does: one name for policy maps of all versions."""
    return "cilium_policy_*" if label.startswith("cilium_policy_") else label


def _no_pressure(fact: dict[str, object], label: str, seen: _Seen) -> _Told:
    """Conclude why a map has no pressure: absent is at or below the threshold, never zero."""
    unused = switched_off(str(fact["when"]), seen.options)
    if unused:
        return _Told("unused", unused)
    if PRESSURE not in seen.metrics:
        return _absent(PRESSURE, seen)
    caveat = facts.caveats(seen.version).filter(metric=PRESSURE, label=label)
    if not caveat.is_empty():
        return _Told("unknown", f"{caveat['caveat'][0]}; count it from an inventory of policies")
    threshold = float(str(fact["pressure_threshold"]))
    if label == "cilium_policy_*":
        given = seen.options.get("bpf-policy-map-pressure-metrics-threshold", "")
        threshold = float(given) if re.fullmatch(r"[0-9]*\.?[0-9]+", given) else threshold
    if threshold > 0:
        return _Told("below", f"at most {threshold:g} of its size: the agent tells only more")
    if fact["pressure_source"] == "agent cache":
        return _Told("unused", "without entries: the agent exports ratios above 0 only")
    return _Told("unknown", f"empty, feature unused ({fact['when']}), or not yet counted")


def switched_off(when: str, options: Mapping[str, str]) -> str | None:
    """Give the options that switch the features off which a map needs, by the words of `when`."""
    off = []
    for (feature,), named in derivations.features().group_by("when", maintain_order=True):
        at, either = when.find(str(feature)), when.find(" or ")
        # What stands behind an `or` is one way of several: its being off switches nothing off
        if at < 0 or 0 <= either < at:
            continue
        if not options or any(_is_on(option, options) for option in named["option"]):
            continue
        told = [name for name in named["option"] if name.partition("=")[0] in options]
        if told or named["absent"][0] == "off":
            off.append(f"{feature} is off ({', '.join(told or named['option'])})")
    return "; ".join(off) or None


def _is_on(option: str, options: Mapping[str, str]) -> bool:
    name, equals, value = option.partition("=")
    return options.get(name) == (value if equals else "true")
