"""CronJob that makes the weekly report in the cluster, with a role that may only read.

The inventory comes from the API server by the pod's own token: lists of objects as they are.
"""

from __future__ import annotations

from typing import Any, Final

from capacity.export import without_secrets
from capacity.manifests.subject import Subject
from capacity.manifests.values import documents

_NAME: Final = "cilium-capacity"
_NAMESPACE: Final = "kube-system"
# What a plan reads: API group → resources
_READS: Final[dict[str, list[str]]] = {
    "": ["endpoints", "namespaces", "nodes", "pods", "services"],
    "apps": ["daemonsets", "deployments", "statefulsets"],
    "cilium.io": [
        "ciliumcidrgroups", "ciliumclusterwidenetworkpolicies", "ciliumendpoints",
        "ciliumidentities", "ciliumnetworkpolicies", "ciliumnodes",
    ],
    "discovery.k8s.io": ["endpointslices"],
    "networking.k8s.io": ["networkpolicies"],
}  # fmt: skip
_PATHS: Final = (
    "api/v1/namespaces", "api/v1/nodes", "api/v1/pods", "api/v1/services",
    "apis/discovery.k8s.io/v1/endpointslices", "apis/apps/v1/daemonsets",
    "apis/cilium.io/v2/ciliumnodes", "apis/cilium.io/v2/ciliumidentities",
    "apis/cilium.io/v2/ciliumnetworkpolicies",
    "apis/cilium.io/v2/ciliumclusterwidenetworkpolicies",
    "apis/networking.k8s.io/v1/networkpolicies",
    f"api/v1/namespaces/{_NAMESPACE}/configmaps/cilium-config",
)  # fmt: skip


def text(subject: Subject) -> str | None:
    """Give service account, roles, claim for the reports and the CronJob."""
    if subject.exhaustion.is_empty():
        return None
    return documents(
        _meta("v1", "ServiceAccount", automountServiceAccountToken=False),
        _meta("rbac.authorization.k8s.io/v1", "ClusterRole", rules=_rules()),
        _binding("ClusterRole"),
        _meta("rbac.authorization.k8s.io/v1", "Role", rules=[_config_rule()]),
        _binding("Role"),
        _meta("v1", "PersistentVolumeClaim", spec={
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        }),
        _meta("batch/v1", "CronJob", spec={
            "schedule": "0 6 * * 1",
            "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": {
                "backoffLimit": 0, "activeDeadlineSeconds": 3600,
                "template": {"spec": _pod(subject)},
            }},
        }),
    )  # fmt: skip


def _meta(version: str, kind: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": _NAME}
    if kind != "ClusterRole" and kind != "ClusterRoleBinding":
        metadata["namespace"] = _NAMESPACE
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def _rules() -> list[dict[str, Any]]:
    return [
        {"apiGroups": [group], "resources": names, "verbs": ["get", "list"]}
        for group, names in _READS.items()
    ]


def _config_rule() -> dict[str, Any]:
    """One ConfigMap only: others may hold what is nobody's business."""
    return {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["cilium-config"],
            "verbs": ["get"]}  # fmt: skip


def _binding(kind: str) -> dict[str, Any]:
    made = _meta("rbac.authorization.k8s.io/v1", f"{kind}Binding")
    return made | {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": _NAME},
        "subjects": [{"kind": "ServiceAccount", "name": _NAME, "namespace": _NAMESPACE}],
    }


def _pod(subject: Subject) -> dict[str, Any]:
    return {
        "serviceAccountName": _NAME,
        "automountServiceAccountToken": True,
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "fsGroup": 65534,
                            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "report",
            "image": "python:3.12",
            "command": ["bash", "-c", _script(subject)],
            "env": [{"name": "HOME", "value": "/scratch"},
                    {"name": "PROMETHEUS", "value": _prometheus(subject)}],
            "resources": {"requests": {"cpu": "500m", "memory": "1Gi"},
                          "limits": {"memory": "4Gi"}},
            "securityContext": {"allowPrivilegeEscalation": False,
                                "capabilities": {"drop": ["ALL"]},
                                "readOnlyRootFilesystem": True},
            "volumeMounts": [{"name": "work", "mountPath": "/scratch"},
                             {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the pod
                             {"name": "reports", "mountPath": "/reports"}],
        }],
        "volumes": [{"name": "work", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}},
                    {"name": "reports", "persistentVolumeClaim": {"claimName": _NAME}}],
    }  # fmt: skip


def _prometheus(subject: Subject) -> str:
    source = subject.settings.source
    if source.startswith(("http://", "https://")):
        return without_secrets(source)
    return "http://prometheus-operated.monitoring:9090"


def _script(subject: Subject) -> str:
    """Read lists from the API server, plan, keep a folder a day; exit code 1 is a short plan."""
    lists = " ".join(_PATHS)
    settings = subject.settings
    more = [f"--horizon {settings.horizon}", *(f"--nodes {nodes}" for nodes in settings.nodes)]
    if settings.managed:
        more.append(f"--managed {settings.managed}")
    return "\n".join(
        [
            "set -euo pipefail",
            "python -m venv /scratch/venv",
            "/scratch/venv/bin/pip install -q 'cilium-capacity[report]'",
            "mkdir -p /scratch/dump",
            "api=https://kubernetes.default.svc",
            "own=/var/run/secrets/kubernetes.io/serviceaccount",
            'head() { printf "Authorization: Bearer %s" "$(cat "$own/token")"; }',
            f"for path in {lists}; do",
            '  curl -fsS --cacert "$own/ca.crt" -H @<(head) "$api/$path" \\',
            '    > "/scratch/dump/${path//\\//-}.json" ||',
            '    echo "not read: $path" >&2',
            "done",
            'out="/reports/$(date -u +%F)"',
            f'options="--inventory /scratch/dump {" ".join(more)}"',
            '/scratch/venv/bin/capacity plan "$PROMETHEUS" $options --out "$out"',
            "",
        ]
    )
