"""Fields of a Service that its load balancer entries follow from: checked before they are kept."""

from __future__ import annotations

from typing import Any, Final

from capacity.load.fields import Fault, Object, bounded, dicts_at, value_at

_PORT: Final = 65535
_TEXTS: Final = ("spec.clusterIPs", "spec.externalIPs", "spec.ipFamilies",
                 "spec.loadBalancerSourceRanges")  # fmt: skip
_FIELDS: Final = (
    ("spec.clusterIP", str), ("spec.loadBalancerClass", str),
    ("spec.allocateLoadBalancerNodePorts", bool), ("spec.healthCheckNodePort", int),
)  # fmt: skip


def ports(service: Object) -> list[dict[str, Any]]:
    """Give spec.ports; Fault where a number is no port or a name no text."""
    told = dicts_at(service, "spec.ports")
    for port in told:
        for name in ("port", "nodePort"):
            number = value_at(port, name, int)
            if number is not None:
                bounded(int(number), f"spec.ports.{name}", _PORT)
        for name in ("name", "protocol"):
            value_at(port, name, str)
    return told


def check(service: Object) -> None:
    """Raise Fault where another field has a type that Kubernetes would not take."""
    for path in _TEXTS:
        wrong = [one for one in value_at(service, path, list) or [] if not isinstance(one, str)]
        if wrong:
            raise Fault(f"{path} holds {wrong[0]!r:.40}, wanted text")
    for path, kind in _FIELDS:
        value_at(service, path, kind)
    for entry in dicts_at(service, "status.loadBalancer.ingress"):
        for name in ("ip", "ipMode"):
            value_at(entry, name, str)
