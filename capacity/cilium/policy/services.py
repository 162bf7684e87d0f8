"""Services that policies name: their backends as CIDRs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capacity.cilium.policy.selectors import EXISTS, IN, NOT_EXISTS, NOT_IN
from capacity.cilium.policy.state import ClusterState, Service


def cidr_rules_of_services(rule: Mapping[str, Any], state: ClusterState) -> list[dict[str, Any]]:
    """CIDRs of the backends of the services that a rule names: only of those without selector.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/k8s/service.go, processRule, b095517e625e.
    """
    found = []
    for wanted in rule["toServices"]:
        for service in state.services:
            if service.has_selector or not _is_wanted(wanted, service):
                continue
            for address in service.addresses:
                length = 128 if ":" in address else 32
                found.append({"cidr": f"{address}/{length}", "except": [], "generated": True})
    return found


def _is_wanted(wanted: Mapping[str, Any], service: Service) -> bool:
    by_labels, by_name = wanted.get("k8sServiceSelector"), wanted.get("k8sService")
    told = by_labels if by_labels is not None else by_name
    if told is None or told.get("namespace") not in (None, "", service.namespace):
        return False
    if by_labels is None:
        return bool(told.get("serviceName") == service.name)
    return is_selected(told.get("selector") or {}, service.labels)


def is_selected(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector of Kubernetes selects plain labels."""
    return all(
        labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()
    ) and all(_holds(one, labels) for one in selector.get("matchExpressions") or [])


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator = expression.get("key"), expression.get("operator")
    values = expression.get("values") or []
    value = labels.get(str(key))
    return {
        IN: value is not None and value in values,
        NOT_IN: value is None or value not in values,
        EXISTS: value is not None,
        NOT_EXISTS: value is None,
    }.get(str(operator), False)
