"""Manifests: one kind a file. What is written is read back and compared before it is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from capacity.manifests import (
    autoscaler,
    cronjob,
    dashboard,
    helm_values,
    resources_patch,
    rules,
    scrape,
)
from capacity.manifests.subject import Subject

# File below manifests/ → its text from a plan; None where there is nothing to say
KINDS: Final[dict[str, Callable[[Subject], str | None]]] = {
    "helm-values.yaml": helm_values.text,
    "helm-values-metrics.yaml": helm_values.metrics,
    "vertical-pod-autoscalers.yaml": autoscaler.text,
    "prometheus/rules.yaml": rules.text,
    "prometheus/rules-test.yaml": rules.tests,
    "prometheus/prometheusrule.yaml": rules.custom_resource,
    "prometheus/scrape.yaml": scrape.text,
    "grafana-dashboard.json": dashboard.text,
    "weekly-report.yaml": cronjob.text,
}


def manifests(subject: Subject) -> dict[str, str]:
    """Give the text of each manifest by its path.

    Parameters
    ----------
    subject
        A plan.

    Raises
    ------
    ManifestError
        If a manifest does not read back as the values it was made from, or names a value that the
        chart of this Cilium version does not know.
    """
    made = {path: make(subject) for path, make in KINDS.items()}
    told = {path: text for path, text in made.items() if text is not None}
    return told | resources_patch.texts(subject)
