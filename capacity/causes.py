"""What each forecast rests on: the one driver that matters most, and what its doubt comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from capacity.models.prior import BASE
from capacity.tables import CAUSES, check

_KEYS: Final = ("cluster", "component", "subject", "quantity")
# A part below this share of the value moves nothing that one could see
_SEEN: Final = 0.01


def causes_table(explanation: pl.DataFrame, sensitivity: pl.DataFrame) -> pl.DataFrame:
    """Give table causes: a row a forecast, in the order of the explanation.

    Quantities are linear in their drivers: 1 % more of a driver moves the quantity by 1 % of the
    driver's part.

    Parameters
    ----------
    explanation, sensitivity
        The plan's tables of these names.
    """
    doubts = {_key(row): row for row in sensitivity.filter(rank=1).iter_rows(named=True)}
    rows = []
    for keys, parts in explanation.group_by(*_KEYS, maintain_order=True):
        first = parts.row(0, named=True)
        rows.append(
            dict(zip(_KEYS, keys, strict=True))
            | {"unit": first["unit"], "nodes": first["nodes"]}
            | _parts(parts) | _doubt(doubts.get(_key(first)))
        )  # fmt: skip
    return check(pl.DataFrame(rows, schema=CAUSES.schema), CAUSES)


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _KEYS)


def _parts(parts: pl.DataFrame) -> dict[str, Any]:
    """Name the driver with the largest part, the second one, and what stands beside drivers."""
    moving = parts.filter((pl.col("part") != BASE) & (pl.col("share") >= _SEEN))
    ranked = moving.sort("share", "part", descending=[True, False]).rows(named=True)
    first = ranked[0] if ranked else None
    second = ranked[1] if len(ranked) > 1 else None
    believed = parts.filter(basis="prior")["share"].sum()
    return {
        "driver": first and first["part"], "share": first and first["share"],
        "per_percent": first and first["mean"] / 100, "basis": first and first["basis"],
        "second": second and second["part"], "second_share": second and second["share"],
        "always": float(parts.filter(part=BASE)["share"].sum()), "believed": float(believed),
    }  # fmt: skip


def _doubt(row: Mapping[str, Any] | None) -> dict[str, Any]:
    if row is None:
        return {"doubt": None, "doubt_share": None}
    center = abs(row["center"])
    return {"doubt": row["factor"], "doubt_share": row["swing"] / center if center else None}
