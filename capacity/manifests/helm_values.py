"""Helm values of the cilium chart: only what changes, each with its reason."""

from __future__ import annotations

import polars as pl

from capacity import facts
from capacity.errors import ManifestError
from capacity.manifests.subject import Subject, may
from capacity.manifests.values import Tree, changes, put, reason, scalar, to_yaml


def text(subject: Subject) -> str | None:
    """Give a values file for `helm upgrade --reuse-values -f`, or None where nothing changes.

    Two rows for one setting (the IPv4 and the IPv6 map share it) become the larger target.

    Raises
    ------
    ManifestError
        If a setting is no value of the chart of this Cilium version.
    """
    rows = changes(subject.recommendation).sort("setting", "target")
    if rows.is_empty() or not may(subject, "helm"):
        return None
    tree: Tree = {}
    comments = {}
    for row in rows.iter_rows(named=True):
        value = scalar(row)
        _known(row["setting"], value, subject.version)
        put(tree, row["setting"], value)
        comments[row["setting"]] = reason(row)
    return to_yaml(tree, comments)


def metrics(subject: Subject) -> str | None:
    """Give the values that switch missing metrics on, or None where all are there.

    Those of the agent and the operator, with ServiceMonitors, and single metrics by `+name`.
    """
    if not may(subject, "helm"):
        return None
    absent = subject.coverage.filter(status="off")["source"].to_list()
    absent += subject.coverage.filter(status="unknown")["source"].to_list()
    tree: Tree = {}
    comments = {}
    told = facts.metrics(subject.version)
    present = subject.coverage.filter(status="present")["source"].to_list()
    for fact in facts.components(subject.version).iter_rows(named=True):
        mine = told.filter(helm=fact["metrics_key"])["metric"].to_list()
        wanted = sorted(set(mine) & set(absent))
        if wanted and not set(mine) & set(present):
            base = fact["metrics_key"].removesuffix(".enabled")
            put(tree, fact["metrics_key"], True)
            put(tree, f"{base}.serviceMonitor.enabled", True)
            comments[fact["metrics_key"]] = f"for {', '.join(wanted)}"
            comments[f"{base}.serviceMonitor.enabled"] = "needs the CRDs of prometheus-operator"
    single = told.filter(
        pl.col("metric").is_in(absent), pl.col("helm").str.contains("+", literal=True)
    )
    items = [f"+{metric}" for metric in single["metric"]]
    if items:
        put(tree, "prometheus.metrics", sorted(items))
        comments["prometheus.metrics"] = "a list replaces the one that is set: add yours"
    return to_yaml(tree, comments) if tree else None


def _known(setting: str, value: int | str, version: str) -> None:
    """Refuse a value that the chart of this version takes without a word, and ignores.

    And one of a type that Helm would refuse, by the chart's schema.
    """
    keys = dict(facts.chart_values(version).select("key", "kind").iter_rows())
    parts = setting.split(".")
    above = (".".join(parts[:i]) for i in range(1, len(parts)))
    if keys.get(setting) is None and not any(keys.get(path) == "free" for path in above):
        raise ManifestError(f"{setting}: no value of the chart of Cilium {version}")
    types = facts.chart_types(version).filter(key=setting)["types"]
    name = "integer" if isinstance(value, int) else "string"
    if len(types) and name not in types[0].split():
        raise ManifestError(f"{setting}: the chart of Cilium {version} takes {types[0]}, no {name}")
