"""CronJob that makes the weekly report in the cluster, with a role that may only read.

The inventory comes from the API server by the pod's own token: lists of objects as they are. The
script is fixed text; what the user chose reaches it as arguments and variables, never as words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from capacity.manifests.subject import Subject
from capacity.manifests.values import documents
from capacity.telling import without_secrets

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


# Holds key `token`, where Prometheus asks for one; need not be there
SECRET: Final = "cilium-capacity-prometheus"  # noqa: S105 - a name
_SCRIPT: Final = f"""\
set -euo pipefail
python -m venv /scratch/venv
/scratch/venv/bin/pip install -q 'cilium-capacity[report]'
mkdir -p /scratch/dump
api=https://kubernetes.default.svc
own=/var/run/secrets/kubernetes.io/serviceaccount
head() {{ printf "Authorization: Bearer %s" "$(cat "$own/token")"; }}
for path in {" ".join(_PATHS)}; do
  # What does not come whole is left out
  curl -fsS --cacert "$own/ca.crt" -H @<(head) -o /scratch/list "$api/$path" &&
    mv /scratch/list "/scratch/dump/${{path//\\//-}}.json" ||
    echo "not read: $path" >&2
done
if [ -f /prometheus/token ]; then export CAPACITY_PROM_TOKEN_FILE=/prometheus/token; fi
code=0
/scratch/venv/bin/capacity report all "$PROMETHEUS" --inventory /scratch/dump \\
  --out /reports --plotly site --metrics /reports/capacity.prom "$@" || code=$?
if [ -n "${{PUSHGATEWAY:-}}" ] && [ -f /reports/capacity.prom ]; then
  curl -fsS --data-binary @/reports/capacity.prom \\
    "$PUSHGATEWAY/metrics/job/cilium-capacity" || echo "not pushed: $PUSHGATEWAY" >&2
fi
# 1: something runs short, which the report says; the job did its work
test "$code" -le 1
"""


@dataclass(frozen=True, slots=True)
class Job:
    """What the pod runs: URL of Prometheus, further words of the report, when, where to push."""

    prometheus: str
    words: tuple[str, ...]
    cron: str = "0 6 * * 1"
    pushgateway: str | None = None


def text(subject: Subject) -> str | None:
    """Give service account, roles, claim for the reports and the CronJob."""
    if subject.exhaustion.is_empty():
        return None
    settings = subject.settings
    words = ["--keep", "12", "--wait", "1h", "--horizon", settings.horizon]
    words += [word for nodes in settings.nodes for word in ("--nodes", str(nodes))]
    words += ["--managed", settings.managed] if settings.managed else []
    return manifest(Job(_prometheus(settings.source), tuple(words)))


def manifest(job: Job) -> str:
    """Give all documents of a job that makes reports: what it may read, where it writes, when."""
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
            "schedule": job.cron,
            "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": {
                "backoffLimit": 0, "activeDeadlineSeconds": 7200,
                "template": {"spec": _pod(job)},
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


def _pod(job: Job) -> dict[str, Any]:
    return {
        "serviceAccountName": _NAME,
        "automountServiceAccountToken": True,
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "fsGroup": 65534,
                            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "report",
            "image": "python:3.12",
            # Kubernetes would expand $(NAME) in words
            "command": ["bash", "-c", _SCRIPT, "report"],
            "args": [word.replace("$(", "$$(") for word in job.words],
            "env": [{"name": name, "value": value.replace("$(", "$$(")}
                    for name, value in _variables(job)],
            "resources": {"requests": {"cpu": "500m", "memory": "1Gi"},
                          "limits": {"memory": "4Gi"}},
            "securityContext": {"allowPrivilegeEscalation": False,
                                "capabilities": {"drop": ["ALL"]},
                                "readOnlyRootFilesystem": True},
            "volumeMounts": [{"name": "work", "mountPath": "/scratch"},
                             {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the pod
                             {"name": "prometheus", "mountPath": "/prometheus", "readOnly": True},
                             {"name": "reports", "mountPath": "/reports"}],
        }],
        "volumes": [{"name": "work", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}},
                    {"name": "prometheus", "secret": {"secretName": SECRET, "optional": True}},
                    {"name": "reports", "persistentVolumeClaim": {"claimName": _NAME}}],
    }  # fmt: skip


def _variables(job: Job) -> list[tuple[str, str]]:
    pairs = [("HOME", "/scratch"), ("PROMETHEUS", job.prometheus)]
    return pairs + ([("PUSHGATEWAY", job.pushgateway)] if job.pushgateway else [])


def _prometheus(source: str) -> str:
    if source.startswith(("http://", "https://")):
        return without_secrets(source)
    return "http://prometheus-operated.monitoring:9090"
