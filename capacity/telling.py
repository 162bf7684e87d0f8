"""Words for people that need no plan and no frames: what a limit is called, amounts, places.

Imported by what starts and collects work, which must be quick to start: nothing heavy here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from capacity.units import format_bytes

# Called with what is done and the share that is done, 0…1
Progress = Callable[[str, float], None]
# Passwords may hold @, and / where it was not escaped: what follows the colon is no port then
_CREDENTIALS: Final = re.compile(r"(?<=://)(?:[^/:\s]*:(?!\d*(?:[/?#]|$))\S*@|[^/\s]*@)")

_BARE: Final = re.compile(r"^(//)?[^/:\s@]+:[^/\s@]+@")


def is_url(source: object) -> bool:
    """Tell whether a source is a URL.

    >>> is_url("https://prometheus.example:9090"), is_url("scrapes/")
    (True, False)
    """
    return isinstance(source, str) and "://" in source


def without_secrets(source: str) -> str:
    """Give a path or URL without user name and password; query string and fragment are cut as well.

    >>> without_secrets("https://me:secret@prom.example:9090/api?token=x")
    'https://prom.example:9090/api'
    """
    if "://" not in source:
        # No URL, but perhaps meant as one
        return _BARE.sub("", source)
    return re.split("[?#]", _CREDENTIALS.sub("", source), maxsplit=1)[0]


def resource(row: Mapping[str, Any]) -> str:
    """Name a limited resource for people.

    >>> resource({"component": "map", "subject": "ipcache", "quantity": "map_entries"})
    'map ipcache'
    """
    if row["subject"] is None:
        return f"{row['component']} {row['quantity']}"
    return f"map {row['subject']}" if row["component"] == "map" else str(row["subject"])


def amount(value: float | None, unit: str) -> str:
    """Write a quantity with its unit.

    >>> amount(65536.0, "1"), amount(2.0**30, "byte"), amount(250.0, "millicore"), amount(None, "")
    ('65,536', '1 GiB', '250m', '–')
    """
    if value is None:
        return "–"
    if unit == "byte":
        return format_bytes(value)
    return f"{value:,.0f}m" if unit == "millicore" else f"{value:,.0f}"


def few(names: Iterable[str], most: int = 3) -> str:
    """Give names as text, the first few of many.

    >>> few(["b", "a", "a"]), few("edcba")
    ('a, b', 'a, b, c and 2 more')
    """
    told = sorted(set(names))
    more = f" and {len(told) - most} more" if len(told) > most else ""
    return ", ".join(told[:most]) + more
