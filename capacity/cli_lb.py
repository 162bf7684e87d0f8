"""Commands about load balancing: measure this machine, size a tier, costs in production."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from capacity.cli_options import OUTPUT

SHORT: Final = 1
_TIMINGS: Final = (
    "hook", "stage", "services", "backends", "ct_entries", "map_type", "flows", "is_new", "cores",
    "nanoseconds", "low", "high", "wall_over_kernel", "awake_over_kernel", "disturbed",
)  # fmt: skip


@click.group("measure")
def measure() -> None:
    """Measure this machine; results are calibration for other commands.

    \b
    Examples:
      capacity measure lb --out lb.json
      capacity measure lb --services 100 --services 10000 --cpu 2 --cpu 3 -o csv
    """


@measure.command("lb")
@click.option(
    "--services",
    type=int,
    multiple=True,
    metavar="N",
    help="Services to vary over (several allowed). 100, 1000, 5000 if left out.",
)
@click.option(
    "--backends",
    type=int,
    multiple=True,
    metavar="N",
    help="Backends of a service (several allowed). 10, 100 if left out.",
)
@click.option(
    "--ct",
    type=int,
    multiple=True,
    metavar="N",
    help="Sizes of the CT map (several allowed). 65536, 524288 if left out.",
)
@click.option(
    "--repeats", type=int, default=5, show_default=True, help="Undisturbed repetitions of each row."
)
@click.option(
    "--seconds", type=float, default=0.03, show_default=True, help="Aim of one repetition. [s]"
)
@click.option(
    "--cpu",
    type=int,
    multiple=True,
    metavar="NUMBER",
    help="CPUs to use (several allowed). All of this process if left out.",
)
@click.option(
    "--patience",
    type=float,
    default=2.0,
    show_default=True,
    help="How long to wait for undisturbed repetitions of a row. [s]",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write the calibration file here, whole or not at all.")  # fmt: skip
@OUTPUT
def measure_lb(cpu: tuple[int, ...], out: Path | None, output: str, **options: Any) -> None:
    """Time a small XDP and tc load balancer in this machine's kernel. Needs root.

    Programs run by BPF_PROG_TEST_RUN: nothing is attached to an interface, nothing is pinned, and
    all maps end with the command. What is told is the work of a program and its maps on one
    packet; devices, drivers and Cilium's other work (policy, FIB, encryption) come on top.
    Repetitions that other work disturbed do not count; where too few are left, exit 2.

    \b
    Examples:
      capacity measure lb --out lb.json
      capacity measure lb --services 100 --services 20000 --ct 1000000 -o csv > lb.csv
    """
    from capacity.measure.bpf import require

    require()
    from capacity import printing
    from capacity.errors import SettingsError
    from capacity.measure.grid import MeasureSettings, measure
    from capacity.measure.timing import allowed_cpus
    from capacity.throughput import calibration

    given = {name: value for name, value in options.items() if value not in ((), None)}
    settings = MeasureSettings(**given)
    strange = sorted(set(cpu) - set(allowed_cpus()))
    if strange:
        msg = f"--cpu: this process may not use CPU {strange}; it may use {allowed_cpus()}"
        raise SettingsError(msg)
    if out is not None and not out.parent.is_dir():
        raise SettingsError(f"--out: {out.parent} is not a folder")
    is_terminal = sys.stderr.isatty()

    def progress(name: str, share: float) -> None:
        if is_terminal:
            click.echo(f"\r\x1b[K{share:4.0%} {name}", nl=False, err=True)

    made = measure(settings, progress=progress, cpus=cpu or None)
    if is_terminal:
        click.echo("\r\x1b[K", nl=False, err=True)
    if output == "json":
        printing.print_json(
            {"machine": made.machine, "scaling": made.scaling, "timings": made.timings.to_dicts()}
        )
    else:
        printing.show(made.timings, output, columns=_TIMINGS, of=calibration.TIMINGS)  # type: ignore[arg-type]
    told = ", ".join(f"{name} {value}" for name, value in made.machine.items())
    click.echo(f"machine: {told}\nscaling over cores: {made.scaling}", err=True)
    if out is not None:
        calibration.write(made, out)
        click.echo(f"written: {out}", err=True)


def _tier_options(function: Any) -> Any:
    """Make the options of a tier from the fields of its settings."""
    from dataclasses import fields

    from capacity.tier_settings import TierSettings

    for item in reversed(fields(TierSettings)):
        name = item.name.replace("_", "-")
        told = {"help": item.metadata["help"] + _unit(item.metadata["unit"])}
        choices = item.metadata.get("choices")
        kind: Any = click.Choice(choices) if choices else type(item.default)
        flag = f"--{name}/--no-{name}" if isinstance(item.default, bool) else f"--{name}"
        function = click.option(
            flag, item.name, type=None if "/" in flag else kind, default=item.default,
            show_default=True, **told,
        )(function)  # fmt: skip
    return function


def _unit(unit: str) -> str:
    return "" if unit in ("", "1") else f" [{unit}]"


_CALIBRATION = click.option(
    "--calibration", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Costs measured on your machine by `capacity measure lb --out FILE`.",
)  # fmt: skip


@click.group("lb")
def lb() -> None:
    """Size load-balancing nodes, and see what a packet costs in production.

    \b
    Examples:
      capacity lb size --mpps 10 --mode dsr --xdp native --cores 16
      capacity lb live ./export
    """


@lb.command("size")
@_tier_options
@_CALIBRATION
@click.option(
    "--nodes",
    type=int,
    multiple=True,
    metavar="N",
    help="Node counts to tell besides the one needed (several allowed).",
)
@click.option("--chart", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write a chart here, one HTML page.")  # fmt: skip
@OUTPUT
def size(
    nodes: tuple[int, ...],
    calibration: Path | None,
    chart: Path | None,
    output: str,
    **options: Any,
) -> None:
    """Tell how many nodes carry a packet rate, with spare ones, and what each count carries.

    Rates are of request packets from clients; a node's work on replies and on packets of other
    nodes is counted. A rate has bounds that 95 % and 5 % of the draws reach. Exit 1 where named
    node counts do not carry the demand.

    \b
    Examples:
      capacity lb size --mpps 10 --mode dsr --xdp native --placement dedicated --cores 16
      capacity lb size --mpps 2 --mode snat --nodes 3 --nodes 6 --calibration lb.json -o csv
    """
    from capacity import printing
    from capacity.throughput import calibration as files
    from capacity.throughput import costs, tier
    from capacity.tier_settings import TierSettings

    settings = TierSettings(**options)
    held = files.read(calibration) if calibration else None
    least = 1 + settings.spare + settings.upgrading
    needed = None if nodes else tier.nodes_needed(settings, held)
    counts = sorted(set(nodes) or tier.around(needed or least, least))
    table = tier.tier(settings, counts, held)
    shown = [c for c in table.columns if c not in ("carrying", "hop_share")]
    printing.show(table, output, columns=shown, of=tier.TIER)  # type: ignore[arg-type]
    if needed is not None:
        click.echo(f"{needed} nodes carry {settings.mpps:g} million packets/s, of which "
                   f"{settings.spare + settings.upgrading} may be away", err=True)  # fmt: skip
    machine = () if settings.pass_cost else (costs.machine_of(held),)
    for line in (*machine, *tier.doubts(settings, held)):
        click.echo(line, err=True)
    if chart is not None:
        from capacity.charts.tier import carries

        _write_page(carries(table, settings).to_html(include_plotlyjs=True), chart)
        click.echo(f"written: {chart}", err=True)
    if nodes and not table["fits"].all():
        sys.exit(SHORT)


@lb.command("live")
@click.argument("source", metavar="SOURCE")
@click.option("--cluster", help="Cluster, where the source holds several.")
@click.option("--cpu", type=click.FloatRange(0.01, 1.0), default=0.7, show_default=True,
              help="Share of a CPU that softirq may take.")  # fmt: skip
@OUTPUT
def live_command(source: str, cluster: str | None, cpu: float, output: str) -> None:
    """Tell what a packet costs in production, from node_exporter and Cilium, and the headroom.

    SOURCE: an export with node_cpu_seconds_total, node_softnet_times_squeezed_total and
    cilium_forward_count_total over hours in which traffic varied.

    \b
    Examples:
      capacity lb live ./export
      capacity lb live https://prometheus.example:9090 --cpu 0.5 -o json
    """
    from capacity import printing
    from capacity.load import read
    from capacity.observe.names import one_cluster
    from capacity.throughput.live import COUNTERS, LIVE, live

    wanted = list(COUNTERS.values())
    table = live(one_cluster(read(source, metrics=wanted), cluster), budget=cpu)
    shown = [c for c in LIVE.schema if c not in ("packets_most", "frame")]
    printing.show(table, output, columns=shown, of=LIVE)  # type: ignore[arg-type]


def _write_page(text: str, path: Path) -> None:
    """Write whole or not at all."""
    import os
    import tempfile

    from capacity.errors import SettingsError

    try:
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise SettingsError(f"--chart: {path} cannot be written: {error.strerror}") from error
