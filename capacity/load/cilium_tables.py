"""Tables that cilium-dbg prints of endpoints, identities, services and nodes, read as their JSON.

Layout: cilium/cilium cilium-dbg/cmd/endpoint_list.go (18e0f8196705), identity_list.go
(32f7e5942d3a), identity_get.go, service_list.go (1047c3b058c3; before it with a column ID) and
node_list.go (533039b0817a). All lines of a table have the columns of its first line; an entry goes
on in lines without a first cell. Endpoints and services have no names there: what stands for them
counts only where nothing tells of them by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from capacity.load import cilium_lists
from capacity.load.documents import Found, Row

_HEADERS: Final[Mapping[str, re.Pattern[str]]] = {
    "endpoint": re.compile(
        r"(ENDPOINT +)(POLICY \(ingress\) +)(POLICY \(egress\) +)(IDENTITY +)(LABELS \S+ +)"
        r"(IPv6 +)(IPv4 +)(STATUS *)$"
    ),
    "identity": re.compile(r"(ID +)(LABELS *)(REFCOUNT *)?$"),
    "service": re.compile(r"(?:(ID +))?(Frontend +)(Service Type +)(Backend *)$"),
    "node": re.compile(
        r"(Name +)(IPv4 Address +)(Endpoint CIDR +)(IPv6 Address +)(Endpoint CIDR *)(Source *)?$"
    ),
}
# What is listed in a table → the kinds of rows that tell the same by name
_BY_NAME: Final[Mapping[str, tuple[str, ...]]] = {
    "cilium-dbg endpoint": (
        "Pod", "CiliumEndpoint", "CiliumEndpointSlice", "cilium-dbg endpoint",
    ),
    "cilium-dbg service": ("Service", "cilium-dbg service"),
    "cilium-dbg backend": ("Service", "cilium-dbg service"),
}  # fmt: skip
_TABLE: Final = " table"
_ADDRESS: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Fa-f:.]+)):(\d{1,5})(?:/([A-Z]+))?(?:/i)?"
)
_BACKEND: Final = re.compile(r"\d+ => (\S+)(?: \(([\w-]+)\))?(?: \(preferred\))?")
_NAMESPACE: Final = "k8s:io.kubernetes.pod.namespace="
_OF_ALL: Final = "frontends not used, as it is not known of which service others are"

_Address = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of a table: cells of its first line, and of those it goes on in."""

    line: int
    cells: tuple[str, ...]
    more: tuple[tuple[str, ...], ...] = ()

    def column(self, number: int) -> list[str]:
        """Give what stands in one column, line by line."""
        return [cells[number] for cells in (self.cells, *self.more) if cells[number]]


def kind_of_text(text: bytes) -> str | None:
    r"""Tell of what a text is the table, by its first line; None where it is none.

    >>> kind_of_text(b"ID   LABELS\n1    reserved:host\n")
    'identity'
    """
    line = text[:4096].lstrip().split(b"\n", 1)[0].decode("utf-8", "replace")
    return next((kind for kind, header in _HEADERS.items() if header.match(line)), None)


def read_text(kind: str, text: bytes, place: str) -> Found:
    """Read a table of this kind.

    Parameters
    ----------
    kind
        What `kind_of_text` told.
    text
        The whole text, from its header on.
    place
        File, for messages.
    """
    if not text.endswith(b"\n"):
        fault = "the text breaks off in its last line, so nothing in it is used; export it again"
        return Found(1, faults=(fault,))
    entries, faults = _entries(kind, text.decode("utf-8", "replace"))
    found = _READERS[kind](entries, place)
    rows = {
        name if name in ("self", "cilium-dbg identity") else f"{name}{_TABLE}": some
        for name, some in found.rows.items()
    }
    all_faults = (*found.faults, *faults)
    return replace(found, read=found.read + len(faults), rows=rows, faults=all_faults)


def with_tables(rows: Mapping[str, list[Row]]) -> tuple[dict[str, list[Row]], list[str]]:
    """Put what tables list in the place of rows with names where there are none of these.

    Returns
    -------
    tuple
        Rows by kind, and notes on what tables list that is not used.
    """
    told, notes = dict(rows), []
    for kind, others in _BY_NAME.items():
        some = told.pop(f"{kind}{_TABLE}", [])
        if some and any(rows.get(other) for other in others):
            what = kind.removeprefix("cilium-dbg ")
            note = f"{len(some)} {what}s of tables without names: those told by name count"
            notes.append(note)
        elif some:
            told[kind] = [*told.get(kind, []), *some]
    return told, notes


def _entries(kind: str, text: str) -> tuple[list[_Entry], list[str]]:
    """Cut lines at the columns of the first one; an entry with a line that does not fit is out."""
    lines = text.lstrip().split("\n")
    header = _HEADERS[kind].match(lines[0])
    starts = [start for start, _ in header.regs[1:]] if header else []
    entries: list[_Entry] = []
    faults: list[str] = []
    is_open = False
    for number, line in enumerate(lines[1:], 2):
        if not line.strip() or (kind == "endpoint" and number == 2 and "ENFORCEMENT" in line):
            continue
        cells = _cells(line, starts)
        is_new = not line.startswith(" ")
        if cells is not None and is_new:
            entries.append(_Entry(number, cells))
            is_open = True
        elif cells is not None and is_open:
            entries[-1] = replace(entries[-1], more=(*entries[-1].more, cells))
        elif cells is None or not faults:
            faults.append(f"line {number}: {line.strip()[:60]!r} is not in the table's columns")
            if is_open and not is_new:
                entries.pop()
            is_open = False
    return entries, faults


def _cells(line: str, starts: Sequence[int]) -> tuple[str, ...] | None:
    """Give the cells of a line, "" for columns the table lacks; None where one is across two."""
    there = [start for start in starts if start >= 0]
    if any(start and len(line) > start and line[start - 1] != " " for start in there):
        return None
    ends = dict(zip(there, [*there[1:], len(line)], strict=True))
    return tuple(line[start : ends[start]].strip() if start >= 0 else "" for start in starts)


def _endpoints(entries: Sequence[_Entry], place: str) -> Found:
    """Endpoints are named by their number and address, which makes them unique in a cluster."""
    documents = []
    for entry in entries:
        labels = entry.column(4)
        ipv6, ipv4 = entry.cells[5:7]
        namespace = [one.removeprefix(_NAMESPACE) for one in labels if one.startswith(_NAMESPACE)]
        addresses = {"ipv6": _ip(ipv6), "ipv4": _ip(ipv4)}
        name = f"endpoint-{entry.cells[0]}@{_ip(ipv4) or _ip(ipv6)}"
        status = {
            "external-identifiers": {
                "k8s-namespace": "".join(namespace[:1]), "k8s-pod-name": name,
            },
            "labels": {"security-relevant": labels},
            "networking": {"addressing": [addresses]},
        }  # fmt: skip
        documents.append({"status": status} if entry.cells[0].isdecimal() else {})
    return cilium_lists.read_endpoints(documents, place)


def _ip(text: str) -> str:
    """Leave out words that stand for no address."""
    return "" if text in ("Unknown", "No address") else text


def _identities(entries: Sequence[_Entry], place: str) -> Found:
    documents = [{"id": _number(entry.cells[0]), "labels": entry.column(1)} for entry in entries]
    return cilium_lists.read_identities(documents, place)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _nodes(entries: Sequence[_Entry], place: str) -> Found:
    """Nodes: that a table tells no secondary addresses leaves how many there are unknown."""
    documents = [
        {
            "name": name,
            "primary-address": {"ipv4": {"alloc-range": range4}, "ipv6": {"alloc-range": range6}},
            "source": source,
        }
        for name, _, range4, _, range6, source in (entry.cells for entry in entries)
    ]
    return cilium_lists.read_nodes(documents, place)


def _services(entries: Sequence[_Entry], place: str) -> Found:
    """Services by their cluster IP; other frontends are of the one that has the same backends.

    Where that is none or several, no service is given: fewer frontends would be too low a load.
    """
    frontends, faults = [], []
    for entry in entries:
        told = _frontend(entry)
        if told is None:
            faults.append(f"line {entry.line}: {entry.cells[1][:60]!r} is no frontend of backends")
        else:
            frontends.append(told)
    owners: dict[tuple[_Address, ...], set[str]] = {}
    for kind, (ip, _, _), backends, _ in frontends:
        if kind == "ClusterIP":
            owners.setdefault(tuple(sorted(backends)), set()).add(ip)
    documents = []
    for kind, address, backends, states in frontends:
        named = {address[0]} if kind == "ClusterIP" else owners.get(tuple(sorted(backends)), set())
        if len(named) == 1 and (backends or kind == "ClusterIP"):
            documents.append(_document(kind, address, backends, states, *named))
        else:
            fault = "of which service this is, is not told; use -o json"
            faults.append(f"{kind} {address[0]} port {address[1]}: {fault}")
    if faults:
        left_out = {_OF_ALL: len(documents)} if documents else {}
        return Found(len(entries), faults=tuple(faults), left_out=left_out)
    return cilium_lists.read_services(documents, place)


_Frontend = tuple[str, _Address, list[_Address], list[str]]


def _frontend(entry: _Entry) -> _Frontend | None:
    """Give kind, address, backends and their states; None where it is told otherwise."""
    at = _address(entry.cells[1])
    told = [_BACKEND.fullmatch(text) for text in entry.column(3)]
    backends = [_address(one[1]) if one else None for one in told]
    known = [one for one in backends if one is not None]
    kind = entry.cells[2].removesuffix(" (Remote)")
    if at is None or not kind or len(known) < len(backends):
        return None
    return kind, at, known, [(one[2] or "") if one else "" for one in told]


def _address(text: str) -> _Address | None:
    """Give IP, port and protocol.

    >>> _address("[fd00::1]:53/UDP"), _address("10.0.0.1:80")
    (('fd00::1', 53, 'UDP'), ('10.0.0.1', 80, ''))
    """
    found = _ADDRESS.fullmatch(text)
    return (found[1] or found[2], int(found[3]), found[4] or "") if found else None


def _document(
    kind: str, address: _Address, backends: Sequence[_Address], states: Sequence[str], name: str
) -> dict[str, Any]:
    """Give a frontend as the agent's JSON has it."""
    spec = {
        "frontend-address": {"ip": address[0], "port": address[1], "protocol": address[2]},
        "flags": {"namespace": "(not told)", "name": name, "type": kind},
        "backend-addresses": [
            {"ip": ip, "port": port, **({"state": state} if state else {})}
            for (ip, port, _), state in zip(backends, states, strict=True)
        ],
    }
    return {"spec": spec}


_READERS: Final[Mapping[str, Callable[[Sequence[_Entry], str], Found]]] = {
    "endpoint": _endpoints,
    "identity": _identities,
    "service": _services,
    "node": _nodes,
}
