"""Commands about services: entries of load balancer maps, what one service costs, shapes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from capacity.cli_connections import COMMANDS
from capacity.cli_options import OUTPUT, VERSION, inventory_of, version_of

if TYPE_CHECKING:
    import polars as pl

SHORT = 1
_NODE = click.option("--node", metavar="NAME", help="Node to count for; else the one with most.")
_ADDRESSES = click.option(
    "--node-addresses", metavar="IP,…",
    help="Addresses of the node for NodePort; one of each family if left out.",
)  # fmt: skip
_VALUES = click.option(
    "--values", multiple=True, metavar="FILE", help="Helm values of Cilium (several allowed)."
)


@click.group("services")
def services() -> None:
    """Count what services and connections cost a node, without a cluster.

    \b
    Examples:
      capacity services entries dump/ --cilium 1.17
      capacity services explain dump/ shop/web
    """


@services.command("entries")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@VERSION
@_VALUES
@_NODE
@_ADDRESSES
@click.option("--heaviest", type=int, default=10, show_default=True,
              help="Services to list, those with most entries first; 0 lists none.")  # fmt: skip
@OUTPUT
def entries(
    sources: tuple[str, ...],
    cilium: str | None,
    values: tuple[str, ...],
    node: str | None,
    node_addresses: str | None,
    heaviest: int,
    output: str,
) -> None:
    """Tell the entries of each load balancer map of a node, and the services that make most.

    Several SOURCEs are one cluster: kubectl dumps, sysdumps, Git folders. Exit 1 where a map or
    the 65,535 service IDs do not hold them.

    \b
    Examples:
      capacity services entries dump/ --cilium 1.17
      capacity services entries dump/ --values values.yaml --node-addresses 10.0.0.1,fd00::1 -o json
    """
    from capacity import printing
    from capacity.cilium.services import count, entries_of, heaviest_of, ids_of
    from capacity.cilium.services.tables import LB_ENTRIES, SERVICE_ENTRIES

    inventory = inventory_of((*sources, *values))
    options = _options(node, node_addresses)
    counted = count(inventory, version=version_of(cilium), options=options)
    maps, ids = entries_of(counted, inventory, options), ids_of(counted)
    click.echo(ids.sentence, err=True)
    most = heaviest_of(counted, inventory).head(heaviest)
    if output == "json":
        told = {"maps": maps.to_dicts(), "service_ids": ids.as_dict(), "heaviest": most.to_dicts()}
        printing.print_json(told)
    else:
        printing.show(maps, output, of=LB_ENTRIES)  # type: ignore[arg-type]
        if output == "table" and heaviest:
            printing.show(most, "table", of=SERVICE_ENTRIES, title="Heaviest services")
    if ids.used > ids.limit or _is_short(maps):
        sys.exit(SHORT)


@services.command("explain")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("service", metavar="NAMESPACE/SERVICE")
@VERSION
@_NODE
@_ADDRESSES
@OUTPUT
def explain(
    sources: tuple[str, ...],
    service: str,
    cilium: str | None,
    node: str | None,
    node_addresses: str | None,
    output: str,
) -> None:
    """List the frontends of one service: each takes a service ID, a master entry and its slots.

    \b
    Examples:
      capacity services explain dump/ shop/web --cilium 1.17
      capacity services explain dump/ kube-system/kube-dns --node n1 -o json
    """
    from capacity import printing
    from capacity.cilium.services import frontends_of
    from capacity.cilium.services.tables import FRONTENDS
    from capacity.errors import SettingsError

    inventory, options = inventory_of(sources), _options(node, node_addresses)
    made = frontends_of(inventory, service, version=version_of(cilium), options=options)
    if made.is_empty():
        listed = inventory.services.select("namespace", "service").head(3).rows()
        known = ", ".join(f"{namespace}/{name}" for namespace, name in listed)
        raise SettingsError(
            f"{service}: no frontends of such a service (headless, ExternalName, or unknown); "
            f"services are {known}, …"
        )
    printing.show(made, output, of=FRONTENDS)  # type: ignore[arg-type]


@services.command("shape")
@click.option("--services", "many", type=int, required=True, help="Services of this shape.")
@click.option("--type", "kind", type=click.Choice(["ClusterIP", "NodePort", "LoadBalancer"]),
              default="ClusterIP", show_default=True)  # fmt: skip
@click.option("--ports", type=int, default=1, show_default=True, help="Ports of each.")
@click.option("--backends", type=int, default=1, show_default=True, help="Pods behind each.")
@click.option("--families", type=int, default=1, show_default=True, help="1: IPv4; 2: both.")
@click.option("--local", is_flag=True, help="externalTrafficPolicy: Local.")
@click.option("--affinity", is_flag=True, help="sessionAffinity: ClientIP.")
@click.option("--lb-map-max", type=int, help="bpf.lbMapMax; the default of the version if not set.")
@_ADDRESSES
@VERSION
@OUTPUT
def shape_command(
    many: int,
    lb_map_max: int | None,
    node_addresses: str | None,
    cilium: str | None,
    output: str,
    **shaped: Any,
) -> None:
    """Tell what N services of one shape cost, whether they fit, and the most that do.

    \b
    Examples:
      capacity services shape --services 2000 --backends 50
      capacity services shape --services 10000 --type LoadBalancer --ports 3 -o json
    """
    from capacity import printing
    from capacity.cilium.services import count, entries_of, ids_of
    from capacity.cilium.services.shapes import shape
    from capacity.cilium.services.tables import LB_ENTRIES

    inventory = shape(services=many, type=shaped.pop("kind"), **shaped)
    options: dict[str, Any] = _options(None, node_addresses)
    options |= {} if lb_map_max is None else {"bpf-lb-map-max": lb_map_max}
    counted = count(inventory, version=version_of(cilium), options=options)
    maps, ids = entries_of(counted, inventory, options), ids_of(counted)
    click.echo(ids.sentence, err=True)
    if output == "json":
        printing.print_json({"maps": maps.to_dicts(), "service_ids": ids.as_dict()})
    else:
        printing.show(maps, output, of=LB_ENTRIES)  # type: ignore[arg-type]
    if ids.used > ids.limit or _is_short(maps):
        sys.exit(SHORT)


for command in COMMANDS:
    services.add_command(command)


def _options(node: str | None, addresses: str | None) -> dict[str, Any]:
    told = {"node_name": node, "node_port_addresses": addresses}
    return {name: value for name, value in told.items() if value is not None}


def _is_short(maps: pl.DataFrame) -> bool:
    return bool((maps["entries"] > maps["max_entries"]).any())
