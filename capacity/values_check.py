"""Helm values before a rollout: keys that no chart knows, options that an agent refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from capacity import facts
from capacity.cilium.map_sizes import validate
from capacity.inventory import Inventory
from capacity.load.helm import is_variable, nearest, option_rows, read_values


@dataclass(frozen=True, slots=True)
class WrongValue:
    """A value that does nothing, that Helm refuses, or on which the chart fails; what to do.

    `fact` is the row of facts.removed_values that says so, None where the chart does not know it.
    """

    key: str
    told: str
    fact: dict[str, Any] | None


def wrong_values(values: Mapping[str, Any], version: str) -> list[WrongValue]:
    """Give the values that the chart of a Cilium version does not know, or fails on.

    Types are checked as Helm does, by the chart's own schema; charts before 1.16 have none.

    Examples
    --------
    >>> [one.told for one in wrong_values({"tunnel": "disabled"}, "1.17")]
    ['the chart fails from 1.15 on: use routingMode and tunnelProtocol']
    >>> [one.told for one in wrong_values({"bpf": {"ctTcpMax": "512k"}}, "1.17")]
    ['Helm refuses it: the chart takes integer or null, this is a string']
    """
    removed = {row["key"]: row for row in facts.removed_values(version).iter_rows(named=True)}
    found = []
    for key, value in _leaves(values, ""):
        gone = removed.get(key)
        if gone is not None:
            told = f"{gone['consequence']} from {gone['since']} on: use {gone['instead']}"
            found.append(WrongValue(key, told, gone))
        elif not _is_known(key, _chart(version)):
            near = nearest(key, _chart(version))
            told = "Helm takes it without a word, and it does nothing"
            found.append(WrongValue(key, told + (f"; did you mean {near}?" if near else ""), None))
        elif (fault := type_fault(key, value, version)) is not None:
            found.append(WrongValue(key, fault, None))
    return found


def type_fault(key: str, value: Any, version: str) -> str | None:
    """Say why Helm refuses the type of a value; None where it takes it.

    An empty value is taken: Helm drops a null, which leaves the chart's default. A text that a
    deployment fills in (${…}, {{…}}) tells no type yet.
    """
    told = _types(version).get(key)
    if told is None or value is None or _json_type(value) in told or is_variable(value):
        return None
    if "number" in told and _json_type(value) == "integer":
        return None
    wanted = " or ".join(told)
    return f"Helm refuses it: the chart takes {wanted}, this is a {_json_type(value)}"


def value_faults(files: Mapping[Path, str], base: Inventory) -> list[str]:
    """Say what is wrong with changed values: unknown keys, and sizes that an agent refuses.

    Parameters
    ----------
    files
        File of Helm values → Cilium version it is for. What is no file of values is left alone.
    base
        The cluster as it is: its options hold where the values say nothing.
    """
    found = []
    memory = base.nodes["memory"].min()
    for path, version in files.items():
        values = read_values(path)
        if "kind" in values or "apiVersion" in values:
            continue
        found += [f"{path}: {one.key}: {one.told}" for one in wrong_values(values, version)]
        options = dict(base.options.select("option", "value").iter_rows())
        options |= {option: value for option, value, _ in option_rows(values, str(path))}
        told = validate(
            options, version=version, memory_bytes=memory if isinstance(memory, int) else None
        )
        found += [f"{path}: {one.message}" for one in told if one.level == "error"]
    return found


@cache
def _types(version: str) -> Mapping[str, list[str]]:
    rows = facts.chart_types(version).select("key", "types").iter_rows()
    return {key: types.split() for key, types in rows}


def _json_type(value: Any) -> str:
    """Name the type of a value as JSON schema does."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    names = {int: "integer", str: "string", list: "array", dict: "object"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "string")


@cache
def _chart(version: str) -> Mapping[str, str]:
    return dict(facts.chart_values(version).select("key", "kind").iter_rows())


def _is_known(key: str, known: Mapping[str, str]) -> bool:
    parts = key.split(".")
    above = (".".join(parts[:i]) for i in range(1, len(parts)))
    # What Helm itself gives to subcharts
    is_helms = parts[0] in ("global", "enabled", "tags")
    return is_helms or key in known or any(known.get(path) == "free" for path in above)


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
