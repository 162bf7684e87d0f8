"""Read an inventory: which files, which reader, and tables made of what the readers found."""

from __future__ import annotations

import glob
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
from capacity.load import bpftool, helm, kubernetes
from capacity.load.documents import Documents, Found, Row, collector_paused, content, parse
from capacity.tables import (
    BACKENDS,
    BPF_MAPS,
    ENDPOINTS,
    IDENTITIES,
    NAMESPACES,
    NODES,
    OPTIONS,
    POLICIES,
    SERVICES,
    SOURCES,
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
    "golden case": InventoryReader(kubernetes.is_case, kubernetes.read_case),
    "helm values": InventoryReader(lambda told: helm.values_of(told) is not None, _helm_values),
}
_PINS: Final = "bpftool pins"
# Table → kinds its rows come from, in order of trust: of one object told twice the last one wins
TABLES_OF: Final[Mapping[Table, tuple[str, ...]]] = {
    SERVICES: ("Service",),
    BACKENDS: ("Endpoints", "EndpointSlice"),
    NAMESPACES: ("Namespace",),
    IDENTITIES: ("CiliumIdentity",),
    POLICIES: ("NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"),
    OPTIONS: ("Helm", "HelmRelease", "ConfigMap"),
}
# What makes an object one and the same
_KEYS: Final[Mapping[Table, tuple[str, ...]]] = {
    SERVICES: ("namespace", "service"),
    BACKENDS: ("namespace", "service", "address", "port", "protocol"),
    NAMESPACES: ("namespace",),
    IDENTITIES: ("identity",),
    POLICIES: ("kind", "namespace", "policy"),
    OPTIONS: ("option",),
    ENDPOINTS: ("namespace", "pod"),
}
# Endings in a folder; other files there are none of ours. `.gz` may follow each.
_JSON: Final = (".json",)
_YAML: Final = (".yaml", ".yml")
_TEXT: Final = (".txt",)
# Exports of metrics: read() takes them
_METRICS: Final = (".prom", ".om", ".csv", ".tsv", ".parquet", ".pb", ".snappy")
_ANSWER: Final = (b'{"status":"success"', b'{"status":"error"')
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
        YAML, Lists), ``bpftool map show -j``, lists of pins, Helm values of Cilium, golden policy
        cases; each may be gzip'd. Exports of metrics among them are left to `read`.
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
    if required and not any(found.read > len(found.faults) for f in files for found in f.found):
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
        yield from sorted(
            (p for p in found if _ending(p) in (*_JSON, *_YAML, *_TEXT)),
            key=lambda p: p.relative_to(path).parts,
        )
    elif path.exists():
        yield path
    else:
        # Path.glob takes no absolute patterns
        matches = sorted(glob.glob(str(source), recursive=True))  # noqa: PTH207
        if not matches:
            raise ExportError(f"{_name(source)}: no such file or folder, and no file matches it")
        yield from dict.fromkeys(found for match in matches for found in _paths(Path(match)))


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
    if _ending(path) in _TEXT or _is_answer(data):
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
    reasons = faults[:_SHOWN]
    if len(faults) > _SHOWN:
        reasons.append(f"and {len(faults) - _SHOWN} more")
    if left_out:
        counted = ", ".join(f"{what} {count}" for what, count in sorted(left_out.items()))
        reasons.append(f"left out: {counted}")
    return source_row(
        str(file.path), file.format, read=read, kept=read - len(faults),
        reason="; ".join(reasons) or None,
    )  # fmt: skip


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
        Tables by name, and a note where policies were told more than once.
    """
    rows: dict[str, list[Row]] = {}
    for origin, found in told:
        for kind, some in found.rows.items():
            more = [(origin, *row) for row in some] if kind == "bpf_maps" else some
            rows.setdefault(kind, []).extend(more)
    frames = {
        table.name: _frame([row for kind in kinds for row in rows.get(kind, ())], table)
        for table, kinds in TABLES_OF.items()
    }
    nodes = _nodes(rows)
    frames["nodes"] = _counted(nodes)
    frames["endpoints"] = _endpoints(rows, nodes)
    frames["bpf_maps"] = _bpf_maps(rows.get("bpf_maps", []))
    policies = sum(len(rows.get(kind, ())) for kind in TABLES_OF[POLICIES])
    twice = policies - len(frames["policies"])
    note = f"{twice} policies of the same kind, namespace and name: the last one counts"
    return frames, note if twice else None


def _frame(rows: Sequence[Row], table: Table) -> pl.DataFrame:
    """Make a table of rows; of equal keys the last row counts."""
    frame = pl.DataFrame(rows, schema=table.schema, orient="row")
    keys = _KEYS[table]
    return check(frame.unique(keys, keep="last", maintain_order=True).sort(keys), table)


def _nodes(rows: Mapping[str, Sequence[Row]]) -> pl.DataFrame:
    """Node and CiliumNode of one name are one node: what Cilium tells comes first.

    Column `addresses` still lists them: endpoints look their node up by address.
    """
    schema = pl.Schema({**NODES.schema, "addresses": pl.List(pl.String)})
    plain, cilium = (
        pl.DataFrame(rows.get(kind, ()), schema=schema, orient="row").unique(
            "node", keep="last", maintain_order=True
        )
        for kind in ("Node", "CiliumNode")
    )
    both = cilium.join(plain, on="node", how="full", coalesce=True, suffix="_plain")
    told = [
        pl.coalesce(name, f"{name}_plain").alias(name) for name in NODES.schema if name != "node"
    ]
    return both.select("node", *told).sort("node")


def _counted(nodes: pl.DataFrame) -> pl.DataFrame:
    many = pl.col("addresses").list.len().cast(pl.Int64)
    return check(nodes.with_columns(addresses=pl.when(many > 0).then(many)), NODES)


def _endpoints(rows: Mapping[str, Sequence[Row]], nodes: pl.DataFrame) -> pl.DataFrame:
    """Pods, and Cilium's endpoints where no pod tells; these name their node by its address."""
    pods = _frame(rows.get("Pod", ()), ENDPOINTS)
    listed = [*rows.get("CiliumEndpointSlice", ()), *rows.get("CiliumEndpoint", ())]
    others = _frame(listed, ENDPOINTS).join(pods, on=["namespace", "pod"], how="anti")
    named = nodes.select("node", "addresses").explode("addresses").drop_nulls()
    homes = named.unique("addresses", keep="first", maintain_order=True)
    others = others.rename({"node": "addresses"}).join(homes, on="addresses", how="left")
    both = pl.concat([pods, others.select(ENDPOINTS.schema.names())])
    return check(both.sort("namespace", "pod"), ENDPOINTS)


def _origin(path: Path) -> str:
    """Name the node of a file: `a.json` and `a.pins.txt` in one folder are of one node."""
    name = path.name.removesuffix(".gz")
    for ending in (".pins.txt", ".bpftool.json", ".json"):
        name = name.removesuffix(ending)
    return str(path.with_name(name))


def _bpf_maps(rows: Sequence[Row]) -> pl.DataFrame:
    """Give table bpf_maps; a map that is in a list of pins too has its whole name."""
    schema = pl.Schema({"origin": pl.String(), "id": pl.Int64(), "is_whole": pl.Boolean()})
    schema |= BPF_MAPS.schema
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    frame = frame.sort("time", "origin", "id", "is_whole", maintain_order=True)
    numbered = pl.col("id").is_not_null()
    once = frame.filter(numbered).unique(["origin", "id"], keep="last", maintain_order=True)
    return check(bpftool.whole_names(pl.concat([once, frame.filter(~numbered)])), BPF_MAPS)
