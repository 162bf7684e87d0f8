"""Helm values of Cilium as agent options; which value sets which option is a fact."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from capacity import facts
from capacity.errors import ExportError
from capacity.load import documents
from capacity.load.documents import Found, Row
from capacity.load.fields import Fault, quantity_at
from capacity.units import parse_bytes, parse_millicores

# Kind of rows of table workloads that come from values: an object of the cluster wins over them
RESOURCES: Final = "Helm resources"

# Top-level values of the chart (cilium/cilium install/kubernetes/cilium/values.yaml, 1.14–1.20):
# one of the first tells Cilium's values from those of other charts, of the others two do.
_TELLING: Final = {"bpf", "kubeProxyReplacement", "maglev", "clustermesh", "bpfClockProbe"}
_USUAL: Final = {
    "autoDirectNodeRoutes", "cluster", "cni", "conntrackGCInterval", "egressGateway", "hubble",
    "ipam", "ipv4", "ipv6", "k8sServiceHost", "l7Proxy", "loadBalancer", "operator",
    "routingMode", "socketLB", "tunnelProtocol",
}  # fmt: skip
# Condition and tags of a dependency: helm.sh/docs/topics/charts; global values: not looked up
_OF_HELM: Final = ("global", "enabled", "tags")
# A value that the deployment fills in tells nothing yet
_VARIABLES: Final = ("${", "{{")


def values_of(document: Any) -> Mapping[str, Any] | None:
    """Give Cilium's values in a document: the whole, or those of a subchart `cilium`.

    Examples
    --------
    >>> values_of({"cilium": {"bpf": {"policyMapMax": 32768}}})
    {'bpf': {'policyMapMax': 32768}}
    >>> values_of({"kind": "Pod", "bpf": {}}) is None
    True
    """
    if not isinstance(document, dict) or "kind" in document or "apiVersion" in document:
        return None
    for values in (document, document.get("cilium")):
        if not isinstance(values, dict):
            continue
        if values.keys() & _TELLING or len(values.keys() & _USUAL) >= 2:
            return values
    return None


def read(values: Mapping[str, Any], place: str) -> Found:
    """Give what Helm values set: kind `Helm`, rows of table options, and `Helm resources`.

    The latter are rows of table workloads: requests and limits of Cilium's own containers.
    """
    try:
        resources, faults = list(resource_rows(values)), tuple[str, ...]()
    except Fault as error:
        resources, faults = [], (f"{place}: {error}",)
    rows = {"Helm": list(option_rows(values, place)), RESOURCES: resources}
    return Found(read=1, rows=rows, faults=faults, notes=tuple(unknown_keys(values)))


def read_values(path: Path) -> Mapping[str, Any]:
    """Read a file of Helm values; those of a subchart `cilium` where it holds them.

    Raises
    ------
    ExportError
        If it cannot be read, or is no mapping.
    """
    told = documents.parse(documents.content(path), is_json=path.suffix == ".json")
    for _, document in told.values:
        if isinstance(document, dict):
            return values_of(document) or document
    why = "; ".join(told.faults) or "wanted is a mapping of values"
    raise ExportError(f"{path}: no Helm values in it: {why}")


def resource_rows(values: Mapping[str, Any]) -> Iterator[Row]:
    """Give rows of table workloads for requests and limits that are set.

    Where the release lives is not in its values: kube-system, the usual place, is named.

    Examples
    --------
    >>> list(resource_rows({"resources": {"limits": {"memory": "1Gi"}}}))
    [('DaemonSet', 'kube-system', 'cilium', 'cilium-agent', None, None, None, None, 1073741824)]
    """
    for fact in facts.components(facts.LATEST).iter_rows(named=True):
        told = _at(values, fact["resources"])
        if not isinstance(told, dict):
            continue
        bounds = [
            quantity_at({"resources": told}, f"resources.{bound}.{name}", parse)
            for name, parse in (("cpu", parse_millicores), ("memory", parse_bytes))
            for bound in ("requests", "limits")
        ]
        if any(bound is not None for bound in bounds):
            many = _at(values, fact["replicas_key"] or "")
            replicas = many if isinstance(many, int) else fact["replicas"]
            yield (
                fact["kind"], "kube-system", fact["name"], fact["container"], replicas, *bounds,
            )  # fmt: skip


def _at(values: Mapping[str, Any], path: str) -> Any:
    found: Any = values
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def unknown_keys(values: Mapping[str, Any]) -> Iterator[str]:
    """Name values that no chart of Cilium knows, with the nearest that it does.

    Helm takes them without a word, and they do nothing.

    Examples
    --------
    >>> list(unknown_keys({"bpf": {"policyMapmax": 32768}}))
    ["bpf.policyMapmax: no value of Cilium's chart; did you mean bpf.policyMapMax?"]
    """
    known = _chart()
    for fact in facts.removed_values().iter_rows(named=True):
        if _at(values, fact["key"]) is not None:
            since, instead = fact["since"], fact["instead"]
            told = f"no value of Cilium's chart since {since}: {fact['consequence']}"
            yield f"{fact['key']}: {told}; use {instead}"
    for key in _unknown(values, "", known):
        near = nearest(key, known)
        hint = f"; did you mean {near}?" if near else ""
        yield f"{key}: no value of Cilium's chart{hint}"


def nearest(key: str, known: Iterable[str]) -> str | None:
    """Give the value whose name is nearest, None where none is near; letters' case is no matter.

    Examples
    --------
    >>> nearest("bpf.ctGlobalTCPMax", ["bpf.ctTcpMax", "bpf.lbMapMax"])
    'bpf.ctTcpMax'
    """
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(key.lower(), names, n=1)
    return names[near[0]] if near else None


def _unknown(values: Mapping[str, Any], prefix: str, known: Mapping[str, str]) -> Iterator[str]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        # What Helm itself gives to subcharts
        if prefix == "" and name in _OF_HELM:
            continue
        kind = known.get(key)
        if kind is None:
            yield key
        elif kind == "section" and isinstance(value, dict):
            yield from _unknown(value, f"{key}.", known)


@cache
def _chart() -> dict[str, str]:
    return dict(facts.chart_values().select("key", "kind").iter_rows())


def option_rows(values: Mapping[str, Any], place: str) -> Iterator[Row]:
    """Give rows of table options.

    Keys of `extraConfig` go to the ConfigMap as they are. Empty values leave the chart's default.

    Examples
    --------
    >>> list(option_rows({"bpf": {"policyMapMax": 32768, "natMax": None}}, "values.yaml"))
    [('bpf-policy-map-max', '32768', 'values.yaml: bpf.policyMapMax')]
    """
    extra = values.get("extraConfig")
    known = _options()
    for name, value in _leaves(values, ""):
        if name.startswith("extraConfig.") and isinstance(extra, dict):
            option: str | None = name.removeprefix("extraConfig.")
        else:
            option = known.get(name)
        text = _text(value)
        if option is not None and text:
            yield option, text, f"{place}: {name}"


@cache
def _options() -> dict[str, str]:
    """Helm value → agent option; hidden options that fall back to another stand after it."""
    rows = facts.options().drop_nulls("helm_value").select("helm_value", "option")
    return dict(rows.unique("helm_value", keep="first", maintain_order=True).iter_rows())


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        return ""
    return "" if is_variable(value) else str(value)


def is_variable(value: Any) -> bool:
    """Say whether a value is a text that the deployment fills in.

    >>> is_variable("${cluster_id}"), is_variable(3)
    (True, False)
    """
    return isinstance(value, str) and any(mark in value for mark in _VARIABLES)
