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


@click.command("report")
@click.argument("notebook", metavar="NOTEBOOK|all")
@options(PlanSettings, without=("set",))
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE",
    help="Set a parameter of the notebook, or a driver, e.g. --set services=4000 (several).",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of all runs.")
@click.option("--name", help="Name of the cluster's folder; from CLUSTER where left out.")
@click.option("--run", "run_name", help="Name of the run; the time in UTC where left out.")
@click.option("--keep", type=click.IntRange(min=1), help="Delete all but the newest runs.")
@click.option("--pictures", type=click.Choice(["png", "pdf"]), help="Also draw the charts.")
@click.option("--timeout", help="Longest time of a notebook's cell, e.g. 10m.")
@click.option("--workers", type=click.IntRange(min=1), default=2 * (os.cpu_count() or 1),
              help="Notebooks at a time; two a processor where left out.")  # fmt: skip
@click.option("--metrics", type=click.Path(path_type=Path), metavar="FILE.prom",
              help="Also write metrics for node_exporter's textfile collector.")  # fmt: skip
@click.option("--wait", default="0s", show_default=True,
              help="How long to wait for another run over the same folder.")  # fmt: skip
def report(notebook: str, out: Path, **given: Any) -> None:
    """Run notebooks by papermill: a page each, outcome.json, a summary, what changed and why.

    NOTEBOOK is the name of a shipped one (plan), the path of your own, or all. Pages need no
    network. Finished pages of a run that was interrupted are not made again; a notebook that fails
    leaves a page with the cause.

    Exit code 0: fits; 1: short; 2: a notebook failed, or wrong input.

    \b
    Examples:
      capacity report plan data/lab --out reports --set nodes=500,1000
      capacity report all https://prometheus.example:9090 --out weekly --name prod --keep 12
    """
    from capacity.locks import locked
    from capacity.report import kernel, pictures
    from capacity.report.index import reindex
    from capacity.report.runs import exit_code, prune, read_run, run
    from capacity.units import parse_duration

    if given["pictures"]:
        pictures.check()
    began = datetime.now(UTC)
    task = _task(notebook, out, began, given)
    wait = parse_duration(given["wait"], what="--wait")
    with locked(out, wait), progress() as step, kernel.kernels() as start:
        made = run(task, start, workers=given["workers"], progress=step)
        if given["keep"]:
            prune(task.folder, given["keep"])
        reindex(out)
    told = read_run(made)
    code = exit_code(told, is_demo=given["source"] == DEMO)
    if given["metrics"] is not None:
        from capacity.metrics import of_run

        of_run(made, given["metrics"], began, datetime.now(UTC), code)
    for name, row in told["notebooks"].items():
        if row["error"]:
            say(f"error: {name}: {row['error']}")
    say(told["headline"] or "no verdict")
    say(f"{len(told['changes'])} changes since {told['previous']}" if told["previous"] else "")
    say(f"written: {made}")
    sys.exit(code)


def _task(notebook: str, out: Path, began: datetime, given: dict[str, Any]) -> Any:
    from capacity.report.notebook import NOTEBOOKS, find, settings_for
    from capacity.report.runs import Task, named
    from capacity.units import parse_duration
    from capacity.writing import file_name

    names = list(NOTEBOOKS) if notebook == "all" else [notebook]
    plain = {name for kind in NOTEBOOKS.values() for name in kind.__dataclass_fields__}
    values = {k: v for k, v in given.items() if k in plain}
    for name in names:
        find(name)
    settings = [settings_for(name, values, given["changes"]) for name in names]
    label = given["name"] or given["cluster"] or _label(given["source"])
    limit = given["timeout"]
    return Task(
        label=label,
        folder=out / file_name(label),
        run=file_name(given["run_name"] or f"{began:%Y-%m-%dT%H%M%SZ}"),
        notebooks=named(names, settings),
        pictures=cast("Any", given["pictures"]),
        secrets=_secrets(),
        timeout=None if limit is None else parse_duration(limit, what="--timeout"),
    )


def _secrets() -> tuple[str, ...]:
    """Give the credentials that notebooks can see, so that no page shows them."""
    found = []
    for name in ("TOKEN", "PASSWORD", "KEY_PASSWORD"):
        if told := os.environ.get(f"CAPACITY_PROM_{name}"):
            found.append(told)
        path = os.environ.get(f"CAPACITY_PROM_{name}_FILE")
        if path and Path(path).is_file():
            found.append(Path(path).read_text(encoding="utf-8").strip())
    return tuple(found)


def _label(source: str) -> str:
    """Name a cluster after its source: the host of a URL, or the last part of a path."""
    if "://" in source:
        return urlsplit(source).hostname or "cluster"
    return Path(source).resolve().name or "cluster"
