"""Facts about what fills each map: equations in drivers (fill.csv), and the drivers they name."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

import polars as pl

from capacity.facts import VERSIONS, minor
from capacity.tables import Column, Table, check

BOUNDS: Final = ("exact", "upper", "needed", "fixed", "observed")
FILL: Final = Table(
    "fill",
    "what fills one map, from one Cilium version to another",
    (
        Column("map", pl.String, "", "as in facts/maps.csv"),
        Column("since", pl.String, "", "first Cilium minor version the row holds for"),
        Column("until", pl.String, "", "last Cilium minor version the row holds for"),
        Column("equation", pl.String, "", "entries, in drivers of fill_drivers", nullable=True),
        Column(
            "bound", pl.String, "",
            "exact: so many; upper: no more; needed: so many are in use at once, an LRU map holds "
            "older ones too; fixed: there from the start; observed: only counting tells",
        ),
        Column("created", pl.String, "", "what makes an entry"),
        Column("removed", pl.String, "", "when it goes"),
        Column("source", pl.String, "", "repository and files that tell so"),
        Column(
            "read_until", pl.String, "",
            "last version whose source was read for this row; later ones are taken to be alike",
            nullable=True,
        ),
    ),
)  # fmt: skip
FILL_DRIVERS: Final = Table(
    "fill_drivers",
    "one driver of the equations in facts/fill.csv",
    (
        Column("driver", pl.String),
        Column("unit", pl.String),
        Column("default", pl.Float64, "", "taken where nothing tells it", nullable=True),
        Column("grows", pl.Boolean, "", "in proportion to the nodes, at constant density"),
        Column("meaning", pl.String),
        Column("told_by", pl.String, "", "what tells it; what is assumed where nothing does"),
        Column("source", pl.String, "", "where its part in the equation was read"),
    ),
)


def fill(version: str | None = None) -> pl.DataFrame:
    """Give what fills each map of a Cilium version.

    Parameters
    ----------
    version
        Cilium version, e.g. ``1.17``. All rows where None.

    Returns
    -------
    DataFrame
        Table fill and `verified`: the version's own source was read for the row, or that of all
        of its versions.

    Raises
    ------
    FactError
        If nothing is known about the version.

    Examples
    --------
    >>> fill("1.17").filter(map="cilium_tunnel_map")["equation"].item()
    '(nodes - 1) * pod_cidrs'
    """
    known = {name: i for i, name in enumerate(VERSIONS)}
    since, until, read = (
        pl.col(name).replace_strict(known, return_dtype=pl.Int64)
        for name in ("since", "until", "read_until")
    )
    if version is None:
        return _rows(FILL).with_columns(verified=(read >= until).fill_null(value=False))
    wanted = VERSIONS.index(minor(version))
    held = _rows(FILL).filter((since <= wanted) & (wanted <= until))
    return held.with_columns(verified=(read >= wanted).fill_null(value=False))


def fill_drivers() -> pl.DataFrame:
    """Give the drivers of the equations: table fill_drivers.

    Examples
    --------
    >>> fill_drivers().filter(driver="fragment_lifetime")["default"].item()
    30.0
    """
    return _rows(FILL_DRIVERS)


@cache
def _rows(table: Table) -> pl.DataFrame:
    text = files("capacity.facts").joinpath(f"{table.name}.csv").read_bytes()
    return check(pl.read_csv(text, schema=table.schema), table)
