"""Helm values of the cilium chart: only what changes, each with its reason."""

from __future__ import annotations

import polars as pl

from capacity.manifests.values import Tree, changes, put, scalar, to_yaml


def text(recommendation: pl.DataFrame) -> str | None:
    """Give a values file for `helm upgrade --reuse-values -f`, or None where nothing changes.

    Two rows for one setting (the IPv4 and the IPv6 map share it) become the larger target.
    """
    rows = changes(recommendation).sort("setting", "target")
    if rows.is_empty():
        return None
    tree: Tree = {}
    comments = {}
    for row in rows.iter_rows(named=True):
        put(tree, row["setting"], scalar(row))
        comments[row["setting"]] = f"{row['status']}: {row['reason']}"
    return to_yaml(tree, comments)
