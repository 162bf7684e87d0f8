"""Facts about Cilium: rows with the versions they hold for and their source, by subject.

What the kernel charges is in kernel.csv (read by cilium/), what metrics tell in derivations.py.
`verified` means: read in the source, or seen on an agent, of all versions of the row; which
commit stands for a version is in evidence.csv. Each function that takes a version raises
FactError where nothing is known about it.
"""

from __future__ import annotations

from capacity.facts.agent import dynamic, limits, map_of_label, maps, options
from capacity.facts.chart import chart_types, chart_values, removed_values
from capacity.facts.deployed import components, managed
from capacity.facts.provenance import evidence, sources
from capacity.facts.signals import caveats, metrics, quantities
from capacity.facts.versions import LATEST, VERSIONS, minor

__all__ = [
    "LATEST",
    "VERSIONS",
    "caveats",
    "chart_types",
    "chart_values",
    "components",
    "dynamic",
    "evidence",
    "limits",
    "managed",
    "map_of_label",
    "maps",
    "metrics",
    "minor",
    "options",
    "quantities",
    "removed_values",
    "sources",
]
