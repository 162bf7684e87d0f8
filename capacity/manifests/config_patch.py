"""Patch of the ConfigMap cilium-config, for installations without Helm: only what changes."""

from __future__ import annotations

from capacity import facts
from capacity.manifests.subject import Subject, may
from capacity.manifests.values import changes, reason, to_yaml


def text(subject: Subject) -> str | None:
    """Give a patch for `kubectl patch configmap cilium-config --patch-file`, None without changes.

    Agents read it when they start: restart the DaemonSet after it.
    """
    if not may(subject, "patches"):
        return None
    options = facts.options(subject.version).drop_nulls("helm_value")
    named = dict(options.unique("helm_value", keep="first", maintain_order=True)
                 .select("helm_value", "option").iter_rows())  # fmt: skip
    data, comments = {}, {}
    for row in changes(subject.recommendation).sort("setting", "target").iter_rows(named=True):
        option = named.get(row["setting"])
        if row["setting"].startswith("extraConfig."):
            option = row["setting"].removeprefix("extraConfig.")
        if option is not None:
            data[option] = str(round(row["target"]))
            comments[f"data.{option}"] = reason(row)
    if not data:
        return None
    tree = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cilium-config", "namespace": "kube-system"},
        "data": data,
    }
    return to_yaml(tree, comments)
