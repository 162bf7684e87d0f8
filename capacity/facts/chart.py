"""Cilium's Helm chart: its values, their types, those that are gone."""

from __future__ import annotations

import polars as pl

from capacity.facts.rows import valid
from capacity.facts.schema import CHART_TYPES, CHART_VALUES, REMOVED_VALUES


def chart_values(version: str | None = None) -> pl.DataFrame:
    """Give the values of Cilium's Helm chart.

    Parameters
    ----------
    version
        Only rows that hold for this version; all where None.

    Returns
    -------
    DataFrame
        Table `CHART_VALUES`.

    Examples
    --------
    >>> chart_values("1.15").filter(key="bpf.events").is_empty()
    True
    """
    return valid(CHART_VALUES, version)


def chart_types(version: str | None = None) -> pl.DataFrame:
    """Give the types that values of Cilium's Helm chart may have.

    Parameters
    ----------
    version
        Only rows that hold for this version; all where None.

    Returns
    -------
    DataFrame
        Table `CHART_TYPES`.

    Examples
    --------
    >>> chart_types("1.16").filter(key="bpf.mapDynamicSizeRatio")["types"].to_list()
    ['null number']
    """
    return valid(CHART_TYPES, version)


def removed_values(version: str | None = None) -> pl.DataFrame:
    """Give Helm values that must not be set any more.

    Parameters
    ----------
    version
        Only rows that hold for this version; all where None.

    Returns
    -------
    DataFrame
        Table `REMOVED_VALUES`.

    Examples
    --------
    >>> removed_values("1.14").is_empty()
    True
    """
    return valid(REMOVED_VALUES, version)
