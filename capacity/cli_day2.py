"""Commands of the days after: what an upgrade changes, and what runs against what was planned."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from capacity.cli_options import OUTPUT

SHORT = 1


@click.command("upgrade")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--from", "before", required=True, metavar="VERSION", help="Version that runs.")
@click.option("--to", "after", required=True, metavar="VERSION", help="Version to come.")
@click.option(
    "--values", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Helm values of the installation: those that the new chart does not know are told.",
)  # fmt: skip
@click.option("--memory", help="Memory of the smallest node, e.g. 30Gi, for maps sized by it.")
@click.option("--all", "everything", is_flag=True, help="Also what asks for nothing, in the table.")
@OUTPUT
def upgrade(
    sources: tuple[str, ...], before: str, after: str, values: Path | None, memory: str | None,
    everything: bool, output: str,
) -> None:  # fmt: skip
    """Tell which maps, options, limits and metrics an upgrade changes, and what to do before it.

    From facts only, one minor version at a time. SOURCEs are inventories: what they set is not
    asked for. Exit code 1: something is to be done first.

    \b
    Examples:
      capacity upgrade --from 1.17 --to 1.20
      capacity upgrade --from 1.15 --to 1.17 dump/ --values values.yaml -o json
    """
    from capacity import printing
    from capacity.inventory import merge
    from capacity.load import read_inventory
    from capacity.load.helm import read_values
    from capacity.settings import PlanSettings
    from capacity.upgrade import upgrade as compare

    inventory = merge([read_inventory(source) for source in sources])
    given = read_values(values) if values is not None else None
    table = compare(before, after, inventory, given, PlanSettings(memory=memory))
    acting = table.filter("act")
    shown = table if everything or output != "table" else table.filter(
        (table["act"]) | table["kind"].is_in(["map", "memory", "option", "limit"])
    )  # fmt: skip
    thin = ("step", "kind", "name", "change", "before", "after", "act", "effect")
    printing.show(shown, output, columns=thin)  # type: ignore[arg-type]
    click.echo(f"{len(table)} changes, {len(acting)} to be dealt with before the upgrade", err=True)
    sys.exit(SHORT if len(acting) else 0)


@click.command("drift")
@click.argument("plan", type=click.Path(path_type=Path, exists=True))
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@OUTPUT
def drift(plan: Path, sources: tuple[str, ...], output: str) -> None:
    """Compare a cluster as it is with what a plan said that should be set.

    PLAN is the folder of `capacity plan --out`, SOURCEs are exports and inventories of today.
    Exit code 1: something is open (not applied), pending (set, agents not restarted) or moved.

    \b
    Examples:
      capacity drift plan/ dump/
      capacity drift plan/ https://prometheus.example:9090 dump/ -o json
    """
    from capacity import printing
    from capacity.drift import drift as compare
    from capacity.drift import read_outcome
    from capacity.export import concat
    from capacity.inventory import merge
    from capacity.load import read_any

    outcome = read_outcome(plan)
    metrics, parts = zip(*(read_any(source) for source in sources), strict=True)
    table = compare(outcome, concat(metrics), merge(parts))
    printing.show(table, output)  # type: ignore[arg-type]
    off = table.filter(table["status"].is_in(["open", "pending", "moved"]))
    click.echo(f"{len(off)} of {len(table)} settings are not as planned", err=True)
    sys.exit(SHORT if len(off) else 0)
