"""When a scrape was made whose samples carry no times: its name, what it tells, or its file."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Final

from capacity.load.gather import FIRST_MILLISECOND

# A gauge with the Unix time of the newest event of each source: the scrape is no older.
# cilium/cilium pkg/metrics/metrics.go, EventTS
EVENT_TIME: Final = "cilium_event_ts"
_STAMP: Final = re.compile(
    r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)[T_ -](\d\d)[-:_.]?(\d\d)[-:_.]?(\d\d)(?:[.,](\d{1,9}))?"
    r"(Z|[+-]\d\d:?\d\d)?(?!\d)"
)
_EPOCH: Final = re.compile(r"(?<!\d)(1\d{9}(?:\d{3})?)(?!\d)")


def scrape_time(path: Path, event: float | None) -> tuple[int, str | None]:
    """Tell when a scrape without times of its own was made.

    Parameters
    ----------
    path
        A time in the file's name comes first: RFC 3339, with or without separators, UTC where it
        names no zone; or epoch seconds or milliseconds.
    event
        Newest cilium_event_ts in the scrape, which is no later than the scrape. [s]

    Returns
    -------
    int
        Milliseconds since 1970 UTC: of the name, else of the newest event, else of the last
        change of the file.
    str or None
        What to tell about it, where it is not of the name.

    Examples
    --------
    >>> scrape_time(Path("2026-11-23T23-38-57Z_m00.prom"), None)
    (1795477137000, None)
    >>> scrape_time(Path("m00.prom"), 1795477137.5)
    (1795477137500, 'time taken from the newest cilium_event_ts')
    """
    named = time_in(path.name)
    if named is not None:
        return named, None
    # Anything beyond is no time in seconds
    if event is not None and abs(event) < FIRST_MILLISECOND:
        return round(event * 1000), f"time taken from the newest {EVENT_TIME}"
    return path.stat().st_mtime_ns // 1_000_000, "time taken from file modification time"


def time_in(name: str) -> int | None:
    """Give the time in a file's name, in milliseconds since 1970 UTC."""
    for found in _STAMP.finditer(name):
        *numbers, fraction, zone = found.groups()
        text = "{}-{}-{}T{}:{}:{}".format(*numbers)
        try:
            moment = dt.datetime.fromisoformat(f"{text}{zone or 'Z'}")
        except ValueError:
            continue
        return round(moment.timestamp()) * 1000 + int(f"{fraction or 0:0<3}"[:3])
    if epoch := _EPOCH.search(name):
        return int(f"{epoch[1]:0<13}")
    return None
