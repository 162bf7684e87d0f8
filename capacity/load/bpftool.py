"""BPF maps of a node as bpftool prints them; three forms.

``bpftool map show -j`` is a list, without ``-j`` it is text; names are cut by the kernel. A list of
pins, lines of ``PATH {json}`` (``bpftool map show -j pinned PATH`` after each path), tells whole
names.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import polars as pl

from capacity import facts
from capacity.load.documents import Found, Row

# bpftool's name → type; tools/bpf/bpftool/map.c show_map_close_json, Linux 6.18
_FIELDS: Final[dict[str, type]] = {
    "type": str,
    "bytes_key": int,
    "bytes_value": int,
    "max_entries": int,
    "flags": int,
}
_SHAPE: Final = ["type", "key_size", "value_size"]
# tools/bpf/bpftool/map.c show_map_header_plain, show_map_close_plain, Linux 6.18
_HEAD: Final = re.compile(
    rb"^(\d{1,18}): (\S+)  (?:name (\S+)  )?flags 0x([0-9a-f]{1,15})", re.MULTILINE
)
_SIZES: Final = re.compile(
    rb"\n[ \t]+key (\d{1,18})B  value (\d{1,18})B  max_entries (\d{1,18})(?:  memlock (\d{1,18})B)?"
)
_PINNED: Final = re.compile(rb"^[ \t]+pinned (\S+)", re.MULTILINE)
# BPF_OBJ_NAME_LEN is 16 with the closing zero: include/uapi/linux/bpf.h
_CUT: Final = 15
# RFC 3339 with the colons a file name cannot have: 2026-11-23T23-39-23Z
_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d[-:]?\d\d[-:]?\d\dZ")


def is_map_list(document: Any) -> bool:
    """Tell whether a JSON document is a list of maps."""
    first = document[0] if isinstance(document, list) and document else None
    return isinstance(first, dict) and "bytes_key" in first and "max_entries" in first


def is_pin_list(data: bytes) -> bool:
    """Tell whether a text is a list of pins."""
    line = data[:400].lstrip().split(b"\n", 1)[0]
    return line.startswith(b"/") and b" {" in line


def read(document: Any, name: str) -> Found:
    """Read a list of maps.

    Parameters
    ----------
    document
        List as `bpftool map show -j` prints it; with option ``-f`` it names pins too.
    name
        File name: a UTC time in it, e.g. ``2026-11-23T23-39-23Z``, is the time of the maps.

    Returns
    -------
    Found
        Kind `bpf_maps`: the map's number, whether the whole name is known, and a row of table
        bpf_maps.

    Examples
    --------
    >>> shape = {"bytes_key": 4, "bytes_value": 4, "max_entries": 50, "flags": 0}
    >>> told = [{"id": 7, "type": "prog_array", "name": "cilium_calls_00"} | shape]
    >>> read(told, "node-1.json").rows["bpf_maps"][0][4:6]
    ('cilium_calls_00', 'prog_array')
    """
    return _found([(f"map {i}", entry) for i, entry in enumerate(document, 1)], (), name)


def read_pins(data: bytes, name: str) -> Found:
    """Read a list of pins; the last part of each path is the map's whole name."""
    entries, faults = [], []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        path, _, told = line.strip().partition(" ")
        if not path:
            continue
        try:
            entries.append((f"line {number}", orjson.loads(told) | {"pinned": [path]}))
        except (orjson.JSONDecodeError, TypeError):
            faults.append(f"line {number}: {line[:60]!r} is not a path and a JSON object")
    return _found(entries, tuple(faults), name)


def is_text(data: bytes) -> bool:
    """Tell whether a text is that of `bpftool map show`."""
    head = _HEAD.match(data, len(data[:400]) - len(data[:400].lstrip()))
    return head is not None and _SIZES.search(data, head.end(), head.end() + 400) is not None


def read_text(data: bytes, name: str) -> Found:
    """Read the text of `bpftool map show`: the same rows as of its JSON."""
    heads = list(_HEAD.finditer(data))
    entries: list[tuple[str, Any]] = []
    faults = []
    for head, end in zip(heads, [*(h.start() for h in heads[1:]), len(data)], strict=True):
        sizes = _SIZES.search(data, head.end(), end)
        if sizes is None:
            faults.append(f"map {int(head[1])}: no key, value and max_entries; export it again")
            continue
        numbers = (None if text is None else int(text) for text in sizes.groups())
        told = dict(
            zip(("bytes_key", "bytes_value", "max_entries", "bytes_memlock"), numbers, strict=True)
        )
        pin = _PINNED.search(data, sizes.end(), end)
        entry = {
            "id": int(head[1]),
            "type": head[2].decode("ascii", "replace"),
            "name": (head[3] or b"").decode("ascii", "replace"),
            "flags": int(head[4], 16),
            "pinned": [pin[1].decode("utf-8", "replace")] if pin else [],
        }
        entries.append((f"map {int(head[1])}", entry | told))
    return _found(entries, tuple(faults), name)


def _found(entries: list[tuple[str, Any]], faults: tuple[str, ...], name: str) -> Found:
    time = time_in(name)
    rows: list[Row] = []
    told = list(faults)
    for place, entry in entries:
        fault = _fault(entry)
        if fault is None:
            rows.append(_row(entry, time))
        else:
            told.append(f"{place}: {fault}")
    return Found(len(entries) + len(faults), {"bpf_maps": rows}, tuple(told))


def time_in(name: str) -> datetime | None:
    """Give the UTC time that is written in a file name.

    >>> time_in("2026-11-23T23-39-23Z_m00.bpftool.json.gz").isoformat()
    '2026-11-23T23:39:23+00:00'
    """
    match = _STAMP.search(name)
    digits = re.sub(r"\D", "", match.group()) if match else ""
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def whole_names(frame: pl.DataFrame) -> pl.DataFrame:
    """Give whole names to maps whose name the kernel cut, where type and sizes leave one choice.

    Parameters
    ----------
    frame
        Table bpf_maps, or more columns, with `is_whole`.

    Notes
    -----
    Policy maps are one an endpoint: all get the name without the endpoint's number.
    """
    cut = (pl.col("name").str.len_bytes() == _CUT) & ~pl.col("is_whole")
    known = facts.maps().select(pl.col("map").str.strip_chars_end("_"), "per", *_SHAPE).unique()
    begins = pl.col("map").str.starts_with(pl.col("name"))
    numbered = pl.col("name").str.starts_with(pl.col("map") + "_") & (pl.col("per") == "endpoint")
    found = (
        frame.filter(cut)
        .select("name", *_SHAPE)
        .unique()
        .join(known, on=_SHAPE, how="inner")
        .filter(begins | numbered)
        .group_by("name", *_SHAPE)
        .agg(pl.col("map").unique())
        .filter(pl.col("map").list.len() == 1)
        .with_columns(pl.col("map").list.first())
    )
    joined = frame.join(found, on=["name", *_SHAPE], how="left", maintain_order="left")
    name = pl.when(cut).then(pl.coalesce("map", "name")).otherwise("name")
    return joined.with_columns(name=name).drop("map")


def _fault(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return f"{entry!r:.40} is no map"
    for name, kind in _FIELDS.items():
        value = entry.get(name)
        if not isinstance(value, kind) or (kind is int and _count(value) is None):
            return f"{name} is {value!r}, wanted {'a text' if kind is str else 'a count'}"
    return None


def _row(entry: dict[str, Any], time: datetime | None) -> Row:
    pins = entry.get("pinned")
    path = pins[0] if isinstance(pins, list) and pins else None
    name = str(path).rsplit("/", 1)[-1] if path else str(entry.get("name") or "")
    shape = (entry["type"], entry["bytes_key"], entry["bytes_value"], entry["max_entries"])
    told = _count(entry.get("bytes_memlock"))
    return _count(entry.get("id")), path is not None, time, None, name, *shape, entry["flags"], told


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 1 << 63 else None
