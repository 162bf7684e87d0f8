"""Read an inventory: which files, which reader, and tables made of what the readers found."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import polars as pl

from capacity.errors import ExportError
from capacity.export import source_row, without_secrets
from capacity.inventory import Inventory
from capacity.load import (
    archives,
    bpftool,
    cilium_dbg,
    cilium_tables,
    golden_case,
    helm,
    kubernetes,
    workloads,
)
from capacity.load.documents import Documents, Found, Row, collector_paused, content, parse
from capacity.load.homes import nodes_of
from capacity.tables import (
    BACKENDS,
    BPF_MAPS,
    CIDR_GROUPS,
    DNS,
    ENDPOINTS,
    IDENTITIES,
    MAP_ENTRIES,
    NAMESPACES,
    NODES,
    OBJECTS,
    OPTIONS,
    POLICIES,
    PREFIXES,
    SERVICES,
    SOURCES,
    WORKLOADS,
    Table,
    check,
)  # fmt: skip

Source = str | Path | Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class InventoryReader:
    """A format: which documents are of it, and what it finds in one."""

    is_mine: Callable[[Any], bool]
    read: Callable[[Any, str], Found]


def _helm_values(document: Any, place: str) -> Found:
    return helm.read(helm.values_of(document) or {}, place)


INVENTORY_READERS: Final[Mapping[str, InventoryReader]] = {
    "kubernetes": InventoryReader(kubernetes.is_object, kubernetes.read),
    "bpftool": InventoryReader(bpftool.is_map_list, bpftool.read),
    "golden case": InventoryReader(golden_case.is_case, golden_case.read),
    "golden services": InventoryReader(golden_case.is_services_case, golden_case.read_services),
    **{name: InventoryReader(*reader) for name, reader in cilium_dbg.JSON_READERS.items()},
    "helm values": InventoryReader(lambda told: helm.values_of(told) is not None, _helm_values),
}
_PINS: Final = "bpftool pins"
_TOLD_PODS: Final = ("Pod", "CiliumEndpoint", "CiliumEndpointSlice", "cilium-dbg endpoint")
# Table → kinds its rows come from, in order of trust: of one object told twice the last one wins
TABLES_OF: Final[Mapping[Table, tuple[str, ...]]] = {
    SERVICES: ("cilium-dbg service", "Service"),
    BACKENDS: ("Endpoints", "EndpointSlice"),
    NAMESPACES: ("Namespace",),
    IDENTITIES: ("cilium-dbg identity", "CiliumIdentity"),
    POLICIES: (
        "NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy",
        "AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy",
    ),
    CIDR_GROUPS: ("CiliumCIDRGroup",),
    DNS: ("dns",),
    PREFIXES: ("prefixes",),
    OBJECTS: (
        "CiliumClusterwideEnvoyConfig", "CiliumEgressGatewayPolicy", "CiliumEnvoyConfig",
        "CiliumLoadBalancerIPPool", "CiliumLocalRedirectPolicy", "CiliumNodeConfig",
    ),
    OPTIONS: ("cilium-dbg option", "Helm", "HelmRelease", "ConfigMap"),
}  # fmt: skip
# What makes an object one and the same
_KEYS: Final[Mapping[Table, tuple[str, ...]]] = {
    SERVICES: ("namespace", "service"),
    # One port may have several names: each is one of the service's ports
    BACKENDS: ("namespace", "service", "address", "port", "protocol", "port_name"),
    NAMESPACES: ("namespace",),
    IDENTITIES: ("identity",),
    POLICIES: ("kind", "namespace", "policy"),
    CIDR_GROUPS: ("name",),
    DNS: ("name", "address"),
    PREFIXES: ("prefix",),
    OBJECTS: ("kind", "namespace", "name"),
    WORKLOADS: ("kind", "namespace", "workload", "container"),
    OPTIONS: ("option",),
    ENDPOINTS: ("namespace", "pod"),
}
# Endings in a folder; other files there are none of ours. `.gz` may follow each.
_JSON: Final = (".json",)
_YAML: Final = (".yaml", ".yml")
_TEXT: Final = (".txt", ".md")
# Exports of metrics: read() takes them
_METRICS: Final = (".prom", ".om", ".csv", ".tsv", ".parquet", ".pb", ".snappy")
_ANSWER: Final = (b'{"status":"success"', b'{"status":"error"')
_LIKE_JSON: Final = re.compile(rb"\s*[\[{](?!\s*\"action\")")
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class _File:
    """One file that was read: its format (None where nobody knew it) and what was found."""

    path: Path
    format: str | None
    found: tuple[Found, ...]
    faults: tuple[str, ...]


def read_inventory(source: Source, *, required: bool = True) -> Inventory:
    """Read what a cluster is made of.

    Parameters
    ----------
    source
        A file, a folder (read with all below it but hidden folders and charts/cilium), a glob, or
        several of these: Kubernetes objects as kubectl prints them or as they stand in Git (JSON,
        YAML, Lists), ``bpftool map show``, lists of pins, outputs of cilium-dbg, Helm values of
        Cilium, golden policy cases; each may be gzip'd. Exports of metrics among them are left to
        `read`.
    required
        Whether it is an error that nothing of an inventory is there.

    Returns
    -------
    Inventory
        Tables sorted by their keys. Column `refused` of table sources counts what could not be
        used, with the reasons; objects of unused kinds are counted in its last row.

    Raises
    ------
    ExportError
        If the source does not exist, or nothing in it can be used and `required`.

    Notes
    -----
    Parsed JSON takes about 5 times its size in memory; one file is held at a time.
    """
    paths = list(_paths(source))
    files = [file for path in paths if (file := _read_file(path)) is not None]
    inventory, repeated = tables_of(
        [(_origin(file.path), found) for file in files for found in file.found]
    )
    rows = [_source_of(file) for file in files]
    rows += _unused_row(_name(source), files, repeated)
    sources = check(pl.concat([SOURCES.empty(), *rows]), SOURCES)
    is_told = any(found.read > len(found.faults) for file in files for found in file.found)
    # An empty list tells that a map holds nothing
    if required and not is_told and inventory["map_entries"].is_empty():
        raise ExportError(_nothing(_name(source), len(paths), sources))
    return Inventory(**inventory, sources=sources)


def _name(source: Source) -> str:
    parts = [source] if isinstance(source, str | Path) else source
    named = [without_secrets(str(part)) for part in parts[:_SHOWN]]
    more = [f"and {len(parts) - _SHOWN} more"] if len(parts) > _SHOWN else []
    return ", ".join(named + more)


def _nothing(source: str, seen: int, sources: pl.DataFrame) -> str:
    told = sources.filter(pl.col("reason").is_not_null())
    first = f"; {told['source'][0]}: {told['reason'][0]}" if len(told) else ""
    return (
        f"{source}: no inventory in {seen} files that could hold one{first}; wanted are Kubernetes "
        "objects (kubectl get nodes,pods,services -A -o json), bpftool map show -j, or Helm values"
    )


def _paths(source: Source) -> Iterator[Path]:
    if not isinstance(source, str | Path):
        seen = dict.fromkeys(path for part in source for path in _paths(part))
        yield from seen
        return
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.rglob("*") if _is_read(p.relative_to(path)) and p.is_file()]
        for one in sorted(found, key=lambda p: p.relative_to(path).parts):
            if archives.is_archive(one):
                yield from _members(one)
            elif _ending(one) in (*_JSON, *_YAML, *_TEXT):
                yield one
    elif path.exists():
        yield from _members(path) if archives.is_archive(path) else [path]
    else:
        # Path.glob takes no absolute patterns
        matches = sorted(glob.glob(str(source), recursive=True))  # noqa: PTH207
        if not matches:
            raise ExportError(f"{_name(source)}: no such file or folder, and no file matches it")
        yield from dict.fromkeys(found for match in matches for found in _paths(Path(match)))


def _members(path: Path) -> Iterator[Path]:
    for member in archives.members(path):
        is_refused = isinstance(member, archives.Member) and member.fault is not None
        if is_refused or _ending(member) in (*_JSON, *_YAML, *_TEXT):
            yield member


def _is_read(path: Path) -> bool:
    """Leave out hidden folders, and Cilium's own chart: its values are defaults of templates."""
    is_hidden = any(part.startswith(".") for part in path.parts)
    return not is_hidden and ("charts", "cilium") not in pairwise(path.parts)


def _ending(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _read_file(path: Path) -> _File | None:
    """Read one file; None for exports of metrics."""
    if _ending(path) in _METRICS:
        return None
    try:
        data = content(path)
    except ExportError as error:
        return _File(path, None, (), (str(error).removeprefix(f"{path}: "),))
    if bpftool.is_pin_list(data):
        return _File(path, _PINS, (bpftool.read_pins(data, path.name),), ())
    if _is_answer(data):
        return None
    told = None if _LIKE_JSON.match(data) else cilium_dbg.read_text(data, str(path))
    if told is not None:
        return _File(path, told[0], (told[1],), ())
    if _ending(path) in _TEXT:
        return None
    with collector_paused():
        return _taken(path, parse(data, is_json=_ending(path) in _JSON))


def _is_answer(data: bytes) -> bool:
    """Tell whether this is the answer of a Prometheus API, which read() takes."""
    head = b"".join(data[:200].split())
    return head.startswith(_ANSWER)


def _taken(path: Path, told: Documents) -> _File:
    found, formats = [], []
    for number, document in told.values:
        place = f"{path} document {number}" if number > 1 or len(told.values) > 1 else str(path)
        for name, reader in INVENTORY_READERS.items():
            if reader.is_mine(document):
                found.append(reader.read(document, place))
                formats.append(name)
                break
    return _File(path, formats[0] if formats else None, tuple(found), told.faults)


def _source_of(file: _File) -> pl.DataFrame:
    faults = [*file.faults, *(fault for found in file.found for fault in found.faults)]
    read = len(file.faults) + sum(found.read for found in file.found)
    faults = [fault.removeprefix(str(file.path)).lstrip(": ") for fault in faults]
    left_out: Counter[str] = Counter()
    for found in file.found:
        left_out.update(found.left_out)
    reasons = _few(faults)
    if left_out:
        counted = ", ".join(f"{what} {count}" for what, count in sorted(left_out.items()))
        reasons.append(f"left out: {counted}")
    reasons += _few([note for found in file.found for note in found.notes])
    return source_row(
        str(file.path), file.format, read=read, kept=read - len(faults),
        reason="; ".join(reasons) or None,
    )  # fmt: skip


def _few(told: list[str]) -> list[str]:
    more = [f"and {len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
    return told[:_SHOWN] + more


def _unused_row(source: str, files: list[_File], repeated: str | None) -> list[pl.DataFrame]:
    unused: Counter[str] = Counter()
    for file in files:
        for found in file.found:
            unused.update(found.unused)
    many = unused.total()
    told = [f"{many} objects of kinds {', '.join(sorted(unused))} are not used"] if many else []
    told += [repeated] if repeated else []
    return [source_row(source, None, read=many, reason="; ".join(told))] if told else []


def tables_of(told: Sequence[tuple[str, Found]]) -> tuple[dict[str, pl.DataFrame], str | None]:
    """Make the tables of an inventory of what was found, each with the node or file it is of.

    Returns
    -------
    tuple
        Tables by name, and a note where policies were told more than once, or where no pods are
        told and those that workloads make stand for them.
    """
    rows: dict[str, list[Row]] = {}
    homes = nodes_of(told)
    for origin, found in told:
        for kind, some in found.rows.items():
            rows.setdefault(kind, []).extend(_placed(kind, some, origin, homes[origin]))
    rows, unnamed = cilium_tables.with_tables(rows)
    frames = {
        table.name: _frame([row for kind in kinds for row in rows.get(kind, ())], table)
        for table, kinds in TABLES_OF.items()
    }
    nodes = _nodes(rows)
    frames["nodes"] = _counted(nodes)
    if frames["policies"].is_empty():
        frames["policies"] = _frame(rows.get("cilium-dbg policy", ()), POLICIES)
    frames["backends"] = _with_others(frames["backends"], rows.get("cilium-dbg backend", ()))
    frames["map_entries"] = check(
        pl.DataFrame(rows.get("map_entries", ()), schema=MAP_ENTRIES.schema, orient="row"),
        MAP_ENTRIES,
    )
    frames["endpoints"] = _endpoints(rows, nodes, frames["identities"])
    frames["workloads"] = _workloads(rows)
    frames["bpf_maps"] = _bpf_maps(rows.get("bpf_maps", []))
    policies = sum(len(rows.get(kind, ())) for kind in TABLES_OF[POLICIES])
    twice = policies - len(frames["policies"])
    notes = [f"{twice} policies of the same kind, namespace and name: the last one counts"]
    notes = [*(notes if twice > 0 else []), *unnamed]
    if frames["endpoints"].is_empty():
        frames["endpoints"], made = workloads.endpoints(rows, len(nodes))
        notes += [made] if made else []
    return frames, "; ".join(notes) or None


def _placed(kind: str, rows: Sequence[Row], origin: str, node: str | None) -> Sequence[Row]:
    """Put the node or the file into rows of a kind that is of one node."""
    if kind == "bpf_maps":
        return [(origin, *row[:3], node, *row[4:]) for row in rows]
    if kind == "map_entries":
        time = bpftool.time_in(Path(origin).name)
        return [(time, node, *row) for row in rows]
    if kind.startswith("cilium-dbg endpoint"):
        return [(*row[:2], node, *row[3:]) for row in rows]
    return rows


def _with_others(told: pl.DataFrame, others: Sequence[Row]) -> pl.DataFrame:
    """Add backends of services of which Kubernetes objects tell none."""
    if not others:
        return told
    more = _frame(others, BACKENDS).join(told, on=["namespace", "service"], how="anti")
    return pl.concat([told, more]).sort(_KEYS[BACKENDS])


def _frame(rows: Sequence[Row], table: Table) -> pl.DataFrame:
    """Make a table of rows; of equal keys the last row counts."""
    if not rows:
        return table.empty()
    frame = pl.DataFrame(rows, schema=table.schema, orient="row")
    keys = _KEYS[table]
    return check(frame.unique(keys, keep="last", maintain_order=True).sort(keys), table)


def _nodes(rows: Mapping[str, Sequence[Row]]) -> pl.DataFrame:
    """Join what is told of one name: CiliumNode comes first, lists of agents come last.

    Column `addresses` still lists them: endpoints look their node up by address.
    """
    schema = pl.Schema({**NODES.schema, "addresses": pl.List(pl.String)})
    both = pl.DataFrame(schema=schema)
    for kind in ("cilium-dbg node table", "cilium-dbg node", "Node", "CiliumNode"):
        frame = pl.DataFrame(rows.get(kind, ()), schema=schema, orient="row")
        frame = frame.unique("node", keep="last", maintain_order=True)
        both = _over(frame, both)
    return both.with_columns(pl.col("labels").fill_null("{}")).sort("node")


def _over(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Join two frames of nodes; the first one wins."""
    both = first.join(second, on="node", how="full", coalesce=True, suffix="_plain")
    told = [
        pl.coalesce(name, f"{name}_plain").alias(name) for name in NODES.schema if name != "node"
    ]
    return both.select("node", *told)


def _counted(nodes: pl.DataFrame) -> pl.DataFrame:
    many = pl.col("addresses").list.len().cast(pl.Int64)
    return check(nodes.with_columns(addresses=pl.when(many > 0).then(many)), NODES)


def _endpoints(
    rows: Mapping[str, Sequence[Row]], nodes: pl.DataFrame, identities: pl.DataFrame
) -> pl.DataFrame:
    """Pods, and Cilium's endpoints where no pod tells; these name their node by its address."""
    pods = _frame(rows.get("Pod", ()), ENDPOINTS)
    sliced = _sliced(rows.get("CiliumEndpointSlice", ()), identities)
    listed = [*sliced, *rows.get("CiliumEndpoint", ())]
    if not listed and not rows.get("cilium-dbg endpoint"):
        return pods
    others = _frame(listed, ENDPOINTS).join(pods, on=["namespace", "pod"], how="anti")
    named = nodes.select("node", "addresses").explode("addresses").drop_nulls()
    homes = named.unique("addresses", keep="first", maintain_order=True)
    others = others.rename({"node": "addresses"}).join(homes, on="addresses", how="left")
    both = pl.concat([pods, others.select(ENDPOINTS.schema.names())])
    agents = _frame(rows.get("cilium-dbg endpoint", ()), ENDPOINTS)
    both = pl.concat([both, agents.join(both, on=["namespace", "pod"], how="anti")])
    return check(both.sort("namespace", "pod"), ENDPOINTS)


def _sliced(rows: Sequence[Row], identities: pl.DataFrame) -> list[Row]:
    """Endpoints of slices: their labels and service account are those of their identity."""
    if not rows:
        return []
    told = {
        number: kubernetes.pod_labels(labels)
        for number, labels in identities.select("identity", "labels").iter_rows()
    }
    unknown = "{}", None
    return [
        (*row[:3], labels, row[4], account, *row[6:8])
        for row in rows
        for labels, account in (told.get(row[8], unknown),)
    ]


def _workloads(rows: Mapping[str, Sequence[Row]]) -> pl.DataFrame:
    width = len(WORKLOADS.columns)
    kinds = (helm.RESOURCES, *workloads.KINDS)
    return _frame([row[:width] for kind in kinds for row in rows.get(kind, ())], WORKLOADS)


def _origin(path: Path) -> str:
    """Name the node of a file: `a.json` and `a.pins.txt` in one folder are of one node."""
    name = path.name.removesuffix(".gz")
    for ending in (".pins.txt", ".bpftool.json", ".json", ".txt"):
        name = name.removesuffix(ending)
    return str(path.with_name(name))


def _bpf_maps(rows: Sequence[Row]) -> pl.DataFrame:
    """Give table bpf_maps; a map that is in a list of pins too has its whole name."""
    if not rows:
        return BPF_MAPS.empty()
    schema = pl.Schema({"origin": pl.String(), "id": pl.Int64(), "is_whole": pl.Boolean()})
    schema |= BPF_MAPS.schema
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    frame = frame.sort("time", "origin", "id", "is_whole", maintain_order=True)
    numbered = pl.col("id").is_not_null()
    once = frame.filter(numbered).unique(["origin", "id"], keep="last", maintain_order=True)
    return check(bpftool.whole_names(pl.concat([once, frame.filter(~numbered)])), BPF_MAPS)
