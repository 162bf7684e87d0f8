"""Recommended settings as a tree of YAML values, and YAML that reads back as that tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import yaml

from capacity.errors import ManifestError
from capacity.tables import CHANGES
from capacity.units import bytes_to_quantity, millicores_to_quantity

Tree = dict[str, Any]


def changes(recommendation: pl.DataFrame) -> pl.DataFrame:
    """Give the rows that change a setting."""
    changed = pl.col("status").is_in(CHANGES) & pl.col("target").is_not_null()
    return recommendation.filter(changed & ~pl.col("setting").str.starts_with("("))


def scalar(row: Mapping[str, Any]) -> int | str:
    """Give the target as a manifest writes it: entries as a number, bytes and CPU as quantities.

    A value of extraConfig is text: the chart copies it into a ConfigMap.
    """
    value = round(row["target"])
    if row["unit"] == "byte":
        return bytes_to_quantity(value, "up")
    if row["unit"] == "millicore":
        return millicores_to_quantity(value)
    return str(value) if str(row["setting"]).startswith("extraConfig.") else value


def put(tree: Tree, setting: str, value: int | str) -> None:
    """Set a dotted Helm value in a tree."""
    *path, leaf = setting.split(".")
    for name in path:
        tree = tree.setdefault(name, {})
    tree[leaf] = value


def to_yaml(tree: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """Write a tree as YAML in sorted order with a comment above leaves, and read it back.

    Parameters
    ----------
    comments
        Dotted path of a leaf → text.

    Raises
    ------
    ManifestError
        If the text does not read back as the tree.
    """
    text = "\n".join(_lines(tree, comments or {}, "")) + "\n"
    if (found := yaml.safe_load(text)) != tree:
        raise ManifestError(f"YAML reads back as {found!r}, meant was {dict(tree)!r}")
    return text


def _lines(tree: Mapping[str, Any], comments: Mapping[str, str], prefix: str) -> list[str]:
    pad = "  " * prefix.count(".")
    out = []
    for key in sorted(tree):
        path = f"{prefix}{key}"
        if path in comments:
            # A reason may hold label values of the export: one line, nothing that ends a comment
            out.append(f"{pad}# {' '.join(comments[path].split())}")
        name = yaml.safe_dump(key, allow_unicode=True).splitlines()[0]
        value = tree[key]
        if isinstance(value, Mapping):
            out.append(f"{pad}{name}:")
            out += _lines(value, comments, f"{path}.")
        else:
            dumped = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=True)
            out.append(f"{pad}{name}: {dumped.splitlines()[0]}")
    return out
