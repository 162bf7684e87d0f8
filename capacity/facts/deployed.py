"""Containers of Cilium, and managed services that run it."""

from __future__ import annotations

import polars as pl

from capacity.facts.rows import rows, valid
from capacity.facts.schema import COMPONENTS, MANAGED


def components(version: str | None = None) -> pl.DataFrame:
    """Give the containers of Cilium and their objects.

    Parameters
    ----------
    version
        Only rows that hold for this version; all where None.

    Returns
    -------
    DataFrame
        Table `COMPONENTS`.

    Examples
    --------
    >>> components("1.17").filter(component="operator")["resources"].to_list()
    ['operator.resources']
    """
    return valid(COMPONENTS, version)


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
    return rows(MANAGED)
