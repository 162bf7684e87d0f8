"""Identities: those that the cluster gives to pods, those that a node gives to addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from capacity.cilium.policy.labels import (
    CIDR,
    CIDR_GROUP,
    CIDR_GROUP_NAME,
    FQDN,
    PREFIX,
    RESERVED,
    Prefix,
    cidr_key,
    parse_prefix,
)  # fmt: skip
from capacity.cilium.policy.security_labels import (
    identity_labels,
    label_filter,
    pod_labels,
    told,
    untold,
)  # fmt: skip
from capacity.cilium.policy.selectors import NameSelector, pattern_of
from capacity.cilium.policy.state import ClusterState

# cilium/cilium pkg/identity/numericidentity.go, b095517e625e
RESERVED_IDENTITIES: Final[Mapping[int, tuple[str, ...]]] = {
    1: ("reserved:host",),
    2: ("reserved:world",),
    3: ("reserved:unmanaged",),
    4: ("reserved:health",),
    5: ("reserved:init",),
    6: ("reserved:remote-node",),
    7: ("reserved:kube-apiserver", "reserved:remote-node"),
    8: ("reserved:ingress",),
    9: ("reserved:world-ipv4",),
    10: ("reserved:world-ipv6",),
}
HOST_ID: Final = 1
_FIRST_CLUSTER_ID: Final = 256
_FIRST_LOCAL_ID: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class Identity:
    """One security identity: number and printed labels."""

    number: int
    labels: tuple[str, ...]

    @property
    def is_local(self) -> bool:
        """Whether it is of a node only: an address or a DNS name."""
        return self.number >= _FIRST_LOCAL_ID


def cluster_identities(state: ClusterState) -> tuple[dict[str, int], list[Identity]]:
    """Identities of the pods: number of each pod's, by endpoint, and all of them.

    Numbers are those of the inventory's CiliumIdentities where given, else 256 and on in the order
    of the labels: which of them an identity has changes no count.
    """
    patterns = label_filter(state.options.labels)
    cache: dict[tuple[object, ...], tuple[str, ...]] = {}
    of_endpoint = {}
    for pod in state.pods:
        key = (pod.namespace, pod.service_account, *sorted(pod.labels.items()))
        if key not in cache:
            full = pod_labels(
                pod.labels,
                pod.namespace,
                state.namespaces.get(pod.namespace, {}),
                pod.service_account,
                state.options.cluster_name,
            )
            cache[key] = identity_labels(full, patterns)
        of_endpoint[pod.endpoint] = cache[key]
    found = sorted({*of_endpoint.values(), *state.identities})
    taken = set(state.identities.values())
    free = (n for n in range(_FIRST_CLUSTER_ID, _FIRST_LOCAL_ID) if n not in taken)
    numbers = {labels: state.identities.get(labels) or next(free) for labels in found}
    return (
        {endpoint: numbers[labels] for endpoint, labels in of_endpoint.items()},
        [Identity(number, labels) for labels, number in sorted(numbers.items())],
    )


def address_labels(
    state: ClusterState,
    prefixes: Iterable[Prefix],
    names: Iterable[NameSelector],
    *,
    is_labeled: bool = False,
) -> dict[Prefix, tuple[str, ...]]:
    """Labels of the identities of CIDRs of rules and of addresses of DNS names.

    With `is_labeled` prefixes have the labels of their CIDR groups and of all prefixes around them,
    of which only the narrowest CIDR; prefixes with equal labels share an identity.

    References
    ----------
    .. [1] cilium/cilium pkg/ipcache/metadata.go, resolveIdentity, b095517e625e.
    .. [2] cilium/cilium pkg/fqdn/name_manager.go, deriveLabelsForName, b095517e625e.
    .. [3] cilium/cilium pkg/ipcache/metadata.go, mergeParentLabels, and
       pkg/policy/k8s/cilium_cidr_group.go, applyCIDRGroup, 1c13836613ad (1.18.0-dev).
    """
    is_dual = state.options.ipv4 and state.options.ipv6
    labels: dict[Prefix, set[str]] = {}
    for prefix in prefixes:
        labels.setdefault(prefix, set()).update(_cidr_labels(prefix, is_dual=is_dual))
    ruled = dict.fromkeys(labels)
    for text, extra in state.prefix_labels.items():
        labels.setdefault(parse_prefix(text), set()).update(extra)
    for address, found in _name_labels(state, names).items():
        own = labels.setdefault(address, set())
        if is_labeled:
            own |= found | {_world(address, is_dual=is_dual)}
            continue
        parent = _parent(address, ruled) if not any(_is(CIDR, one) for one in own) else None
        if parent is not None and not any(_is(RESERVED, one) for one in own):
            own |= _cidr_labels(parent, is_dual=is_dual)
        own |= found | {_world(address, is_dual=is_dual)}
    if is_labeled:
        for prefix, found in _group_labels(state).items():
            labels.setdefault(prefix, set()).update(found, {_world(prefix, is_dual=is_dual)})
        labels = {prefix: _with_parents(prefix, labels) for prefix in labels}
    return {prefix: _resolved(prefix, own, is_dual=is_dual) for prefix, own in labels.items()}


def local_identities(cache: Mapping[Prefix, tuple[str, ...]]) -> list[Identity]:
    """Identities that a node allocates for what `address_labels` gives."""
    known = set(RESERVED_IDENTITIES.values())
    ordered = sorted({*cache.values()} - known, key=",".join)
    return [Identity(_FIRST_LOCAL_ID + n, one) for n, one in enumerate(ordered, 1)]


def _group_labels(state: ClusterState) -> dict[Prefix, set[str]]:
    """Labels that prefixes have of their CIDR groups."""
    found: dict[Prefix, set[str]] = {}
    for name, prefixes in state.cidr_groups.items():
        own = {
            told(CIDR_GROUP, key, value)
            for key, value in state.cidr_group_labels.get(name, {}).items()
            if not key.startswith(PREFIX)
        }
        own.add(told(CIDR_GROUP, f"{CIDR_GROUP_NAME}/{name}"))
        for text in prefixes:
            try:
                found.setdefault(parse_prefix(text, is_bare_allowed=False), set()).update(own)
            except ValueError:
                # The agent warns of it and goes on
                continue
    return found


def _with_parents(prefix: Prefix, labels: Mapping[Prefix, set[str]]) -> set[str]:
    found = dict.fromkeys(labels[prefix])
    keys = {untold(one)[:2] for one in found}
    has_cidr = any(_is(CIDR, one) for one in found)
    for length in range(prefix.length - 1, -1, -1):
        shift = prefix.width - length
        parent = labels.get(Prefix(prefix.version, prefix.address >> shift << shift, length))
        if parent is None:
            continue
        for one in sorted(parent):
            if untold(one)[:2] not in keys and not (has_cidr and _is(CIDR, one)):
                found[one] = None
        keys = {untold(one)[:2] for one in found}
        has_cidr = any(_is(CIDR, one) for one in found)
    return set(found)


def _is(source: str, label: str) -> bool:
    return label.startswith(f"{source}:")


def _world(prefix: Prefix, *, is_dual: bool) -> str:
    return f"reserved:world-ipv{prefix.version}" if is_dual else "reserved:world"


def _cidr_labels(prefix: Prefix, *, is_dual: bool) -> set[str]:
    own = {told(CIDR, cidr_key(prefix))} if prefix.length else set()
    return own | {_world(prefix, is_dual=is_dual)}


def _resolved(prefix: Prefix, labels: set[str], *, is_dual: bool) -> tuple[str, ...]:
    nodes = {"reserved:remote-node", "reserved:host"} & labels
    if nodes:
        plain = _cidr_labels(prefix, is_dual=is_dual)
        labels = {one for one in labels - plain if not one.startswith("reserved:world")}
    elif not {"reserved:health", "reserved:ingress"} & labels and not any(
        one.partition(":")[0] in (CIDR, FQDN, CIDR_GROUP) for one in labels
    ):
        labels = labels | _cidr_labels(prefix, is_dual=is_dual)
    return tuple(sorted(labels)) if "reserved:host" not in labels else RESERVED_IDENTITIES[1]


def _parent(prefix: Prefix, ruled: Mapping[Prefix, None]) -> Prefix | None:
    for length in range(prefix.length - 1, 0, -1):
        shift = prefix.width - length
        parent = Prefix(prefix.version, prefix.address >> shift << shift, length)
        if parent in ruled:
            return parent
    return None


def _name_labels(state: ClusterState, names: Iterable[NameSelector]) -> dict[Prefix, set[str]]:
    patterns = [(one, pattern_of(one)) for one in names]
    found: dict[Prefix, set[str]] = {}
    for name, addresses in state.dns.items():
        plain = name.lower().rstrip(".")
        labels = {told(FQDN, one.label) for one, pattern in patterns if pattern.match(plain)}
        if labels:
            for address in addresses:
                found.setdefault(parse_prefix(address), set()).update(labels)
    return found
