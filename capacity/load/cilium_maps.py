"""How many entries each BPF map holds, counted in what `cilium-dbg bpf …` and `map list` print.

Formats: cilium/cilium cilium-dbg/cmd/bpf_*_list.go, map_list.go, bpf_policy_get.go of 1.17 and main
of 2026-03. Not recorded with entries: NAT, fragments, auth, IPv6, and the tables of ipcache,
endpoints, tunnel, node ids and ipmasq; their headers were read there (ipcache 08f058255814,
endpoints 417cbc032d27, ipmasq 06a3625a378d, tunnel of fork giorio94/cilium 46b90c17596a), the lines
of NAT in a user's published output. No output tells the version: maps have their names of 1.17,
from which facts.map_of_label finds those of others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from capacity.load.documents import Found, Row
from capacity.load.line_counts import CONNECTION, ENDPOINT, V6, connections, sections

_POLICY: Final = re.compile(r"(cilium_policy_(?:v\d+_)?)(\d+)")
# IPPROTO_TCP: only its connections are in the map without `any`, pkg/maps/ctmap/ctmap.go
_TCP: Final = 6
_V4_BYTES: Final = 4

# What is listed → its maps by family; ct and nat are told below
_BY_FAMILY: Final[Mapping[str, tuple[str, str]]] = {
    "services": ("cilium_lb4_services_v2", "cilium_lb6_services_v2"),
    "backends": ("cilium_lb4_backends_v3", "cilium_lb6_backends_v3"),
    "reverse nat": ("cilium_lb4_reverse_nat", "cilium_lb6_reverse_nat"),
    "source ranges": ("cilium_lb4_source_range", "cilium_lb6_source_range"),
    "ipmasq": ("cilium_ipmasq_v4", "cilium_ipmasq_v6"),
    "frag": ("cilium_ipv4_frag_datagrams", "cilium_ipv6_frag_datagrams"),
    "nat": ("cilium_snat_v4_external", "cilium_snat_v6_external"),
}
# What is listed → its only map, which holds both families
_ONE: Final[Mapping[str, str]] = {
    "ipcache": "cilium_ipcache",
    "endpoint": "cilium_lxc",
    "tunnel": "cilium_tunnel_map",
    "nodeid": "cilium_node_map_v2",
    "auth": "cilium_auth_map",
    "metrics": "cilium_metrics",
}
_CT: Final = (
    ("cilium_ct4_global", "cilium_ct_any4_global"),
    ("cilium_ct6_global", "cilium_ct_any6_global"),
)
# What is listed → the command
COMMANDS: Final[Mapping[str, str]] = {
    "ct": "bpf ct list global",
    "nat": "bpf nat list",
    "services": "bpf lb list",
    "backends": "bpf lb list --backends",
    "reverse nat": "bpf lb list --revnat",
    "source ranges": "bpf lb list --source-ranges",
    "ipmasq": "bpf ipmasq list",
    "frag": "bpf frag list",
    "ipcache": "bpf ipcache list",
    "endpoint": "bpf endpoint list",
    "tunnel": "bpf tunnel list",
    "nodeid": "bpf nodeid list",
    "auth": "bpf auth list",
    "metrics": "bpf metrics list",
    "policy": "bpf policy get --all",
    "maps": "map list",
}
# Cells of the first line of a table → what is listed
_HEADERS: Final[Mapping[tuple[str, ...], str]] = {
    ("SERVICE ADDRESS", "BACKEND ADDRESS (REVNAT_ID) (SLOT)"): "services",
    ("SERVICE ADDRESS", "BACKEND ID"): "services",
    ("SOURCE RANGE (REVNAT_ID)",): "source ranges",
    ("IP PREFIX/ADDRESS", "IDENTITY"): "ipcache",
    ("IP PREFIX/ADDRESS",): "ipmasq",
    ("IP ADDRESS", "LOCAL ENDPOINT INFO"): "endpoint",
    ("TUNNEL", "VALUE"): "tunnel",
    ("NODE ID", "IP ADDRESSES"): "nodeid",
    ("NODE ID", "IP ADDRESSES", "SPI"): "nodeid",
    ("ID", "PROTO", "SOURCE ADDRESS:PORT", "DEST ADDRESS:PORT"): "frag",
    ("ID", "PROTO", "SOURCE ADDRESS:PORT", "DEST ADDRESS:PORT", "SIP CALL-ID HASH"): "frag",
    ("SRC IDENTITY", "DST IDENTITY", "REMOTE NODE ID", "AUTH TYPE", "EXPIRATION"): "auth",
    ("REASON", "DIRECTION", "PACKETS", "BYTES"): "metrics",
    ("REASON", "DIRECTION", "PACKETS", "BYTES", "LINE", "FILE"): "metrics",
}
_LB_ID: Final = ("ID", "BACKEND ADDRESS (REVNAT_ID) (SLOT)")
_MAP_LIST: Final = ("Name", "Num entries", "Num errors", "Cache enabled")
_CELLS: Final = re.compile(r" {2,}|\t+")
_OF_NAT: Final = b" XLATE_"
_SLOT: Final = re.compile(r" \(\d+\)")


def _found(kind: str, counts: Mapping[str, int], place: str, faults: Iterable[str] = ()) -> Found:
    told = tuple(faults)
    rows = [_row(name, count, kind, place) for name, count in counts.items()]
    return Found(sum(counts.values()) + len(told), {"map_entries": rows}, told)


def _row(name: str, entries: int | None, kind: str, place: str) -> Row:
    """Give map, entries, max_entries, subject and source of table map_entries."""
    policy = _POLICY.fullmatch(name)
    known, subject = (policy[1], str(int(policy[2]))) if policy else (name, None)
    return known, entries, None, subject, f"{COMMANDS[kind]}: {place}"


def empty(kind: str, place: str) -> Found:
    """Tell that nothing is listed: maps of IPv4 are named, as which families are on is not told."""
    return _found(kind, _no_entries(kind), place)


def _no_entries(kind: str) -> dict[str, int]:
    """Give the maps of a kind, without entries."""
    if kind == "ct":
        return dict.fromkeys(_CT[0], 0)
    name = _BY_FAMILY[kind][0] if kind in _BY_FAMILY else _ONE.get(kind)
    return {name: 0} if name else {}


def _by_family(
    kind: str, addresses: Iterable[Any], place: str, faults: Iterable[str] = ()
) -> Found:
    """Count entries by the family of each one's address."""
    if kind in _ONE:
        return _found(kind, {_ONE[kind]: sum(1 for _ in addresses)}, place, faults)
    many = Counter(_is_v6(address) for address in addresses) or Counter({False: 0})
    counts = {_BY_FAMILY[kind][v6]: count for v6, count in sorted(many.items())}
    return _found(kind, counts, place, faults)


def _is_v6(address: Any) -> bool:
    if isinstance(address, list):
        return len(address) > _V4_BYTES
    return str(address).count(":") >= V6


def _connections(many: Mapping[tuple[bool, bool], int], place: str, faults: Iterable[str]) -> Found:
    """Give both maps of each family that was seen; of (is IPv6, is TCP) the count."""
    families = sorted({is_v6 for is_v6, _ in many}) or [False]
    counts = {
        name: many.get((is_v6, is_tcp), 0)
        for is_v6 in families
        for name, is_tcp in zip(_CT[is_v6], (True, False), strict=True)
    }
    return _found("ct", counts, place, faults)


def _first(document: Any) -> dict[str, Any]:
    first = document[0] if isinstance(document, list) and document else None
    return first if isinstance(first, dict) else {}


def is_records(kind: str) -> Callable[[Any], bool]:
    """Make the test whether a JSON document is a list of records of this kind."""

    def is_mine(document: Any) -> bool:
        first = _first(document)
        key, value = first.get("Key"), first.get("Value")
        if isinstance(key, dict) and isinstance(value, dict) and "NextHeader" in key:
            return ("Lifetime" in value) == (kind == "ct") and kind in ("ct", "nat")
        wanted = _RECORDS.get(kind)
        return wanted is not None and wanted <= first.keys()

    return is_mine


_RECORDS: Final[Mapping[str, set[str]]] = {
    "nodeid": {"ID", "Address", "SPI"},
    "auth": {"LocalIdentity", "RemoteIdentity"},
    "frag": {"ID", "Proto", "SourceAddress"},
    "metrics": {"reason", "direction", "packets"},
}


def read_records(kind: str) -> Callable[[Any, str], Found]:
    """Make the reader of a list of records of this kind."""

    def read(document: Any, place: str) -> Found:
        good = [entry for entry in document if isinstance(entry, dict)]
        if kind in ("ct", "nat"):
            good = [entry["Key"] for entry in good if isinstance(entry.get("Key"), dict)]
        faults = ["an entry is no object as the first one is"] * (len(document) - len(good))
        if kind == "ct":
            many = Counter((_is_v6(k.get("DestAddr")), k.get("NextHeader") == _TCP) for k in good)
            return _connections(many, place, faults)
        name = "DestAddr" if kind == "nat" else "SourceAddress"
        return _by_family(kind, (entry.get(name) for entry in good), place, faults)

    return read


def kind_of_lists(document: Any) -> str | None:
    """Tell what a JSON object of lists of texts lists; None where it is none.

    >>> kind_of_lists({"10.0.0.1/32": ["identity=7 encryptkey=0"]})
    'ipcache'
    """
    if not isinstance(document, dict) or not document:
        return None
    key, values = next(iter(document.items()))
    value = values[0] if isinstance(values, list) and values else None
    if not isinstance(value, str) or not isinstance(key, str):
        return None
    return _kind_of_line(key, value)


def _kind_of_line(key: str, value: str) -> str | None:
    if key.isdecimal():
        return "backends" if "://" in value else "reverse nat"
    if value.startswith("identity="):
        return "ipcache"
    if value.startswith("id=") or value == "(localhost)":
        return "endpoint"
    if _SLOT.search(value) or _SLOT.search(key):
        return "services"
    is_pair = all(re.fullmatch(r"[\[\]0-9a-fA-F.:]+", text) for text in (key, value))
    return "tunnel" if is_pair else None


def read_lists(document: Any, place: str) -> Found:
    """Count the entries of a JSON object of lists: a key stands once for each entry under it."""
    kind = kind_of_lists(document) or ""
    is_keyed = kind in ("services", "source ranges")
    addresses = [
        _address(key if is_keyed else str(value))
        for key, values in document.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return _by_family(kind, addresses, place)


def _address(text: str) -> str:
    """Cut the scheme and what follows the address."""
    return text.split("://", 1)[-1].split(" ", 1)[0]


def is_policies(document: Any) -> bool:
    """Tell whether a JSON document is that of `bpf policy get --all`."""
    return {"EndpointID", "Path", "Content"} <= _first(document).keys()


def read_policies(document: Any, place: str) -> Found:
    """Count the entries of each endpoint's policy map."""
    rows, faults = [], []
    for number, told in enumerate(document, 1):
        path = told.get("Path") if isinstance(told, dict) else None
        content = told.get("Content") or [] if isinstance(told, dict) else None
        if isinstance(path, str) and isinstance(content, list):
            rows.append(_row(_base(path), len(content), "policy", place))
        else:
            faults.append(f"policy map {number} has no path or content")
    many = sum(row[1] for row in rows)
    return Found(many + len(faults), {"map_entries": rows}, tuple(faults))


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def is_map_list(document: Any) -> bool:
    """Tell whether a JSON document is that of `map list` or `map get`."""
    if not isinstance(document, dict):
        return False
    one = _first(document.get("maps")) or document
    return isinstance(one.get("path"), str) and ("cache" in one or document is not one)


def read_map_list(document: Any, place: str) -> Found:
    """Count what the agent keeps of each map; of maps without such a copy nothing is known."""
    maps = document["maps"] if isinstance(document.get("maps"), list) else [document]
    rows, faults, unknown = [], [], 0
    for number, told in enumerate(maps, 1):
        path = told.get("path") if isinstance(told, dict) else None
        cache = told.get("cache") if isinstance(told, dict) else None
        if not isinstance(path, str):
            faults.append(f"map {number} has no path")
        elif isinstance(cache, list):
            rows.append(_row(_base(path), sum(map(_is_there, cache)), "maps", place))
        else:
            unknown += 1
    return _listed(rows, faults, unknown)


def _is_there(entry: Any) -> bool:
    """Entries that wait to be deleted are gone for the agent: pkg/bpf/map.go DesiredAction."""
    return not (isinstance(entry, dict) and entry.get("desired-action") == "to-be-deleted")


def _listed(rows: list[Row], faults: list[str], unknown: int) -> Found:
    left_out = {"maps of which the agent keeps no copy": unknown} if unknown else {}
    read = len(rows) + len(faults) + unknown
    return Found(read, {"map_entries": rows}, tuple(faults), left_out)


def kind_of_text(text: bytes) -> str | None:
    r"""Tell what a text lists, by its first line that is not blank; None where it is none.

    >>> kind_of_text(b"TUNNEL   VALUE\n10.0.1.0   10.200.0.2:0\n")
    'tunnel'
    """
    line, second = _first_lines(text)
    if line.startswith("## Map: "):
        return "maps verbose"
    if line.encode().startswith(ENDPOINT):
        return "policy"
    if CONNECTION.match(line.encode()):
        is_nat = _OF_NAT in line.encode()
        return "nat" if is_nat else "ct" if " expires=" in line else None
    cells = tuple(cell for cell in _CELLS.split(line.strip()) if cell)
    if cells == _MAP_LIST:
        return "maps"
    if cells == _LB_ID:
        return "backends" if "://" in second else "reverse nat" if second.strip() else None
    return _HEADERS.get(cells)


def _first_lines(text: bytes) -> tuple[str, str]:
    lines = [line for line in text[:4096].splitlines() if line.strip()][:2]
    first, second, *_ = (*(line.decode("utf-8", "replace") for line in lines), "", "")
    return first, second


def read_text(kind: str, text: bytes, place: str) -> Found:
    """Count the entries in a text of this kind."""
    if kind in ("ct", "nat"):
        return _of_connections(kind, text, place)
    if kind == "maps":
        return _of_map_list(text, place)
    if kind == "maps verbose":
        return _of_map_sections(text, place)
    if kind == "policy":
        return _of_policies(text, place)
    lines = text.decode("utf-8", "replace").strip().splitlines()[1:]
    column = 1 if kind in ("backends", "reverse nat") else 0
    rows = (_CELLS.split(line.strip()) for line in lines if line.strip())
    return _by_family(kind, (_address(row[column : column + 1][0]) if len(row) > column else ""
                             for row in rows), place)  # fmt: skip


def _of_connections(kind: str, text: bytes, place: str) -> Found:
    many, odd = connections(text)
    faults = [f"{line[:60]!r} is no connection" for line in odd]
    if kind == "ct":
        return _connections(many, place, faults)
    counts = {
        name: sum(count for (is_v6, _), count in many.items() if is_v6 == of_v6)
        for of_v6, name in enumerate(_BY_FAMILY["nat"])
    }
    # A family without any entry is not told unless none has
    told = {name: count for name, count in counts.items() if count} or _no_entries(kind)
    return _found(kind, told, place, faults)


def _of_map_list(text: bytes, place: str) -> Found:
    rows, faults, unknown = [], [], 0
    for line in text.decode("utf-8", "replace").strip().splitlines()[1:]:
        cells = line.split()
        if not cells:
            continue
        if len(cells) != len(_MAP_LIST) or not cells[1].isdecimal():
            faults.append(f"{line[:60]!r} is no row of name, entries, errors and cache")
        elif cells[-1] == "true":
            rows.append(_row(cells[0], int(cells[1]), "maps", place))
        else:
            unknown += 1
    return _listed(rows, faults, unknown)


def _of_map_sections(text: bytes, place: str) -> Found:
    rows, unknown = [], 0
    for name, count in sections(text, b"## Map: "):
        if count is None:
            unknown += 1
        else:
            rows.append(_row(name, count, "maps", place))
    return _listed(rows, [], unknown)


def _of_policies(text: bytes, place: str) -> Found:
    rows = [_row(_base(path), count, "policy", place) for path, count in sections(text, b"Path: ")
            if count is not None]  # fmt: skip
    return Found(sum(row[1] for row in rows), {"map_entries": rows})
