"""Command of maps: what fills each of them, how full that makes it, where it ends."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from capacity.cli_options import OUTPUT
from capacity.settings import DEMO, PlanSettings

if TYPE_CHECKING:
    import polars as pl

    from capacity.map_fill import Driver

SHORT = 1
_SHOWN = ("map", "equation", "bound", "predicted", "observed", "factor", "ahead", "limit", "kind",
          "setting", "full_at_nodes")  # fmt: skip


@click.command("maps")
@click.argument("source", default=DEMO, metavar="[CLUSTER]")
@click.option("--map", "named", metavar="NAME", help="One map, told in full; a part of its name.")
@click.option("--nodes", type=click.IntRange(1), help="Node count to look ahead to.")
@click.option("--set", "texts", multiple=True, metavar="DRIVER=VALUE",
              help="A driver that nothing tells, or to try out (several allowed).")  # fmt: skip
@click.option("--all", "whole", is_flag=True, help="Maps of features that are off, too.")
@click.option("--inventory", help="Folder or file of Kubernetes objects.")
@click.option("--cluster", help="Name of the cluster, where the source holds several.")
@click.option("--memory", help="Memory of the smallest node, e.g. 30Gi.")
@click.option("--cilium", metavar="VERSION", help="Cilium version, where the source tells none.")
@OUTPUT
def maps(
    source: str, named: str | None, nodes: int | None, texts: tuple[str, ...], whole: bool,
    output: str, **told: Any,
) -> None:  # fmt: skip
    """Tell what fills every BPF map: equation, drivers, predicted, observed, limit and its kind.

    Entries that are observed correct what the equation says of other node counts (factor).
    Exit 0 all hold · 1 one that is counted exactly does not, at the planned nodes · 2 wrong input.

    \b
    Examples:
      capacity maps ./export --nodes 2000
      capacity maps --map frag --set fragmented_datagrams=200
    """
    from capacity.map_fill import filled, given

    settings = PlanSettings(source, **told)
    table, drivers = filled(settings, given(texts), nodes)
    rows = _picked(table, named, whole=whole)
    if output == "table" and named is not None:
        _explain(rows, drivers)
    else:
        _list(rows, output, len(table))
    short = rows.filter(in_use="yes", bound="exact").filter(_over())
    if not short.is_empty() and source != DEMO:
        sys.exit(SHORT)


def _over() -> pl.Expr:
    import polars as pl

    most = pl.max_horizontal("observed", pl.coalesce("ahead", "predicted"))
    return (most > pl.col("limit")).fill_null(value=False)


def _picked(table: pl.DataFrame, named: str | None, *, whole: bool) -> pl.DataFrame:
    import polars as pl

    from capacity.errors import SettingsError

    if named is not None:
        found = table.filter(pl.col("map").str.contains(named, literal=True))
        if found.is_empty():
            raise SettingsError(f"--map {named!r}: no map of this version has that in its name")
        return found
    return table if whole else table.filter(pl.col("in_use") == "yes")


def _list(rows: pl.DataFrame, output: str, known: int) -> None:
    import polars as pl

    from capacity.printing import show
    from capacity.tables import MAP_FILL

    lean = rows.with_columns(pl.col("map").str.strip_prefix("cilium_"))
    show(lean if output == "table" else rows, output, columns=_SHOWN, of=MAP_FILL)  # type: ignore[arg-type]
    blind = rows.filter(pl.col("usage").is_null())["map"].to_list()
    if blind:
        click.echo(f"not known how full: {', '.join(blind)}; --map NAME says what tells", err=True)
    if known > len(rows):
        click.echo(f"{known - len(rows)} maps of features that are off or not known to be on are "
                   "left out: --all", err=True)  # fmt: skip


def _explain(rows: pl.DataFrame, drivers: dict[str, Driver]) -> None:
    """Print one map after another, each with the values of its drivers."""
    import polars as pl

    from capacity.cilium.equations import names
    from capacity.facts.filling import fill_drivers
    from capacity.printing import rows as pairs
    from capacity.printing import show

    meant = {row["driver"]: row for row in fill_drivers().iter_rows(named=True)}
    for row in rows.drop("drivers").iter_rows(named=True):
        show(pairs({name.replace("_", " "): value for name, value in row.items()}), "table",
             title=row["map"])  # fmt: skip
        if row["equation"] is None:
            continue
        wanted = names(row["equation"])
        told = pl.DataFrame(
            {
                "driver": wanted,
                "value": [drivers[n].value if n in drivers else None for n in wanted],
                "unit": [meant[n]["unit"] for n in wanted],
                "basis": [drivers[n].basis if n in drivers else "not known" for n in wanted],
                "meaning": [meant[n]["meaning"] for n in wanted],
                "told by": [meant[n]["told_by"] for n in wanted],
            },
            schema_overrides={"value": pl.Float64},
        )
        show(told, "table")
