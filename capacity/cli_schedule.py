"""The command `schedule`: the weekly report as a unit to install."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capacity.cli_settings import say

_KINDS = ("cron", "systemd", "cronjob", "github")


@click.command("schedule")
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("source", metavar="CLUSTER")
@click.option("--out", help="Folder of all runs; a CronJob has a claim instead.")
@click.option("--every", type=click.Choice(["daily", "weekly", "monthly"]), default="weekly",
              show_default=True, help="How often it runs.")  # fmt: skip
@click.option("--keep", type=click.IntRange(min=1), default=12, show_default=True,
              help="Runs that stay.")  # fmt: skip
@click.option("--name", help="Name of the cluster's folder.")
@click.option("--inventory", help="Folder or file of Kubernetes objects.")
@click.option("--metrics", metavar="FILE.prom",
              help="Metrics for node_exporter's textfile collector.")  # fmt: skip
@click.option("--pushgateway", metavar="URL", help="Where a CronJob pushes its metrics to.")
@click.option("--token-file", help="File that holds the token of the API.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE",
              help="Handed to the report.")  # fmt: skip
@click.option("--write", "folder", type=click.Path(path_type=Path),
              help="Write the files into this folder; else they are printed.")  # fmt: skip
def schedule(kind: str, source: str, folder: Path | None, **given: Any) -> None:
    """Print or write the unit that makes the report regularly.

    Kinds: a line for a crontab, a systemd service with its timer, a CronJob with its role, a
    workflow of GitHub Actions. Exit code 1 of a run, a plan that is short, is no failure of the
    unit; what changed since the run before is in its summary.md.

    \b
    Examples:
      capacity schedule systemd https://prometheus.example:9090 --out /srv/capacity --write units
      capacity schedule cronjob http://prometheus.monitoring:9090 --name prod > report.yaml
      capacity schedule cron ./export --out reports --metrics /var/lib/node_exporter/capacity.prom
    """
    from capacity.writing import write

    files = _cronjob(source, given) if kind == "cronjob" else _unit(kind, source, given)
    for name, text in files.items():
        if folder is None:
            click.echo(f"# {name}" if len(files) > 1 else "", nl=len(files) > 1)
            click.echo(text, nl=False)
        else:
            write(folder / name, text)
            say(f"written: {folder / name}")


def _unit(kind: str, source: str, given: dict[str, Any]) -> dict[str, str]:
    from capacity.schedule import Unit, report_words, units

    if not given["out"]:
        raise click.UsageError("name the folder of all runs: --out FOLDER")
    if given["pushgateway"]:
        raise click.UsageError("--pushgateway is for a CronJob; here name --metrics FILE.prom")
    more = [word for change in given["changes"] for word in ("--set", change)]
    more += ["--inventory", given["inventory"]] if given["inventory"] else []
    words = report_words(
        source, given["out"], keep=given["keep"], name=given["name"], metrics=given["metrics"],
        more=tuple(more),
    )  # fmt: skip
    token = given["token_file"]
    environment = {"CAPACITY_PROM_TOKEN_FILE": token} if token else None
    return units(Unit(words, given["every"], environment), kind)


def _cronjob(source: str, given: dict[str, Any]) -> dict[str, str]:
    from capacity.schedule import Unit, kept_words, kubernetes_job

    more = [word for change in given["changes"] for word in ("--set", change)]
    words = (*kept_words(given["keep"], given["name"]), *more)
    unused = {name: given[name] for name in ("out", "inventory", "metrics", "token_file")}
    unit = Unit(words, given["every"])
    return kubernetes_job(source, unit, given=unused, pushgateway=given["pushgateway"])
