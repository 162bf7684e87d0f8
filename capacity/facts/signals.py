"""What is measured: metrics, quantities made from them, ways in which they mislead."""

from __future__ import annotations

import polars as pl

from capacity.facts.rows import rows, valid
from capacity.facts.schema import CAVEATS, METRICS, QUANTITIES


def metrics(version: str | None = None) -> pl.DataFrame:
    """Give metrics of agent and operator: type, labels, unit, the Helm value that turns them on.

    Parameters
    ----------
    version
        Only rows that hold for this version; all where None.

    Returns
    -------
    DataFrame
        Table `METRICS`.

    Examples
    --------
    >>> metrics("1.17").filter(pl.col("metric") == "cilium_bpf_map_pressure")["type"].to_list()
    ['gauge']
    """
    return valid(METRICS, version)


def caveats(version: str | None = None) -> pl.DataFrame:
    """Give ways in which a metric misleads, with the issue.

    Parameters
    ----------
    version
        Only rows that hold for this version; all where None.

    Returns
    -------
    DataFrame
        Table `CAVEATS`.

    Examples
    --------
    >>> caveats("1.16").is_empty()
    True
    """
    return valid(CAVEATS, version)


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
    return rows(QUANTITIES)
