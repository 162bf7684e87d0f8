"""CiliumNetworkPolicy and its clusterwide form into rules, checked as the agent checks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from capacity.cilium.policy import cidrs, selectors
from capacity.cilium.policy.checks import (
    ENTITIES,
    Refused,
    check_cidr,
    check_cidr_rule,
    check_icmp,
    check_name,
    check_nodes,
    check_port_rule,
    check_rule,
    check_selector,
)  # fmt: skip
from capacity.cilium.policy.filters import icmp_rule, port_rule
from capacity.cilium.policy.labels import (
    CIDR_GROUP,
    CIDR_GROUP_NAME,
    CLUSTER,
    K8S,
    NAMESPACE,
    RESERVED,
    Prefix,
)  # fmt: skip
from capacity.cilium.policy.rules import Rule, Traffic
from capacity.cilium.policy.selectors import EXISTS, WILDCARD, NameSelector, Selector, reserved
from capacity.cilium.policy.state import AgentOptions, ClusterState, PolicyObject
from capacity.cilium.policy.translation import (
    DIRECTIONS,
    check_groups,
    has_group_refs,
    translated,
)
from capacity.cilium.policy.versions import Semantics

KINDS: Final = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
# cilium/cilium pkg/policy/api/entity.go, InitEntities, b095517e625e
_CLUSTER_ENTITIES: Final = (
    "host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver",
)  # fmt: skip
_LIST_MEMBERS: Final = (
    "Endpoints", "Nodes", "Requires", "CIDR", "CIDRSet", "Entities", "Groups", "Services",
    "FQDNs", "Ports",
)  # fmt: skip


def read(policy: PolicyObject, state: ClusterState, semantics: Semantics) -> tuple[Rule, ...]:
    """Read a policy into its rules.

    Raises
    ------
    Refused
        If the agent refuses it, with the agent's reason.
    TypeError
        If a part has another type than the API's.

    References
    ----------
    .. [1] cilium/cilium pkg/k8s/apis/cilium.io/v2/cnp_types.go, Parse, b095517e625e.
    """
    kind = KINDS[0] if policy.namespace else KINDS[1]
    if not policy.name:
        raise Refused(f"{kind} must have name")
    if not policy.specs:
        raise Refused(f"Invalid {kind} spec(s): empty policy")
    has_selectors = semantics.has_group_selectors
    are_groups = not semantics.labels_prefixes and any(
        has_group_refs(spec, has_selectors=has_selectors) for spec in policy.specs
    )
    rules = []
    for n, (where, place) in enumerate(_places(policy)):
        spec = policy.specs[n]
        decoded = _decoded(spec)
        try:
            whole = translated(decoded, state, are_groups=are_groups, has_selectors=has_selectors)
            rules.append(_rule(policy, whole, state.options, semantics, place))
        except Refused as refused:
            raise Refused(f"Invalid {kind} {where}: {refused}") from None
    return tuple(rules)


def _places(policy: PolicyObject) -> Iterator[tuple[str, str]]:
    """Give the field that each spec of a policy is in, and how places in it begin."""
    plural = 0
    for n in range(len(policy.specs)):
        is_plural = n < len(policy.is_plural) and policy.is_plural[n]
        yield ("specs", f"specs[{plural}].") if is_plural else ("spec", "")
        plural += is_plural


def _decoded(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check the types of the lists that rules consist of, before anything reads them."""
    if not isinstance(spec, Mapping):
        raise TypeError("spec is no object")
    for direction in DIRECTIONS:
        for rule in _list(spec, direction):
            if not isinstance(rule, Mapping):
                raise TypeError(f"{direction} has a rule that is no object")
            prefix = "from" if direction.startswith("in") else "to"
            for member in _LIST_MEMBERS:
                _list(rule, f"{prefix}{member}")
            for ports in [*_list(rule, "toPorts"), *_list(rule, "icmps")]:
                _list(ports, "ports")
                _list(ports, "fields")
    return spec


def _list(told: Mapping[str, Any], key: str) -> list[Any]:
    value = told.get(key)
    if value is not None and not isinstance(value, list):
        raise TypeError(f"{key} is {type(value).__name__}, wanted a list")
    return value or []


def _rule(
    policy: PolicyObject,
    spec: Mapping[str, Any],
    options: AgentOptions,
    semantics: Semantics,
    place: str,
) -> Rule:
    subject, node = spec.get("endpointSelector"), spec.get("nodeSelector")
    if subject is None and node is None:
        raise Refused("rule must have one of EndpointSelector or NodeSelector")
    if subject is not None and node is not None:
        raise Refused("rule cannot have both EndpointSelector and NodeSelector")
    is_node = subject is None
    selector = selectors.parse(node if subject is None else subject)  # type: ignore[arg-type]
    check_selector(selector)
    reader = _Reader(policy.namespace, selector, is_node, options, semantics)
    directions = {name: [reader.traffic(one, name, f"{place}{name}[{n}]")
                         for n, one in enumerate(spec.get(name) or [])]
                  for name in ("ingress", "egress", "ingressDeny", "egressDeny")}  # fmt: skip
    # In `specs` the agent does not look for it: the rule is one of nodes
    if is_node and policy.namespace and not place:
        raise Refused("rule cannot have NodeSelector")
    ingress = (*directions["ingress"], *directions["ingressDeny"])
    egress = (*directions["egress"], *directions["egressDeny"])
    if policy.namespace and not is_node:
        selector = selectors.with_label(selector, f"{K8S}.{NAMESPACE}", policy.namespace)
    denies = spec.get("enableDefaultDeny") or {}
    return Rule(
        policy.title,
        selector,
        is_node,
        ingress,
        egress,
        bool(ingress) if denies.get("ingress") is None else bool(denies["ingress"]),
        bool(egress) if denies.get("egress") is None else bool(denies["egress"]),
        policy.namespace,
    )


class _Reader:
    """Reads the rules of one spec; holds what they share."""

    def __init__(
        self,
        namespace: str,
        subject: Selector,
        is_node: bool,
        options: AgentOptions,
        semantics: Semantics,
    ) -> None:
        self.namespace = namespace
        self.is_node = is_node
        self.options = options
        self.is_labeled = semantics.labels_prefixes
        self.is_init = f"{RESERVED}.init" in set(subject.keys())

    def traffic(self, told: Mapping[str, Any], direction: str, place: str) -> Traffic:
        """Read one rule of one direction; denials are taken unchecked, as the agent does."""
        is_deny, is_ingress = direction.endswith("Deny"), direction.startswith("in")
        word = "from" if is_ingress else "to"
        if not is_deny:
            check_rule(told, self.options, is_ingress=is_ingress, is_node=self.is_node)
        peers = self._peers(told, f"{word}Endpoints", is_deny=is_deny)
        requires = self._peers(told, f"{word}Requires", is_deny=is_deny)
        if not is_deny:
            for one in _list(told, "toPorts"):
                check_port_rule(one, is_ingress=is_ingress)
            for one in _list(told, "icmps"):
                check_icmp(one)
        nodes = self._nodes(told, f"{word}Nodes", is_deny=is_deny)
        others, prefixes = self._others(told, word, is_deny=is_deny)
        names = [] if is_ingress or is_deny else self._names(told)
        if names:
            others = [*(others or []), selectors.NONE]
        if not is_deny:
            check_nodes(told, self.options)
        return Traffic(
            is_deny,
            peers,
            nodes,
            None if others is None else tuple(others),
            tuple(names),
            requires or (),
            tuple(
                port_rule(one, self.namespace, is_deny=is_deny) for one in _list(told, "toPorts")
            ),
            tuple(icmp_rule(one) for one in _list(told, "icmps")),
            None if is_deny else (told.get("authentication") or {}).get("mode"),
            tuple(prefixes),
            place,
        )

    def _peers(
        self, told: Mapping[str, Any], key: str, *, is_deny: bool
    ) -> tuple[Selector, ...] | None:
        if told.get(key) is None:
            return ()
        found = [selectors.parse(one) for one in _list(told, key)]
        if not is_deny:
            for one in found:
                check_selector(one)
        is_peer = key.endswith("Endpoints")
        within = [
            selectors.in_namespace(one, self.namespace, is_peer=is_peer, is_init=self.is_init)
            for one in found
        ]
        return tuple(within) or None

    def _nodes(
        self, told: Mapping[str, Any], key: str, *, is_deny: bool
    ) -> tuple[Selector, ...] | None:
        if told.get(key) is None:
            return ()
        found = tuple(selectors.parse(one) for one in _list(told, key))
        if not is_deny:
            for one in found:
                check_selector(one)
        return found or None

    def _others(
        self, told: Mapping[str, Any], word: str, *, is_deny: bool
    ) -> tuple[list[Selector] | None, list[Prefix]]:
        """CIDRs and entities; None where one of the lists is given and empty."""
        cidr, cidr_set, entities = (
            told.get(f"{word}{name}") for name in ("CIDR", "CIDRSet", "Entities")
        )
        plain = _prefixes(cidr or [], is_deny=is_deny)
        ranges: list[Prefix] = []
        chosen: list[Selector] = []
        for one in cidr_set or []:
            if self.is_labeled:
                self._labeled(one, chosen, ranges, is_deny=is_deny)
            else:
                ranges += _remainder(one, is_deny=is_deny)
        found = [one for entity in entities or [] for one in self._entity(entity, is_deny=is_deny)]
        if [] in (cidr, cidr_set, entities):
            return None, [*plain, *ranges]
        of = {"ipv4": self.options.ipv4, "ipv6": self.options.ipv6}
        found += cidrs.selectors(plain, **of)
        found += chosen if self.is_labeled else cidrs.selectors(ranges, **of)
        return found, [*plain, *ranges]

    def _labeled(
        self,
        told: Mapping[str, Any],
        into: list[Selector],
        prefixes: list[Prefix],
        *,
        is_deny: bool,
    ) -> None:
        """Add the selector of one CIDR rule, and the prefixes that it gives labels to."""
        try:
            selector, own = _chosen(told, is_dual=self.options.ipv4 and self.options.ipv6)
        except Refused:
            if is_deny:
                return
            raise
        into.append(selector)
        prefixes += own

    def _entity(self, entity: Any, *, is_deny: bool) -> list[Selector]:
        if entity not in ENTITIES:
            if is_deny:
                return []
            raise Refused(f"unsupported entity: {entity}")
        if entity == "all":
            return [WILDCARD]
        if entity == "world":
            return [reserved(name) for name in ("world", "world-ipv4", "world-ipv6")]
        if entity == "cluster":
            own = Selector(((f"{K8S}.{CLUSTER}", self.options.cluster_name),))
            return [*(reserved(name) for name in _CLUSTER_ENTITIES), own]
        return [reserved(entity)]

    def _names(self, told: Mapping[str, Any]) -> list[NameSelector]:
        found = []
        for one in _list(told, "toFQDNs"):
            check_name(one)
            found.append(NameSelector(one.get("matchName") or "", one.get("matchPattern") or ""))
        return found


def _prefixes(told: Sequence[Any], *, is_deny: bool) -> list[Prefix]:
    found = []
    for one in told:
        try:
            found.append(check_cidr(one))
        except Refused:
            # Denials are not checked: what is no CIDR selects nothing there
            if not is_deny:
                raise
    return found


def _remainder(told: Mapping[str, Any], *, is_deny: bool) -> list[Prefix]:
    try:
        prefix, holes = check_cidr_rule(str(told.get("cidr") or ""), told.get("except") or [])
    except Refused:
        if is_deny:
            return []
        raise
    return cidrs.without(prefix, holes)


def _chosen(told: Mapping[str, Any], *, is_dual: bool) -> tuple[Selector, list[Prefix]]:
    """Selector of a CIDR rule, and its prefixes; rules of groups have those of except only.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/api/rule_validation.go, CIDRRule.sanitize, and cidr.go,
       GetAsEndpointSelectors; pkg/policy/cidr.go, GetPrefixesFromCIDRSet; 1c13836613ad.
    """
    groups, ref = told.get("cidrGroupSelector"), told.get("cidrGroupRef")
    given = bool(told.get("cidr")) + bool(ref) + (groups is not None)
    if given == 0:
        raise Refused("one of cidr, cidrGroupRef, or cidrGroupSelector is required")
    if given > 1:
        raise Refused("more than one of cidr, cidrGroupRef, or cidrGroupSelector may not be set")
    excepts = told.get("except") or []
    if told.get("cidr"):
        prefix, holes = check_cidr_rule(str(told["cidr"]), excepts)
        return cidrs.carved(cidrs.selector(prefix, is_dual=is_dual), holes), [prefix, *holes]
    # The agent does not check what is excepted of groups: what is no CIDR is left out
    holes = _prefixes(excepts, is_deny=True)
    name = f"{CIDR_GROUP}.{CIDR_GROUP_NAME}/{ref}"
    selector = Selector(expressions=((name, EXISTS, ()),)) if ref else check_groups(groups)
    return cidrs.carved(selector, holes), holes
