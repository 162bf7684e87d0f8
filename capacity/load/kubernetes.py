"""Kubernetes and Cilium objects as rows, by kind; which kinds are read is the literal KINDS.

Files, duplicates and tables are inventories.py's, containers of workloads workloads.py's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from capacity.errors import SettingsError
from capacity.load import helm, service_objects, workloads
from capacity.load.documents import Found, Row
from capacity.load.fields import (
    DEFAULT,
    LARGEST,
    TEMPLATE,
    Fault,
    Object,
    as_json,
    bounded,
    dicts_at,
    is_text,
    labels_of,
    name_of,
    namespace_of,
    quantity_at,
    text_at,
    texts_in,
    value_at,
    whole,
)
from capacity.units import parse_bytes, parse_millicores

# Labels that Cilium adds to those of a pod: pkg/k8s/apis/cilium.io/const.go
_ACCOUNT: Final = "io.cilium.k8s.policy.serviceaccount"
_ADDED: Final = ("io.cilium.k8s.", "io.kubernetes.pod.namespace")
_HOSTS: Final = "host-network pods"


def is_object(document: Any) -> bool:
    """Tell whether a document is a Kubernetes object or List."""
    return isinstance(document, dict) and isinstance(document.get("kind"), str)


def read(document: Any, place: str) -> Found:
    """Read one object, or all of a List.

    Parameters
    ----------
    document
        A parsed document with ``kind``.
    place
        File and document, for messages and column source of policies.

    Returns
    -------
    Found
        Rows by kind, in the columns of the table of that kind (see inventories.TABLES_OF).

    Examples
    --------
    >>> read({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}, "x").rows
    {'Namespace': [('a', '{}')]}
    """
    rows: dict[str, list[Row]] = {}
    faults: list[str] = []
    left_out: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    seen = 0
    for where, item in _objects(document, place):
        kind = _kind(item)
        reader = KINDS.get(kind) if isinstance(kind, tuple) else None
        if reader is None:
            unused[_unused(kind)] += 1
            continue
        seen += 1
        try:
            told = reader(item, where)
        except (Fault, SettingsError) as error:
            faults.append(f"{where}: {kind[1]} {_called(item)}: {error}")
            continue
        if isinstance(told, str):
            left_out[told] += 1
            if told == _HOSTS:
                rows.setdefault("agent pod", []).extend(_host(item))
        else:
            rows.setdefault(kind[1], []).extend(told)
    return Found(seen, rows, tuple(faults), left_out, unused)


def _objects(document: Any, place: str, inherited: Object | None = None) -> Iterator[Any]:
    """Give (place, object) of a document; items of a typed list may leave out kind and version."""
    if not isinstance(document, dict):
        yield place, document
        return
    document = document if "kind" in document or inherited is None else {**inherited, **document}
    kind, items = document.get("kind"), document.get("items")
    if not (isinstance(kind, str) and kind.endswith("List") and isinstance(items, list)):
        yield place, document
        return
    typed = kind.removesuffix("List")
    below = {"kind": typed, "apiVersion": document.get("apiVersion")} if typed else None
    for number, item in enumerate(items, 1):
        yield from _objects(item, f"{place} item {number}", below)


def _kind(item: Any) -> tuple[str, str] | str:
    """Give API group and kind, or a name for what has neither."""
    if not isinstance(item, dict) or not isinstance(item.get("kind"), str):
        return "objects without kind"
    version = item.get("apiVersion")
    if not isinstance(version, str):
        return f"{item['kind']} without apiVersion"
    return version.rpartition("/")[0], item["kind"]


def _unused(kind: tuple[str, str] | str) -> str:
    """Name a kind; with its group where another group's kind of that name is used."""
    if not isinstance(kind, tuple):
        return kind
    is_ours = any(name == kind[1] for _, name in KINDS)
    return f"{kind[1]} of {kind[0] or 'v1'}" if is_ours else kind[1]


def _called(item: Object) -> str:
    metadata = item.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return str(name) if name else "without a name"


def _node(item: Object, place: str) -> list[Row]:
    addresses = texts_in(
        (
            entry
            for entry in dicts_at(item, "status.addresses")
            if entry.get("type") in ("InternalIP", "ExternalIP")
        ),
        "address",
    )
    cidrs = value_at(item, "spec.podCIDRs", list) or [value_at(item, "spec.podCIDR", str)]
    return [(
        name_of(item),
        quantity_at(item, "status.capacity.memory", parse_bytes),
        quantity_at(item, "status.capacity.cpu", parse_millicores),
        addresses or None,
        sum(map(is_text, cidrs)) or None,
        quantity_at(item, "status.allocatable.pods", whole),
        value_at(item, "status.nodeInfo.kernelVersion", str),
        labels_of(item),
    )]  # fmt: skip


def _cilium_node(item: Object, place: str) -> list[Row]:
    """Addresses are those the agents' node map holds: pkg/datapath/linux/node_ids.go."""
    addresses = texts_in(dicts_at(item, "spec.addresses"), "ip")
    cidrs = list(value_at(item, "spec.ipam.podCIDRs", list) or [])
    for pool in dicts_at(item, "spec.ipam.pools.allocated"):
        cidrs += value_at(pool, "cidrs", list) or []
    many = len({str(cidr) for cidr in cidrs}) or None
    return [(name_of(item), None, None, addresses or None, many, None, None, labels_of(item))]


def _pod(item: Object, place: str) -> list[Row] | str:
    if value_at(item, "spec.hostNetwork", bool):
        return _HOSTS
    if value_at(item, "status.phase", str) in ("Succeeded", "Failed"):
        return "ended pods"
    ips = texts_in(dicts_at(item, "status.podIPs"), "ip")
    if not ips and not value_at(item, "status.podIP", str):
        return "pods without an address"
    node, account = (
        value_at(item, f"spec.{name}", str) for name in ("nodeName", "serviceAccountName")
    )
    ports = as_json(workloads.named_ports(item, "spec"))
    own = ips or texts_in([value_at(item, "status", dict) or {}], "podIP")
    led = workloads.host_ports(item, own)
    return [(
        namespace_of(item), name_of(item), node, labels_of(item), len(ips) or 1, account, ports,
        as_json(led) if led else None,
    )]  # fmt: skip


def _host(item: Object) -> list[Row]:
    """Agents are such pods: which node one is on tells of what node its outputs are."""
    node = value_at(item, "spec.nodeName", str)
    labels = value_at(item, "metadata.labels", dict) or {}
    return [(name_of(item), node)] if node and labels.get("k8s-app") == "cilium" else []


def _cilium_endpoint(item: Object, place: str) -> list[Row]:
    """Give the node's address as its name: inventories.py looks the name up.

    Agents before 1.15 do not copy the pod's labels: those of the identity tell them.
    """
    networking = value_at(item, "status.networking", dict) or {}
    known = _identity_labels(value_at(item, "status.identity.labels", list) or [])
    own = {key: value for key, value in known.items() if not key.startswith(_ADDED)}
    labels = value_at(item, "metadata.labels", dict) or own
    ports = _named_ports(item, "status.named-ports")
    return [(
        namespace_of(item), name_of(item), *_home(networking)[:1], as_json(labels),
        *_home(networking)[1:], known.get(_ACCOUNT), ports, None,
    )]  # fmt: skip


def _identity_labels(listed: list[Any]) -> dict[str, str]:
    """Labels of an identity whose source is Kubernetes, without that source."""
    told = (str(label).removeprefix("k8s:").partition("=") for label in listed)
    return {key: value for key, _, value in told}


def pod_labels(identity: str) -> tuple[str, str | None]:
    """Give a pod's labels and service account by the labels of its identity, both as JSON has them.

    Examples
    --------
    >>> pod_labels('{"k8s:a": "1", "k8s:io.cilium.k8s.policy.serviceaccount": "web"}')
    ('{"a": "1"}', 'web')
    """
    told = {key.removeprefix("k8s:"): str(value) for key, value in json.loads(identity).items()}
    own = {key: value for key, value in told.items() if not key.startswith(_ADDED)}
    return as_json(own), told.get(_ACCOUNT)


def _home(networking: Object) -> tuple[str | None, int | None]:
    """Give the address of the node and the number of IPs."""
    ips = texts_in(dicts_at(networking, "addressing"), "ipv4", "ipv6")
    return value_at(networking, "node", str), len(ips) or None


def _named_ports(item: Object, path: str) -> str | None:
    """Ports with a name, as agents tell them; they tell none where there are none."""
    told = [workloads.named_port(port, "port") for port in dicts_at(item, path)]
    return as_json([port for port in told if port is not None])


def _cilium_endpoint_slice(item: Object, place: str) -> list[Row]:
    """CoreCiliumEndpoints of one namespace: pkg/k8s/apis/cilium.io/v2alpha1/types.go."""
    namespace = value_at(item, "namespace", str) or DEFAULT
    rows: list[Row] = []
    for entry in dicts_at(item, "endpoints"):
        node, ips = _home(value_at(entry, "networking", dict) or {})
        ports = _named_ports(entry, "named-ports")
        identity = value_at(entry, "id", int)
        name = text_at(entry, "name")
        rows.append((namespace, name, node, "{}", ips, None, ports, None, identity))
    return rows


def _policy(item: Object, place: str) -> list[Row]:
    """Rules as the agent's policy repository counts them: one for spec, one for each of specs."""
    kind, name = item["kind"], name_of(item)
    if kind in _ADMIN:
        return [(kind, None, name, *_admin_policy(item, place))]
    spec, specs = value_at(item, "spec", dict), dicts_at(item, "specs")
    if spec is None and not specs:
        raise Fault("spec is missing" if kind == "NetworkPolicy" else "spec, or specs, is missing")
    namespace = None if kind == "CiliumClusterwideNetworkPolicy" else namespace_of(item)
    told = {field: item[field] for field in ("spec", "specs") if item.get(field) is not None}
    text = _whole(told)
    rules = (spec is not None) + len(specs)
    return [(kind, namespace, name, rules, place, text)]


def _whole(told: Object) -> str:
    text = json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    if TEMPLATE in text:
        raise Fault("spec holds a template; read what `helm template` prints")
    return text


def _admin_policy(item: Object, place: str) -> tuple[int, str, str]:
    """Policies of sigs.k8s.io/network-policy-api: clusterwide, each rule of its own rank."""
    spec = value_at(item, "spec", dict)
    if spec is None:
        raise Fault("spec is missing")
    rules = sum(len(dicts_at(spec, direction)) for direction in ("ingress", "egress"))
    return rules, place, _whole({"spec": spec})


def _cidr_group(item: Object, place: str) -> list[Row]:
    cidrs = value_at(item, "spec.externalCIDRs", list)
    if cidrs is None:
        raise Fault("spec.externalCIDRs is missing")
    wrong = [cidr for cidr in cidrs if not isinstance(cidr, str)]
    if wrong:
        raise Fault(f"spec.externalCIDRs holds {wrong[0]!r:.40}, wanted CIDRs")
    return [(name_of(item), labels_of(item), as_json(cidrs))]


def _kept(item: Object, place: str) -> list[Row]:
    """Keep an object whole whose entries or settings are worked out where they are needed."""
    spec = value_at(item, "spec", dict)
    if spec is None:
        raise Fault("spec is missing")
    home = None if item["kind"] in _CLUSTERWIDE else namespace_of(item)
    return [(item["kind"], home, name_of(item), place, _whole({"spec": spec}))]


def _namespace_row(item: Object, place: str) -> list[Row]:
    return [(name_of(item), labels_of(item))]


def _identity(item: Object, place: str) -> list[Row]:
    name = name_of(item)
    if not name.isdecimal():
        raise Fault(f"metadata.name is {name!r}, wanted a number")
    number = bounded(int(name), "metadata.name", LARGEST)
    return [(number, as_json(value_at(item, "security-labels", dict)))]


def _config(item: Object, place: str) -> list[Row] | str:
    if name_of(item) != "cilium-config":
        return "ConfigMaps other than cilium-config"
    data = value_at(item, "data", dict) or {}
    return [(name, str(value), place) for name, value in data.items()]


def _helm_release(item: Object, place: str) -> list[Row] | str:
    """Read spec.values of a HelmRelease of Flux (helm.toolkit.fluxcd.io)."""
    values = helm.values_of(value_at(item, "spec.values", dict))
    if values is None:
        return "HelmReleases of other charts"
    return list(helm.option_rows(values, place))


_CILIUM: Final = "cilium.io"
_ADMIN_GROUP: Final = "policy.networking.k8s.io"
_ADMIN: Final = ("AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy")
_CLUSTERWIDE: Final = (
    "CiliumClusterwideEnvoyConfig", "CiliumEgressGatewayPolicy", "CiliumLoadBalancerIPPool",
)  # fmt: skip
# API group, kind → rows of the kind's table, or what is left out. Other groups have kinds of the
# same name (Calico's NetworkPolicy, Knative's Service): they are not used.
KINDS: Final[Mapping[tuple[str, str], Callable[[Object, str], list[Row] | str]]] = {
    ("", "ConfigMap"): _config,
    ("", "Endpoints"): service_objects.endpoints,
    ("", "LimitRange"): _kept,
    ("", "Namespace"): _namespace_row,
    ("", "Node"): _node,
    ("", "Pod"): _pod,
    ("", "ResourceQuota"): _kept,
    ("", "Service"): service_objects.service,
    ("apps", "DaemonSet"): workloads.read,
    ("apps", "Deployment"): workloads.read,
    ("apps", "StatefulSet"): workloads.read,
    (_ADMIN_GROUP, "AdminNetworkPolicy"): _policy,
    (_ADMIN_GROUP, "BaselineAdminNetworkPolicy"): _policy,
    (_ADMIN_GROUP, "ClusterNetworkPolicy"): _policy,
    ("autoscaling", "HorizontalPodAutoscaler"): _kept,
    (_CILIUM, "CiliumCIDRGroup"): _cidr_group,
    (_CILIUM, "CiliumClusterwideEnvoyConfig"): _kept,
    (_CILIUM, "CiliumClusterwideNetworkPolicy"): _policy,
    (_CILIUM, "CiliumEgressGatewayPolicy"): _kept,
    (_CILIUM, "CiliumEndpoint"): _cilium_endpoint,
    (_CILIUM, "CiliumEndpointSlice"): _cilium_endpoint_slice,
    (_CILIUM, "CiliumEnvoyConfig"): _kept,
    (_CILIUM, "CiliumIdentity"): _identity,
    (_CILIUM, "CiliumLoadBalancerIPPool"): _kept,
    (_CILIUM, "CiliumLocalRedirectPolicy"): _kept,
    (_CILIUM, "CiliumNetworkPolicy"): _policy,
    (_CILIUM, "CiliumNode"): _cilium_node,
    (_CILIUM, "CiliumNodeConfig"): _kept,
    ("discovery.k8s.io", "EndpointSlice"): service_objects.endpoint_slice,
    ("extensions", "NetworkPolicy"): _policy,
    ("helm.toolkit.fluxcd.io", "HelmRelease"): _helm_release,
    ("networking.k8s.io", "NetworkPolicy"): _policy,
    ("policy", "PodDisruptionBudget"): _kept,
}
