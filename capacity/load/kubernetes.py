"""Kubernetes and Cilium objects as rows, by kind; which kinds are read is the literal KINDS.

Also the golden policy cases (inputs.json). Files, duplicates and tables are inventories.py's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from capacity.errors import SettingsError
from capacity.load import helm
from capacity.load.documents import Found, Row
from capacity.units import parse_bytes, parse_millicores, parse_quantity, rounded

Object = Mapping[str, Any]
_T = TypeVar("_T")
# What kubectl takes where an object in a file names none
_DEFAULT: Final = "default"
_TEMPLATE: Final = "{{"
# What a column of integers holds
_LARGEST: Final = (1 << 63) - 1


class _Fault(ValueError):
    """An object that is refused: field path, value, what was wanted."""


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
        except (_Fault, SettingsError) as error:
            faults.append(f"{where}: {kind[1]} {_called(item)}: {error}")
            continue
        if isinstance(told, str):
            left_out[told] += 1
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


def _field(item: Object, path: str, kind: type[_T]) -> _T | None:
    """Value at a dotted path; None where it is not told."""
    value: Any = item
    for name in path.split("."):
        if not isinstance(value, dict):
            raise _Fault(f"{path}: {value!r:.40} on the way is no mapping")
        value = value.get(name)
        if value is None:
            return None
    if not isinstance(value, kind):
        raise _Fault(f"{path} is {value!r:.60}, wanted {kind.__name__}")
    return value


def _dicts(item: Object, path: str) -> list[dict[str, Any]]:
    """List of mappings at a dotted path."""
    values = _field(item, path, list) or []
    if not all(isinstance(value, dict) for value in values):
        raise _Fault(f"{path} holds something else than mappings")
    return values


def _name(item: Object) -> str:
    name = _text(item, "metadata.name")
    if _TEMPLATE in name:
        raise _Fault(f"metadata.name {name!r} is a template; read what `helm template` prints")
    return name


def _text(item: Object, path: str) -> str:
    value = _field(item, path, str)
    if not value:
        raise _Fault(f"{path} is missing")
    return value


def _texts(entries: Iterable[Object], *names: str) -> list[str]:
    """Distinct texts under these names, sorted."""
    found = {entry.get(name) for entry in entries for name in names if _is_text(entry.get(name))}
    return sorted(map(str, found))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", "None")


def _namespace(item: Object) -> str:
    return _field(item, "metadata.namespace", str) or _DEFAULT


def _json(labels: Object | None) -> str:
    return json.dumps(labels or {}, sort_keys=True, ensure_ascii=False)


def _labels(item: Object) -> str:
    return _json(_field(item, "metadata.labels", dict))


def _quantity(item: Object, path: str, parse: Callable[[str | float], int]) -> int | None:
    value = _field(item, path, object)
    if value is None:
        return None
    if not isinstance(value, str | int | float):
        raise _Fault(f"{path} is {value!r:.60}, wanted a quantity")
    try:
        number = parse(value)
    except (SettingsError, ArithmeticError, ValueError) as error:
        raise _Fault(f"{path}: {error}") from None
    return _bounded(number, path, _LARGEST)


def _bounded(number: int, path: str, most: int) -> int:
    if not 0 <= number <= most:
        raise _Fault(f"{path} is {number}, wanted 0 to {most}")
    return number


def _count(text: str | float) -> int:
    return rounded(parse_quantity(text), "down")


def _node(item: Object, place: str) -> list[Row]:
    addresses = _texts(
        (
            entry
            for entry in _dicts(item, "status.addresses")
            if entry.get("type") in ("InternalIP", "ExternalIP")
        ),
        "address",
    )
    cidrs = _field(item, "spec.podCIDRs", list) or [_field(item, "spec.podCIDR", str)]
    return [(
        _name(item),
        _quantity(item, "status.capacity.memory", parse_bytes),
        _quantity(item, "status.capacity.cpu", parse_millicores),
        addresses or None,
        sum(map(_is_text, cidrs)) or None,
        _quantity(item, "status.allocatable.pods", _count),
        _field(item, "status.nodeInfo.kernelVersion", str),
        _labels(item),
    )]  # fmt: skip


def _cilium_node(item: Object, place: str) -> list[Row]:
    """Addresses are those the agents' node map holds: pkg/datapath/linux/node_ids.go."""
    addresses = _texts(_dicts(item, "spec.addresses"), "ip")
    cidrs = list(_field(item, "spec.ipam.podCIDRs", list) or [])
    for pool in _dicts(item, "spec.ipam.pools.allocated"):
        cidrs += _field(pool, "cidrs", list) or []
    many = len({str(cidr) for cidr in cidrs}) or None
    return [(_name(item), None, None, addresses or None, many, None, None, _labels(item))]


def _pod(item: Object, place: str) -> list[Row] | str:
    if _field(item, "spec.hostNetwork", bool):
        return "host-network pods"
    if _field(item, "status.phase", str) in ("Succeeded", "Failed"):
        return "ended pods"
    ips = _texts(_dicts(item, "status.podIPs"), "ip")
    if not ips and not _field(item, "status.podIP", str):
        return "pods without an address"
    node = _field(item, "spec.nodeName", str)
    return [(_namespace(item), _name(item), node, _labels(item), len(ips) or 1)]


def _cilium_endpoint(item: Object, place: str) -> list[Row]:
    """Give the node's address as its name: inventories.py looks the name up."""
    ips = _texts(_dicts(item, "status.networking.addressing"), "ipv4", "ipv6")
    node = _field(item, "status.networking.node", str)
    return [(_namespace(item), _name(item), node, _labels(item), len(ips) or None)]


def _cilium_endpoint_slice(item: Object, place: str) -> list[Row]:
    """CoreCiliumEndpoints of one namespace: pkg/k8s/apis/cilium.io/v2alpha1/types.go."""
    namespace = _field(item, "namespace", str) or _DEFAULT
    rows: list[Row] = []
    for entry in _dicts(item, "endpoints"):
        ips = _texts(_dicts(entry, "networking.addressing"), "ipv4", "ipv6")
        node = _field(entry, "networking.node", str)
        rows.append((namespace, _text(entry, "name"), node, "{}", len(ips) or None))
    return rows


def _service(item: Object, place: str) -> list[Row]:
    ports = _dicts(item, "spec.ports")
    cluster_ips = _field(item, "spec.clusterIPs", list) or [_field(item, "spec.clusterIP", str)]
    return [(
        _namespace(item),
        _name(item),
        _field(item, "spec.type", str) or "ClusterIP",
        len(ports),
        sum(map(_is_text, cluster_ips)),
        len(_field(item, "spec.externalIPs", list) or []),
        len(_texts(_dicts(item, "status.loadBalancer.ingress"), "ip")),
        _field(item, "spec.externalTrafficPolicy", str) or "Cluster",
        _field(item, "spec.internalTrafficPolicy", str) or "Cluster",
        _field(item, "spec.sessionAffinity", str) == "ClientIP",
        any(port.get("nodePort") for port in ports),
    )]  # fmt: skip


def _endpoint_slice(item: Object, place: str) -> list[Row] | str:
    service = (_field(item, "metadata.labels", dict) or {}).get("kubernetes.io/service-name")
    if not service:
        return "EndpointSlices of no service"
    if _field(item, "addressType", str) == "FQDN":
        return "EndpointSlices of names, not addresses"
    ports = [_port(port) for port in _dicts(item, "ports")]
    namespace = _namespace(item)
    return [
        (namespace, service, str(address), *port)
        for endpoint in _dicts(item, "endpoints")
        if _is_used(_field(endpoint, "conditions", dict) or {})
        for address in _field(endpoint, "addresses", list) or []
        for port in ports
    ]


def _is_used(conditions: Object) -> bool:
    """Ready, not told, or still serving while it ends: pkg/k8s/endpoints.go."""
    return conditions.get("ready") is not False or conditions.get("serving") is True


def _port(port: Object) -> tuple[int | None, str]:
    number = _field(port, "port", int)
    bounded = None if number is None else _bounded(int(number), "port", 65535)
    return bounded, _field(port, "protocol", str) or "TCP"


def _endpoints(item: Object, place: str) -> list[Row]:
    namespace, service = _namespace(item), _name(item)
    return [
        (namespace, service, str(entry.get("ip")), *_port(port))
        for subset in _dicts(item, "subsets")
        for entry in _dicts(subset, "addresses")
        for port in _dicts(subset, "ports")
    ]


def _policy(item: Object, place: str) -> list[Row]:
    """Rules as the agent's policy repository counts them: one for spec, one for each of specs."""
    kind, name = item["kind"], _name(item)
    spec, specs = _field(item, "spec", dict), _dicts(item, "specs")
    if spec is None and not specs:
        raise _Fault("spec is missing" if kind == "NetworkPolicy" else "spec, or specs, is missing")
    namespace = None if kind == "CiliumClusterwideNetworkPolicy" else _namespace(item)
    told = {field: item[field] for field in ("spec", "specs") if item.get(field) is not None}
    text = json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    if _TEMPLATE in text:
        raise _Fault("spec holds a template; read what `helm template` prints")
    rules = (spec is not None) + len(specs)
    return [(kind, namespace, name, rules, place, text)]


def _namespace_row(item: Object, place: str) -> list[Row]:
    return [(_name(item), _labels(item))]


def _identity(item: Object, place: str) -> list[Row]:
    name = _name(item)
    if not name.isdecimal():
        raise _Fault(f"metadata.name is {name!r}, wanted a number")
    number = _bounded(int(name), "metadata.name", _LARGEST)
    return [(number, _json(_field(item, "security-labels", dict)))]


def _config(item: Object, place: str) -> list[Row] | str:
    if _name(item) != "cilium-config":
        return "ConfigMaps other than cilium-config"
    data = _field(item, "data", dict) or {}
    return [(name, str(value), place) for name, value in data.items()]


def _helm_release(item: Object, place: str) -> list[Row] | str:
    """Read spec.values of a HelmRelease of Flux (helm.toolkit.fluxcd.io)."""
    values = helm.values_of(_field(item, "spec.values", dict))
    if values is None:
        return "HelmReleases of other charts"
    return list(helm.option_rows(values, place))


_CILIUM: Final = "cilium.io"
# API group, kind → rows of the kind's table, or what is left out. Other groups have kinds of the
# same name (Calico's NetworkPolicy, Knative's Service): they are not used.
KINDS: Final[Mapping[tuple[str, str], Callable[[Object, str], list[Row] | str]]] = {
    ("", "ConfigMap"): _config,
    ("", "Endpoints"): _endpoints,
    ("", "Namespace"): _namespace_row,
    ("", "Node"): _node,
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    (_CILIUM, "CiliumClusterwideNetworkPolicy"): _policy,
    (_CILIUM, "CiliumEndpoint"): _cilium_endpoint,
    (_CILIUM, "CiliumEndpointSlice"): _cilium_endpoint_slice,
    (_CILIUM, "CiliumIdentity"): _identity,
    (_CILIUM, "CiliumNetworkPolicy"): _policy,
    (_CILIUM, "CiliumNode"): _cilium_node,
    ("discovery.k8s.io", "EndpointSlice"): _endpoint_slice,
    ("extensions", "NetworkPolicy"): _policy,
    ("helm.toolkit.fluxcd.io", "HelmRelease"): _helm_release,
    ("networking.k8s.io", "NetworkPolicy"): _policy,
}

# Options of a golden case → agent flag: pkg/option/config.go
_CASE_OPTIONS: Final = {
    "ipv4": "enable-ipv4",
    "ipv6": "enable-ipv6",
    "host_firewall": "enable-host-firewall",
    "policy_mode": "enable-policy",
    "cluster_name": "cluster-name",
    "allow_localhost": "allow-localhost",
}


def is_case(document: Any) -> bool:
    """Tell whether a document is the inputs.json of a golden policy case."""
    return isinstance(document, dict) and {"options", "namespaces", "pods"} <= document.keys()


def read_case(document: Object, place: str) -> Found:
    """Read the inputs of a golden policy case: namespaces, pods, services, options.

    Its policies are files of their own. Labels of the node, names learned from DNS, CIDR groups,
    service accounts and named ports are in no table.
    """
    try:
        rows = _case_rows(document, place)
    except _Fault as error:
        return Found(1, faults=(f"{place}: {error}",))
    return Found(sum(map(len, rows.values())), rows)


def _case_rows(case: Object, place: str) -> dict[str, list[Row]]:
    services = _dicts(case, "services")
    shape = ("ClusterIP", 0, 0, 0, 0, "Cluster", "Cluster", False, False)
    return {
        "Namespace": [
            (_text(entry, "name"), _json(_field(entry, "labels", dict)))
            for entry in _dicts(case, "namespaces")
        ],
        "Pod": [
            (*_home(entry), None, _json(_field(entry, "labels", dict)), None)
            for entry in _dicts(case, "pods")
        ],
        "Service": [(*_home(entry), *shape) for entry in services],
        "Endpoints": [
            (*_home(entry), str(address), None, "TCP")
            for entry in services
            for address in _field(entry, "endpoints", list) or []
        ],
        "ConfigMap": [
            (_CASE_OPTIONS[name], _flag(value), place)
            for name, value in (_field(case, "options", dict) or {}).items()
            if name in _CASE_OPTIONS
        ],
    }


def _home(entry: Object) -> tuple[str, str]:
    return _text(entry, "namespace"), _text(entry, "name")


def _flag(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
