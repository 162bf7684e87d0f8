"""What the agent lists, as cilium-dbg prints it: endpoints, identities, services, nodes, policies.

Formats: cilium/cilium api/v1/models (`-o json`) of 1.17. Rows are in the columns of the tables
that inventories.py makes; where Kubernetes objects tell the same thing these count.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from capacity.load.documents import Found, Row
from capacity.tables import BACKENDS, ENDPOINTS, IDENTITIES, NODES, POLICIES, SERVICES, Table

# Identities below are reserved or well-known, those from the second on are of one node (CIDRs,
# names, remote nodes): pkg/identity/numericidentity.go MinimalNumericIdentity, LocalIdentityFlag
_FIRST: Final = 256
_LOCAL: Final = 1 << 24
_MOST: Final = (1 << 63) - 1
_NAMESPACE: Final = "io.kubernetes.pod.namespace"
_CILIUMS: Final = "io.cilium.k8s."
_DERIVED: Final = "io.cilium.k8s.policy."


def _row(table: Table, **told: Any) -> Row:
    """Give a row of a table; what is not told is null."""
    return tuple(told.get(column.name) for column in table.columns)


def dict_in(value: Any, *names: str) -> dict[str, Any]:
    """Give the mapping below these names; an empty one where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def dicts_in(value: Any) -> list[dict[str, Any]]:
    """Give the mappings of a list; none where it is none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """Give a text; an empty one where it is none."""
    return value if isinstance(value, str) else ""


def _json(labels: Mapping[str, Any]) -> str:
    return json.dumps(labels, sort_keys=True, ensure_ascii=False)


def _first(document: Any) -> dict[str, Any]:
    return (dicts_in(document[:1]) or [{}])[0] if isinstance(document, list) else {}


def _labels(value: Any) -> dict[str, str]:
    """Give labels `source:key=value` by `source:key`."""
    texts = [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
    return {key: told for key, _, told in (text.partition("=") for text in texts)}


def _each(document: Any, kind: str, read: Callable[[dict[str, Any]], Row | str | None]) -> Found:
    """Read entries one by one: a row, what is left out, or None where one is refused."""
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    faults = []
    for number, entry in enumerate(document, 1):
        told = read(entry) if isinstance(entry, dict) else None
        if isinstance(told, str):
            left_out[told] += 1
        elif told is None:
            faults.append(f"entry {number}: {entry!r:.80} lacks what makes it one of this list")
        else:
            rows.append(told)
    return Found(len(document), {kind: rows}, tuple(faults), left_out)


def is_endpoints(document: Any) -> bool:
    """Tell whether this is `endpoint list -o json`."""
    status = dict_in(_first(document), "status")
    return "id" in _first(document) and bool({"networking", "external-identifiers"} & status.keys())


def read_endpoints(document: Any, place: str) -> Found:
    """Give endpoints of pods; the node is that of the file, labels those that bear on identity."""
    return _each(document, "cilium-dbg endpoint", _endpoint)


def _endpoint(entry: dict[str, Any]) -> Row | str | None:
    told = dict_in(entry, "status")
    names = dict_in(told, "external-identifiers")
    namespace, pod = text_of(names.get("k8s-namespace")), text_of(names.get("k8s-pod-name"))
    if not told:
        return None
    if not namespace or not pod:
        return "endpoints of no pod"
    labels = {
        key.removeprefix("k8s:"): value
        for key, value in _labels(dict_in(told, "labels").get("security-relevant")).items()
        if key.startswith("k8s:") and not key.startswith((f"k8s:{_CILIUMS}", f"k8s:{_NAMESPACE}"))
    }
    addresses = dicts_in(dict_in(told, "networking").get("addressing"))
    ips = {text_of(one.get(name)) for one in addresses for name in ("ipv4", "ipv6")} - {""}
    identity = _labels(dict_in(told, "labels").get("security-relevant"))
    account = identity.get(f"k8s:{_DERIVED}serviceaccount")
    return _row(
        ENDPOINTS, namespace=namespace, pod=pod, labels=_json(labels), ips=len(ips) or None,
        service_account=account,
    )  # fmt: skip


def is_identities(document: Any) -> bool:
    """Tell whether this is `identity list -o json`."""
    first = _first(document)
    return "id" in first and isinstance(first.get("labels"), list) and "status" not in first


def read_identities(document: Any, place: str) -> Found:
    """Give cluster-wide identities; reserved ones and those of one node are counted."""
    return _each(document, "cilium-dbg identity", _identity)


def _identity(entry: dict[str, Any]) -> Row | str | None:
    number = entry.get("id")
    if not isinstance(number, int) or not 0 <= number <= _MOST:
        return None
    if number < _FIRST:
        return "reserved and well-known identities"
    if number >= _LOCAL:
        return "identities of one node (CIDRs, names)"
    return _row(IDENTITIES, identity=number, labels=_json(_labels(entry.get("labels"))))


def is_nodes(document: Any) -> bool:
    """Tell whether this is `node list -o json`."""
    return {"name", "primary-address"} <= _first(document).keys()


def read_nodes(document: Any, place: str) -> Found:
    """Give nodes of the agent's own cluster, whose names have the same prefix as the local one.

    Names are `cluster/node` where the cluster has a name: pkg/node/types/node.go Fullname.
    """
    entries = dicts_in(document)
    here = [text_of(one.get("name")) for one in entries if one.get("source") == "local"]
    cluster = here[0].rpartition("/")[0] if here else None

    def node(entry: dict[str, Any]) -> Row | str | None:
        name = text_of(entry.get("name"))
        prefix, _, short = name.rpartition("/")
        if not short:
            return None
        if cluster is not None and prefix != cluster:
            return "nodes of other clusters"
        families = [dict_in(entry, "primary-address", name) for name in ("ipv4", "ipv6")]
        others = dicts_in(entry.get("secondary-addresses"))
        ips = {text_of(one.get("ip")) for one in (*families, *others)} - {""}
        cidrs = sum(bool(one.get("alloc-range")) for one in families)
        return _row(NODES, node=short, addresses=sorted(ips) or None, pod_cidrs=cidrs or None)

    found = _each(document, "cilium-dbg node", node)
    self = [(name.rpartition("/")[2],) for name in here[:1]]
    return Found(found.read, {**found.rows, "self": self}, found.faults, found.left_out)


def is_services(document: Any) -> bool:
    """Tell whether this is `service list -o json`."""
    return "frontend-address" in dict_in(_first(document), "spec")


def read_services(document: Any, place: str) -> Found:
    """Give services and their backends of the frontends the agent has."""
    frontends: dict[tuple[str, str], list[dict[str, Any]]] = {}
    faults = []
    for number, entry in enumerate(document, 1):
        spec = dict_in(entry, "spec")
        flags = dict_in(spec, "flags")
        key = text_of(flags.get("namespace")), text_of(flags.get("name"))
        if all(key):
            frontends.setdefault(key, []).append(spec)
        else:
            faults.append(f"entry {number}: a frontend of no service")
    rows = [_service(*key, specs) for key, specs in frontends.items()]
    backends = [row for key, specs in frontends.items() for row in _backends(*key, specs)]
    told = {"services whose session affinity is not told": len(rows)}
    return Found(
        len(document),
        {"cilium-dbg service": rows, "cilium-dbg backend": backends},
        tuple(faults),
        told if rows else {},
    )


def _service(namespace: str, name: str, specs: list[dict[str, Any]]) -> Row:
    kinds: dict[str, set[tuple[str, Any]]] = {}
    for spec in specs:
        at = dict_in(spec, "frontend-address")
        kind = text_of(dict_in(spec, "flags").get("type")) or "ClusterIP"
        kinds.setdefault(kind, set()).add((text_of(at.get("ip")), f"{at.get('port')}"))
    ips = {kind: len({ip for ip, _ in told}) for kind, told in kinds.items()}
    flags = dict_in(specs[0], "flags")
    ports = {port for told in kinds.values() for _, port in told}
    inside = {port for _, port in kinds.get("ClusterIP", ())} or ports
    return _row(
        SERVICES,
        namespace=namespace,
        service=name,
        type=next((kind for kind in ("LoadBalancer", "NodePort") if kind in kinds), "ClusterIP"),
        ports=len(inside),
        cluster_ips=ips.get("ClusterIP", 0),
        external_ips=ips.get("ExternalIPs", 0),
        load_balancer_ips=ips.get("LoadBalancer", 0),
        external_policy=text_of(flags.get("extTrafficPolicy")) or "Cluster",
        internal_policy=text_of(flags.get("intTrafficPolicy")) or "Cluster",
        affinity=False,
        node_ports="NodePort" in kinds,
        labels="{}",
        object=_json({"spec": _spec(kinds, inside)}),
    )


def _spec(kinds: Mapping[str, set[tuple[str, Any]]], ports: set[Any]) -> dict[str, Any]:
    """Give what a Service's spec would say of its addresses and ports."""
    return {
        "clusterIPs": sorted({ip for ip, _ in kinds.get("ClusterIP", ())}),
        "externalIPs": sorted({ip for ip, _ in kinds.get("ExternalIPs", ())}),
        "ports": [{"port": int(port)} for port in sorted(ports) if port.isdecimal()],
    }


def _backends(namespace: str, name: str, specs: list[dict[str, Any]]) -> Iterator[Row]:
    for spec in specs:
        protocol = text_of(dict_in(spec, "frontend-address").get("protocol")).upper() or "ANY"
        for backend in dicts_in(spec.get("backend-addresses")):
            port = backend.get("port")
            number = port if isinstance(port, int) and 0 <= port <= 65535 else None
            yield _row(
                BACKENDS, namespace=namespace, service=name, address=text_of(backend.get("ip")),
                port=number, protocol=protocol, node=text_of(backend.get("nodeName")) or None,
                ready=backend.get("state") == "active" if "state" in backend else None,
            )  # fmt: skip


def is_policies(document: Any) -> bool:
    """Tell whether this is `policy get`, with or without its revision."""
    if isinstance(document, dict):
        return isinstance(document.get("policy"), str) and "revision" in document
    first = _first(document)
    return bool({"endpointSelector", "nodeSelector"} & first.keys()) and "kind" not in first


def read_policies(document: Any, place: str) -> Found:
    """Give policies, put together of the agent's rules by the object each is derived from.

    Cilium's rules of a NetworkPolicy have the form of a CiliumNetworkPolicy's.
    """
    if isinstance(document, dict):
        try:
            document = orjson.loads(document["policy"] or "[]")
        except orjson.JSONDecodeError as error:
            return Found(1, faults=(f"the rules in `policy` are no JSON: {error}",))
    rules: dict[tuple[str, str | None, str], list[dict[str, Any]]] = {}
    entries = dicts_in(document)
    for number, rule in enumerate(entries, 1):
        rules.setdefault(_derived(rule, number), []).append(rule)
    rows: list[Row] = [
        _row(
            POLICIES, kind=kind, namespace=namespace, policy=name, rules=len(some), source=place,
            object=json.dumps({"specs": some}, sort_keys=True, ensure_ascii=False),
        )
        for (kind, namespace, name), some in rules.items()
    ]  # fmt: skip
    bad = len(document) - len(entries) if isinstance(document, list) else 1
    faults = (f"{bad} rules are no objects",) if bad else ()
    return Found(len(entries) + len(faults), {"cilium-dbg policy": rows}, faults)


def _derived(rule: dict[str, Any], number: int) -> tuple[str, str | None, str]:
    """Give kind, namespace and name of the object a rule is derived from."""
    labels = dicts_in(rule.get("labels"))
    told = {text_of(one.get("key")): text_of(one.get("value")) for one in labels}
    name = told.get(f"{_DERIVED}name") or f"rule {number}"
    namespace = told.get(f"{_DERIVED}namespace") or None
    is_wide = told.get(f"{_DERIVED}derived-from") == "CiliumClusterwideNetworkPolicy"
    if namespace is None or is_wide:
        return "CiliumClusterwideNetworkPolicy", None, name
    return "CiliumNetworkPolicy", namespace, name
