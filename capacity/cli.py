"""The command line: thin. Exit 0 fits · 1 capacity short · 2 wrong input or usage.

Heavy rooms are imported inside the commands, so that `capacity --help` stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from capacity.cli_backtest import backtest, ledger
from capacity.cli_day2 import drift, upgrade
from capacity.cli_fleet import fleet
from capacity.cli_lb import lb, measure
from capacity.cli_maps import maps
from capacity.cli_options import OUTPUT
from capacity.cli_policies import check, policies
from capacity.cli_report import report
from capacity.cli_resources import resources
from capacity.cli_scenario import scenario
from capacity.cli_schedule import schedule
from capacity.cli_sections import Sections
from capacity.cli_serve import serve
from capacity.cli_services import services
from capacity.cli_settings import SHORT, WRONG, options, progress, say
from capacity.cli_shapes import shapes
from capacity.errors import CapacityError
from capacity.settings import DEMO, PlanSettings
from capacity.simulation_settings import SimulationSettings

if TYPE_CHECKING:
    from capacity.planning import Plan

_CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_VERSION = click.option("--cilium", metavar="VERSION", help="Cilium version, e.g. 1.18.")


@click.group(cls=Sections, context_settings=_CONTEXT)
@click.version_option(package_name="cilium-capacity", prog_name="capacity")
def cli() -> None:
    """Capacity planning for Cilium: what breaks first, when, and what to set today.

    \b
    Examples:
      capacity plan                                  the shipped demo cluster
      capacity plan ./export --horizon 1y --out plan your exports, with a report
      capacity plan https://prometheus.example:9090 --inventory ./kubectl-dump
    \b
    Tab completion (or zsh_source, fish_source):
      eval "$(_CAPACITY_COMPLETE=bash_source capacity)"
    """


@cli.command("plan")
@options(PlanSettings)
@click.option(
    "--out", type=click.Path(path_type=Path),
    help="Folder for outcome.json, tables/, manifests/, report.html; written whole or not at all.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Name what would be read and written, and stop.")
@OUTPUT
def plan_command(out: Path | None, output: str, dry_run: bool, **options: Any) -> None:
    """Tell what breaks first, at which node count and date, and what to set.

    CLUSTER is a folder or file of exports, or the URL of a Prometheus-compatible API. Credentials
    of an API come from the environment or files only: CAPACITY_PROM_TOKEN_FILE and others, see
    docs/howto.md.

    \b
    Examples:
      capacity plan data/lab --nodes 500 --nodes 1000
      capacity plan https://prometheus.example:9090 --inventory dump/ --horizon 1y --out plan
    """
    settings = PlanSettings(**options)
    if dry_run:
        _say_dry_run(settings, out)
        return
    if settings.source == DEMO:
        say(f"No cluster was named: this is the shipped demo, a simulated one (see data/{DEMO}).")
    from capacity.planning import plan

    with progress() as step:
        made = plan(settings, progress=step)
        if out is not None:
            _write(made, out, step)
    _print_plan(made, output)
    for warning in made.warnings:
        say(f"warning: {warning}")
    if out is not None:
        page = out / "report.html"
        say(f"written: {out}" + (f"; open {page} in a browser" if page.exists() else ""))
    # The demo is not the caller's cluster: it never fails a pipeline
    if settings.source != DEMO:
        sys.exit({"fits": 0, "short": SHORT, "unknown": WRONG}[made.verdict])


def _write(made: Plan, out: Path, step: Callable[[str, float], None]) -> None:
    from capacity.outcome import fill, new_folder
    from capacity.report import is_installed, report

    with new_folder(out) as folder:
        step("writing tables and manifests", 0.95)
        fill(made, folder)
        step("running the notebook", 0.97)
        if is_installed():
            report(
                "plan",
                made.settings,
                folder / "report.html",
                progress=lambda name, share: step(name, 0.97 + 0.03 * share),
            )
        else:
            say("report.html is not written: pip install 'cilium-capacity[report]'")


def _say_dry_run(settings: PlanSettings, out: Path | None) -> None:
    from capacity.export import without_secrets

    say(f"would read: {without_secrets(settings.source)}")
    if settings.inventory:
        say(f"would read: {settings.inventory}")
    say(f"would write: {out or 'nothing'}")


def _print_plan(made: Plan, output: str) -> None:
    from capacity import outcome, printing

    if output == "json":
        sys.stdout.write(outcome.to_json(made))
        return
    if output == "csv":
        sys.stdout.write(made.exhaustion.write_csv())
        return
    from capacity.overview import breaks_first, what_to_set

    click.echo(f"\n{made.headline}\n")
    printing.show(breaks_first(made), "table", title="What breaks first")
    advice = what_to_set(made)
    if advice.is_empty():
        click.echo("\nNothing has to be set today.")
    else:
        click.echo()
        printing.show(advice, "table", title="What to set today")


@cli.command("read")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@OUTPUT
def read_command(sources: tuple[str, ...], output: str) -> None:
    """Tell what is in an export: what was read, refused and why, and what is missing.

    \b
    Examples:
      capacity read data/lab
      capacity read scrape.prom dump/ -o json
    """
    from capacity import overview, printing
    from capacity.export import concat
    from capacity.inventory import merge
    from capacity.load import read_any

    metrics, parts = zip(*(read_any(source) for source in sources), strict=True)
    told = overview.reading(concat(metrics), merge(parts))
    if output == "json":
        printing.print_json({name: frame.to_dicts() for name, frame in told.items()})
        return
    for name, frame in told.items():
        printing.show(frame, output, title=name)  # type: ignore[arg-type]


@cli.command("facts")
@click.argument(
    "table",
    metavar="TABLE",
    type=click.Choice(
        [
            "maps",
            "fill",
            "drivers",
            "options",
            "metrics",
            "limits",
            "quantities",
            "sources",
            "tables",
        ]
    ),
)
@_VERSION
@click.option("--match", default="", help="Only rows with this text in their first column.")
@OUTPUT
def facts_command(table: str, cilium: str | None, match: str, output: str) -> None:
    """Print what is known about Cilium, with sources and whether it was verified.

    TABLE is maps, fill (what fills each map, as equations), drivers (of these equations), options,
    metrics, limits, quantities, sources or tables. `tables` prints the data dictionary: every
    column of every table, with type and unit.

    \b
    Examples:
      capacity facts maps --cilium 1.17
      capacity facts limits -o json
    """
    from capacity import overview, printing

    frame = overview.fact_rows(table, cilium, match)
    thin = overview.FACT_COLUMNS.get(table)
    printing.show(frame, output, columns=thin)  # type: ignore[arg-type]


@cli.command("sizes")
@click.option("--memory", required=True, help="Memory of the node, e.g. 30Gi.")
@click.option("--ratio", type=float, default=0.0025, show_default=True,
              help="bpf.mapDynamicSizeRatio; 0 for the static defaults.")  # fmt: skip
@click.option("--set", "explicit", multiple=True, metavar="OPTION=ENTRIES",
              help="An agent option that is set, e.g. bpf-ct-global-tcp-max=524288.")  # fmt: skip
@_VERSION
@OUTPUT
def sizes_command(
    memory: str, ratio: float, explicit: tuple[str, ...], cilium: str | None, output: str
) -> None:
    """Compute the agent's dynamic map sizes, what it would refuse, and the kernel's bytes.

    \b
    Examples:
      capacity sizes --memory 30Gi
      capacity sizes --memory 64Gi --ratio 0.005 --set bpf-ct-global-tcp-max=524288 --cilium 1.18
    """
    from capacity import overview, printing

    frame, findings = overview.sizes(memory, ratio, explicit, cilium)
    thin = ("option", "entries", "map", "memlock_text", "set", "verified")
    printing.show(frame, output, columns=thin)  # type: ignore[arg-type]
    for finding in findings:
        say(f"{finding.level}: {finding.message}")
    if any(finding.level == "error" for finding in findings):
        sys.exit(SHORT)


@cli.command("simulate")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@options(SimulationSettings)
def simulate_command(out: Path, **options: Any) -> None:
    """Write a synthetic cluster whose truth is known, as metrics and inventory.

    \b
    Examples:
      capacity simulate --out demo
      capacity simulate --out big --nodes 3000 --seed 2
    """
    from capacity.simulate import simulate, write

    write(simulate(SimulationSettings(**options)), out)
    say(f"written: {out}")


cli.add_command(policies)
cli.add_command(check)
cli.add_command(resources)
cli.add_command(shapes)
cli.add_command(scenario)
cli.add_command(maps)
cli.add_command(services)
cli.add_command(measure)
cli.add_command(upgrade)
cli.add_command(drift)
cli.add_command(lb)
cli.add_command(backtest)
cli.add_command(ledger)
cli.add_command(report)
cli.add_command(fleet)
cli.add_command(schedule)
cli.add_command(serve)


def main() -> None:
    """Run the command line; errors that a user can mend are one line on standard error."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        say("capacity: interrupted")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(WRONG)
    except CapacityError as error:
        say(f"capacity: error: {' '.join(str(error).split())}")
        sys.exit(WRONG)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"capacity: error: {where}{error.strerror or error}")
        sys.exit(WRONG)
