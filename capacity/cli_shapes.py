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
# Share of a limit from which a comparison shows it
_WORTH = 0.1
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
@click.option("--agent-memory", help="Memory limit of an agent, e.g. 2Gi; that of the source.")
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
@click.option("--values", type=click.Path(path_type=Path, file_okay=False),
              help="Folder for Helm values of each cluster of the --split.")  # fmt: skip
@VERSION
@OUTPUT
def shapes(
    sources: tuple[str, ...], options: tuple[str, ...], splits: tuple[str, ...], shared: float,
    churn: float | None, metrics: str | None, chart: Path | None, values: Path | None,
    cilium: str | None, output: str, **told: Any,
) -> None:  # fmt: skip
    """Tell how large the cluster can get: nodes x pods a node x services x policies.

    The shape is that of SOURCES (Kubernetes objects), with what options say in its place.
    Exit 0 it fits · 1 it does not as it is set · 2 wrong input.

    \b
    Examples:
      capacity shapes --nodes 5000 --pods-per-node 30 --services 4000 --cilium 1.17
      capacity shapes dump/ --chart frontier.html
      capacity shapes --nodes 5000 --pods-per-node 30 --split 1x5000 --split 5x1000
      capacity shapes --nodes 5000 --pods-per-node 30 --split 5x1000 --values mesh
    """
    from capacity import printing
    from capacity.shapes import laws
    from capacity.shapes.frontier import frontier, use
    from capacity.shapes.mesh import compare, split_of, uses
    from capacity.tables import MESH_USE, SHAPE_FRONTIER, SHAPE_USE

    version = version_of(cilium)
    shape, counted = _shape(sources, options, told, version)
    table = laws(shape, version, counted)
    used, edge = use(table, shape), frontier(table, shape)
    if metrics is not None:
        used = _with_agents(used, metrics, shape, version)
    tables = {"shape": used, "frontier": edge}
    if splits:
        ways = [split_of(text) for text in splits]
        more: dict[str, Any] = {"shared": shared, "counted": counted}
        tables["mesh"] = compare(shape, ways, version, churn=churn, **more)
        tables["mesh_use"] = uses(shape, ways, version, **more)
    if chart is not None:
        _draw(edge, shape, chart, tables.get("mesh_use"))
    if values is not None:
        _values(splits, shape, version, values)
    if output == "json":
        printing.print_json({name: frame.to_dicts() for name, frame in tables.items()})
    elif output == "csv":
        sys.stdout.write(tables["mesh" if splits else "frontier"].write_csv())
    else:
        own = edge.filter(services=shape.services, policies=1.0)
        printing.show(used, "table", columns=_SHOWN, of=SHAPE_USE,
                      title=f"{shape.nodes:,} nodes x {shape.pods_per_node:g} pods")  # fmt: skip
        printing.show(own, "table", of=SHAPE_FRONTIER, title="Most nodes, by pods a node")
        if splits:
            printing.show(turned(tables["mesh"]), "table", title="One cluster, or several")
            printing.show(tables["mesh_use"].filter(tables["mesh_use"]["usage"] > _WORTH), "table",
                          of=MESH_USE,
                          title="Limits of each, used by more than a tenth")  # fmt: skip
    if used["status"].is_in(["raise", "redesign"]).any():
        sys.exit(SHORT)


def _shape(
    sources: tuple[str, ...], options: tuple[str, ...], told: dict[str, Any], version: str
) -> tuple[Shape, dict[str, float] | None]:
    """Give the shape of the sources with what was told in its place; costs of its services."""
    from dataclasses import asdict

    from capacity.errors import SettingsError
    from capacity.shapes import Shape, shape_of
    from capacity.units import parse_bytes

    if told["agent_memory"] is not None:
        told["agent_memory"] = parse_bytes(told["agent_memory"])
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


def turned(mesh: Any) -> Any:
    """Give table mesh with a column a way to split: there are few ways and many limits."""
    import polars as pl

    from capacity.units import format_bytes

    names = [name for name in mesh.columns if name not in ("split", "short")]

    def shown(name: str, value: Any) -> str:
        if name in ("agent_memory", "etcd"):
            return f"{format_bytes(value)} (estimate)"
        return "–" if value is None else value if isinstance(value, str) else f"{value:,}"

    columns = {row["split"]: [shown(n, row[n]) for n in names] for row in mesh.to_dicts()}
    return pl.DataFrame({"of": [name.replace("_", " ") for name in names], **columns})


def _values(splits: tuple[str, ...], shape: Shape, version: str, folder: Path) -> None:
    """Write Helm values for each cluster of the only split: IDs, names, what the mesh needs."""
    from capacity.errors import SettingsError
    from capacity.manifests.mesh import MeshCluster, mesh_settings, values
    from capacity.shapes.mesh import split_of

    if len(splits) != 1:
        raise SettingsError("--values wants one --split: the way that was chosen")
    way = split_of(splits[0])
    part = None if shape.identities is None else shape.identities / way.clusters
    clusters = [
        MeshCluster(f"cluster-{i}", version, addresses=way.nodes * shape.node_ips, identities=part)
        for i in range(1, way.clusters + 1)
    ]
    table = mesh_settings(splits[0], clusters)
    folder.mkdir(parents=True, exist_ok=True)
    for cluster in clusters:
        (folder / f"{cluster.name}.yaml").write_text(
            values(table, cluster.name) or "{}\n", encoding="utf-8"
        )
    for row in table.filter(status="redesign").unique("setting").iter_rows(named=True):
        click.echo(f"warning: {row['setting']}: {row['reason']}", err=True)
    click.echo(f"written: {len(clusters)} files in {folder}", err=True)


def _draw(edge: Any, shape: Shape, path: Path, uses: Any) -> None:
    from capacity.errors import SettingsError

    try:
        from capacity.charts.shapes import write
    except ImportError:
        raise SettingsError("--chart needs plotly: pip install 'cilium-capacity[report]'") from None
    write(edge, shape, path, uses)
    click.echo(f"written: {path}", err=True)
