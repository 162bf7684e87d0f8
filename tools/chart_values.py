"""Make capacity/facts/chart_values.csv of packed charts of Cilium.

Run: python tools/chart_values.py cilium-1.14.0.tgz … > capacity/facts/chart_values.csv
Charts: repository cilium/charts, first and last patch release of each minor version.

Known are the values of values.yaml, those commented out there, and those that templates name, also
by a variable. What stands below labels, resources and the like is the user's.
"""

from __future__ import annotations

import csv
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

SOURCE = "cilium/charts 009b5e958217"
VERSION = re.compile(r"cilium-(\d+)\.(\d+)\.")
NAMED = re.compile(r"\.Values\.([A-Za-z]\w*(?:\.[A-Za-z]\w*)*)")
LOOKED_UP = re.compile(r'(?:hasKey|get) \(?\.Values\.([\w.]+)\)? "(\w+)"')
VARIABLE = re.compile(r"\$(\w+) :?= [^}\n]*?\.Values\.([\w.]+)")
COMMENTED = re.compile(r"^( *)(# ?)?([A-Za-z]\w*):(?: |$)")
FREE = re.compile(
    r"(annotations|labels|nodeselector|resources|affinity|tolerations|extraconfig|"
    r"updatestrategy)$",
    re.IGNORECASE,
)
FUNCTION = "AsMap"


def values(told: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give path and kind of each value."""
    for name, value in told.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            yield key, "section"
            yield from values(value, f"{key}.")
        else:
            is_free = isinstance(value, dict | list) or value is None
            yield key, "free" if is_free else "value"


def commented(text: str) -> Iterator[str]:
    """Give paths of values that are commented out, by their indent."""
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        if not (match := COMMENTED.match(line)):
            continue
        indent, mark, name = len(match[1]), match[2], match[3]
        while above and above[-1][0] >= indent:
            above.pop()
        if not mark:
            above.append((indent, name))
        elif name[0].islower():
            yield ".".join([*(one for _, one in above), name])


def named(template: str) -> Iterator[str]:
    """Give paths of values that a template names."""
    yield from (path for path in NAMED.findall(template) if path != FUNCTION)
    yield from (f"{path}.{name}" for path, name in LOOKED_UP.findall(template))
    for variable, path in VARIABLE.findall(template):
        if FUNCTION not in path:
            pattern = rf'\${variable}(?:\.([A-Za-z]\w*)| "(\w+)")'
            yield from (f"{path}.{a or b}" for a, b in re.findall(pattern, template))


def chart(path: Path) -> dict[str, str]:
    """Give path and kind of all values of one chart."""
    templates = []
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name == "cilium/values.yaml" or "/templates/" in member.name:
                file = archive.extractfile(member)
                text = file.read().decode("utf-8", "replace") if file else ""
                if "/templates/" in member.name:
                    templates.append(text)
                else:
                    defaults = text
    found = dict(values(yaml.safe_load(defaults)))
    for key in {*commented(defaults), *(key for text in templates for key in named(text))}:
        parts = key.split(".")
        for end in range(1, len(parts)):
            found.setdefault(".".join(parts[:end]), "section")
        found.setdefault(key, "free")
    return found


def main(paths: list[str]) -> None:
    """Write the table."""
    kinds: dict[str, dict[tuple[int, int], set[str]]] = {}
    for path in paths:
        if not (match := VERSION.search(path)):
            sys.exit(f"{path}: is no chart of Cilium; wanted is cilium-1.17.0.tgz")
        version = int(match[1]), int(match[2])
        for key, kind in chart(Path(path)).items():
            kinds.setdefault(key, {}).setdefault(version, set()).add(kind)
    free = {key for key in kinds if FREE.search(key)}
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["key", "kind", "since", "until", "source"])
    for key, versions in sorted(kinds.items()):
        parts = key.split(".")
        if any(".".join(parts[:end]) in free for end in range(1, len(parts))):
            continue
        told = set().union(*versions.values())
        kind = next(one for one in ("free", "section", "value") if one in told)
        since, until = (f"{a}.{b}" for a, b in (min(versions), max(versions)))
        writer.writerow([key, "free" if key in free else kind, since, until, SOURCE])


if __name__ == "__main__":
    main(sys.argv[1:])
