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
    from capacity import printing
    from capacity.fleet.members import read_fleet
    from capacity.fleet.overview import fleet_table, headline, outcome, write_fleet
    from capacity.fleet.running import Job, clear, run_fleet
    from capacity.locks import locked
    from capacity.report.index import reindex
    from capacity.units import parse_duration
    from capacity.writing import file_name

    members = read_fleet(given["path"])
    run = file_name(given["run_name"] or f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}")
    job = Job(kind, given["out"], run, given["scheduler"], given["workers"])
    with locked(job.out, parse_duration(given["wait"], what="--wait")), progress() as step:
        results = run_fleet(members, job, progress=step)
        final = write_fleet(job.out, run, members, results, pages=kind == "report")
        if kind == "report":
            reindex(job.out)
        clear(job.out)
    told = outcome(members, results)
    if given["output"] == "json":
        printing.print_json(told)
    elif given["output"] == "csv":
        sys.stdout.write(fleet_table(results).write_csv())
    else:
        import polars as pl

        click.echo(f"\n{headline(told)}\n")
        printing.show(pl.DataFrame(told["first"], infer_schema_length=None), "table",
                      title="What breaks first")  # fmt: skip
    for row in told["not_planned"]:
        say(f"{row['state']}: {row['cluster']}: {row['error']}")
    say(f"written: {final}")
    sys.exit(WRONG if told["not_planned"] else SHORT if told["verdict"] == "short" else 0)
