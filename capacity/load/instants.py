"""Points in time as users write them, to milliseconds."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from capacity.errors import SettingsError
from capacity.units import parse_duration

# Epochs: no export is older than 1973-03-03, which is 1e11 in ms; nor newer than year 5138 in s.
FIRST_MILLISECOND: Final = 100_000_000_000
# Of the years 1 to 9999: what comes of any other time cannot be written
YEARS: Final = (-62_135_596_800_000, 253_402_300_799_999)

Instant = dt.datetime | int | float | str


def instant(value: Instant, *, now: float, what: str = "time") -> int:
    """Milliseconds since 1970 UTC of a point in time.

    Parameters
    ----------
    value
        A datetime (UTC where it has no zone), epoch seconds or milliseconds, RFC 3339 text,
        ``"now"``, or a duration before now such as ``"-7d"``.
    now
        Epoch. [s]
    what
        Named in the error.

    Raises
    ------
    SettingsError
        If the value is none of these.

    Examples
    --------
    >>> instant("-1h", now=7200), instant(1767225600, now=0), instant("2026-01-01", now=0)
    (3600000, 1767225600000, 1767225600000)
    """
    if isinstance(value, dt.datetime):
        return _milliseconds(value)
    if isinstance(value, str):
        text = value.strip()
        if text == "now":
            return round(now * 1000)
        if text.startswith("-") and not re.fullmatch(r"-[\d.]+", text):
            return round((now - parse_duration(text[1:], what=what)) * 1000)
        try:
            value = float(text)
        except ValueError:
            return _rfc3339(text, what)
    if not abs(value) < 1e16:
        raise SettingsError(f"{what}: {value!r} is no epoch in seconds or milliseconds")
    return round(value) if abs(value) >= FIRST_MILLISECOND else round(value * 1000)


def _rfc3339(text: str, what: str) -> int:
    try:
        return _milliseconds(dt.datetime.fromisoformat(text))
    except ValueError:
        raise SettingsError(
            f"{what}: {text!r} is no time; write for example 2026-11-23T00:00:00Z, "
            "1795392000 or -7d"
        ) from None


def _milliseconds(value: dt.datetime) -> int:
    aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    return round(aware.timestamp() * 1000)
