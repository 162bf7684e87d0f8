"""Facts about Cilium: rows with the versions they hold for and their source, and one loader.

What the kernel charges is in kernel.csv (read by cilium/), what metrics tell in derivations.py.
`verified` means: read in the source, or seen on an agent, of all versions of the row; which
commit stands for a version is in evidence.csv.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

import polars as pl

from capacity.errors import FactError
from capacity.facts.schema import (
    CAVEATS,
    CHART_TYPES,
    CHART_VALUES,
    COMPONENTS,
    DYNAMIC,
    EVIDENCE,
    LIMITS,
    MANAGED,
    MAPS,
    METRICS,
    OPTIONS,
    QUANTITIES,
    REMOVED_VALUES,
)
from capacity.tables import Table, check

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

# Minor versions of Cilium that the rows cover, oldest first
VERSIONS: Final[tuple[str, ...]] = ("1.14", "1.15", "1.16", "1.17", "1.18", "1.19", "1.20")
LATEST: Final = VERSIONS[-1]

_VERSION = re.compile(r"\s*v?(\d+)\.(\d+)(?:\.\d+)?(?:[-+].*)?\s*")
# Maps that each endpoint has one of: the label ends in «*» (the fullest, prefix kept), in the
# endpoint's number (1.14), or is cut to one word (counter of map operations, pkg/bpf/map.go).
# Which layout version a label names is not compared: a policy map is a policy map.
_NUMBERED = re.compile(r"(?:cilium_)?(policy|calls)(?:_v\d+)?(?:_(?:\*|(?:[a-z]+_)*\d+))?")


def minor(version: str) -> str:
    """Give the minor version that facts are kept by.

    Parameters
    ----------
    version
        A Cilium version as agents, charts or people write it.

    Returns
    -------
    str
        Such as ``1.18``.

    Raises
    ------
    FactError
        If the text is not a version, or no facts are known about it.

    Examples
    --------
    >>> minor("v1.17.5"), minor("1.17.0-dev"), minor("1.20")
    ('1.17', '1.17', '1.20')
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        msg = f"Cilium version {version!r} cannot be read; write it as 1.17 or v1.17.5"
        raise FactError(msg)
    found = f"{int(match.group(1))}.{int(match.group(2))}"
    if found not in VERSIONS:
        older = _number(found) < _number(VERSIONS[0])
        nearest = VERSIONS[0] if older else LATEST
        msg = (
            f"Cilium {version}: no facts about it; known are {', '.join(VERSIONS)}; "
            f"take {nearest} as the nearest and check what it tells"
        )
        raise FactError(msg)
    return found


def _number(version: str) -> int:
    major, minor_ = version.split(".")
    return int(major) * 1000 + int(minor_)


@cache
def _rows(table: Table) -> pl.DataFrame:
    """Rows of a table's file with the declared types; empty cells are null."""
    text = files("capacity.facts").joinpath(f"{table.name}.csv").read_bytes()
    return check(pl.read_csv(text, schema=table.schema), table)


@cache
def _valid(table: Table, version: str | None) -> pl.DataFrame:
    rows = _rows(table)
    if version is None:
        return rows
    wanted = VERSIONS.index(minor(version))
    known = {v: i for i, v in enumerate(VERSIONS)}
    since, until = (
        pl.col(c).replace_strict(known, return_dtype=pl.Int64) for c in ("since", "until")
    )
    return rows.filter((since <= wanted) & (wanted <= until))


def maps(version: str | None = None) -> pl.DataFrame:
    """Give BPF maps: shape, size and its bounds, option, pressure metric, what fills them.

    Parameters
    ----------
    version
        Only rows that hold for this Cilium version: one a map. All rows where None.

    Returns
    -------
    DataFrame
        Table `MAPS`: sizes of key and value in bytes, entries as counts.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> maps("1.17").filter(pl.col("map") == "cilium_ipcache")["max_entries"].to_list()
    [512000]
    """
    return _valid(MAPS, version)


def options(version: str | None = None) -> pl.DataFrame:
    """Give agent options that bear on capacity: default, bounds, unit, Helm value, side effect.

    `default` is the agent's, `chart_default` what the Helm chart writes where the user says
    nothing (null: it writes nothing).

    Parameters
    ----------
    version
        Only rows that hold for this Cilium version. All rows where None.

    Returns
    -------
    DataFrame
        Table `OPTIONS`.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> options("1.17").filter(pl.col("option") == "bpf-policy-map-max")["default"].to_list()
    ['16384']
    """
    return _valid(OPTIONS, version)


def chart_values(version: str | None = None) -> pl.DataFrame:
    """Give the values of Cilium's Helm chart.

    Parameters
    ----------
    version
        Only rows that hold for this Cilium version. All rows where None.

    Returns
    -------
    DataFrame
        Table `CHART_VALUES`.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> chart_values("1.15").filter(key="bpf.events").is_empty()
    True
    """
    return _valid(CHART_VALUES, version)


def chart_types(version: str | None = None) -> pl.DataFrame:
    """Give the types that values of Cilium's Helm chart may have.

    Parameters
    ----------
    version
        Only rows that hold for this Cilium version. All rows where None.

    Returns
    -------
    DataFrame
        Table `CHART_TYPES`.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> chart_types("1.16").filter(key="bpf.mapDynamicSizeRatio")["types"].to_list()
    ['null number']
    """
    return _valid(CHART_TYPES, version)


def metrics(version: str | None = None) -> pl.DataFrame:
    """Give metrics of agent and operator: type, labels, unit, the Helm value that turns them on.

    Parameters
    ----------
    version
        Only rows that hold for this Cilium version. All rows where None.

    Returns
    -------
    DataFrame
        Table `METRICS`.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> metrics("1.17").filter(pl.col("metric") == "cilium_bpf_map_pressure")["type"].to_list()
    ['gauge']
    """
    return _valid(METRICS, version)


def removed_values(version: str | None = None) -> pl.DataFrame:
    """Give Helm values that must not be set any more.

    Parameters
    ----------
    version
        Only rows that hold for this Cilium version. All rows where None.

    Returns
    -------
    DataFrame
        Table `REMOVED_VALUES`.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> removed_values("1.14").is_empty()
    True
    """
    return _valid(REMOVED_VALUES, version)


def caveats(version: str | None = None) -> pl.DataFrame:
    """Give ways in which a metric misleads, with the issue.

    Parameters
    ----------
    version
        Only rows that hold for this Cilium version. All rows where None.

    Returns
    -------
    DataFrame
        Table `CAVEATS`.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> caveats("1.16").is_empty()
    True
    """
    return _valid(CAVEATS, version)


def limits(version: str | None = None) -> pl.DataFrame:
    """Give limits that are not the size of one map: IDs, ports, clusters, entries of an endpoint.

    A limit has several rows where it depends on a condition; `default` marks the row that holds
    where nothing is configured, the last of its limit.

    Parameters
    ----------
    version
        Only rows that hold for this Cilium version. All rows where None.

    Returns
    -------
    DataFrame
        Table `LIMITS`.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> limits("1.17").filter(pl.col("limit") == "service-ids")["value"].to_list()
    [65535]
    """
    return _valid(LIMITS, version)


def dynamic(version: str | None = None) -> pl.DataFrame:
    """Give the constants of the agent's dynamic map sizing, in the order the agent sizes maps.

    Element sizes are IPv6 key plus value in bytes; upstream's unit test takes 48 for
    bpf-sock-rev-map-max, agents take 52 (cilium/cilium issue 32184). Bounds are entries.

    Parameters
    ----------
    version
        Only rows that hold for this Cilium version. All rows where None.

    Returns
    -------
    DataFrame
        Table `DYNAMIC`.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> dynamic("1.17").select(pl.col("default") * pl.col("element_size")).sum().item()
    149422080
    """
    return _valid(DYNAMIC, version)


def components(version: str | None = None) -> pl.DataFrame:
    """Give the containers of Cilium and their objects.

    Parameters
    ----------
    version
        Only rows that hold for this Cilium version. All rows where None.

    Returns
    -------
    DataFrame
        Table `COMPONENTS`.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> components("1.17").filter(component="operator")["resources"].to_list()
    ['operator.resources']
    """
    return _valid(COMPONENTS, version)


def managed() -> pl.DataFrame:
    """Give managed services that run Cilium, and what their users can change.

    Returns
    -------
    DataFrame
        Table `MANAGED`.

    Examples
    --------
    >>> managed()["provider"].to_list()
    ['gke', 'aks', 'eks', 'eks-hybrid']
    """
    return _rows(MANAGED)


def quantities() -> pl.DataFrame:
    """Give the keys of column `quantity` everywhere: unit, meaning, metrics they are made from.

    Returns
    -------
    DataFrame
        Table `QUANTITIES`.

    Examples
    --------
    >>> quantities().filter(pl.col("quantity") == "memory_rss")["unit"].to_list()
    ['byte']
    """
    return _rows(QUANTITIES)


def evidence() -> pl.DataFrame:
    """Give what was read of each version in `VERSIONS`: commit of cilium/cilium, day, its place.

    Returns
    -------
    DataFrame
        Table `EVIDENCE`: a row a version.

    Examples
    --------
    >>> evidence()["version"].to_list()[-1] == LATEST
    True
    """
    return _rows(EVIDENCE)


@cache
def sources() -> pl.DataFrame:
    """Give every source and the number of rows of all facts files that rest on it.

    Returns
    -------
    DataFrame
        Columns source and rows [1], the source of most rows first.

    Examples
    --------
    >>> sources().columns
    ['source', 'rows']
    """
    named = sorted(
        (f for f in files("capacity.facts").iterdir() if f.name.endswith(".csv")),
        key=lambda f: f.name,
    )
    columns = [pl.read_csv(f.read_bytes(), infer_schema=False).select("source") for f in named]
    return (
        pl.concat(columns)
        .group_by("source")
        .agg(rows=pl.len().cast(pl.Int64))
        .sort("rows", "source", descending=[True, False])
    )


@cache
def map_of_label(label: str, version: str) -> str | None:
    """Give the pinned map (column `map` of maps) that a label map_name means, None if unknown.

    Parameters
    ----------
    label
        Value of label map_name of cilium_bpf_map_pressure or cilium_bpf_map_ops_total, or the
        name of a pinned map.
    version
        Cilium version of the agent.

    Returns
    -------
    str or None
        Name of the pinned map, or how it begins where each endpoint has one.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> map_of_label("ct4_global", "1.17"), map_of_label("cilium_policy_v2_*", "1.17")
    ('cilium_ct4_global', 'cilium_policy_v2_')
    """
    names = set(maps(version)["map"])
    numbered = _NUMBERED.fullmatch(label)
    if numbered:
        whole = re.compile(rf"cilium_{numbered.group(1)}_(?:v\d+_)?")
        return next((name for name in names if whole.fullmatch(name)), None)
    name = label if label.startswith("cilium_") else f"cilium_{label}"
    return name if name in names else None
