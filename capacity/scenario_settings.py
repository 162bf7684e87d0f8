"""Settings of the notebook about scenarios: a cluster, and what it may become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from capacity.errors import SettingsError
from capacity.setting import setting
from capacity.settings import DEMO

FROM: Final = ("horizon", "today")
# One of each kind, where none is named; the newest Cilium is facts.LATEST, which a test compares
CHANGES: Final = (
    "twice the nodes: nodes=x2; twice the pods a node: pods_per_node=x2; "
    "twice the policies: policies=x2; half more services: services=x1.5; "
    "Cilium 1.20: cilium=1.20; larger maps: bpf-lb-map-max=262144, bpf-policy-map-max=65536; "
    "mesh of three: mesh=3; split in two: split=2"
)


@dataclass(frozen=True, slots=True)
class ScenarioSettings:
    """What the notebook `scenarios` needs to know.

    Raises
    ------
    SettingsError
        On construction, with all faults in one message.
    """

    source: str = setting(
        DEMO,
        "Exports of the cluster: a folder or file, or the URL of a Prometheus-compatible API. The "
        "shipped demo cluster where left out.",
        argument=True,
    )
    inventory: str | None = setting(
        None, "Folder or file of Kubernetes objects, where they are not in the source."
    )
    cluster: str | None = setting(
        None, "Name of the cluster to look at, where the source holds several."
    )
    changes: str = setting(
        "", "Scenarios as `capacity scenario --change` takes them, semicolons between; one of each "
        "kind where left out.",
    )  # fmt: skip
    at: str = setting("horizon", "Start from where growth leads (horizon), or from today (today).")
    horizon: str = setting("180d", "How far to look ahead, e.g. 180d, 26w, 1y.", "duration")
    cilium: str | None = setting(None, "Cilium version, where the source tells none.")
    memory: str | None = setting(None, "Memory of the smallest node, e.g. 30Gi.", "byte")
    risk: float = setting(0.01, "Chance of running short that you accept.", "1")
    start: str | None = setting(None, "Start of the history: RFC 3339, epoch seconds, or -180d.")
    seed: int = setting(0, "Seed of the draws.", "1")

    def __post_init__(self) -> None:
        faults = []
        if self.at not in FROM:
            faults.append(f"at: {self.at!r} is none of {', '.join(FROM)}")
        if not self.texts:
            faults.append(f"changes: {self.changes!r} names no scenario such as 'grow: nodes=x2'")
        if faults:
            raise SettingsError("; ".join(faults))

    @property
    def texts(self) -> tuple[str, ...]:
        """Give the scenarios, one text each."""
        return tuple(text.strip() for text in (self.changes or CHANGES).split(";") if text.strip())
