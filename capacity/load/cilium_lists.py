"""What the agent lists, as cilium-dbg prints it: endpoints, identities, services, nodes, policies.

Formats: cilium/cilium api/v1/models (`-o json`), cilium-dbg/cmd/config.go, pkg/client/client.go
FormatStatusResponse, of 1.17. Rows are in the columns of the tables that inventories.py makes;
where Kubernetes objects tell the same thing these count.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from capacity import facts
from capacity.load.documents import Found, Row
from capacity.tables import BACKENDS, ENDPOINTS, IDENTITIES, NODES, POLICIES, SERVICES, Table

# Identities below are reserved or well-known, those from the second on are of one node (CIDRs,
# names, remote nodes): pkg/identity/numericidentity.go MinimalNumericIdentity, LocalIdentityFlag
_FIRST: Final = 256
_LOCAL: Final = 1 << 24
_NAMESPACE: Final = "io.kubernetes.pod.namespace"
_CILIUMS: Final = "io.cilium.k8s."
_DERIVED: Final = "io.cilium.k8s.policy."
# Name in status → map: daemon/cmd/status.go getBPFMapStatus, read in a fork. `Endpoint policy` is
# the size of the endpoints' map there, which recorded agents show too.
_SIZES: Final[Mapping[str, str]] = {
    "Auth": "cilium_auth_map",
    "Non-TCP connection tracking": "cilium_ct_any4_global",
    "TCP connection tracking": "cilium_ct4_global",
    "IP cache": "cilium_ipcache",
    "IPv4 masquerading agent": "cilium_ipmasq_v4",
    "IPv6 masquerading agent": "cilium_ipmasq_v6",
    "IPv4 fragmentation": "cilium_ipv4_frag_datagrams",
    "IPv4 service": "cilium_lb4_services_v2",
    "IPv6 service": "cilium_lb6_services_v2",
    "IPv4 service backend": "cilium_lb4_backends_v3",
    "IPv6 service backend": "cilium_lb6_backends_v3",
    "IPv4 service reverse NAT": "cilium_lb4_reverse_nat",
    "IPv6 service reverse NAT": "cilium_lb6_reverse_nat",
    "Metrics": "cilium_metrics",
    "Ratelimit metrics": "cilium_ratelimit_metrics",
    "NAT": "cilium_snat_v4_external",
    "Neighbor table": "cilium_nodeport_neigh4",
    "Global policy": "cilium_policy_",
    "Session affinity": "cilium_lb4_affinity",
    "Sock reverse NAT": "cilium_lb4_reverse_sk",
    "Tunnel": "cilium_tunnel_map",
}
# Field of the agent's configuration, as recorded → its flag (facts/options.csv). Sizes that are 0
# fall back to those of other maps.
_FIELDS: Final[Mapping[str, str]] = {
    "AllowLocalhost": "allow-localhost",
    "AuthMapEntries": "bpf-auth-map-max",
    "BPFMapsDynamicSizeRatio": "bpf-map-dynamic-size-ratio",
    "CTMapEntriesGlobalAny": "bpf-ct-global-any-max",
    "CTMapEntriesGlobalTCP": "bpf-ct-global-tcp-max",
    "ClusterName": "cluster-name",
    "EnableHostFirewall": "enable-host-firewall",
    "EnableIPv4": "enable-ipv4",
    "EnableIPv6": "enable-ipv6",
    "FragmentsMapEntries": "bpf-fragments-map-max",
    "KubeProxyReplacement": "kube-proxy-replacement",
    "LBAffinityMapEntries": "bpf-lb-affinity-map-max",
    "LBBackendMapEntries": "bpf-lb-service-backend-map-max",
    "LBMaglevMapEntries": "bpf-lb-maglev-map-max",
    "LBMapEntries": "bpf-lb-map-max",
    "LBRevNatEntries": "bpf-lb-rev-nat-map-max",
    "LBServiceMapEntries": "bpf-lb-service-map-max",
    "LBSourceRangeMapEntries": "bpf-lb-source-range-map-max",
    "NATMapEntriesGlobal": "bpf-nat-global-max",
    "NeighMapEntriesGlobal": "bpf-neigh-global-max",
    "NodePortAlg": "bpf-lb-algorithm",
    "PolicyMapEntries": "bpf-policy-map-max",
    "PreAllocateMaps": "preallocate-bpf-maps",
    "SockRevNatEntries": "bpf-sock-rev-map-max",
}
_RATIO: Final = "bpf-map-dynamic-size-ratio"
_MOST: Final = (1 << 63) - 1
_DYNAMIC: Final = re.compile(r"^BPF Maps: +dynamic sizing: (?:on \(ratio: ([\d.]+)\)|off)", re.M)
_REPLACEMENT: Final = re.compile(r"^KubeProxyReplacement: +(\w+)", re.MULTILINE)
_SIZE: Final = re.compile(r"^  (\S.*?) {2,}(\d{1,18})$", re.MULTILINE)
_FIELD: Final = re.compile(r"^([A-Za-z][\w-]*) *: (.*)$", re.MULTILINE)


def _row(table: Table, **told: Any) -> Row:
    """Give a row of a table; what is not told is null."""
    return tuple(told.get(column.name) for column in table.columns)


def _dict(value: Any, *names: str) -> dict[str, Any]:
    """Give the mapping below these names; an empty one where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _json(labels: Mapping[str, Any]) -> str:
    return json.dumps(labels, sort_keys=True, ensure_ascii=False)


def _first(document: Any) -> dict[str, Any]:
    return (_dicts(document[:1]) or [{}])[0] if isinstance(document, list) else {}


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
    status = _dict(_first(document), "status")
    return "id" in _first(document) and bool({"networking", "external-identifiers"} & status.keys())


def read_endpoints(document: Any, place: str) -> Found:
    """Give endpoints of pods; the node is that of the file, labels those that bear on identity."""
    return _each(document, "cilium-dbg endpoint", _endpoint)


def _endpoint(entry: dict[str, Any]) -> Row | str | None:
    told = _dict(entry, "status")
    names = _dict(told, "external-identifiers")
    namespace, pod = _text(names.get("k8s-namespace")), _text(names.get("k8s-pod-name"))
    if not told:
        return None
    if not namespace or not pod:
        return "endpoints of no pod"
    labels = {
        key.removeprefix("k8s:"): value
        for key, value in _labels(_dict(told, "labels").get("security-relevant")).items()
        if key.startswith("k8s:") and not key.startswith((f"k8s:{_CILIUMS}", f"k8s:{_NAMESPACE}"))
    }
    addresses = _dicts(_dict(told, "networking").get("addressing"))
    ips = {_text(one.get(name)) for one in addresses for name in ("ipv4", "ipv6")} - {""}
    identity = _labels(_dict(told, "labels").get("security-relevant"))
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
    entries = _dicts(document)
    here = [_text(one.get("name")) for one in entries if one.get("source") == "local"]
    cluster = here[0].rpartition("/")[0] if here else None

    def node(entry: dict[str, Any]) -> Row | str | None:
        name = _text(entry.get("name"))
        prefix, _, short = name.rpartition("/")
        if not short:
            return None
        if cluster is not None and prefix != cluster:
            return "nodes of other clusters"
        families = [_dict(entry, "primary-address", name) for name in ("ipv4", "ipv6")]
        others = _dicts(entry.get("secondary-addresses"))
        ips = {_text(one.get("ip")) for one in (*families, *others)} - {""}
        cidrs = sum(bool(one.get("alloc-range")) for one in families)
        return _row(NODES, node=short, addresses=sorted(ips) or None, pod_cidrs=cidrs or None)

    found = _each(document, "cilium-dbg node", node)
    self = [(name.rpartition("/")[2],) for name in here[:1]]
    return Found(found.read, {**found.rows, "self": self}, found.faults, found.left_out)


def is_services(document: Any) -> bool:
    """Tell whether this is `service list -o json`."""
    return "frontend-address" in _dict(_first(document), "spec")


def read_services(document: Any, place: str) -> Found:
    """Give services and their backends of the frontends the agent has."""
    frontends: dict[tuple[str, str], list[dict[str, Any]]] = {}
    faults = []
    for number, entry in enumerate(document, 1):
        spec = _dict(entry, "spec")
        flags = _dict(spec, "flags")
        key = _text(flags.get("namespace")), _text(flags.get("name"))
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
        at = _dict(spec, "frontend-address")
        kind = _text(_dict(spec, "flags").get("type")) or "ClusterIP"
        kinds.setdefault(kind, set()).add((_text(at.get("ip")), f"{at.get('port')}"))
    ips = {kind: len({ip for ip, _ in told}) for kind, told in kinds.items()}
    flags = _dict(specs[0], "flags")
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
        external_policy=_text(flags.get("extTrafficPolicy")) or "Cluster",
        internal_policy=_text(flags.get("intTrafficPolicy")) or "Cluster",
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
        protocol = _text(_dict(spec, "frontend-address").get("protocol")).upper() or "ANY"
        for backend in _dicts(spec.get("backend-addresses")):
            port = backend.get("port")
            number = port if isinstance(port, int) and 0 <= port <= 65535 else None
            yield _row(
                BACKENDS, namespace=namespace, service=name, address=_text(backend.get("ip")),
                port=number, protocol=protocol, node=_text(backend.get("nodeName")) or None,
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
    entries = _dicts(document)
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
    told = {_text(one.get("key")): _text(one.get("value")) for one in _dicts(rule.get("labels"))}
    name = told.get(f"{_DERIVED}name") or f"rule {number}"
    namespace = told.get(f"{_DERIVED}namespace") or None
    is_wide = told.get(f"{_DERIVED}derived-from") == "CiliumClusterwideNetworkPolicy"
    if namespace is None or is_wide:
        return "CiliumClusterwideNetworkPolicy", None, name
    return "CiliumNetworkPolicy", namespace, name


def is_status(document: Any) -> bool:
    """Tell whether this is `status -o json`, or the agent's /v1/healthz."""
    return isinstance(document, dict) and isinstance(document.get("bpf-maps"), dict)


def read_status(document: Any, place: str) -> Found:
    """Give sizes of maps, the node's name, and the options a status tells."""
    maps = _dicts(document["bpf-maps"].get("maps"))
    told = [(_text(one.get("name")), one.get("size")) for one in maps]
    ratio = document["bpf-maps"].get("dynamic-size-ratio")
    options = {
        _RATIO: f"{ratio}" if isinstance(ratio, float) and ratio > 0 else "",
        "kube-proxy-replacement": _text(_dict(document, "kube-proxy-replacement").get("mode")),
    }
    name = _text(_dict(document, "cluster").get("self"))
    cluster, _, node = name.rpartition("/")
    options["cluster-name"] = cluster
    return _status(told, options, [(node,)] if node else [], place)


def read_status_text(text: str, place: str) -> Found:
    """Give the same of `status --verbose`, which names no node."""
    sizes = text.partition("\nBPF Maps:")[2].partition("\nEncryption:")[0]
    told: list[tuple[str, Any]] = [(name, int(size)) for name, size in _SIZE.findall(sizes)]
    ratio, mode = _DYNAMIC.search(text), _REPLACEMENT.search(text)
    options = {
        _RATIO: (ratio[1] or "") if ratio else "",
        "kube-proxy-replacement": mode[1] if mode else "",
    }
    return _status(told, options, [], place)


def _status(
    sizes: list[tuple[str, Any]], options: Mapping[str, str], self: list[Row], place: str
) -> Found:
    rows: list[Row] = [
        (_SIZES[name], None, size, None, f"status: {place}")
        for name, size in sizes
        if name in _SIZES and isinstance(size, int) and 0 <= size <= _MOST
    ]
    many = len(sizes) - len(rows)
    told = [(name, value.lower(), f"{place}: status") for name, value in options.items() if value]
    left_out = {"sizes of maps that have no or another name": many} if many else {}
    return Found(
        len(sizes) + len(told),
        {"map_entries": rows, "cilium-dbg option": told, "self": self},
        (),
        left_out,
    )


def read_config_text(text: str, place: str) -> Found:
    """Give agent options of `config --all`, which tells what is in effect, set or not.

    Sizes that the agent computed itself are left out: as options they would count as set.
    """
    fields = _FIELD.findall(text)
    told = {_FIELDS[name]: value.strip() for name, value in fields if name in _FIELDS}
    known = facts.options().filter(facts.options()["dynamic"])["option"].unique().to_list()
    is_dynamic = told.get(_RATIO, "0") not in ("0", "")
    computed = [name for name in told if is_dynamic and name in known]
    rows: list[Row] = [
        (name, value, f"{place}: config")
        for name, value in told.items()
        if name not in computed and value not in ("", "0", "<nil>")
    ]
    left_out = {
        "sizes computed by the agent": len(computed),
        "fields with no bearing on capacity, or not set": len(fields) - len(computed) - len(rows),
    }
    counted = {what: many for what, many in left_out.items() if many}
    return Found(len(fields), {"cilium-dbg option": rows}, (), counted)
