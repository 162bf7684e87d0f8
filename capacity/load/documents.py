"""Files of JSON and YAML as plain values: size, depth and aliases are bounded, nothing is executed.

YAML is built from the parser's events: no tag makes an object, and it is several times quicker
than a loader that resolves each scalar through Python.
"""

from __future__ import annotations

import codecs
import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from capacity.errors import ExportError
from capacity.load import files

Row = tuple[Any, ...]

# Bytes after unpacking. Reading 575 MB of pods as JSON takes 2.6 GB of memory.
MOST_BYTES: Final = 2 << 30
# Containers inside containers; no Kubernetes object comes near (orjson stops at 1,024)
_DEEPEST: Final = 500
# Nodes that aliases may repeat in one document: a bomb of 100 bytes repeats billions
_MOST_REPEATED: Final = 1_000_000
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),  # what PowerShell writes after `kubectl … >`
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TAG: Final = "tag:yaml.org,2002:"
_TEXT_TAGS: Final = ("!", f"{_TAG}str")
_PLAIN_TAGS: Final = {None, *(_TAG + name for name in ("null", "bool", "int", "float"))}
_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **{word: True for low in ("true", "yes", "on") for word in (low, low.title(), low.upper())},
    **{word: False for low in ("false", "no", "off") for word in (low, low.title(), low.upper())},
}
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,30})")
_PREFIXED: Final = re.compile(r"0x[0-9a-fA-F]+|0o?[0-7]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_KEY: Final = object()
_TEMPLATE: Final = b"{{"
_LIKE_JSON: Final = re.compile(rb"\s*[\[{]")


@dataclass(frozen=True, slots=True)
class Documents:
    """What a file holds: documents with their number, from 1, and why others were refused."""

    values: tuple[tuple[int, Any], ...]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a document told: rows by the kind they are of, and what became of the rest.

    `left_out` counts what was understood but is in no table (host-network pods …), `unused` the
    kinds of objects that no table is made of; `notes` say what is odd in what is used.
    """

    read: int
    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    unused: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class _Refused(ValueError):
    """A document that is not built; the next one may be."""


class _TooDeep(ValueError):
    """Nesting that ends the reading: libyaml's time grows with its square."""


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's search for cycles of references: parsed documents have none.

    The search runs again and again while millions of values are made: a list of 50,000 pods
    (575 MB) takes 15 s with it and 2.5 s without, orjson 3.13 on CPython 3.11, 2 cores.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def content(path: Path) -> bytes:
    """Give the bytes of a file, unpacked if it is gzip'd or zstd'd, as UTF-8.

    Raises
    ------
    ExportError
        If the file cannot be read, or is larger than MOST_BYTES.
    """
    try:
        with files.opened(path) as stream:
            data = bytes(stream.read(MOST_BYTES + 1))
    except files.faults() as error:
        raise ExportError(f"{path}: {files.why(error)}") from error
    if len(data) > MOST_BYTES:
        raise ExportError(
            f"{path}: larger than {MOST_BYTES} bytes; export it in parts, by namespace"
        )
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace").encode()
    return data


def parse(data: bytes, *, is_json: bool) -> Documents:
    r"""Read JSON or YAML; what starts like JSON is tried as JSON first.

    Examples
    --------
    >>> parse(b"a: 1\n---\nb: [x, null]\n", is_json=False).values
    ((1, {'a': 1}), (2, {'b': ['x', None]}))
    >>> parse(b'{"a": [1', is_json=True).faults[0]
    'JSON breaks off at offset 8 (line 1, column 9): unexpected end of data; export it again'
    """
    try:
        if is_json or _LIKE_JSON.match(data):
            return Documents(((1, orjson.loads(data)),))
    except orjson.JSONDecodeError as error:
        if is_json:
            return Documents((), (_json_fault(error),))
        told = _yaml(data)
        # Flow mappings of YAML look like JSON; what is broken as both was meant as JSON
        is_json = not told.values and all("YAML is broken" in fault for fault in told.faults)
        return Documents((), (_json_fault(error),)) if is_json else told
    return _yaml(data)


def _json_fault(error: orjson.JSONDecodeError) -> str:
    is_cut = "unexpected end" in error.msg or "zero-length" in error.msg
    return (
        f"JSON {'breaks off' if is_cut else 'is broken'} at offset {error.pos} "
        f"(line {error.lineno}, column {error.colno}): {error.msg}; export it again"
    )


def _yaml(data: bytes) -> Documents:
    values: list[tuple[int, Any]] = []
    faults: list[str] = []
    number = 0
    try:
        # The safe loader is only asked for events; in C where PyYAML was built with libyaml
        parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(data)
        while (event := parser.get_event()) is not None:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            number += 1
            try:
                value = _document(parser.get_event)
            except _Refused as error:
                faults.append(f"document {number}: {error}")
                _skip(parser.get_event)
                continue
            if value is not None:
                values.append((number, value))
    except _TooDeep as error:
        faults.append(f"document {number}: {error}; nothing after it is read")
    except yaml.YAMLError as error:
        faults.append(_yaml_fault(error, len(values)))
    if faults and _TEMPLATE in data:
        line = data[: data.index(_TEMPLATE)].count(b"\n") + 1
        faults = [f"a Helm template ('{{{{' in line {line}): read what `helm template` prints"]
    return Documents(tuple(values), tuple(faults))


def _yaml_fault(error: yaml.YAMLError, good: int) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "the text"
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    if "nesting depth" in problem:
        # PyYAML refuses it by itself from 6.0.4 on
        return f"{place}: nested more than {_DEEPEST} deep; nothing after it is read"
    kept = f"; what stands before it is used: {good} documents" if good else ""
    return f"YAML is broken at {place}: {problem}{kept}"


def _document(next_event: Callable[[], Any]) -> Any:
    """Build one document from its events; the end of the document is consumed."""
    anchors: dict[str, tuple[Any, int]] = {}
    above: list[tuple[Any, Any, str | None, int]] = []
    into: Any = None
    key: Any = _NO_KEY
    value: Any = None
    seen = repeated = 0
    while not isinstance(event := next_event(), yaml.DocumentEndEvent):
        kind = type(event)
        seen += 1
        waits_for_key = key is _NO_KEY and type(into) is dict
        if kind is yaml.ScalarEvent:
            value = event.value if waits_for_key else _scalar(event)
            if event.anchor is not None:
                anchors[event.anchor] = value, 1
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            if len(above) >= _DEEPEST:
                raise _TooDeep(_at(event, f"nested more than {_DEEPEST} deep"))
            if waits_for_key:
                raise _Refused(_at(event, "a mapping or list as a key"))
            above.append((into, key, event.anchor, seen))
            into, key = ({} if kind is yaml.MappingStartEvent else []), _NO_KEY
            continue
        elif kind is yaml.AliasEvent:
            value, weight = _anchored(event, anchors, repeated)
            repeated += weight
            seen += weight
        else:
            value = _merged(into) if type(into) is dict else into
            into, key, anchor, before = above.pop()
            if anchor is not None:
                anchors[anchor] = value, seen - before + 1
        key = _put(into, key, value)
    return value


def _skip(next_event: Callable[[], Any]) -> None:
    """Pass over the rest of a refused document."""
    depth = 0
    while not isinstance(event := next_event(), yaml.DocumentEndEvent):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise _TooDeep(_at(event, f"nested more than {_DEEPEST} deep"))


def _anchored(event: Any, anchors: dict[str, tuple[Any, int]], repeated: int) -> tuple[Any, int]:
    """Give what an alias stands for, and how many nodes that is."""
    if event.anchor not in anchors:
        raise _Refused(_at(event, f"alias *{event.anchor} comes before its anchor"))
    value, weight = anchors[event.anchor]
    if repeated + weight > _MOST_REPEATED:
        raise _Refused(_at(event, f"aliases repeat more than {_MOST_REPEATED:,} nodes"))
    return value, weight


def _put(into: Any, key: Any, value: Any) -> Any:
    """Put a value where it belongs; gives the key that waits for its value."""
    if type(into) is list:
        into.append(value)
    elif type(into) is dict:
        if key is _NO_KEY:
            return value if isinstance(value, str) else str(value)
        into[key] = value
    return _NO_KEY


def _merged(mapping: dict[str, Any]) -> dict[str, Any]:
    """Resolve the merge key: own keys win, then earlier mappings."""
    if "<<" not in mapping:
        return mapping
    told = mapping.pop("<<")
    parts = [part for part in (told if isinstance(told, list) else [told]) if type(part) is dict]
    merged: dict[str, Any] = {}
    for part in (*reversed(parts), mapping):
        merged |= part
    return merged


def _scalar(event: Any) -> Any:
    """Give the value of a scalar as Kubernetes reads it: no dates, no sexagesimal numbers."""
    text, tag = event.value, event.tag
    if tag in _TEXT_TAGS or (tag is None and not event.implicit[0]):
        return text
    if tag not in _PLAIN_TAGS:
        raise _Refused(_at(event, f"tag {tag} is not read; render the file first"))
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] not in "-+.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _PREFIXED.fullmatch(text):
        return int(text, 16) if text[1] == "x" else int(text.replace("o", ""), 8)
    return float(text) if _FLOAT.fullmatch(text) else text


def _at(event: Any, what: str) -> str:
    mark = event.start_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}"
