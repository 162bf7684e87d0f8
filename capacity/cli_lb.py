"""Commands about load balancing: measure this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from capacity.cli_options import OUTPUT

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
    from capacity import printing
    from capacity.errors import SettingsError
    from capacity.measure.bpf import require
    from capacity.measure.grid import MeasureSettings, measure
    from capacity.measure.timing import allowed_cpus
    from capacity.throughput import calibration

    require()
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
        printing.show(made.timings, output, columns=_TIMINGS)  # type: ignore[arg-type]
    told = ", ".join(f"{name} {value}" for name, value in made.machine.items())
    click.echo(f"machine: {told}\nscaling over cores: {made.scaling}", err=True)
    if out is not None:
        calibration.write(made, out)
        click.echo(f"written: {out}", err=True)
