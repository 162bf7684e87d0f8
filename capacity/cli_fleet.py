"""Commands about fleets: plan or report for all clusters of FLEET.yaml."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import click

from capacity.cli_options import OUTPUT
from capacity.cli_settings import SHORT, WRONG, progress, say


@click.group("fleet")
def fleet() -> None:
    """Plan many clusters, on this machine or on a Dask cluster.

    \b
    Examples:
      capacity fleet plan FLEET.yaml --out fleet
      capacity fleet report FLEET.yaml --out fleet --scheduler tcp://scheduler:8786
    """


def _shared(function: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in reversed(
        [
            click.argument("path", type=click.Path(path_type=Path), metavar="FLEET.yaml"),
            click.option("--out", type=click.Path(path_type=Path), required=True,
                         help="Folder of all runs."),
            click.option("--scheduler", metavar="URL",
                         help="Dask scheduler, e.g. tcp://scheduler:8786; else this machine."),
            click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count() or 1,
                         help="Clusters at a time on this machine; the processors if left out."),
            click.option("--run", "run_name", help="Name of the run; the time in UTC if left out."),
            click.option("--keep", type=click.IntRange(min=1),
                         help="Delete all but the newest runs of the fleet and of each cluster."),
            click.option("--metrics", type=click.Path(path_type=Path), metavar="FILE.prom",
                         help="Also write metrics for node_exporter's textfile collector."),
            click.option("--wait", default="0s", show_default=True,
                         help="How long to wait for another run over the same folder."),
            OUTPUT,
        ]
    ):  # fmt: skip
        function = decorate(function)
    return function


@fleet.command("plan")
@_shared
def fleet_plan(**given: Any) -> None:
    """Plan each cluster; tables, page and summary of all: what breaks first, where, when.

    A cluster that is slow or broken is told in the table and stops no other. A run that was
    interrupted goes on where it was. Exit code 0: all fit; 1: some are short; 2: some could not be
    planned, or wrong input.

    \b
    Examples:
      capacity fleet plan FLEET.yaml --out fleet
      capacity fleet plan FLEET.yaml --out fleet --scheduler tcp://scheduler:8786 -o json
    """
    _run("plan", given)


@fleet.command("report")
@_shared
def fleet_report(**given: Any) -> None:
    """Plan each cluster and write its pages, with an index over all.

    With --scheduler, --out must be a folder that all workers see. Exit codes as of `fleet plan`.

    \b
    Examples:
      capacity fleet report FLEET.yaml --out fleet
      capacity fleet report FLEET.yaml --out /shared/fleet --scheduler tcp://scheduler:8786
    """
    _run("report", given)


def _run(kind: Literal["plan", "report"], given: dict[str, Any]) -> None:
    from capacity.fleet.members import read_fleet
    from capacity.fleet.pages import write_fleet
    from capacity.fleet.results import read
    from capacity.fleet.running import FLEET, Job, clear, run_fleet
    from capacity.fleet.work import warm
    from capacity.locks import locked
    from capacity.metrics import of_run
    from capacity.report.index import reindex
    from capacity.report.runs import prune
    from capacity.units import parse_duration
    from capacity.writing import file_name

    members, began = read_fleet(given["path"]), datetime.now(UTC)
    run = file_name(given["run_name"] or f"{began:%Y-%m-%dT%H%M%SZ}")
    job = Job(kind, given["out"], run, given["scheduler"], given["workers"])
    with locked(job.out, parse_duration(given["wait"], what="--wait")), progress() as step:
        results = run_fleet(members, job, progress=step)
        is_report = kind == "report"
        step("writing the fleet's tables and pages", 1.0)
        final = write_fleet(
            job.out, run, members, results, pages=is_report, start=warm() if is_report else None
        )
        for folder in (FLEET, *(member.folder for member in members)):
            prune(job.out / folder, given["keep"] or 0)
        if is_report:
            reindex(job.out)
        clear(job.out)
    told = read(final).outcome
    code = WRONG if told["not_planned"] else SHORT if told["verdict"] == "short" else 0
    if given["metrics"] is not None:
        of_run(final, given["metrics"], began, datetime.now(UTC), code)
    _print(told, final, given["output"])
    sys.exit(code)


def _print(told: dict[str, Any], final: Path, output: str) -> None:
    from capacity import printing

    if output == "json":
        printing.print_json(told)
    elif output == "csv":
        sys.stdout.write((final / "fleet.csv").read_text(encoding="utf-8"))
    else:
        import polars as pl

        click.echo(f"\n{told['headline']}\n")
        printing.show(pl.DataFrame(told["first"], infer_schema_length=None), "table",
                      title="What breaks first")  # fmt: skip
    for row in told["not_planned"]:
        say(f"{row['state']}: {row['cluster']}: {row['error']}")
    say(f"written: {final}")
