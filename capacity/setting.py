"""One field of settings: options, notebooks' parameters and pages are made from it."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(default: Any, help: str, unit: str = "", **more: Any) -> Any:
    """Give a field of a dataclass of settings.

    Parameters
    ----------
    default
        Its value where nothing is told.
    help
        What it is, as options tell it.
    unit
        Of numbers.
    more
        What else options need to know, such as `argument`.

    Returns
    -------
    Field
        With help and unit in its metadata.
    """
    return field(default=default, metadata={"help": help, "unit": unit, **more})
