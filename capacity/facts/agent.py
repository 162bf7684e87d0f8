"""What the agent has: BPF maps and their sizes, options, limits; names of maps in metrics."""

from __future__ import annotations

import re
from functools import cache

import polars as pl

from capacity.facts.rows import valid
from capacity.facts.schema import DYNAMIC, LIMITS, MAPS, OPTIONS

# Maps that each endpoint has one of: the label ends in «*» (the fullest, prefix kept), in the
# endpoint's number (1.14), or is cut to one word (counter of map operations, pkg/bpf/map.go).
# Which layout version a label names is not compared: a policy map is a policy map.
_NUMBERED = re.compile(r"(?:cilium_)?(policy|calls)(?:_v\d+)?(?:_(?:\*|(?:[a-z]+_)*\d+))?")


def maps(version: str | None = None) -> pl.DataFrame:
    """Give BPF maps: shape, size and its bounds, option, pressure metric, what fills them.

    Parameters
    ----------
    version
        Only rows that hold for this version, one a map; all where None.

    Returns
    -------
    DataFrame
        Table `MAPS`: sizes of key and value in bytes, entries as counts.

    Examples
    --------
    >>> maps("1.17").filter(pl.col("map") == "cilium_ipcache")["max_entries"].to_list()
    [512000]
    """
    return valid(MAPS, version)


def options(version: str | None = None) -> pl.DataFrame:
    """Give agent options that bear on capacity: default, bounds, unit, Helm value, side effect.

    `default` is the agent's, `chart_default` what the Helm chart writes where the user says
    nothing (null: it writes nothing).

    Parameters
    ----------
    version
        Only rows that hold for this version; all where None.

    Returns
    -------
    DataFrame
        Table `OPTIONS`.

    Examples
    --------
    >>> options("1.17").filter(pl.col("option") == "bpf-policy-map-max")["default"].to_list()
    ['16384']
    """
    return valid(OPTIONS, version)


def limits(version: str | None = None) -> pl.DataFrame:
    """Give limits that are not the size of one map: IDs, ports, clusters, entries of an endpoint.

    A limit has several rows where it depends on a condition; `default` marks the row that holds
    where nothing is configured, the last of its limit.

    Parameters
    ----------
    version
        Only rows that hold for this version; all where None.

    Returns
    -------
    DataFrame
        Table `LIMITS`.

    Examples
    --------
    >>> limits("1.17").filter(pl.col("limit") == "service-ids")["value"].to_list()
    [65535]
    """
    return valid(LIMITS, version)


def dynamic(version: str | None = None) -> pl.DataFrame:
    """Give the constants of the agent's dynamic map sizing, in the order the agent sizes maps.

    Element sizes are IPv6 key plus value in bytes; upstream's unit test takes 48 for
    bpf-sock-rev-map-max, agents take 52 (cilium/cilium issue 32184). Bounds are entries.

    Parameters
    ----------
    version
        Only rows that hold for this version; all where None.

    Returns
    -------
    DataFrame
        Table `DYNAMIC`.

    Examples
    --------
    >>> dynamic("1.17").select(pl.col("default") * pl.col("element_size")).sum().item()
    149422080
    """
    return valid(DYNAMIC, version)


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
