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
    """Count and explain the entries of policy maps, exactly, without a cluster.

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
    """Tell the entries of each endpoint's policy map, and how they grow with the workloads.

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
    """Tell which rules of which policies make how many entries of one endpoint's policy map.

    `rule`: its place, as ingress[2]; `alone`: entries that no other rule makes. An empty policy
    is Cilium itself.

    \b
    Examples:
      capacity policies explain dump/ shop/web-0
      capacity policies explain dump/ policies/ reserved:host --cilium 1.16 -o json
    """
    from capacity import printing
    from capacity.cilium.policy import rule_contributions
    from capacity.errors import SettingsError

    inventory = _inventory(sources)
    only = {"endpoints": endpoint}
    made = rule_contributions(inventory, version=_version(cilium), options=only)
    if made.is_empty():
        listed = inventory.endpoints.select("namespace", "pod").head(3).rows()
        known = ", ".join(f"{namespace}/{pod}" for namespace, pod in listed)
        raise SettingsError(f"{endpoint}: no entries of such an endpoint; known are {known}, …")
    order = ["entries", "policy", "rule"]
    printing.show(made.sort(order, descending=[True, False, False]), output)  # type: ignore[arg-type]


@policies.command("heaviest")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Rules to list.")
@_VERSION
@_OUTPUT
def heaviest(sources: tuple[str, ...], top: int, cilium: str | None, output: str) -> None:
    """List the rules that fill policy maps most, over the whole cluster.

    \b
    Examples:
      capacity policies heaviest dump/ policies/ --cilium 1.17
      capacity policies heaviest dump/ --top 50 -o csv > rules.csv
    """
    from capacity import printing
    from capacity.cilium.policy import heaviest as heaviest_rules

    table = heaviest_rules(_inventory(sources), version=_version(cilium), top=top)
    printing.show(table, output)  # type: ignore[arg-type]


@policies.command("cheaper")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True,
              help="Policies to rewrite, those of the heaviest rules first.")  # fmt: skip
@click.option("--out", metavar="FILE", help="Write the rewritten policies whose reach is the same.")
@_VERSION
@_OUTPUT
def cheaper(
    sources: tuple[str, ...], top: int, out: str | None, cilium: str | None, output: str
) -> None:
    """Look for ways to write the heaviest policies with fewer entries, and prove each.

    Every way is resolved for the whole cluster: merged ports and CIDRs, rules that others cover,
    denied excepts; `reach` tells whether it lets the same through. `wider` ways let through more
    (`gained`): a matter to decide, not an equivalent.

    \b
    Examples:
      capacity policies cheaper dump/ policies/ --cilium 1.16
      capacity policies cheaper dump/ --top 3 --out cheaper.yaml -o json
    """
    from pathlib import Path

    from capacity import printing
    from capacity.cilium.policy import ready
    from capacity.cilium.policy.cheaper import as_yaml
    from capacity.cilium.policy.cheaper import cheaper as cheaper_policies

    found = cheaper_policies(ready(_inventory(sources), version=_version(cilium)), top=top)
    if out is not None:
        Path(out).write_text(as_yaml(found.policies), encoding="utf-8")
        click.echo(f"{len(found.policies):,} rewritten policies in {out}", err=True)
    printing.show(found.table, output)  # type: ignore[arg-type]


@policies.command("identities")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--labels",
    metavar="FILTER",
    help="The agent's option labels, where not that of SOURCE: 'k8s:!job-name k8s:app'.",
)
@click.option(
    "--cluster-id",
    type=click.IntRange(0, 511),
    default=None,
    help="ID of the cluster in its mesh; cluster-id of SOURCE, or 0, if left out.",
)
@click.option(
    "--mesh",
    type=click.Choice(["255", "511"]),
    default=None,
    help="max-connected-clusters, where not that of SOURCE.",
)
@click.option("--fail-at", type=float, default=0.9, show_default=True,
              help="Share of the limit at which the command fails.")  # fmt: skip
@_VERSION
@_OUTPUT
def identities(
    sources: tuple[str, ...],
    labels: str | None,
    cluster_id: int | None,
    mesh: str | None,
    fail_at: float,
    cilium: str | None,
    output: str,
) -> None:
    """Tell how many identities the pods need, how many fit, and what each label costs.

    `saved`: identities that dropping the label merges; `policies`: those that select by it, and
    would select other pods then; `pattern`: what drops it in the agent's option labels.

    \b
    Examples:
      capacity policies identities dump/ --cilium 1.17
      capacity policies identities dump/ policies/ --labels 'k8s:!job-name' --mesh 511 -o json
    """
    from capacity import printing
    from capacity.cilium.identities import usage

    options = {"labels": labels, "cluster-id": cluster_id, "max-connected-clusters": mesh}
    given = {key: value for key, value in options.items() if value is not None}
    told = usage(_inventory(sources), version=_version(cilium), options=given)
    click.echo(told.headline, err=True)
    if output == "json":
        parts = {"identities": told.identities, "limit": told.limit}
        printing.print_json({**parts, "labels": told.labels.to_dicts()})
    else:
        printing.show(told.labels, output)  # type: ignore[arg-type]
    if told.identities >= fail_at * told.limit:
        sys.exit(SHORT)


@click.command("check")
@click.option("--inventory", required=True, metavar="BASE", help="The cluster as it is.")
@click.option("--policies", "changed_policies", multiple=True, metavar="PATH",
              help="Changed or new policies, a file or folder (several allowed).")  # fmt: skip
@click.option("--services", multiple=True, metavar="PATH", help="Changed or new services.")
@click.option("--values", multiple=True, metavar="FILE", help="Changed Helm values of Cilium.")
@click.option("--deleted", multiple=True, metavar="KIND/NAMESPACE/NAME",
              help="A policy that the change takes away (several allowed).")  # fmt: skip
@click.option("--fail-at", type=float, default=0.9, show_default=True,
              help="Share of a map at which the check fails.")  # fmt: skip
@click.option("--factor", type=float, default=1.0, show_default=True,
              help="Workloads to judge, as a multiple of those there are.")  # fmt: skip
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
    factor: float,
    cilium: str | None,
    output: str,
) -> None:
    """Tell before a rollout whether a change overflows a policy map or a load balancer map.

    Exit 0 it fits · 1 an endpoint, a load balancer map or the service IDs get short, or Cilium
    would refuse what changed · 2 wrong input: also Helm values that the chart does not know, and
    sizes that an agent would refuse.

    \b
    Examples:
      capacity check --inventory dump/ --policies policies/ --cilium 1.17
      capacity check --inventory dump/ --policies new.yaml --values values.yaml -o sarif > out.sarif
      capacity check --inventory dump/ --services services/ --cilium 1.17 --fail-at 0.8
    """
    from pathlib import Path

    from capacity import gate_formats, printing
    from capacity.errors import SettingsError
    from capacity.load import read_inventory
    from capacity.policy_check import gate
    from capacity.service_check import service_gate
    from capacity.values_check import value_faults

    base, version = read_inventory(inventory), _version(cilium)
    faults = value_faults({Path(path): version for path in values}, base)
    if faults:
        raise SettingsError("; ".join(faults))
    changed = [read_inventory(path) for path in (*changed_policies, *services, *values)]
    result = gate(base, changed, version=version, fail_at=fail_at, deleted=deleted, factor=factor)
    balanced = service_gate(base, changed, version=version, fail_at=fail_at)
    for headline in filter(None, (result.headline, balanced.headline)):
        click.echo(headline, err=True)
    formats = {
        "json": gate_formats.as_json, "junit": gate_formats.junit, "sarif": gate_formats.sarif,
    }  # fmt: skip
    if output in formats:
        sys.stdout.write(formats[output](result, balanced))
    else:
        fullest = result.endpoints if output == "csv" else result.endpoints.head(20)
        printing.show(fullest, output)  # type: ignore[arg-type]
        if output == "table" and not result.rejected.is_empty():
            printing.show(result.rejected, "table", title="Rejected")
        if output == "table" and not balanced.maps.is_empty():
            printing.show(balanced.maps, "table", title="Services")
    if not (result.passes and balanced.passes):
        sys.exit(SHORT)
