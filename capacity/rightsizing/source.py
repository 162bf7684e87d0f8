"""Where samples come from: frames, files, blocks, or an API, in parts that fit into memory.

Of a database 14 days of 10,000 containers are 400 million samples: they are read window by
window, and what changes seldom (owners, requests, limits) only at the edges of windows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from capacity.export import Metrics
from capacity.load import read
from capacity.load.instants import instant
from capacity.rightsizing import blocks
from capacity.rightsizing.part import WANTED, Part, of_frames
from capacity.rightsizing_settings import RightsizingSettings
from capacity.telling import is_url

# Blocks of fewer samples are read whole
_WHOLE: Final = 1_000_000
_DEFAULT_DAYS: Final = "-14d"


def parts(source: Any, settings: RightsizingSettings) -> Iterator[Part]:
    """Read a source in parts, oldest first.

    Raises
    ------
    ExportError
        If nothing of it can be read.
    """
    now = time.time()
    start, end = (
        None if value is None else instant(value, now=now, what=what)
        for value, what in ((settings.start, "start"), (settings.end, "end"))
    )
    if isinstance(source, Metrics):
        yield of_frames(source, source, settings, 1.0)
    elif is_url(source) and source.startswith(("http://", "https://")):
        until = instant("now", now=now) if end is None else end
        since = instant(_DEFAULT_DAYS, now=until / 1000) if start is None else start
        # Files are read without an HTTP client
        from capacity.rightsizing import api

        yield from api.parts(source, since, until, settings)
    else:
        found, log = blocks.found_blocks(source)
        if sum(block.samples for block in found) > _WHOLE:
            yield from blocks.parts(found, log, start, end, settings)
        else:
            told = read(source, metrics=WANTED, start=start, end=end)
            yield of_frames(told, told, settings, 1.0)
