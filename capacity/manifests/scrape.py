"""Scrape jobs of a Prometheus without operator: Cilium's own metrics, with the labels we read."""

from __future__ import annotations

from typing import Any

from capacity import facts
from capacity.manifests.subject import Subject
from capacity.manifests.values import to_yaml

# Labels of Cilium's pods: templates of cilium/cilium install/kubernetes/cilium (servicemonitor.yaml
# of agent and operator select by them, read)
_PODS = {"agent": ("k8s_app", "cilium"), "operator": ("io_cilium_app", "operator")}


def text(subject: Subject) -> str | None:
    """Give a file for `scrape_config_files`, None where the export tells agent and operator."""
    jobs = [
        _job(fact["component"], fact["port"])
        for fact in facts.components(subject.version).iter_rows(named=True)
        if fact["component"] in _PODS and _is_missing(subject, f"{fact['component']} memory_rss")
    ]
    return to_yaml({"scrape_configs": jobs}) if jobs else None


def _is_missing(subject: Subject, want: str) -> bool:
    told = subject.coverage.filter(want=want)["status"].to_list()
    return bool(told) and told != ["present"]


def _job(component: str, port: int) -> dict[str, Any]:
    label, value = _PODS[component]
    meta = "__meta_kubernetes_pod"
    return {
        "job_name": f"cilium-{component}",
        "honor_labels": True,
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": ["kube-system"]}}],
        "relabel_configs": [
            {"action": "keep", "source_labels": [f"{meta}_label_{label}"], "regex": value},
            {"source_labels": [f"{meta}_ip"], "target_label": "__address__",
             "replacement": f"$1:{port}"},
            # One target a pod: service discovery gives one for each port of each container
            {"action": "keep", "source_labels": [f"{meta}_container_port_number"],
             "regex": str(port)},
            {"source_labels": [f"{meta}_node_name"], "target_label": "node"},
            {"source_labels": [f"{meta}_name"], "target_label": "pod"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        ],
    }  # fmt: skip
