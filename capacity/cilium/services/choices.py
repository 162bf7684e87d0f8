"""What the entries of services depend on beside the services: options, version, the node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.errors import SettingsError
from capacity.inventory import Inventory

Options = Mapping[str, Any]

# Short name → agent flag; the first five are those of the golden cases
_FLAGS: Final[Mapping[str, str]] = {
    "ipv4": "enable-ipv4",
    "ipv6": "enable-ipv6",
    "node_port": "kube-proxy-replacement",
    "node_port_algorithm": "bpf-lb-algorithm",
    "external_cluster_ip": "bpf-lb-external-clusterip",
    "source_range_check": "enable-svc-source-range-check",
    "source_range_all_types": "bpf-lb-source-range-all-types",
    "protocol_differentiation": "bpf-lb-proto-diff",
    "wildcard_entries": "bpf-lb-enable-wildcard-entries",
    "terminating_endpoints": "enable-k8s-terminating-endpoint",
    "health_check_addresses": "enable-health-check-loadbalancer-ip",
    "algorithm_annotation": "bpf-lb-algorithm-annotation",
    "node_port_range": "node-port-range",
    "default_lb_ipam": "default-lb-service-ipam",
}
# No flags of the agent: the node that is counted, and its addresses for NodePort
NODE: Final = "node_name"
ADDRESSES: Final = "node_port_addresses"
_OLD_SWITCH: Final = "enable-node-port"
_ON: Final = ("true", "strict", "partial", "probe", "1", "yes", "on")
_OFF: Final = ("false", "disabled", "0", "no", "off", "")
_PROTOCOLS: Final = (1, 17)  # cilium/cilium pull request 33434's flag bpf-lb-proto-diff, on
# Trees before the release, as the one the golden cases are of, know no protocols
_BEFORE: Final = ("1.17.0-dev", "v1.17.0-dev")
_REWRITTEN: Final = (1, 18)  # pkg/loadbalancer takes the place of pkg/service
_WILDCARDS: Final = (1, 20)  # cilium/cilium pkg/loadbalancer/config.go EnableWildcardEntries
_UNREADY: Final = (1, 19)  # cilium/cilium pull requests 40969 and 42170, also in 1.18.5 or so


@dataclass(frozen=True, slots=True)
class Choices:
    """Options of the agent as they bear on load balancer entries."""

    version: str
    ipv4: bool
    ipv6: bool
    replaces_kube_proxy: bool
    maglev: bool
    annotated_algorithm: bool
    external_cluster_ip: bool
    source_ranges: bool
    source_ranges_everywhere: bool
    protocols: bool
    type_annotation: bool
    is_rewritten: bool
    keeps_unready: bool
    terminating: bool
    health_check_addresses: bool
    wildcards: bool
    lb_ipam: bool
    node_ports: tuple[int, int]
    node: str | None
    addresses: Mapping[int, tuple[str, ...]]

    @property
    def families(self) -> tuple[int, ...]:
        """IP families that are on."""
        return tuple(family for family, is_on in ((4, self.ipv4), (6, self.ipv6)) if is_on)


def chosen_of(inventory: Inventory, *, version: str, options: Options | None = None) -> Choices:
    """Give what counts: `options`, else the inventory's, else what the version does by itself.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option is not known or has a value that the agent does not take.
    """
    release = facts.minor(version)
    number = tuple(map(int, release.split(".")))
    known = set(facts.options(release)["option"])
    given = dict(inventory.options.select("option", "value").iter_rows())
    is_told = bool(given)
    given |= _checked(options or {}, known)
    addresses = _addresses(given.get(ADDRESSES))
    has_six = (
        inventory.services.select(pl.col("object").str.contains(r'"IPv6"').any()).item() or False
    )
    on = _Switches(given)
    return Choices(
        version=release,
        ipv4=on("ipv4", default=True),
        ipv6=on("ipv6", default=bool(has_six) and not is_told),
        # Where the inventory tells no option at all, what costs more is taken
        replaces_kube_proxy=on("node_port", default=not is_told, old=_OLD_SWITCH),
        maglev=str(given.get(_FLAGS["node_port_algorithm"], "random")) == "maglev",
        annotated_algorithm=on("algorithm_annotation", default=False),
        external_cluster_ip=on("external_cluster_ip", default=False),
        source_ranges=number >= _REWRITTEN or on("source_range_check", default=True),
        source_ranges_everywhere=number >= _REWRITTEN
        or (number >= _PROTOCOLS and on("source_range_all_types", default=False)),
        protocols=number > _REWRITTEN
        or (
            number >= _PROTOCOLS
            and on("protocol_differentiation", default=not version.startswith(_BEFORE))
        ),
        type_annotation=number >= _PROTOCOLS,
        is_rewritten=number >= _REWRITTEN,
        keeps_unready=number >= _UNREADY,
        terminating=on("terminating_endpoints", default=True),
        health_check_addresses=number >= (1, 15) and on("health_check_addresses", default=False),
        wildcards=number >= _WILDCARDS and on("wildcard_entries", default=True),
        lb_ipam=str(given.get(_FLAGS["default_lb_ipam"], "lbipam")) == "lbipam",
        node_ports=port_range(given.get(_FLAGS["node_port_range"])),
        node=str(given[NODE]) if given.get(NODE) else None,
        addresses=addresses,
    )


def map_size(inventory: Inventory, options: Options | None, fact: Mapping[str, Any]) -> int | None:
    """Give the size of a map of facts/maps: its own option, else bpf-lb-map-max, else the default.

    0 for a map's own option means bpf-lb-map-max.
    """
    given = dict(inventory.options.select("option", "value").iter_rows())
    given |= {name.replace("_", "-"): value for name, value in (options or {}).items()}
    for name in (fact["option"], "bpf-lb-map-max"):
        value = given.get(name)
        if value is None:
            continue
        if not str(value).isdecimal():
            raise SettingsError(f"option {name}: {value!r} is no number of entries")
        if int(value):
            return int(value)
    return None if fact["max_entries"] is None else int(fact["max_entries"])


class _Switches:
    """Boolean options by their short name."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given

    def __call__(self, name: str, *, default: bool, old: str | None = None) -> bool:
        told = self.given.get(_FLAGS[name])
        if old is not None and (told is None or str(told).lower() in _OFF):
            told = self.given.get(old, told)
        if told is None:
            return default
        text = str(told).lower()
        if text not in (*_ON, *_OFF):
            raise SettingsError(f"option {_FLAGS[name]}: {told!r} is neither true nor false")
        return text in _ON


def _checked(options: Options, known: set[str]) -> dict[str, Any]:
    """Give options by agent flag; refuse what is neither a short name nor a flag."""
    flags = {*_FLAGS.values(), _OLD_SWITCH, *known}
    out: dict[str, Any] = {}
    for name, value in options.items():
        flag = _FLAGS.get(name, name)
        if flag not in (*flags, NODE, ADDRESSES):
            wanted = ", ".join(sorted([*_FLAGS, NODE, ADDRESSES]))
            raise SettingsError(
                f"option {name!r} is not known; wanted is an agent flag or {wanted}"
            )
        out[flag] = value
    return out


def _addresses(told: Any) -> Mapping[int, tuple[str, ...]]:
    """Node addresses for NodePort by family; one of each family where they are not told.

    An agent takes one address a family of each device, or those in nodeport-addresses:
    cilium/cilium pkg/datapath/tables/node_address.go.
    """
    if told is None:
        return {4: ("node/4",), 6: ("node:6",)}
    names: Iterable[str] = told.split(",") if isinstance(told, str) else map(str, told)
    listed = [name.strip() for name in names if name.strip()]
    return {
        4: tuple(name for name in listed if ":" not in name),
        6: tuple(name for name in listed if ":" in name),
    }


def port_range(told: Any) -> tuple[int, int]:
    """Give both ends of option node-port-range; the agent's default where it is not told.

    Raises
    ------
    SettingsError
        If it is no range of ports.
    """
    text = "30000,32767" if told is None else str(told)
    ends = [end.strip() for end in text.replace("-", ",").split(",")]
    if len(ends) != 2 or not all(end.isdecimal() and int(end) < 65535 for end in ends):
        raise SettingsError(f"option node-port-range: {told!r} is no range, as 30000,32767")
    low, high = map(int, ends)
    if low > high:
        raise SettingsError(f"option node-port-range: {told!r} ends before it starts")
    return low, high
