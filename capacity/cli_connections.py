"""Commands about connections: CT and NAT entries, SNAT ports, Maglev tables, failed insertions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from capacity.cli_options import OUTPUT, VERSION, version_of

if TYPE_CHECKING:
    from capacity.cilium.conntrack import Traffic

SHORT = 1


@click.command("conntrack")
@click.option("--traffic", multiple=True, required=True, metavar="'PATH/ROLE rate=… duration=…'",
              help="New connections a second of this node and their seconds; also protocol=other, "
                   "ends=left or unanswered, pairs=N (several allowed).")  # fmt: skip
@click.option("--memory", help="Memory of the node, e.g. 30Gi: sizes follow it as in the agent.")
@click.option("--ratio", type=float, default=0.0025, show_default=True,
              help="bpf.mapDynamicSizeRatio.")  # fmt: skip
@click.option("--set", "given", multiple=True, metavar="OPTION=VALUE",
              help="Agent option, as bpf-ct-global-tcp-max=524288 (several allowed).")  # fmt: skip
@click.option("--family", type=click.Choice(["4", "6"]), default="4", show_default=True)
@VERSION
@OUTPUT
def conntrack(
    traffic: tuple[str, ...],
    memory: str | None,
    ratio: float,
    given: tuple[str, ...],
    family: str,
    cilium: str | None,
    output: str,
) -> None:
    """Tell how many CT, NAT and socket entries a node's connections hold, and what is evicted.

    Exit 1 where live entries are evicted. Without --memory sizes are the agent's fixed defaults.

    \b
    Examples:
      capacity services conntrack --traffic 'pod/client rate=200 duration=30' --cilium 1.17
      capacity services conntrack --traffic 'nodeport-snat/entry rate=5000 duration=10'
        --traffic 'masquerade/client rate=50 duration=5 ends=left' --memory 30Gi -o json
    """
    from capacity import printing
    from capacity.cilium.conntrack import entries
    from capacity.cilium.conntrack.traffic import TRACKED
    from capacity.cilium.map_sizes import dynamic_sizes
    from capacity.units import parse_bytes

    version, options = version_of(cilium), dict(_pair(text, "--set") for text in given)
    sizes = {name: _whole(name, value) for name, value in options.items() if name.endswith("-max")}
    if memory is not None:
        sizes = dynamic_sizes(parse_bytes(memory), ratio, version=version, explicit=sizes)
    told = [_traffic(text) for text in traffic]
    table = entries(told, version=version, sizes=sizes, options=options, family=int(family))
    printing.show(table, output, of=TRACKED)  # type: ignore[arg-type]
    if (table["evicted"] > 0).any():
        sys.exit(SHORT)


@click.command("ports")
@click.option("--connections", type=float, required=True, help="At once, toward one remote port.")
@click.option("--addresses", type=int, default=1, show_default=True, help="Egress addresses.")
@click.option("--node-port-range", help="nodePort.range, e.g. 30000,35000.")
@VERSION
@OUTPUT
def ports(
    connections: float,
    addresses: int,
    node_port_range: str | None,
    cilium: str | None,
    output: str,
) -> None:
    """Tell whether SNAT has a source port for each connection toward one remote address and port.

    \b
    Examples:
      capacity services ports --connections 25000
      capacity services ports --connections 40000 --addresses 2 --cilium 1.18 -o json
    """
    from dataclasses import asdict

    import polars as pl

    from capacity import printing
    from capacity.cilium.conntrack import port_use

    version = version_of(cilium)
    use = port_use(
        connections, version=version, addresses=addresses, node_port_range=node_port_range
    )
    printing.show(pl.DataFrame([asdict(use)]), output)  # type: ignore[arg-type]
    if not use.fits:
        sys.exit(SHORT)


@click.command("maglev")
@click.option("--backends", type=int, required=True, help="Behind the largest frontend.")
@click.option("--frontends", type=int, default=1, show_default=True,
              help="That have a table: see `capacity services entries`.")  # fmt: skip
@click.option("--families", type=click.IntRange(1, 2), default=1, show_default=True)
@VERSION
@OUTPUT
def maglev(backends: int, frontends: int, families: int, cilium: str | None, output: str) -> None:
    """Tell which Maglev table size to take, with shares, disruption and memory of each.

    \b
    Examples:
      capacity services maglev --backends 160
      capacity services maglev --backends 800 --frontends 1000 --cilium 1.17 -o json
    """
    from capacity import printing
    from capacity.cilium.maglev import MAGLEV, advice

    told = advice(backends, version=version_of(cilium), frontends=frontends, families=families)
    click.echo(told.sentence, err=True)
    printing.show(told.table, output, of=MAGLEV)  # type: ignore[arg-type]
    if told.warning:
        sys.exit(SHORT)


@click.command("diagnose")
@click.option("--drops", type=float, required=True,
              help="Drops a second with reason `CT: Map insertion failed`.")  # fmt: skip
@click.option("--pressure", type=float, help="cilium_bpf_map_pressure of the ct map, 0…1.")
@click.option("--kernel", help="Release of the kernel, as uname -r prints it.")
@click.option("--at-collections", is_flag=True, help="Drops come with collections.")
@OUTPUT
def diagnose(
    drops: float, pressure: float | None, kernel: str | None, at_collections: bool, output: str
) -> None:
    """Tell whether a larger conntrack map would help against failed insertions.

    Exit 1 where it would.

    \b
    Examples:
      capacity services diagnose --drops 12 --pressure 0.03 --kernel 5.14 --at-collections
      capacity services diagnose --drops 12 --pressure 0.98 -o json
    """
    from dataclasses import asdict

    import polars as pl

    from capacity import printing
    from capacity.cilium import conntrack

    found = conntrack.diagnose(
        drops, pressure=pressure, kernel=kernel, coincides_with_collection=at_collections
    )
    printing.show(pl.DataFrame([asdict(found)]), output)  # type: ignore[arg-type]
    if found.recommend_resize:
        sys.exit(SHORT)


COMMANDS = (conntrack, ports, maglev, diagnose)


def _pair(text: str, what: str) -> tuple[str, str]:
    from capacity.errors import SettingsError

    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise SettingsError(f"{what}: {text!r} is no NAME=VALUE")
    return name, value


def _whole(name: str, value: str) -> int:
    from capacity.errors import SettingsError

    if not value.isdecimal():
        raise SettingsError(f"--set {name}: {value!r} is no number of entries")
    return int(value)


def _traffic(text: str) -> Traffic:
    """Read `pod/client rate=200 duration=30s ends=left`."""
    from capacity.cilium.conntrack import Traffic
    from capacity.errors import SettingsError
    from capacity.units import parse_duration

    way, *pairs = text.split()
    path, _, role = way.partition("/")
    told: dict[str, Any] = dict(_pair(pair, "--traffic") for pair in pairs)
    unknown = told.keys() - {"rate", "duration", "protocol", "ends", "pairs"}
    if unknown or "rate" not in told:
        raise SettingsError(
            f"--traffic: {text!r}; wanted is 'PATH/ROLE rate=… duration=…', also protocol=other, "
            "ends=left, pairs=N"
        )
    numbers: dict[str, Any] = {name: parse_duration(told.pop(name), what=f"--traffic {name}")
               for name in ("rate", "duration", "pairs") if name in told}  # fmt: skip
    return Traffic(path, role, numbers.pop("rate"), numbers.pop("duration", 0.0), **told, **numbers)
