"""CIDR groups and services of a policy replaced by their CIDRs, before rules are read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from capacity.cilium.policy import selectors
from capacity.cilium.policy.checks import Refused, check_selector
from capacity.cilium.policy.selectors import Selector
from capacity.cilium.policy.services import cidr_rules_of_services, is_selected
from capacity.cilium.policy.state import ClusterState

DIRECTIONS: Final = ("ingress", "ingressDeny", "egress", "egressDeny")


def has_group_refs(spec: Mapping[str, Any], *, has_selectors: bool) -> bool:
    """Whether a rule of a spec names CIDR groups."""
    return any(
        isinstance(one, Mapping)
        and not one.get("cidr")
        and ("cidrGroupRef" in one or (has_selectors and "cidrGroupSelector" in one))
        for direction in DIRECTIONS
        for rule in spec.get(direction) or []
        for key in ("fromCIDRSet", "toCIDRSet")
        for one in rule.get(key) or []
    )


def translated(
    spec: Mapping[str, Any], state: ClusterState, *, are_groups: bool, has_selectors: bool
) -> Mapping[str, Any]:
    """Replace CIDR groups and services by their CIDRs, as the watcher does before parsing.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/k8s/cilium_cidr_group.go and service.go, b095517e625e.
    """
    changed = dict(spec)
    for direction in DIRECTIONS:
        key = "fromCIDRSet" if direction.startswith("in") else "toCIDRSet"
        rules = []
        for told in spec.get(direction) or []:
            rule = dict(told)
            if are_groups:
                # Empty where there was none: such a rule then selects nobody, in Cilium too
                rule[key] = _without_groups(rule.get(key) or [], state, has_selectors=has_selectors)
            if direction == "egress" and rule.get("toServices"):
                rule[key] = [*(rule.get(key) or []), *cidr_rules_of_services(rule, state)] or None
            rules.append(rule)
        if direction in spec:
            changed[direction] = rules
    return changed


def _without_groups(rules: Sequence[Any], state: ClusterState, *, has_selectors: bool) -> list[Any]:
    kept, groups = [], []
    for one in rules:
        chosen = one.get("cidrGroupSelector") if has_selectors else None
        if one.get("cidrGroupRef"):
            groups.append((one, state.cidr_groups.get(one["cidrGroupRef"], ())))
        elif chosen is not None and not one.get("cidr"):
            check_groups(chosen)
            groups += [
                (one, state.cidr_groups[name])
                for name, labels in state.cidr_group_labels.items()
                if is_selected(chosen, labels)
            ]
        else:
            kept.append(one)
    for one, cidr_list in groups:
        kept += [{"cidr": cidr, "except": one.get("except") or []} for cidr in cidr_list]
    return kept


def check_groups(told: Any) -> Selector:
    """Read the selector of CIDR groups, refused where the agent refuses it."""
    selector = selectors.parse_groups(told)
    try:
        check_selector(selector)
    except Refused as refused:
        raise Refused(f"failed to parse cidrGroupSelector: {refused}") from None
    return selector
