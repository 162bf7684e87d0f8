"""What an upgrade of Cilium changes for capacity: facts of two versions, one minor at a time.

Only facts are compared: what nobody wrote down as a row is not told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.errors import FactError
from capacity.inventory import Inventory
from capacity.limits import configured_sizes, node_memory
from capacity.recommend.cost import is_there, map_bytes
from capacity.recommend.present import Present, present
from capacity.settings import PlanSettings
from capacity.tables import STEPS, UPGRADE, check
from capacity.units import format_bytes
from capacity.values_check import wrong_values

_Fact = dict[str, Any]
# Columns whose change matters; the first ones of a table name a row
_MAP: Final = ("type", "key_size", "value_size", "max_entries", "max", "helm_value", "kind",
               "metric_label", "pressure_threshold")  # fmt: skip
_OPTION: Final = ("default", "chart_default", "min", "max", "helm_value")
_METRIC: Final = ("type", "labels", "default_on", "helm")
_LAYOUT: Final = re.compile(r"_v[123](?=_?$)")
# Entries at which the price of one is told: large enough that the buckets do not matter
_MANY: Final = 10_000


def steps(before: str, after: str) -> list[tuple[str, str]]:
    """Give the minor versions an upgrade goes through: Cilium supports one at a time.

    Raises
    ------
    FactError
        If a version is not known, or the second is not newer.

    Examples
    --------
    >>> steps("1.17", "1.19")
    [('1.17', '1.18'), ('1.18', '1.19')]
    """
    first, last = (facts.VERSIONS.index(facts.minor(version)) for version in (before, after))
    if first >= last:
        raise FactError(f"--from {before} --to {after}: wanted is a newer version after --to")
    path = facts.VERSIONS[first : last + 1]
    return list(zip(path, path[1:], strict=False))


def upgrade(
    before: str,
    after: str,
    inventory: Inventory,
    values: Mapping[str, Any] | None = None,
    settings: PlanSettings | None = None,
) -> pl.DataFrame:
    """Give table upgrade: in each step what to do first, then what else changes.

    Parameters
    ----------
    before, after
        Cilium versions, e.g. ``1.17`` and ``1.20``.
    inventory
        Options that are set, nodes and endpoints; without rows, Cilium's defaults.
    values
        Helm values of the installation: those that the chart after a step does not know are told.
    settings
        Memory of the nodes, where the inventory does not tell it.

    Raises
    ------
    FactError
        If a version is not known, or the second is not newer.
    """
    rows: list[_Fact] = []
    asked = settings or PlanSettings()
    for old, new in steps(before, after):
        at = present(STEPS.empty(), inventory, new, node_memory(inventory, asked))
        found = [
            *_memory(old, new, inventory, asked, at), *_maps(old, new, at), *_options(old, new, at),
            *_limits(old, new), *_metrics(old, new),
            *_values(old, new, values or {}, is_first=not rows),
        ]  # fmt: skip
        found.sort(key=lambda row: not row["act"])
        rows += [row | {"step": f"{old} to {new}"} for row in found]
    return check(pl.DataFrame(rows, schema=UPGRADE.schema), UPGRADE)


def _row(
    kind: str, name: str, change: str, old: _Fact | None, new: _Fact | None, effect: str,
    *, act: bool = False, before: Any = None, after: Any = None,
) -> _Fact:  # fmt: skip
    fact = new or old or {}
    both = [one for one in (old, new) if one is not None]
    return {
        "kind": kind, "name": name, "change": change, "before": _text(before),
        "after": _text(after), "act": act, "effect": effect,
        "source": fact.get("source", "cilium/charts, facts/chart_values.csv"),
        "verified": all(bool(one.get("verified", True)) for one in both),
    }  # fmt: skip


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _pairs(
    table: Callable[[str], pl.DataFrame], key: str, old: str, new: str
) -> Iterator[tuple[str, _Fact | None, _Fact | None]]:
    """Pair rows of both versions by name; a map that is gone with one of a new layout."""
    one, other = (
        {row[key]: row for row in table(version).iter_rows(named=True)} for version in (old, new)
    )
    for name in sorted(one.keys() & other.keys()):
        yield name, one[name], other[name]
    left = {_LAYOUT.sub("", name): one[name] for name in one.keys() - other.keys()}
    come = {_LAYOUT.sub("", name): other[name] for name in other.keys() - one.keys()}
    for name in sorted(left | come):
        yield name, left.get(name), come.get(name)


def _maps(old: str, new: str, at: Present) -> Iterator[_Fact]:
    for name, one, other in _pairs(facts.maps, "map", old, new):
        if one is None or other is None:
            fact: _Fact = one or other or {}
            change = "new" if one is None else "gone"
            held = f"{fact['max_entries'] or 0:,} entries, {fact['type']}"
            yield _row("map", fact["map"], change, one, other, f"{held}; when: {fact['when']}")
            continue
        if one["map"] != other["map"]:
            told = "a new layout: it is filled anew when the new agent starts; dashboards name it"
            yield _row("map", name, "name", one, other, told, before=one["map"], after=other["map"])
        for column in _MAP:
            is_told = column == "pressure_threshold" and other["metric_label"] is None
            if one[column] != other[column] and not is_told:
                yield _row("map", other["map"], column, one, other, _of_map(column, one, other, at),
                           before=one[column], after=other[column])  # fmt: skip


def _of_map(column: str, old: _Fact, new: _Fact, at: Present) -> str:
    if column in ("key_size", "value_size", "type") and new["max_entries"]:
        size = new["max_entries"]
        held = min(_MANY, size)
        one, other = (
            (map_bytes(fact, size, held, at) - map_bytes(fact, size, 0, at)) / held
            for fact in (old, new)
        )
        if one == other:
            return f"an entry costs {one:.0f} bytes as before"
        return f"an entry costs {one:.0f} bytes before, {other:.0f} after"
    if column == "metric_label":
        return "queries and alerts name another label, or the pressure is not told any more"
    return "its size or bounds change" if column in ("max_entries", "max") else "see what it was"


def _options(old: str, new: str, at: Present) -> Iterator[_Fact]:
    for name, one, other in _pairs(facts.options, "option", old, new):
        is_set = name in at.options
        if other is None and one is not None:
            told = (
                "it is set and means nothing any more: take it out before" if is_set else "not set"
            )
            yield _row("option", name, "gone", one, None, told, act=is_set, before=one["default"])
        elif one is None and other is not None:
            told = other["note"] or other["side_effect"] or "new"
            yield _row("option", name, "new", None, other, told, after=other["default"])
        elif one is not None and other is not None:
            yield from _changed_option(name, one, other, at)


def _changed_option(name: str, one: _Fact, other: _Fact, at: Present) -> Iterator[_Fact]:
    for column in _OPTION:
        if one[column] == other[column]:
            continue
        setting = other["helm_value"] or f"extraConfig.{name}"
        is_default = column in ("default", "chart_default")
        told = f"set to {at.options[name]}: nothing changes" if name in at.options else (
            f"not set: to keep it, set {setting} to {one[column]} before; "
            f"{other['note'] or other['side_effect'] or ''}".rstrip("; ")
        )  # fmt: skip
        # A map that is sized by memory has no use for its default
        is_followed = other["unit"] != "bool" and not other["dynamic"]
        act = is_default and name not in at.options and is_followed
        # The chart's default is written by the chart: telling the agent's too would say it twice
        if column == "default" and one["chart_default"] != other["chart_default"]:
            continue
        yield _row("option", name, column, one, other, told if is_default else "bounds change",
                   act=act, before=one[column], after=other[column])  # fmt: skip


def _limits(old: str, new: str) -> Iterator[_Fact]:
    told = (facts.limits(version).filter(pl.col("default")) for version in (old, new))
    usual = [{row["limit"]: row for row in table.iter_rows(named=True)} for table in told]
    for name in sorted(usual[0].keys() & usual[1].keys()):
        one, other = usual[0][name], usual[1][name]
        if one["value"] != other["value"]:
            yield _row("limit", name, "value", one, other, other["consequence"],
                       before=one["value"], after=other["value"])  # fmt: skip


def _metrics(old: str, new: str) -> Iterator[_Fact]:
    for name, one, other in _pairs(facts.metrics, "metric", old, new):
        if one is None or other is None:
            told = "queries that name it find nothing" if other is None else (other["meaning"])
            yield _row("metric", name, "new" if one is None else "gone", one, other, told)
            continue
        for column in _METRIC:
            if one[column] != other[column]:
                told = "queries and alerts that use it change"
                yield _row("metric", name, column, one, other, told,
                           before=one[column], after=other[column])  # fmt: skip


def _values(old: str, new: str, values: Mapping[str, Any], *, is_first: bool) -> Iterator[_Fact]:
    """Helm values that are set and that the chart does not know, or fails on, after a step.

    What was so before is told in the first step only.
    """
    before = {one.key for one in wrong_values(values, old)}
    for one in wrong_values(values, new):
        if one.key in before and not is_first:
            continue
        is_gone = one.key not in before or one.fact is not None
        change = "gone" if is_gone else "unknown"
        yield _row("value", one.key, change, None, one.fact, one.told, act=True)


def _memory(
    old: str, new: str, inventory: Inventory, settings: PlanSettings, at: Present
) -> Iterator[_Fact]:
    """Bytes of all maps of a node while they are empty: what is reserved whatever the load is."""
    one, other = (_reserved(version, inventory, settings, at) for version in (old, new))
    change = other - one
    told = f"{'+' if change >= 0 else '-'}{format_bytes(abs(change))} a node for empty maps"
    yield _row(
        "memory", "BPF maps of a node", "bytes", None, None, told,
        act=False, before=format_bytes(one), after=format_bytes(other),
    ) | {"source": "facts/maps.csv and the kernel's accounting, capacity/cilium/map_memory.py",
         "verified": bool(facts.maps(new)["verified"].all())}  # fmt: skip


def _reserved(version: str, inventory: Inventory, settings: PlanSettings, at: Present) -> float:
    sizes = configured_sizes(inventory, settings, version)
    nodes = len(inventory.nodes)
    many = len(inventory.endpoints) / nodes if nodes and len(inventory.endpoints) else 1.0
    total = 0.0
    for fact in facts.maps(version).iter_rows(named=True):
        shape = (fact["key_size"], fact["value_size"], fact["max_entries"])
        if any(part is None for part in shape) or not is_there(fact, at):
            continue
        size = sizes[fact["option"]][0] if fact["option"] in sizes else fact["max_entries"]
        count = many if fact["per"] == "endpoint" else 1.0
        total += count * map_bytes(fact, size or fact["max_entries"], 0.0, at)
    return total


def sentences(table: pl.DataFrame) -> list[str]:
    """Say what is to be done before an upgrade, one sentence each."""
    return [
        f"upgrade {row['step']}: {row['kind']} {row['name']}: {row['effect']}"
        for row in table.filter(pl.col("act")).iter_rows(named=True)
    ]
