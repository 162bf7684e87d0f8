"""NetworkPolicy of Kubernetes into one rule, as the agent does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from capacity.cilium.policy import cidrs, selectors
from capacity.cilium.policy.checks import (
    Refused,
    check_cidr_rule,
    check_port_rule,
    check_selector,
)  # fmt: skip
from capacity.cilium.policy.filters import port_rule
from capacity.cilium.policy.labels import K8S, NAMESPACE, NAMESPACE_LABELS, Prefix
from capacity.cilium.policy.rules import PortRule, Rule, Traffic
from capacity.cilium.policy.selectors import EXISTS, WILDCARD, Selector
from capacity.cilium.policy.state import ClusterState, PolicyObject
from capacity.cilium.policy.versions import Semantics


def read(policy: PolicyObject, state: ClusterState, semantics: Semantics) -> Rule:
    """Read a policy into its rule.

    Raises
    ------
    Refused
        If the agent refuses it, with the agent's reason.
    TypeError
        If a part has another type than the API's.

    References
    ----------
    .. [1] cilium/cilium pkg/k8s/network_policy.go, ParseNetworkPolicy, b095517e625e.
    """
    spec = policy.specs[0] if policy.specs else {}
    namespace = policy.namespace or "default"
    options = state.options

    def block(told: Mapping[str, Any]) -> tuple[list[Selector], list[Prefix]]:
        prefix, holes = check_cidr_rule(str(told.get("cidr") or ""), told.get("except") or [])
        if semantics.labels_prefixes:
            selector = cidrs.selector(prefix, is_dual=options.ipv4 and options.ipv6)
            return [cidrs.carved(selector, holes)], [prefix, *holes]
        prefixes = cidrs.without(prefix, holes)
        return cidrs.selectors(prefixes, ipv4=options.ipv4, ipv6=options.ipv6), prefixes

    subject = selectors.with_label(
        selectors.parse_kubernetes(spec.get("podSelector") or {}),
        f"{K8S}.{NAMESPACE}",
        namespace,
    )
    check_selector(subject)
    ingress = _direction(spec.get("ingress") or [], "from", namespace, block)
    egress = _direction(spec.get("egress") or [], "to", namespace, block)
    types = spec.get("policyTypes") or []
    if not ingress and ("Ingress" in types or "Egress" not in types):
        ingress = [Traffic()]
    if not egress and "Egress" in types:
        egress = [Traffic()]
    return Rule(
        policy.title, subject, False, tuple(ingress), tuple(egress),
        bool(ingress), bool(egress), namespace,
    )  # fmt: skip


def _direction(
    rules: list[Any],
    word: str,
    namespace: str,
    block: Callable[[Mapping[str, Any]], tuple[list[Selector], list[Prefix]]],
) -> list[Traffic]:
    found = []
    for n, rule in enumerate(rules):
        rule = rule or {}
        place = f"{'ingress' if word == 'from' else 'egress'}[{n}]"
        ports = tuple(_ports(one, is_ingress=word == "from") for one in rule.get("ports") or [])
        peers = rule.get(word) or []
        if not peers:
            found.append(Traffic(peers=(WILDCARD,), ports=ports, place=place))
        for peer in peers:
            selector = _peer(peer, namespace)
            if selector is not None and peer.get("ipBlock"):
                kind = word.capitalize()
                raise Refused(f"Combining {kind}Endpoints and {kind}CIDRSet is not supported yet")
            others, prefixes = block(peer["ipBlock"]) if peer.get("ipBlock") else ([], [])
            found.append(
                Traffic(
                    peers=() if selector is None else (selector,),
                    others=tuple(others),
                    ports=ports,
                    prefixes=tuple(prefixes),
                    place=place,
                )
            )
    return found


def _peer(peer: Mapping[str, Any], namespace: str) -> Selector | None:
    of_namespaces, of_pods = peer.get("namespaceSelector"), peer.get("podSelector")
    if of_namespaces is None and of_pods is None:
        return None
    pods = selectors.parse_kubernetes(of_pods or {})
    if of_namespaces is None:
        selector = selectors.with_label(pods, f"{K8S}.{NAMESPACE}", namespace)
    else:
        spaces = selectors.parse_kubernetes(of_namespaces, f"{NAMESPACE_LABELS}.")
        if spaces.is_wildcard:
            spaces = Selector(expressions=((f"{K8S}.{NAMESPACE}", EXISTS, ()),))
        labels = {**dict(spaces.labels), **dict(pods.labels)}
        selector = Selector(tuple(sorted(labels.items())), (*spaces.expressions, *pods.expressions))
    check_selector(selector)
    return selector


def _ports(told: Mapping[str, Any], *, is_ingress: bool) -> PortRule:
    port = {
        "port": "0" if told.get("port") is None else str(told["port"]),
        "endPort": told.get("endPort") or 0,
        "protocol": told.get("protocol") or "TCP",
    }
    rule = {"ports": [port]}
    check_port_rule(rule, is_ingress=is_ingress)
    return port_rule(rule, "", is_deny=False)
