"""Command about workloads: requests and limits from what their containers use."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capacity.rightsizing_settings import GUARD_NAMES, STRATEGY_NAMES, RightsizingSettings

if TYPE_CHECKING:
    from capacity.rightsizing import Sizing

SHORT = 1
# Rows of table rightsizing for a container
SETTINGS = 4


@click.command("resources")
@click.argument("source", metavar="SOURCE")
@click.option("--inventory", metavar="PATH",
              help="Workloads as they are set, where they are not in the source.")  # fmt: skip
@click.option("--strategy", type=click.Choice(STRATEGY_NAMES), default="capacity",
              show_default=True, help="Rule to follow: ours, or a peer's.")  # fmt: skip
@click.option("--cluster", help="Name of the cluster, where the source holds several.")
@click.option("--namespace", "namespaces", multiple=True, help="Only these (several allowed).")
@click.option("--start", help="Start of the history: RFC 3339, epoch seconds, or -14d.")
@click.option("--end", help="End of the history; the newest sample where left out.")
@click.option("--step", default="5m", show_default=True,
              help="CPU is averaged over it, of memory the peak taken; KRR takes 75s.")  # fmt: skip
@click.option("--min-history", default="1d", show_default=True,
              help="Less is called unknown, not guessed.")  # fmt: skip
@click.option("--worth", type=float, default=0.1, show_default=True,
              help="Share of a request by which it must be wrong to be changed.")  # fmt: skip
@click.option("--allow-hpa", is_flag=True,
              help="Size requests too that an autoscaler holds replicas by.")  # fmt: skip
@click.option("--cpu-price", type=float, help="Price of a core for an hour.")
@click.option("--memory-price", type=float, help="Price of a GiB of memory for an hour.")
@click.option("--vpa", type=click.Choice(["Off", "Initial", "Recreate", "InPlaceOrRecreate"]),
              help="Write VerticalPodAutoscaler objects of this update mode too.")  # fmt: skip
@click.option("--guard", "guards", multiple=True, type=click.Choice(GUARD_NAMES),
              help="Plan such objects too (several allowed); written below guards/.")  # fmt: skip
@click.option("--quota-margin", type=float, default=0.25, show_default=True,
              help="Share that quotas and largest limits leave for growth.")  # fmt: skip
@click.option("--top", type=int, default=20, show_default=True, help="Lines of the table.")
@click.option("--out", type=click.Path(path_type=Path),
              help="Folder for tables/ and manifests; whole or not at all.")  # fmt: skip
@click.option("-o", "--output", type=click.Choice(["table", "json", "csv"]), default="table",
              show_default=True, help="Print a table, JSON or CSV.")  # fmt: skip
def resources(
    source: str, inventory: str | None, vpa: str | None, top: int, out: Path | None, output: str,
    **options: Any,
) -> None:  # fmt: skip
    """Tell which requests and limits the containers of workloads should have, and why.

    SOURCE holds container metrics of the kubelets and, better, of kube-state-metrics: a folder of
    exports, blocks of Prometheus' database, or the URL of an API. Riskiest first, then by saving.
    Exit 0 ok · 1 containers are at high risk as they are · 2 wrong input.

    \b
    Examples:
      capacity resources /var/lib/prometheus/data --cpu-price 0.03 --memory-price 0.004
      capacity resources https://prometheus.example:9090 --namespace shop --strategy krr -o csv
      capacity resources export/ --inventory dump/ --out sized --guard quota --guard pdb
    """
    from capacity import printing
    from capacity.load import read_inventory
    from capacity.rightsizing import rightsize
    from capacity.rightsizing.view import by_container, guard_lines, totals
    from capacity.telling import is_url

    settings = RightsizingSettings(**options)
    told = inventory or (None if is_url(source) else source)
    known = None if told is None else read_inventory(told, required=inventory is not None)
    made = rightsize(source, settings, known)
    if out is not None:
        _write(made, out, vpa)
    if output == "table":
        click.echo(totals(made.resources))
        shown = made.resources.head(SETTINGS * max(top, 0))
        printing.show(by_container(shown), "table")
        if len(made.guards):
            click.echo(f"\n{len(made.guards)} fields of quotas, defaults, budgets, autoscalers")
            printing.show(guard_lines(made.guards), "table")
    else:
        printing.show(made.resources, output)  # type: ignore[arg-type]
    for warning in made.warnings:
        click.echo(f"warning: {warning}", err=True)
    if out is not None:
        click.echo(f"written: {out}", err=True)
    if (made.resources["risk"] == "high").any():
        sys.exit(SHORT)


def _write(made: Sizing, out: Path, vpa: str | None) -> None:
    from capacity.manifests import workload_guards, workload_patches
    from capacity.outcome import new_folder

    with new_folder(out) as folder:
        files = {
            "kustomize": workload_patches.patches(made.resources),
            "guards": workload_guards.texts(made.guards),
            "vpa": workload_patches.autoscalers(made.resources, vpa) if vpa else {},  # type: ignore[arg-type]
        }
        for kind, texts in files.items():
            for name, text in texts.items():
                (folder / kind).mkdir(exist_ok=True)
                (folder / kind / name).write_text(text, encoding="utf-8")
        (folder / "tables").mkdir()
        told_tables = {
            "rightsizing": made.resources, "usage": made.usage, "guards": made.guards,
        }  # fmt: skip
        for name, frame in told_tables.items():
            frame.write_parquet(folder / "tables" / f"{name}.parquet")
            frame.write_csv(folder / "tables" / f"{name}.csv")
        told = {
            "schema": "capacity.resources/1",
            "strategy": made.settings.strategy,
            "samples": made.samples,
            "warnings": list(made.warnings),
            "sources": made.sources.to_dicts(),
        }
        text = json.dumps(told, indent=2, ensure_ascii=False, default=str) + "\n"
        (folder / "outcome.json").write_text(text, encoding="utf-8")
