"""What scenarios say, made from their tables: an answer, the first limit of each, shares."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from capacity.findings import Answer
from capacity.scenario_settings import ScenarioSettings
from capacity.scenario_text import BASE, parse
from capacity.scenarios import Scenarios, scenarios
from capacity.settings import PlanSettings
from capacity.telling import amount, resource

_KEYS: Final = ("component", "subject", "quantity")
_MEMORY: Final = (("agent memory", "agent"), ("operator memory", "operator"))


def compare(settings: ScenarioSettings) -> Scenarios:
    """Compare the scenarios that settings name.

    Parameters
    ----------
    settings
        Cluster, scenarios, where they start from.

    Raises
    ------
    SettingsError
        If a scenario cannot be read; all faults of one in one message.
    """
    plan = PlanSettings(
        settings.source, inventory=settings.inventory, cluster=settings.cluster,
        horizon=settings.horizon, cilium=settings.cilium, memory=settings.memory,
        risk=settings.risk, start=settings.start, seed=settings.seed,
    )  # fmt: skip
    changes = [parse(text) for text in settings.texts]
    return scenarios(plan, changes, today=settings.at == "today")


def named(table: pl.DataFrame) -> pl.DataFrame:
    """Give table scenarios and column resource: what people call it."""
    rows = table.select(_KEYS).iter_rows(named=True)
    return table.with_columns(resource=pl.Series([resource(row) for row in rows], dtype=pl.String))


def first_limits(done: Scenarios) -> pl.DataFrame:
    """Give the fullest limit of each scenario, in their order; columns of table scenarios.

    Column `short` counts the limits that are short. [1]
    """
    known = named(done.scenarios).filter(pl.col("usage").is_not_null())
    short = (pl.col("status") == "short").sum().alias("short")
    most = known.sort("usage", descending=True).unique("scenario", maintain_order=True)
    counted = known.group_by("scenario").agg(short)
    joined = most.join(counted, on="scenario")
    order = done.scenarios["scenario"].unique(maintain_order=True).to_list()
    return joined.sort(pl.col("scenario").replace_strict(order, range(len(order))))


def answer(done: Scenarios) -> Answer:
    """Say how many scenarios run short, and which limit would be first in the worst."""
    first = first_limits(done)
    if first.is_empty():
        return "unknown", "Not known", "No limit of this cluster is known"
    asked = first.filter(pl.col("scenario") != BASE.name)
    base = first.filter(scenario=BASE.name).row(0, named=True)
    words = f"as it is, at {base['nodes']:,} nodes, {_count(base['short'])} short"
    words += f": {_told(base)}" if base["short"] else f", {_told(base)}"
    short = asked.filter(pl.col("short") > 0)
    text = f"{len(short)} of {len(asked)} scenarios run short; {words}"
    more = asked.filter(pl.col("short") > base["short"])["scenario"].to_list()
    less = asked.filter(pl.col("short") < base["short"])["scenario"].to_list()
    text += f"; more limits are short with {_listed(more)}" if more else ""
    text += f"; fewer with {_listed(less)}" if less else ""
    return ("short", "Short", text) if len(short) else ("fits", "All fit", text)


def hardest(done: Scenarios) -> str:
    """Say which scenario takes most of a limit, and which least."""
    first = first_limits(done).sort("usage", descending=True, maintain_order=True)
    if first.is_empty():
        return "No limit of this cluster is known"
    most, least = first.row(0, named=True), first.row(-1, named=True)
    text = f"{most['scenario']} takes most of a limit: {_told(most)}"
    return text if len(first) == 1 else f"{text}; {least['scenario']} least: {_told(least)}"


def _told(row: dict[str, Any]) -> str:
    return f"{row['resource']} at {row['usage']:.0%} of its limit"


def _count(many: int) -> str:
    return f"{many} limit is" if many == 1 else f"{many} limits are"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]


def facts(done: Scenarios) -> dict[str, str]:
    """Give the numbers beside the answer."""
    first = first_limits(done)
    asked = first.filter(pl.col("scenario") != BASE.name)
    asked = asked.sort("usage", descending=True, maintain_order=True)
    base = first.filter(scenario=BASE.name)
    out = {"Nodes as it is": f"{base['nodes'][0]:,}" if len(base) else "–"}
    if not asked.is_empty():
        out["Mildest"] = f"{asked['scenario'][-1]} ({asked['usage'][-1]:.0%})"
        out["Hardest"] = f"{asked['scenario'][0]} ({asked['usage'][0]:.0%})"
    return out


def summary(done: Scenarios) -> pl.DataFrame:
    """Give a row a scenario, for people: what changes, first limit, memory, etcd."""
    texts = {change.name: change.text for change in done.changes}
    rows = []
    for row in first_limits(done).iter_rows(named=True):
        own = done.scenarios.filter(scenario=row["scenario"], quantity="memory")
        memory = dict(own.select("component", "q95").iter_rows())
        etcd = done.control_plane.filter(
            scenario=row["scenario"], server="kube-apiserver", what="etcd database"
        )["value"]
        rows.append(
            {
                "scenario": row["scenario"],
                "what changes": texts.get(row["scenario"]) or "nothing",
                "nodes": row["nodes"],
                "fullest limit": row["resource"],
                "of it": f"{row['usage']:.0%}",
                "limits short": row["short"],
                **{f"{name}, 95 %": amount(memory.get(key), "byte") for name, key in _MEMORY},
                "etcd of the API server": amount(etcd[0] if len(etcd) else None, "byte"),
            }
        )
    return pl.DataFrame(rows)


def shares(done: Scenarios) -> pl.DataFrame:
    """Give a row a resource and a column a scenario: the share of its limit, in words.

    The fullest in any scenario first; resources without a known limit are left out.
    """
    known = named(done.scenarios).filter(pl.col("usage").is_not_null())
    if known.is_empty():
        return pl.DataFrame()
    order = known.group_by("resource").agg(pl.col("usage").max()).sort("usage", descending=True)
    wide = known.with_columns(told=(pl.col("usage") * 100).round(1).cast(pl.String) + " %").pivot(
        "scenario", index="resource", values="told", maintain_order=True
    )
    return order.select("resource").join(wide, on="resource", maintain_order="left")


def differences(done: Scenarios) -> pl.DataFrame:
    """Give what differs from the cluster as it is, a row each, for people."""
    table = named(done.scenarios)
    base = table.filter(scenario=BASE.name).select("resource", was="q50", old="limit")
    rows = table.filter(pl.col("scenario") != BASE.name).join(base, on="resource")
    is_same = (pl.col("q50") == pl.col("was")) & pl.col("limit").eq_missing(pl.col("old"))
    told = []
    for row in rows.filter(~is_same | pl.col("note").is_not_null()).iter_rows(named=True):
        unit = row["unit"]
        low, high = (amount(row[name], unit) for name in ("q05", "q95"))
        told.append(
            {
                "scenario": row["scenario"],
                "resource": row["resource"],
                "as it is": amount(row["was"], unit),
                "then": amount(row["q50"], unit),
                "5 to 95 %": f"{low} to {high}",
                "limit": amount(row["limit"], unit),
                "of the limit": None if row["usage"] is None else f"{row['usage']:.0%}",
                "note": row["note"],
            }
        )
    return pl.DataFrame(told)


def servers(done: Scenarios) -> pl.DataFrame:
    """Give a row for what a server holds or does, a column a scenario; the last says why."""
    table = done.control_plane
    if table.is_empty():
        return pl.DataFrame()
    written = table.with_columns(
        told=pl.struct("value", "unit").map_elements(
            lambda cell: amount(cell["value"], cell["unit"].removesuffix("/s")), pl.String
        ),
        what=pl.concat_str("server", pl.lit(": "), "what")
        + pl.when(pl.col("unit").str.ends_with("/s"))
        .then(pl.lit(" a second"))
        .otherwise(pl.lit("")),
    )
    why = written.unique("what", keep="first", maintain_order=True).select("what", "why")
    wide = written.pivot("scenario", index="what", values="told", maintain_order=True)
    return wide.join(why, on="what", maintain_order="left")
