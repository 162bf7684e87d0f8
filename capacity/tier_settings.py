"""Settings of a load-balancing tier: fields are the options of `capacity lb size`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final

from capacity.errors import SettingsError


def _setting(default: Any, help: str, unit: str = "", **more: Any) -> Any:
    return field(default=default, metadata={"help": help, "unit": unit, **more})


@dataclass(frozen=True, slots=True)
class TierSettings:
    """A tier and its traffic; fields are the options of `capacity lb size`."""

    mpps: float = _setting(1.0, "Request packets from clients to carry.", "million/s")
    mode: str = _setting("snat", "How replies go.", choices=("snat", "dsr"))
    xdp: str = _setting("native", "Where forwarding runs.", choices=("native", "generic", "off"))
    placement: str = _setting(
        "cluster", "Backends on the same nodes, or behind a tier of its own.",
        choices=("cluster", "dedicated"),
    )  # fmt: skip
    policy: str = _setting(
        "Cluster", "externalTrafficPolicy of the services.", choices=("Cluster", "Local")
    )
    tunnel: bool = _setting(False, "Packets between nodes are encapsulated.")
    encryption: str = _setting(
        "none", "Packets between nodes are encrypted.", choices=("none", "wireguard", "ipsec")
    )
    router: str = _setting(
        "modulo", "How routers in front rehash when a node leaves.", choices=("modulo", "resilient")
    )
    buckets: int = _setting(0, "Hash buckets of a route; 0 where not known.", "1")
    maglev: bool = _setting(True, "Backends are chosen by Maglev.")
    cores: int = _setting(8, "Cores of a node that handle packets (receive queues).", "1")
    nic: float = _setting(25.0, "Line rate of a node.", "Gbit/s")
    cpu: float = _setting(0.7, "Share of a core that packets may take.", "1")
    latency: float = _setting(500.0, "p99 wait in a core's queue that you accept.", "µs")
    burst: float = _setting(16.0, "Mean length of packet trains.", "1")
    packet: int = _setting(512, "Mean Ethernet frame, both ways.", "byte")
    replies: float = _setting(1.0, "Reply packets for a request packet.", "1")
    per_connection: float = _setting(10.0, "Request packets of a connection.", "1")
    connections: int = _setting(100_000, "Connections open at a time.", "1")
    largest: float = _setting(0.0, "Packets of the largest single flow.", "million/s")
    services: int = _setting(100, "Services in use.", "1")
    backends: int = _setting(10, "Backends of a service.", "1")
    spare: int = _setting(1, "Nodes that may fail.", "1")
    upgrading: int = _setting(0, "Nodes that an upgrade takes out at a time.", "1")
    pass_cost: float = _setting(
        0.0,
        "Cost of a pass seen in production (capacity lb live), instead of measured parts.",
        "ns",
    )
    seed: int = _setting(0, "Seed of the draws.")

    def __post_init__(self) -> None:
        faults = list(_faults(self))
        if faults:
            raise SettingsError("; ".join(faults))


_BOUNDS: Final = {
    "mpps": (1e-6, 1e5), "cores": (1, 1024), "nic": (0.1, 3200), "cpu": (0.01, 1.0),
    "latency": (0.1, 1e6), "burst": (1, 1000), "packet": (64, 9216), "replies": (0, 100),
    "per_connection": (1, 1e9), "connections": (1, 1e9), "services": (1, 65_535),
    "backends": (1, 100_000), "spare": (0, 1000), "upgrading": (0, 1000), "largest": (0, 1e4),
    "pass_cost": (0, 1e7), "buckets": (0, 1 << 20),
}  # fmt: skip


def _faults(settings: TierSettings) -> Iterator[str]:
    for name, (low, high) in _BOUNDS.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            yield f"{name}: {value:g} is outside {low:g}…{high:g}"
    for item in fields(settings):
        allowed = item.metadata.get("choices")
        if allowed and getattr(settings, item.name) not in allowed:
            yield f"{item.name}: {getattr(settings, item.name)!r} is none of {', '.join(allowed)}"
