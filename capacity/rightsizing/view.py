"""Table rightsizing for people: a line a container, what it saves, and what a peer's rule says."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.rightsizing.workloads import CONTAINER
from capacity.units import bytes_to_quantity, format_bytes, millicores_to_quantity

_SHORT: Final = {
    "requests.cpu": "cpu request", "limits.cpu": "cpu limit",
    "requests.memory": "memory request", "limits.memory": "memory limit",
}  # fmt: skip
_RISKS: Final = ("high", "medium", "unknown", "low")
_CHANGED: Final = ("raise", "lower", "set", "remove")


def quantity(value: int | None, unit: str) -> str:
    """Write an amount as a manifest does; – for none.

    >>> quantity(1500, "millicore"), quantity(1 << 30, "byte"), quantity(None, "byte")
    ('1500m', '1Gi', '–')
    """
    if value is None:
        return "–"
    return millicores_to_quantity(value) if unit == "millicore" else bytes_to_quantity(value)


def change(row: dict[str, object]) -> str:
    """Write what is and what should be.

    >>> change({"current": 500, "target": 120, "unit": "millicore", "status": "lower"})
    '500m → 120m'
    """
    unit = str(row["unit"])
    now, new = (quantity(row[name], unit) for name in ("current", "target"))  # type: ignore[arg-type]
    status = row["status"]
    if status in ("unknown", "refused"):
        return f"{now} ({status})"
    return now if now == new else f"{now} → {'none' if new == '–' else new}"


def by_container(resources: pl.DataFrame) -> pl.DataFrame:
    """Give a line a container of a workload, in the order of table rightsizing."""
    out = []
    for _, rows in resources.group_by("rank", maintain_order=True):
        told = {row["setting"]: row for row in rows.iter_rows(named=True)}
        first = next(iter(told.values()))
        risks = {row["risk"] for row in told.values()}
        line = {
            "workload": f"{first['namespace']}/{first['kind']}/{first['workload']}",
            "container": first["container"],
            "pods": first["replicas"],
            "risk": next(risk for risk in _RISKS if risk in risks),
        }
        line |= {name: change(told[setting]) for setting, name in _SHORT.items()}
        line |= _exceeding(told)
        line |= _savings(told)
        # The reason of what is changed or refused; of two the riskier one
        wanted = [row for row in told.values() if row["status"] != "ok"] or [first]
        wanted.sort(key=lambda row: (_RISKS.index(row["risk"]), row["setting"].startswith("l")))
        line["why"] = wanted[0]["reason"]
        out.append(line)
    schema = {"pods": pl.Int64, "money a month": pl.Float64}
    frame = pl.DataFrame(out, schema_overrides=schema, infer_schema_length=None)
    return frame.drop([name for name in schema if name in frame and frame[name].is_null().all()])


def _exceeding(told: dict[str, dict[str, object]]) -> dict[str, object]:
    """Write how likely use passes the request of CPU and the limit of memory (or its request)."""
    cpu, request, limit = (
        told[name]["exceeds"] for name in ("requests.cpu", "requests.memory", "limits.memory")
    )
    held = request if limit is None else limit
    return {"cpu above": _share(cpu), "memory above": _share(held)}


def _share(value: object) -> str | None:
    if not isinstance(value, float):
        return None
    return "<0.1 %" if 0 < value < 0.001 else f"{value:.1%}".replace("%", " %")


def _savings(told: dict[str, dict[str, object]]) -> dict[str, object]:
    cpu, memory = (told[f"requests.{name}"] for name in ("cpu", "memory"))
    money = [row["money"] for row in (cpu, memory) if isinstance(row["money"], float)]
    return {
        "saves cpu": _signed(cpu),
        "saves memory": _signed(memory),
        "money a month": sum(money) if money else None,
    }


def _signed(row: dict[str, object]) -> str | None:
    saving = row["saving"]
    if not isinstance(saving, int):
        return None
    if not saving:
        return "0"
    if row["unit"] == "millicore":
        return f"{saving:+,}m"
    return f"{'-' if saving < 0 else '+'}{format_bytes(abs(saving), 3)}"


def guard_lines(guards: pl.DataFrame) -> pl.DataFrame:
    """Give table guards with amounts as manifests write them."""
    rows = [
        {
            "object": f"{row['namespace']}/{row['guard']}/{row['name']}",
            "field": row["field"],
            "is": _guarded(row["current"], row["unit"]),
            "should be": _guarded(row["target"], row["unit"]),
            "why": row["reason"],
        }
        for row in guards.iter_rows(named=True)
    ]
    return pl.DataFrame(rows)


def _guarded(value: int | None, unit: str) -> str:
    if unit in ("millicore", "byte"):
        return quantity(value, unit)
    return "–" if value is None else f"{value}{' %' if unit == 'percent' else ''}"


def totals(resources: pl.DataFrame) -> str:
    """Say in one sentence what all changes come to."""
    requests = resources.filter(pl.col("setting").str.starts_with("requests."))
    changed = resources.filter(pl.col("status").is_in(_CHANGED)).select(CONTAINER).n_unique()
    many = resources.select(CONTAINER).n_unique()
    parts = []
    for name, unit in (("cpu", "millicore"), ("memory", "byte")):
        rows = requests.filter(pl.col("unit") == unit)
        held = int((rows["current"].fill_null(0) * rows["replicas"].fill_null(0)).sum())
        saving = int(rows["saving"].fill_null(0).sum())
        words = f"{held / 1000:,.1f} cores" if name == "cpu" else format_bytes(held)
        less = f"{abs(saving) / 1000:,.1f} cores" if name == "cpu" else format_bytes(abs(saving))
        share = f" ({abs(saving) / held:.0%})" if held else ""
        parts.append(f"{less}{share} {'less' if saving >= 0 else 'more'} of {words} {name}")
    money = resources["money"].drop_nulls()
    worth = f", {money.sum():,.2f} a month" if len(money) else ""
    risky = resources.filter(pl.col("risk") == "high").select(CONTAINER).n_unique()
    return (
        f"{changed} of {many} containers should change; requested in all: {'; '.join(parts)}"
        f"{worth}; {risky} at high risk as they are"
    )
