"""Make capacity/facts/chart_types.csv of packed charts of Cilium: types that Helm holds values to.

Run: python tools/chart_types.py cilium-1.16.0.tgz … > capacity/facts/chart_types.csv
Charts: repository cilium/charts, first and last patch release of each minor version; those before
1.16 ship no values.schema.json, and Helm takes any type there.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from typing import Any

SOURCE = "cilium/charts 009b5e958217 values.schema.json"
VERSION = re.compile(r"cilium-(\d+)\.(\d+)\.")
Version = tuple[int, int]


def types(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give path and types of each value whose type the schema tells."""
    for name, one in schema.get("properties", {}).items():
        told = one.get("type")
        if told is not None:
            yield f"{prefix}{name}", " ".join(sorted([told] if isinstance(told, str) else told))
        yield from types(one, f"{prefix}{name}.")


def schema_of(path: str) -> dict[str, Any]:
    """Read the schema of a packed chart; empty where it has none."""
    with tarfile.open(path) as archive:
        if "cilium/values.schema.json" not in archive.getnames():
            return {}
        file = archive.extractfile("cilium/values.schema.json")
        return dict(json.load(file)) if file else {}


def main(paths: list[str]) -> None:
    """Write the table: one row a value and run of versions with the same types."""
    found: dict[str, dict[Version, set[str]]] = {}
    for path in paths:
        if not (match := VERSION.search(path)):
            sys.exit(f"{path}: is no chart of Cilium; wanted is cilium-1.17.0.tgz")
        version = int(match[1]), int(match[2])
        for key, told in types(schema_of(path)):
            found.setdefault(key, {}).setdefault(version, set()).update(told.split())
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["key", "types", "since", "until", "source"])
    for key, versions in sorted(found.items()):
        for told, since, until in runs(versions):
            writer.writerow([key, told, *(f"{a}.{b}" for a, b in (since, until)), SOURCE])


def runs(versions: dict[Version, set[str]]) -> Iterator[tuple[str, Version, Version]]:
    """Give runs of versions that follow each other and have the same types."""
    order = sorted(versions)
    start = order[0]
    for this, after in zip(order, [*order[1:], None], strict=True):
        same = after == (this[0], this[1] + 1) and versions[after] == versions[this]
        if not same:
            yield " ".join(sorted(versions[this])), start, this
            start = after or this


if __name__ == "__main__":
    main(sys.argv[1:])
