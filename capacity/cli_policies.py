"""Commands about network policies: entries, explain, and the gate `check`."""

from __future__ import annotations

import sys

import click

from capacity.cli_options import OUTPUT as _OUTPUT
from capacity.cli_options import VERSION as _VERSION
from capacity.cli_options import inventory_of as _inventory
from capacity.cli_options import version_of as _version

SHORT = 1


@click.group("policies")
def policies() -> None:
    r"""Count and explain the entries of policy maps, exactly, without a cluster.

    \b
    Examples:
      capacity policies entries dump/ policies/ --cilium 1.17
      capacity policies explain dump/ policies/ shop/web-0
    """


@policies.command("entries")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@_VERSION
@_OUTPUT
def entries(sources: tuple[str, ...], cilium: str | None, output: str) -> None:
    r"""Tell the entries of each endpoint's policy map, and how they grow with the workloads.

    Several SOURCEs are one cluster: kubectl dumps, sysdumps, Git folders of policies.
    `factor`: the multiple of the workloads at which the map is full; never, where nothing stands.

    \b
    Examples:
      capacity policies entries dump/ --cilium 1.17
      capacity policies entries dump/ policies/ -o csv > entries.csv
    """
    from capacity import printing
    from capacity.cilium.policy.growth import growth

    table = growth(_inventory(sources), version=_version(cilium))
    printing.show(table, output)  # type: ignore[arg-type]


@policies.command("explain")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("endpoint", metavar="NAMESPACE/POD")
@_VERSION
@_OUTPUT
def explain(sources: tuple[str, ...], endpoint: str, cilium: str | None, output: str) -> None:
    r"""Tell which policies make how many entries of one endpoint's policy map.

    `alone`: entries that vanish with the policy. An empty policy is Cilium itself.

    \b
    Examples:
      capacity policies explain dump/ shop/web-0
      capacity policies explain dump/ policies/ reserved:host --cilium 1.16 -o json
    """
    from capacity import printing
    from capacity.cilium.policy import contributions
    from capacity.errors import SettingsError

    inventory = _inventory(sources)
    made = contributions(inventory, version=_version(cilium), options={"endpoints": endpoint})
    if made.is_empty():
        listed = inventory.endpoints.select("namespace", "pod").head(3).rows()
        known = ", ".join(f"{namespace}/{pod}" for namespace, pod in listed)
        raise SettingsError(f"{endpoint}: no entries of such an endpoint; known are {known}, …")
    heaviest = made.sort("entries", "policy", descending=[True, False])
    printing.show(heaviest, output)  # type: ignore[arg-type]


@click.command("check")
@click.option("--inventory", required=True, metavar="BASE", help="The cluster as it is.")
@click.option("--policies", "changed_policies", multiple=True, metavar="PATH",
              help="Changed or new policies, a file or folder (several allowed).")  # fmt: skip
@click.option("--services", multiple=True, metavar="PATH", help="Changed or new services.")
@click.option("--values", multiple=True, metavar="FILE", help="Changed Helm values of Cilium.")
@click.option("--deleted", multiple=True, metavar="KIND/NAMESPACE/NAME",
              help="A policy that the change takes away (several allowed).")  # fmt: skip
@click.option("--fail-at", type=float, default=0.9, show_default=True,
              help="Share of a policy map at which the check fails.")  # fmt: skip
@_VERSION
@click.option("-o", "--output", default="table", show_default=True,
              type=click.Choice(["table", "json", "csv", "junit", "sarif"]),
              help="What goes to standard output; a summary goes to standard error.")  # fmt: skip
def check(
    inventory: str,
    changed_policies: tuple[str, ...],
    services: tuple[str, ...],
    values: tuple[str, ...],
    deleted: tuple[str, ...],
    fail_at: float,
    cilium: str | None,
    output: str,
) -> None:
    r"""Tell before a rollout whether a change overflows the policy map of an endpoint.

    Exit 0 it fits · 1 an endpoint gets short, or Cilium would refuse what changed · 2 wrong
    input. Service maps are not checked yet.

    \b
    Examples:
      capacity check --inventory dump/ --policies policies/ --cilium 1.17
      capacity check --inventory dump/ --policies new.yaml --values values.yaml -o sarif > out.sarif
    """
    from capacity import gate_formats, printing
    from capacity.load import read_inventory
    from capacity.policy_check import gate

    changed = [read_inventory(path) for path in (*changed_policies, *services, *values)]
    result = gate(
        read_inventory(inventory), changed,
        version=_version(cilium), fail_at=fail_at, deleted=deleted,
    )  # fmt: skip
    click.echo(result.headline, err=True)
    formats = {
        "json": gate_formats.as_json, "junit": gate_formats.junit, "sarif": gate_formats.sarif,
    }  # fmt: skip
    if output in formats:
        sys.stdout.write(formats[output](result))
    else:
        fullest = result.endpoints if output == "csv" else result.endpoints.head(20)
        printing.show(fullest, output)  # type: ignore[arg-type]
        if output == "table" and not result.rejected.is_empty():
            printing.show(result.rejected, "table", title="Rejected")
    if not result.passes:
        sys.exit(SHORT)
