"""Options made from the fields of settings; messages; the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from typing import Any

import click

SHORT, WRONG = 1, 2


def options(kind: type[Any], *, without: Collection[str] = ()) -> Callable[[Any], Any]:
    """Make the command's options from the fields of a settings class, but for some."""

    def decorate(function: Any) -> Any:
        for item in reversed([f for f in fields(kind) if f.name not in without]):
            default = None if item.default is MISSING else item.default
            if item.metadata.get("argument"):
                function = click.argument(item.name, default=default, metavar="[CLUSTER]")(function)
                continue
            unit = item.metadata["unit"]
            function = click.option(
                f"--{item.name.replace('_', '-')}", item.name, type=_type(str(item.type)),
                default=default, is_flag=str(item.type) == "bool",
                multiple=str(item.type).startswith("tuple"),
                metavar=item.metadata.get("metavar"), show_default=default not in (None, (), False),
                help=item.metadata["help"] + (f" [{unit}]" if unit not in ("", "1") else ""),
            )(function)  # fmt: skip
        return function

    return decorate


def _type(annotation: str) -> type[Any]:
    for kind in (int, float, bool):
        if annotation.removeprefix("tuple[").startswith(kind.__name__):
            return kind
    return str


def say(text: str) -> None:
    """Messages go to standard error: standard output is for results."""
    click.echo(text, err=True)


@contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """Show a progress bar on a terminal; nothing in a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda name, share: bar.update(task, description=name, completed=share)
