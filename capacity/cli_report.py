"""The command `report`: notebooks as pages, a folder a run, an index over runs and clusters."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import click

from capacity.cli_settings import options, progress, say
from capacity.settings import DEMO, PlanSettings

# Changes that are printed; summary.md and the run's page tell all
_MOST = 10


@click.command("report")
@click.argument("notebook", metavar="[NOTEBOOK|all]", required=False)
@options(PlanSettings, without=("set",))
@click.option(
    "-p", "--set", "changes", multiple=True, metavar="NAME=VALUE",
    help="Set a parameter of the notebook, or a driver, e.g. --set services=4000 (several).",
)  # fmt: skip
@click.option("--notebook", "own", metavar="FILE.ipynb",
              help="Your own notebook with any parameters, as NOTEBOOK.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of all runs.")
@click.option("--name", help="Name of the cluster's folder; from CLUSTER where left out.")
@click.option("--run", "run_name", help="Name of the run; the time in UTC where left out.")
@click.option("--keep", type=click.IntRange(min=1), help="Delete all but the newest runs.")
@click.option("--pictures", type=click.Choice(["png", "pdf"]), help="Also draw the charts.")
@click.option("--plotly", type=click.Choice(["page", "site"]), default="page", show_default=True,
              help="Each page holds the charts' program, or all share one file.")  # fmt: skip
@click.option("--timeout", help="Longest time of a notebook's cell, e.g. 10m.")
@click.option("--workers", type=click.IntRange(min=1), default=2 * (os.cpu_count() or 1),
              help="Notebooks at a time; two a processor where left out.")  # fmt: skip
@click.option("--metrics", type=click.Path(path_type=Path), metavar="FILE.prom",
              help="Also write metrics for node_exporter's textfile collector.")  # fmt: skip
@click.option("--wait", default="0s", show_default=True,
              help="How long to wait for another run over the same folder.")  # fmt: skip
@click.pass_context
def report(context: click.Context, /, notebook: str | None, out: Path, **given: Any) -> None:
    """Run notebooks by papermill: a page each, outcome.json, a summary, what changed and why.

    NOTEBOOK is the name of a shipped one (plan), the path of your own, or all: those over one
    cluster. Your own needs a cell tagged `parameters`; -p sets those, by the types that the cell
    tells, and so do the options below whose names it has. Pages need no network. Finished pages of
    a run that was interrupted are not made again; a notebook that fails leaves a page with the
    cause.

    Exit code 0: fits; 1: short; 2: a notebook failed, or wrong input.

    \b
    Examples:
      capacity report plan data/lab --out reports --set nodes=500,1000
      capacity report all https://prometheus.example:9090 --out weekly --name prod --keep 12
      capacity report --notebook mine.ipynb -p team=payments -p days=30 --out mine
    """
    from capacity.locks import locked
    from capacity.report import kernel, pictures
    from capacity.report.index import reindex
    from capacity.report.notebook import find
    from capacity.report.runs import causes, exit_code, prune, read_run, run
    from capacity.units import parse_duration

    if given["pictures"]:
        pictures.check()
    began = datetime.now(UTC)
    if (own := given.pop("own")) is not None:
        # The one word that is left is the cluster
        given["source"], notebook = notebook or given["source"], own
    if notebook is None:
        raise click.UsageError("name a notebook such as plan, or all, or --notebook FILE.ipynb")
    given["said"] = {
        name
        for name in given
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
    }
    task = _task(notebook, out, began, given)
    paths = [find(name) for name, _ in task.notebooks]
    wait = parse_duration(given["wait"], what="--wait")
    with locked(out, wait), progress() as step, kernel.kernels(paths) as start:
        made = run(task, start, workers=given["workers"], progress=step)
        if given["keep"]:
            prune(task.folder, given["keep"])
        reindex(out)
    told = read_run(made)
    code = exit_code(told, is_demo=given["source"] == DEMO)
    if given["metrics"] is not None:
        from capacity.metrics import of_run

        of_run(made, given["metrics"], began, datetime.now(UTC), code)
    for cause, names in causes(told).items():
        say(f"error: {', '.join(names)}: {cause}")
    say(told["headline"] or "no verdict")
    if told["previous"]:
        say(f"{len(told['changes'])} changes since {told['previous']}")
    for change in told["changes"][:_MOST]:
        say(f"- {change['what']}: {change['was']} → {change['now']} ({change['why']})")
    say(f"written: {made}")
    sys.exit(code)


def _task(notebook: str, out: Path, began: datetime, given: dict[str, Any]) -> Any:
    from capacity.report.notebook import OF_A_CLUSTER, find, of_all, settings_for, source_of
    from capacity.report.runs import Task, named
    from capacity.report.secrets import secrets_of
    from capacity.units import parse_duration
    from capacity.writing import file_name

    names = list(OF_A_CLUSTER) if notebook == "all" else [notebook]
    values = {k: v for k, v in given.items() if k in PlanSettings.__dataclass_fields__}
    said = given["said"] & set(values)
    for name in names:
        find(name)
    asked = dict.fromkeys(names, (given["changes"], said))
    if notebook == "all":
        asked = {name: of_all(name, given["changes"], said) for name in names}
    settings = [settings_for(name, values, *asked[name]) for name in names]
    label = given["name"] or given["cluster"] or _label(source_of(settings[0]), names[0])
    limit = given["timeout"]
    return Task(
        label=label,
        folder=out / file_name(label),
        run=file_name(given["run_name"] or f"{began:%Y-%m-%dT%H%M%SZ}"),
        notebooks=named(names, settings),
        pictures=cast("Any", given["pictures"]),
        secrets=secrets_of(os.environ),
        shares_library=given["plotly"] == "site",
        timeout=None if limit is None else parse_duration(limit, what="--timeout"),
    )


def _label(source: str, notebook: str) -> str:
    """Name a cluster after its source: the host of a URL, or the last part of a path."""
    if not source or notebook == "fleet":
        return Path(notebook).stem
    if "://" in source:
        return urlsplit(source).hostname or "cluster"
    return Path(source).resolve().name or "cluster"
