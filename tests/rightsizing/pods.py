"""Container metrics of pods whose use is known, as cAdvisor and kube-state-metrics tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from capacity.export import Metrics, build

START = 1_790_000_000_000 // 300_000 * 300_000
MINUTE = 60_000
MI = 1 << 20
Floats = npt.NDArray[np.float64]


@dataclass
class Pods:
    """Label sets and samples, gathered series by series."""

    labels: list[dict[str, str]] = field(default_factory=list)
    times: list[Floats] = field(default_factory=list)
    values: list[Floats] = field(default_factory=list)

    def add(self, name: str, times: Floats, values: Floats | float, **labels: str) -> None:
        self.labels.append({"__name__": name, **labels})
        self.times.append(times)
        self.values.append(np.broadcast_to(np.asarray(values, float), times.shape))

    def pod(
        self, pod: str, cores: Floats, memory: Floats, *, namespace: str = "shop",
        container: str = "app", owner: tuple[str, str] | None = None, begin: int = 0,
        minutes: int = 1, request: tuple[float, float] | None = None,
        limit: tuple[float, float] | None = None, id: str = "1", **more: str,
    ) -> None:  # fmt: skip
        """Add a pod: `cores` and `memory` are of each interval of so many minutes."""
        at = START + (begin + np.arange(len(memory))) * minutes * MINUTE
        names = {"namespace": namespace, "pod": pod, "container": container, **more}
        burnt = np.concatenate([[0.0], np.cumsum(cores * minutes * 60)[:-1]])
        self.add("container_cpu_usage_seconds_total", at, burnt, id=id, **names)
        self.add("container_memory_working_set_bytes", at, memory, id=id, **names)
        set_at = at[[0, -1]]
        if owner:
            kind, name = owner
            told = {"owner_kind": kind, "owner_name": name}
            self.add("kube_pod_owner", set_at, 1, namespace=namespace, pod=pod, **told)
        for bound, pair in (("requests", request), ("limits", limit)):
            for resource, value in zip(("cpu", "memory"), pair or (), strict=False):
                name = f"kube_pod_container_resource_{bound}"
                self.add(name, set_at, value, resource=resource, **names)

    def replica_set(self, name: str, deployment: str, namespace: str = "shop") -> None:
        told = {"owner_kind": "Deployment", "owner_name": deployment}
        at = np.array([START], float)
        self.add("kube_replicaset_owner", at, 1, namespace=namespace, replicaset=name, **told)

    def metrics(self) -> Metrics:
        many = [len(one) for one in self.times]
        return build(
            self.labels, np.repeat(np.arange(len(many)), many).tolist(),
            np.concatenate(self.times).astype(np.int64).tolist(),
            np.concatenate(self.values).tolist(), cluster="c",
        )  # fmt: skip


def copied(pods: Pods, labels: Sequence[Mapping[str, str]]) -> Pods:
    """Give each series as so many scrapers tell it, each with labels of its own."""
    made = Pods()
    for own, times, values in zip(pods.labels, pods.times, pods.values, strict=True):
        for more in labels:
            made.labels.append({**own, **more})
            made.times.append(times)
            made.values.append(values)
    return made
