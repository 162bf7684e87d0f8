"""Recommended settings as a tree of YAML values, and YAML that reads back as that tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def reason(row: Mapping[str, Any]) -> str:
    """Give the words that stand beside a value."""
    effect = row.get("side_effect")
    return f"{row['status']}: {row['reason']}" + (f"; {effect}" if effect else "")


def put(tree: Tree, setting: str, value: Any) -> None:
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
        Dotted path of a leaf → text; items of lists have their number as name.

    Raises
    ------
    ManifestError
        If the text does not read back as the tree.
    """
    text = "\n".join(_lines(tree, comments or {}, "", 0)) + "\n"
    if (found := yaml.safe_load(text)) != tree:
        raise ManifestError(f"YAML reads back as {found!r}, meant was {dict(tree)!r}")
    return text


def documents(*trees: Mapping[str, Any]) -> str:
    """Write several objects as one stream."""
    return "---\n".join(to_yaml(tree) for tree in trees)


def _lines(
    tree: Mapping[str, Any], comments: Mapping[str, str], prefix: str, depth: int
) -> Iterator[str]:
    pad = "  " * depth
    for key in sorted(tree):
        path = f"{prefix}{key}"
        if path in comments:
            # A reason may hold label values of the export: one line, nothing that ends a comment
            yield f"{pad}# {' '.join(comments[path].split())}"
        name = yaml.safe_dump(key, allow_unicode=True).splitlines()[0]
        yield from _value(f"{pad}{name}:", tree[key], comments, f"{path}.", depth)


def _value(
    head: str, value: Any, comments: Mapping[str, str], prefix: str, depth: int
) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield head
        yield from _lines(value, comments, prefix, depth + 1)
    elif isinstance(value, list) and any(_is_long(item) for item in value):
        yield head
        for i, item in enumerate(value):
            yield from _item(item, comments, f"{prefix}{i}.", depth + 1)
    elif isinstance(value, str) and _is_block(value):
        yield f"{head} |"
        yield from (
            f"{'  ' * (depth + 1)}{line}" if line else "" for line in value[:-1].split("\n")
        )
    else:
        dumped = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=True)
        yield f"{head} {dumped.splitlines()[0]}"


def _item(item: Any, comments: Mapping[str, str], prefix: str, depth: int) -> Iterator[str]:
    """Write an item of a list: its first line after a dash, the others below that."""
    pad = "  " * depth
    if not isinstance(item, Mapping) or not item:
        yield from _value(f"{pad}-", item, comments, prefix, depth)
        return
    first, *others = _lines(item, comments, prefix, depth + 1)
    yield f"{pad}- {first.lstrip(' ')}"
    yield from others


def _is_long(item: Any) -> bool:
    return isinstance(item, Mapping) and bool(item) or isinstance(item, str) and _is_block(item)


def _is_block(text: str) -> bool:
    """Say whether a text may stand as it is in a block: lines of plain characters, one end."""
    lines = text[:-1].split("\n") if text.endswith("\n") else []
    return (
        len(lines) > 1
        and all(line == line.rstrip() and line.isprintable() for line in lines)
        and bool(lines[0])
        and bool(lines[-1])
        and not lines[0].startswith(" ")
    )
