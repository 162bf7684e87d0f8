"""Policy objects of all kinds into rules: what is refused, skipped or ignored, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from capacity.cilium.policy import cilium, kubernetes
from capacity.cilium.policy.checks import Refused
from capacity.cilium.policy.rules import Rule
from capacity.cilium.policy.state import ClusterState, PolicyObject
from capacity.cilium.policy.versions import Semantics

OK: Final = "ok"
REJECTED: Final = "rejected"
DECODE_ERROR: Final = "decode-error"
SKIPPED: Final = "skipped-requires-derivative"
IGNORED: Final = "ignored-kind"
UNSUPPORTED: Final = "unsupported-kind"
# Kinds of Kubernetes' policy API. The first two no version of Cilium up to 1.20.0-dev
# 0b72c0005c69 enforces: nothing in its pkg, daemon or operator names them; issue 23380
_CLUSTER_POLICY: Final = "ClusterNetworkPolicy"
_UNSUPPORTED: Final = ("AdminNetworkPolicy", "BaselineAdminNetworkPolicy", _CLUSTER_POLICY)


@dataclass(frozen=True, slots=True)
class Status:
    """What became of one policy object."""

    policy: PolicyObject
    status: str
    rules: tuple[Rule, ...] = ()
    error: str = ""


def read(policy: PolicyObject, state: ClusterState, semantics: Semantics) -> Status:
    """Read one policy as the agent does."""
    if policy.kind == _CLUSTER_POLICY and semantics.has_cluster_policies:
        why = "Cilium enforces it where enable-k8s-cluster-network-policy is set: not modeled here"
        return Status(policy, UNSUPPORTED, error=f"{policy.kind}: {why}")
    if policy.kind in _UNSUPPORTED:
        return Status(policy, UNSUPPORTED, error=f"Cilium does not enforce {policy.kind}")
    if policy.kind not in ("NetworkPolicy", *cilium.KINDS):
        return Status(policy, IGNORED, error=f"{policy.kind} is no network policy")
    try:
        if policy.kind == "NetworkPolicy":
            return Status(policy, OK, (kubernetes.read(policy, state, semantics),))
        if _requires_derivative(policy.specs):
            return Status(policy, SKIPPED, error="toGroups and fromGroups need a cloud provider")
        return Status(policy, OK, cilium.read(policy, state, semantics))
    except Refused as refused:
        return Status(policy, REJECTED, error=str(refused))
    except (TypeError, AttributeError) as wrong:
        return Status(policy, DECODE_ERROR, error=str(wrong))


def _requires_derivative(specs: tuple[Mapping[str, Any], ...]) -> bool:
    return any(
        isinstance(rule, Mapping) and (rule.get("toGroups") or rule.get("fromGroups"))
        for spec in specs
        if isinstance(spec, Mapping)
        for direction in ("ingress", "ingressDeny", "egress", "egressDeny")
        for rule in spec.get(direction) or []
    )
