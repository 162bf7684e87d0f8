"""Command of scenarios: one way to ask what another size, version, option or mesh would do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from capacity.cli_options import OUTPUT
from capacity.settings import DEMO, PlanSettings

if TYPE_CHECKING:
    import polars as pl

SHORT = 1


@click.command("scenario")
@click.argument("source", default=DEMO, metavar="[CLUSTER]")
@click.option("--change", "texts", multiple=True, required=True, metavar="NAME: KEY=VALUE, …",
              help="A scenario (several allowed); keys are below.")  # fmt: skip
@click.option("--at", type=click.Choice(["horizon", "today"]), default="horizon",
              show_default=True, help="Start from where growth leads, or from today.")  # fmt: skip
@click.option("--horizon", default="180d", show_default=True, help="How far to look ahead.")
@click.option("--inventory", help="Folder or file of Kubernetes objects.")
@click.option("--cluster", help="Name of the cluster, where the source holds several.")
@click.option("--memory", help="Memory of the smallest node, e.g. 30Gi.")
@click.option("--risk", type=float, default=0.01, show_default=True,
              help="Chance of running short that you accept.")  # fmt: skip
@click.option("--start", help="Start of the history: RFC 3339, epoch seconds, or -180d.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draws.")
@OUTPUT
def scenario(source: str, texts: tuple[str, ...], at: str, output: str, **told: Any) -> None:
    """Compare scenarios: each limit, and the load of API server, etcd and kvstore.

    Keys: nodes, pods, pods_per_node, services, identities, policies … (500, +500, -500, x2);
    cilium=VERSION; any agent option, e.g. bpf-lb-map-max=131072; mode=dsr; ces=on; kvstore=on;
    churn=PODS a second; merge=K alike clusters into one, split=K, mesh=K of a ClusterMesh, and
    shared=SHARE of services, identities and policies that all have.
    Exit 0 all fit · 1 one is short · 2 wrong input.

    \b
    Examples:
      capacity scenario --change 'dense: pods_per_node=x2' --change 'mesh: mesh=3, churn=20'
      capacity scenario ./export --at today --change 'new: cilium=1.18, bpf-lb-map-max=131072'
    """
    from capacity.printing import print_json
    from capacity.scenario_findings import answer
    from capacity.scenario_text import parse
    from capacity.scenarios import scenarios

    changes = [parse(text) for text in texts]
    done = scenarios(PlanSettings(source, **told), changes, today=at == "today")
    if output == "json":
        print_json({"scenarios": done.scenarios.to_dicts(),
                    "control_plane": done.control_plane.to_dicts()})  # fmt: skip
    elif output == "csv":
        sys.stdout.write(done.scenarios.write_csv())
    else:
        click.echo(f"\n{answer(done)[2]}.\n")
        _show(done.scenarios, done.control_plane, done.cluster)
    for note in done.notes:
        click.echo(f"warning: {note}", err=True)
    asked = [change.name for change in changes]
    if (done.scenarios.filter(status="short")["scenario"].is_in(asked)).any() and source != DEMO:
        sys.exit(SHORT)


def _show(table: pl.DataFrame, load: pl.DataFrame, cluster: str) -> None:
    import polars as pl

    from capacity.printing import show

    named = table.with_columns(
        resource=pl.coalesce("subject", pl.concat_str("component", pl.lit(" "), "quantity"))
    ).sort("usage", descending=True, nulls_last=True, maintain_order=True)
    first, said = table["scenario"][0], ("resource", "q50", "q95", "limit", "status", "note")
    # Of other scenarios only what differs from the cluster as it is
    base = named.filter(scenario=first)
    new = named.filter(pl.col("scenario") != first)
    new = new.join(base, on=list(said), how="anti", nulls_equal=True, maintain_order="left")
    same = sorted(set(table["scenario"]) - {first} - set(new["scenario"]))
    named = pl.concat([base, new])
    order = pl.col("scenario").cast(pl.Enum(table["scenario"].unique(maintain_order=True)))
    columns = ("scenario", "nodes", "resource", "unit", "q50", "q95", "limit", "usage", "status",
               "note")  # fmt: skip
    show(named.sort(order, maintain_order=True), "table", columns=columns,
         title=f"Cluster {cluster}")  # fmt: skip
    if same:
        click.echo(f"Every limit is as it is: {', '.join(same)}")
    if not load.is_empty():
        click.echo()
        show(load, "table", columns=("scenario", "server", "what", "value", "unit", "limit", "why"),
             title="API server and kvstore")  # fmt: skip
