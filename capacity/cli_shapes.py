"""Command about shapes: how large a cluster can get, and one cluster or several."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capacity.cli_options import OUTPUT, VERSION, inventory_of, version_of

if TYPE_CHECKING:
    from capacity.shapes import Shape

SHORT = 1
_SHOWN = (
    "resource",
    "kind",
    "need",
    "limit",
    "usage",
    "nodes_most",
    "nodes_raised",
    "status",
    "fix",
)


@click.command("shapes")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--nodes", type=int, help="Nodes of the shape; those of the source if left out.")
@click.option("--pods-per-node", type=float, help="Pods with an address of their own, a node.")
@click.option("--services", type=int, help="Services.")
@click.option("--service-type", type=click.Choice(["ClusterIP", "NodePort", "LoadBalancer"]),
              default="ClusterIP", show_default=True)  # fmt: skip
@click.option("--ports", type=int, default=1, show_default=True, help="Ports of a service.")
@click.option("--backends", type=int, default=3, show_default=True, help="Pods behind a service.")
@click.option("--identities", type=int, help="Security identities; they grow with pods.")
@click.option("--policy-entries", type=int, help="Entries of the fullest policy map.")
@click.option("--families", type=int, help="1, or 2 for IPv4 and IPv6.")
@click.option("--node-ips", type=float, help="Addresses of a node that agents know; 4 if unknown.")
@click.option("--pod-cidr", help="Pool of cluster-pool IPAM, e.g. 10.0.0.0/8.")
@click.option("--pod-mask", type=int, help="Mask of a node's part of it; 24 if left out.")
@click.option("--set", "options", multiple=True, metavar="OPTION=VALUE",
              help="Agent option that is set, e.g. bpf-node-map-max=32768.")  # fmt: skip
@click.option("--split", "splits", multiple=True, metavar="CLUSTERSxNODES",
              help="Compare ways to split nodes into a mesh, e.g. 1x5000 (several).")  # fmt: skip
@click.option("--shared", type=float, default=0.0, show_default=True,
              help="Share of services and identities that every cluster has.")  # fmt: skip
@click.option("--churn", type=float, help="Pods made a second, for the API server's events.")
@click.option("--metrics", help="Metrics of the cluster, for the memory of its agents.")
@click.option("--chart", type=click.Path(path_type=Path, dir_okay=False),
              help="HTML page of the frontier to write (extra report).")  # fmt: skip
@VERSION
@OUTPUT
def shapes(
    sources: tuple[str, ...], options: tuple[str, ...], splits: tuple[str, ...], shared: float,
    churn: float | None, metrics: str | None, chart: Path | None, cilium: str | None,
    output: str, **told: Any,
) -> None:  # fmt: skip
    """Tell how large the cluster can get: nodes x pods a node x services x policies.

    The shape is that of SOURCES (Kubernetes objects), with what options say in its place.
    Exit 0 it fits · 1 it does not as it is set · 2 wrong input.

    \b
    Examples:
      capacity shapes --nodes 5000 --pods-per-node 30 --services 4000 --cilium 1.17
      capacity shapes dump/ --chart frontier.html
      capacity shapes --nodes 5000 --pods-per-node 30 --split 1x5000 --split 5x1000
    """
    from capacity import printing
    from capacity.shapes import laws
    from capacity.shapes.frontier import frontier, use
    from capacity.shapes.mesh import compare, split_of

    version = version_of(cilium)
    shape, counted = _shape(sources, options, told, version)
    table = laws(shape, version, counted)
    used, edge = use(table, shape), frontier(table, shape)
    if metrics is not None:
        used = _with_agents(used, metrics, shape, version)
    tables = {"shape": used, "frontier": edge}
    if splits:
        tables["mesh"] = compare(
            shape, [split_of(text) for text in splits], version,
            shared=shared, churn=churn, counted=counted,
        )  # fmt: skip
    if chart is not None:
        _draw(edge, shape, chart)
    if output == "json":
        printing.print_json({name: frame.to_dicts() for name, frame in tables.items()})
    elif output == "csv":
        sys.stdout.write(tables["mesh" if splits else "frontier"].write_csv())
    else:
        own = edge.filter(services=shape.services, policies=1.0)
        printing.show(used, "table", columns=_SHOWN,
                      title=f"{shape.nodes:,} nodes x {shape.pods_per_node:g} pods")  # fmt: skip
        printing.show(own, "table", title="Most nodes, by pods a node")
        if splits:
            printing.show(tables["mesh"], "table", title="One cluster, or several")
    if used["status"].is_in(["raise", "redesign"]).any():
        sys.exit(SHORT)


def _shape(
    sources: tuple[str, ...], options: tuple[str, ...], told: dict[str, Any], version: str
) -> tuple[Shape, dict[str, float] | None]:
    """Give the shape of the sources with what was told in its place; costs of its services."""
    from dataclasses import asdict

    from capacity.errors import SettingsError
    from capacity.shapes import Shape, shape_of

    given = {name: value for name, value in told.items() if value is not None}
    pairs = [text.partition("=") for text in options]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise SettingsError(f"--set {name!r} is not OPTION=VALUE")
    own = {name: value for name, _, value in pairs}
    if not sources:
        missing = [f"--{n.replace('_', '-')}" for n in ("nodes", "pods_per_node") if n not in given]
        if missing:
            raise SettingsError(f"{' and '.join(missing)}: missing; name them, or a SOURCE")
        return Shape(**given, options=own), None
    known = {name: given[name] for name in ("nodes", "pods_per_node") if name in given}
    found, counted = shape_of(inventory_of(sources), version, **known)
    of_source = asdict(found) | {"options": {**found.options, **own}}
    if given.get("services") not in (None, found.services):
        # Other services than those of the source are all alike
        return Shape(**{**of_source, **given}), None
    for name in ("service_type", "ports", "backends"):
        given.pop(name)
    return Shape(**{**of_source, **given}), counted


def _with_agents(used: Any, metrics: str, shape: Shape, version: str) -> Any:
    """Add the memory of agents as the plan forecasts it for the shape's nodes and pods a node."""
    from capacity.planning import plan
    from capacity.settings import PlanSettings
    from capacity.shapes.frontier import with_agents

    driver = f"endpoints_per_node={shape.pods_per_node:g}"
    settings = PlanSettings(metrics, nodes=(shape.nodes,), set=(driver,), cilium=version)
    made = plan(settings)
    added = with_agents(used, made.forecast, made.exhaustion, shape.nodes)
    if len(added) == len(used):
        click.echo("warning: the metrics tell no memory of agents with a limit", err=True)
    return added


def _draw(edge: Any, shape: Shape, path: Path) -> None:
    from capacity.errors import SettingsError

    try:
        from capacity.charts.shapes import write
    except ImportError:
        raise SettingsError("--chart needs plotly: pip install 'cilium-capacity[report]'") from None
    write(edge, shape, path)
    click.echo(f"written: {path}", err=True)
