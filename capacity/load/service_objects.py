"""Services, EndpointSlices and Endpoints as rows."""

from __future__ import annotations

from typing import Final

from capacity.load import service_spec
from capacity.load.documents import Row
from capacity.load.fields import (
    Object,
    as_json,
    bounded,
    dicts_at,
    is_text,
    labels_of,
    name_of,
    namespace_of,
    texts_in,
    value_at,
)

_ANNOTATIONS: Final = "cilium.io/"


def service(item: Object, place: str) -> list[Row]:
    """Give the row of a Service, table `SERVICES`."""
    ports = service_spec.ports(item)
    service_spec.check(item)
    cluster_ips = value_at(item, "spec.clusterIPs", list) or [value_at(item, "spec.clusterIP", str)]
    return [(
        namespace_of(item),
        name_of(item),
        value_at(item, "spec.type", str) or "ClusterIP",
        len(ports),
        sum(map(is_text, cluster_ips)),
        len(value_at(item, "spec.externalIPs", list) or []),
        len(texts_in(dicts_at(item, "status.loadBalancer.ingress"), "ip")),
        value_at(item, "spec.externalTrafficPolicy", str) or "Cluster",
        value_at(item, "spec.internalTrafficPolicy", str) or "Cluster",
        value_at(item, "spec.sessionAffinity", str) == "ClientIP",
        any(port.get("nodePort") for port in ports),
        labels_of(item),
        _described(item),
    )]  # fmt: skip


def _described(service: Object) -> str:
    """Spec, status and the annotations that Cilium reads, as JSON: what its entries follow from."""
    notes = value_at(service, "metadata.annotations", dict) or {}
    kept = {key: value for key, value in notes.items() if _ANNOTATIONS in key}
    told = {name: service[name] for name in ("spec", "status") if service.get(name)}
    return as_json(told | ({"annotations": kept} if kept else {}))


def endpoint_slice(item: Object, place: str) -> list[Row] | str:
    """Give a row for each address and port of an EndpointSlice, table `BACKENDS`."""
    service = (value_at(item, "metadata.labels", dict) or {}).get("kubernetes.io/service-name")
    if not service:
        return "EndpointSlices of no service"
    if value_at(item, "addressType", str) == "FQDN":
        return "EndpointSlices of names, not addresses"
    ports = [_port(port) for port in dicts_at(item, "ports")]
    namespace = namespace_of(item)
    return [
        (namespace, service, str(address), *port, value_at(endpoint, "nodeName", str), *state)
        for endpoint in dicts_at(item, "endpoints")
        for state in (_state(value_at(endpoint, "conditions", dict) or {}),)
        for address in value_at(endpoint, "addresses", list) or []
        for port in ports
    ]


def _state(conditions: Object) -> tuple[bool, bool, bool]:
    """Whether a backend is ready, ending, serving; what is not told is: pkg/k8s/endpoints.go."""
    is_ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    return (
        is_ready,
        conditions.get("terminating") is True,
        serving is True or (serving is None and is_ready),
    )


def _port(port: Object) -> tuple[int | None, str, str | None]:
    number = value_at(port, "port", int)
    limited = None if number is None else bounded(int(number), "port", 65535)
    return limited, value_at(port, "protocol", str) or "TCP", value_at(port, "name", str) or None


def endpoints(item: Object, place: str) -> list[Row]:
    """Give a row for each address and port of an Endpoints object, table `BACKENDS`."""
    namespace, service = namespace_of(item), name_of(item)
    return [
        (namespace, service, str(entry.get("ip")), *_port(port),
         value_at(entry, "nodeName", str), True, False, True)
        for subset in dicts_at(item, "subsets")
        for entry in dicts_at(subset, "addresses")
        for port in dicts_at(subset, "ports")
    ]  # fmt: skip
