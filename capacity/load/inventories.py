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
    files,
    golden_case,
    helm,
    kubernetes,
)
from capacity.load.documents import Documents, Found, collector_paused, content, parse
from capacity.load.inventory_tables import tables_of
from capacity.tables import (
    SOURCES,
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
# Endings in a folder; of other files the beginning tells. `.gz` and `.zst` may follow each.
_JSON: Final = (".json",)
_YAML: Final = (".yaml", ".yml")
_TEXT: Final = (".txt", ".md")
# Exports of metrics: read() takes them
_METRICS: Final = (".prom", ".om", ".csv", ".tsv", ".parquet", ".pb", ".snappy")
# Of a file without a known ending: enough to tell by. [byte]
_BEGINNING: Final = 4096
_ANSWER: Final = (b'{"status":"success"', b'{"status":"error"')
_LIKE_JSON: Final = re.compile(rb"\s*[\[{](?!\s*\"action\")")
# Each line matches in one way: else blank lines are tried in all their compositions
_LIKE_OBJECTS: Final = re.compile(
    rb"\s*(?:\[\s*)?(?:\{\s*[\"}]|\])|(?:---[ \r]*\n|#.*\n|[^\S\n]*\n)*apiVersion: "
)
_UNKNOWN: Final = "no Kubernetes object, output of cilium-dbg or values of Cilium: is not used"
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
        Cilium, golden policy cases; each may be gzip'd or zstd'd. YAML is told by its ending, all
        else by what it holds. Exports of metrics among them are left to `read`.
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
            elif _may_be_one(one):
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
        if is_refused or _may_be_one(member):
            yield member


def _may_be_one(path: Path) -> bool:
    """Tell whether a file of a folder may hold an inventory; without a known ending by its text."""
    if files.ending(path) in (*_JSON, *_YAML, *_TEXT):
        return True
    if files.ending(path) in _METRICS:
        return False
    try:
        begins = files.beginning(path, _BEGINNING)
    except ExportError:
        # read() tells it
        return False
    if b"\0" in begins or _is_answer(begins):
        return False
    if _LIKE_OBJECTS.match(begins) or bpftool.is_pin_list(begins):
        return True
    lines = begins[: begins.rfind(b"\n") + 1]
    return cilium_dbg.read_text(lines, str(path)) is not None


def _is_read(path: Path) -> bool:
    """Leave out hidden folders, and Cilium's own chart: its values are defaults of templates."""
    is_hidden = any(part.startswith(".") for part in path.parts)
    return not is_hidden and ("charts", "cilium") not in pairwise(path.parts)


def _read_file(path: Path) -> _File | None:
    """Read one file; None for exports of metrics."""
    if files.ending(path) in _METRICS:
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
    if files.ending(path) in _TEXT and not _LIKE_OBJECTS.match(data):
        return None
    with collector_paused():
        return _taken(path, parse(data, is_json=files.ending(path) in _JSON))


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
    reasons += [_UNKNOWN] if file.format is None and not reasons else []
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


def _origin(path: Path) -> str:
    """Name the node of a file: `a.json` and `a.pins.txt` in one folder are of one node."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    for ending in (".pins.txt", ".bpftool.json", ".json", ".txt"):
        name = name.removesuffix(ending)
    return str(path.with_name(name))
