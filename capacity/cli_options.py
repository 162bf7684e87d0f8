"""What commands of several subjects share: options, and how their values are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from capacity.inventory import Inventory

VERSION = click.option(
    "--cilium", metavar="VERSION", help="Cilium version, e.g. 1.18; the newest known if left out."
)
OUTPUT = click.option(
    "-o", "--output", type=click.Choice(["table", "json", "csv"]), default="table",
    show_default=True, help="Print a table, JSON or CSV; nothing else goes to standard output.",
)  # fmt: skip


def inventory_of(sources: tuple[str, ...]) -> Inventory:
    """Read sources that are one cluster."""
    from capacity.inventory import merge
    from capacity.load import read_inventory

    return merge([read_inventory(source) for source in sources])


def version_of(cilium: str | None) -> str:
    """Give the minor version asked for, else the newest, and say so on standard error."""
    from capacity import facts

    if cilium is None:
        click.echo(f"Cilium {facts.LATEST} is taken; name another with --cilium", err=True)
    return facts.minor(cilium or facts.LATEST)
