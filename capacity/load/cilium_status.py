"""What the agent tells of itself, as cilium-dbg prints it: status and configuration.

Formats: cilium/cilium api/v1/models (`-o json`), cilium-dbg/cmd/config.go, pkg/client/client.go
FormatStatusResponse, of 1.17. Rows are in the columns of the tables that inventories.py makes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from capacity import facts
from capacity.load.cilium_lists import dict_in, dicts_in, text_of
from capacity.load.documents import Found, Row

# Name in status → map: daemon/cmd/status.go getBPFMapStatus, read in a fork. `Endpoint policy` is
# the size of the endpoints' map there, which recorded agents show too.
_SIZES: Final[Mapping[str, str]] = {
    "Auth": "cilium_auth_map",
    "Non-TCP connection tracking": "cilium_ct_any4_global",
    "TCP connection tracking": "cilium_ct4_global",
    "IP cache": "cilium_ipcache",
    "IPv4 masquerading agent": "cilium_ipmasq_v4",
    "IPv6 masquerading agent": "cilium_ipmasq_v6",
    "IPv4 fragmentation": "cilium_ipv4_frag_datagrams",
    "IPv4 service": "cilium_lb4_services_v2",
    "IPv6 service": "cilium_lb6_services_v2",
    "IPv4 service backend": "cilium_lb4_backends_v3",
    "IPv6 service backend": "cilium_lb6_backends_v3",
    "IPv4 service reverse NAT": "cilium_lb4_reverse_nat",
    "IPv6 service reverse NAT": "cilium_lb6_reverse_nat",
    "Metrics": "cilium_metrics",
    "Ratelimit metrics": "cilium_ratelimit_metrics",
    "NAT": "cilium_snat_v4_external",
    "Neighbor table": "cilium_nodeport_neigh4",
    "Global policy": "cilium_policy_",
    "Session affinity": "cilium_lb4_affinity",
    "Sock reverse NAT": "cilium_lb4_reverse_sk",
    "Tunnel": "cilium_tunnel_map",
}
# Field of the agent's configuration, as recorded → its flag (facts/options.csv). Sizes that are 0
# fall back to those of other maps.
_FIELDS: Final[Mapping[str, str]] = {
    "AllowLocalhost": "allow-localhost",
    "AuthMapEntries": "bpf-auth-map-max",
    "BPFMapsDynamicSizeRatio": "bpf-map-dynamic-size-ratio",
    "CTMapEntriesGlobalAny": "bpf-ct-global-any-max",
    "CTMapEntriesGlobalTCP": "bpf-ct-global-tcp-max",
    "ClusterName": "cluster-name",
    "EnableHostFirewall": "enable-host-firewall",
    "EnableIPv4": "enable-ipv4",
    "EnableIPv6": "enable-ipv6",
    "FragmentsMapEntries": "bpf-fragments-map-max",
    "KubeProxyReplacement": "kube-proxy-replacement",
    "LBAffinityMapEntries": "bpf-lb-affinity-map-max",
    "LBBackendMapEntries": "bpf-lb-service-backend-map-max",
    "LBMaglevMapEntries": "bpf-lb-maglev-map-max",
    "LBMapEntries": "bpf-lb-map-max",
    "LBRevNatEntries": "bpf-lb-rev-nat-map-max",
    "LBServiceMapEntries": "bpf-lb-service-map-max",
    "LBSourceRangeMapEntries": "bpf-lb-source-range-map-max",
    "NATMapEntriesGlobal": "bpf-nat-global-max",
    "NeighMapEntriesGlobal": "bpf-neigh-global-max",
    "NodePortAlg": "bpf-lb-algorithm",
    "PolicyMapEntries": "bpf-policy-map-max",
    "PreAllocateMaps": "preallocate-bpf-maps",
    "SockRevNatEntries": "bpf-sock-rev-map-max",
}
_RATIO: Final = "bpf-map-dynamic-size-ratio"
_MOST: Final = (1 << 63) - 1
_DYNAMIC: Final = re.compile(r"^BPF Maps: +dynamic sizing: (?:on \(ratio: ([\d.]+)\)|off)", re.M)
_REPLACEMENT: Final = re.compile(r"^KubeProxyReplacement: +(\w+)", re.MULTILINE)
_SIZE: Final = re.compile(r"^  (\S.*?) {2,}(\d{1,18})$", re.MULTILINE)
_FIELD: Final = re.compile(r"^([A-Za-z][\w-]*) *: (.*)$", re.MULTILINE)


def is_status(document: Any) -> bool:
    """Tell whether this is `status -o json`, or the agent's /v1/healthz."""
    return isinstance(document, dict) and isinstance(document.get("bpf-maps"), dict)


def read_status(document: Any, place: str) -> Found:
    """Give sizes of maps, the node's name, and the options a status tells."""
    maps = dicts_in(document["bpf-maps"].get("maps"))
    told = [(text_of(one.get("name")), one.get("size")) for one in maps]
    ratio = document["bpf-maps"].get("dynamic-size-ratio")
    options = {
        _RATIO: f"{ratio}" if isinstance(ratio, float) and ratio > 0 else "",
        "kube-proxy-replacement": text_of(dict_in(document, "kube-proxy-replacement").get("mode")),
    }
    name = text_of(dict_in(document, "cluster").get("self"))
    cluster, _, node = name.rpartition("/")
    options["cluster-name"] = cluster
    return _status(told, options, [(node,)] if node else [], place)


def read_status_text(text: str, place: str) -> Found:
    """Give the same of `status --verbose`, which names no node."""
    sizes = text.partition("\nBPF Maps:")[2].partition("\nEncryption:")[0]
    told: list[tuple[str, Any]] = [(name, int(size)) for name, size in _SIZE.findall(sizes)]
    ratio, mode = _DYNAMIC.search(text), _REPLACEMENT.search(text)
    options = {
        _RATIO: (ratio[1] or "") if ratio else "",
        "kube-proxy-replacement": mode[1] if mode else "",
    }
    return _status(told, options, [], place)


def _status(
    sizes: list[tuple[str, Any]], options: Mapping[str, str], self: list[Row], place: str
) -> Found:
    rows: list[Row] = [
        (_SIZES[name], None, size, None, f"status: {place}")
        for name, size in sizes
        if name in _SIZES and isinstance(size, int) and 0 <= size <= _MOST
    ]
    many = len(sizes) - len(rows)
    told = [(name, value.lower(), f"{place}: status") for name, value in options.items() if value]
    left_out = {"sizes of maps that have no or another name": many} if many else {}
    return Found(
        len(sizes) + len(told),
        {"map_entries": rows, "cilium-dbg option": told, "self": self},
        (),
        left_out,
    )


def read_config_text(text: str, place: str) -> Found:
    """Give agent options of `config --all`, which tells what is in effect, set or not.

    Sizes that the agent computed itself are left out: as options they would count as set.
    """
    fields = _FIELD.findall(text)
    told = {_FIELDS[name]: value.strip() for name, value in fields if name in _FIELDS}
    known = facts.options().filter(facts.options()["dynamic"])["option"].unique().to_list()
    is_dynamic = told.get(_RATIO, "0") not in ("0", "")
    computed = [name for name in told if is_dynamic and name in known]
    rows: list[Row] = [
        (name, value, f"{place}: config")
        for name, value in told.items()
        if name not in computed and value not in ("", "0", "<nil>")
    ]
    left_out = {
        "sizes computed by the agent": len(computed),
        "fields with no bearing on capacity, or not set": len(fields) - len(computed) - len(rows),
    }
    counted = {what: many for what, many in left_out.items() if many}
    return Found(len(fields), {"cilium-dbg option": rows}, (), counted)
