"""Pages of docs/reference, made from the package whenever the site is built (a Sphinx extension).

A page holds a line `<!-- made when the site is built: NAME -->`; what NAME makes takes its place.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from types import MemberDescriptorType
from typing import Any, Final

import click
import polars as pl

from capacity import facts
from capacity.cli import cli
from capacity.fleet_settings import FleetSettings
from capacity.scenario_settings import ScenarioSettings
from capacity.settings import PlanSettings
from capacity.tables import TABLES

_PLACE: Final = re.compile(r"<!-- made when the site is built: (\w+) -->")


def _cell(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    for sign in "\\|*_<[":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())


def _code(value: object) -> str:
    return f"`{value}`" if value not in (None, "") else "–"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _versions(row: dict[str, Any]) -> str:
    since, until = row["since"], row["until"]
    if until == facts.LATEST:
        return f"since {since}" if since != facts.VERSIONS[0] else "all"
    return since if since == until else f"{since} to {until}"


def tables() -> str:
    """List every table that crosses a border: columns, types, units."""
    parts = []
    for table in TABLES:
        rows = (
            (
                _code(c.name),
                _cell(c.dtype),
                _cell(c.unit),
                "yes" if c.nullable else "",
                _cell(c.meaning),
            )
            for c in table.columns
        )
        parts.append(f"## {table.name}\n\nOne row: {table.row}.\n")
        parts.append(_table(("column", "type", "unit", "may be null", "meaning"), rows))
    return "\n".join(parts)


def maps() -> str:
    """Tell the maps of each version, one heading a map."""
    parts = []
    for (name,), rows in facts.maps().group_by("map", maintain_order=True):
        told = rows.to_dicts()
        last = told[-1]
        full = last["full"] or "not known"
        parts.append(f"## {name}\n\n{last['driver'] or 'Fixed'}. When full: {full}.\n")
        parts.append(_table(_MAP_HEADS, map(_map_cells, told)))
    return "\n".join(parts)


_MAP_HEADS: Final = (
    "Cilium", "per", "type", "key + value [byte]", "entries", "bounds", "option", "Helm", "limit",
    "verified",
)  # fmt: skip


def _map_cells(row: dict[str, Any]) -> tuple[str, ...]:
    bounds = f"{_cell(row['min'])} … {_cell(row['max'])}" if row["max"] is not None else "–"
    return (
        _versions(row), _cell(row["per"]), _cell(row["type"]),
        f"{_cell(row['key_size'])} + {_cell(row['value_size'])}", _cell(row["max_entries"]), bounds,
        _code(row["option"]), _code(row["helm_value"]), _cell(row["kind"]), _cell(row["verified"]),
    )  # fmt: skip


def metrics() -> str:
    """List the metrics that are known."""
    rows = facts.metrics().to_dicts()
    return _table(
        ("metric", "Cilium", "type", "labels", "unit", "default", "switched on by", "meaning"),
        ((_code(r["metric"]), _versions(r), _cell(r["type"]), _cell(r["labels"]), _cell(r["unit"]),
          "on" if r["default_on"] else "off", _code(r["helm"]), _cell(r["meaning"])) for r in rows),
    )  # fmt: skip


def quantities() -> str:
    """Tell what is observed and forecast."""
    return _facts(facts.quantities(), "quantity")


def limits() -> str:
    """List limits that no map tells."""
    return _facts(facts.limits().drop("default"), "limit")


def options() -> str:
    """List the agent's options that size something, and what changing them does."""
    return _facts(facts.options(), "option", "helm_value")


def helm() -> str:
    """List the values of the charts, by the versions that know them."""
    rows = facts.chart_values().filter(pl.col("kind") != "section")
    below = pl.when(pl.col("kind") == "free").then(pl.lit(".*")).otherwise(pl.lit(""))
    parts = []
    ranges = rows.with_columns(shown=pl.col("key") + below).group_by("since", "until")
    for (since, until), keys in sorted(ranges):
        name = _versions({"since": since, "until": until})
        listed = "\n".join(keys["shown"].sort())
        parts.append(f"### Cilium {name}: {keys.height}\n\n```text\n{listed}\n```\n")
    return "\n".join(parts)


def removed_values() -> str:
    """List values that charts no longer take."""
    return _facts(facts.removed_values(), "key")


def _facts(frame: pl.DataFrame, *code: str) -> str:
    ranged = {"since", "until"} <= set(frame.columns)
    heads = [name for name in frame.columns if name not in ("since", "until")]
    shown = [name.replace("_", " ") for name in heads]
    rows = (
        [_code(row[name]) if name in code else _cell(row[name]) for name in heads]
        + ([_versions(row)] if ranged else [])
        for row in frame.iter_rows(named=True)
    )
    return _table(shown + (["Cilium"] if ranged else []), rows)


def settings() -> str:
    """List the fields of PlanSettings: one contract of command line, notebook and library."""
    return _fields(PlanSettings)


def fleet_settings() -> str:
    """List the fields of FleetSettings."""
    return _fields(FleetSettings)


def scenario_settings() -> str:
    """List the fields of ScenarioSettings."""
    return _fields(ScenarioSettings)


def _fields(kind: type[Any]) -> str:
    rows = (
        (_code(f.name), _code(f.type), _default(f), _cell(f.metadata.get("unit")),
         _cell(f.metadata.get("help")))
        for f in dataclasses.fields(kind)
    )  # fmt: skip
    return _table(("field", "type", "default", "unit", "meaning"), rows)


def _default(field: dataclasses.Field[Any]) -> str:
    return "needed" if field.default is dataclasses.MISSING else _code(repr(field.default))


def commands() -> str:
    """Tell of every command what it does, its arguments, options and examples."""
    return "\n".join(_command(command, context) for command, context in _all(cli, None))


def _all(
    command: click.Command, above: click.Context | None
) -> Iterator[tuple[click.Command, click.Context]]:
    context = click.Context(command, parent=above, info_name=command.name if above else "capacity")
    yield command, context
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        below = command.get_command(context, name)  # type: ignore[union-attr]
        if below is not None:
            yield from _all(below, context)


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"## {context.command_path}\n", f"```text\n{context.command_path} {usage}\n```\n"]
    words, _, examples = (command.help or "").replace("\b", "").partition("Examples:")
    parts.append(words.strip() + "\n")
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    if lines:
        parts.append("```sh\n" + "\n".join(lines) + "\n```\n")
    rows = [record for p in command.get_params(context) if (record := p.get_help_record(context))]
    if len(rows) > 1:  # not --help alone
        parts.append(_table(("option", "meaning"), ((_code(a), _cell(b)) for a, b in rows[:-1])))
    return "\n".join(parts)


MAKERS: Final[dict[str, Callable[[], str]]] = {
    made.__name__: made
    for made in (
        tables, maps, metrics, quantities, limits, options, helm, removed_values, settings,
        fleet_settings, scenario_settings, commands,
    )
}  # fmt: skip


def fill(text: str) -> str:
    """Put what is made in the place of each line that names it."""
    return _PLACE.sub(lambda found: MAKERS[found[1]](), text)


_FOOTNOTE: Final = re.compile(r"^\.\. \[\d+\] ")
_MARK: Final = re.compile(r" ?\[(\d+)\]_")


def _without_footnotes(lines: list[str]) -> None:
    """Make lists of numpydoc's numbered references: their numbers start anew in each docstring."""
    lines[:] = [_MARK.sub(r" [\1]", _FOOTNOTE.sub("#. ", line)) for line in lines]


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""

    def read(_app: object, _page: str, source: list[str]) -> None:
        source[0] = fill(source[0])

    def docstring(_app: object, _what: str, _name: str, _obj: object, _options: object,
                  lines: list[str]) -> None:  # fmt: skip
        _without_footnotes(lines)

    def skip(_app: object, _what: str, _name: str, member: object, _skipped: bool,
             _options: object) -> bool | None:  # fmt: skip
        if isinstance(member, MemberDescriptorType):  # a field: its docstring is the class's
            return True
        module = getattr(member, "__module__", None) or ""
        return None if module.startswith("capacity") or not callable(member) else True

    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", docstring, priority=400)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
