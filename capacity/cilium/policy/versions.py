"""What differs between Cilium versions in the entries that policies make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from capacity.errors import FactError, SettingsError

_OLDEST: Final = (1, 14)
# endPort of rules; facts of cilium-maps: "Ranges (endPort): 1.16+ only"
_PORT_RANGES: Final = (1, 16)
# cilium/cilium pull request 35449, "Bpf policy precedence on deny", in 1.17 and later
_NO_COMPANIONS: Final = (1, 17)
# Entries for anyone are written for four aggregates too: pkg/policy/aggregate.go, AllAggregates,
# in main of 2026-07-14 (1.20.0-rc.0); not confirmed on a released 1.20
_AGGREGATES: Final = (1, 20)
WILDCARD_ROWS: Final = "wildcard-rows"


@dataclass(frozen=True, slots=True)
class Semantics:
    """How a version makes entries.

    `wildcard_rows` are the rows of an entry for anyone: 1, or with the aggregates of 1.20 5.
    """

    has_companions: bool
    has_port_ranges: bool
    wildcard_rows: int


def semantics(version: str, options: Mapping[str, str] | None = None) -> Semantics:
    """Give how a version makes entries.

    Parameters
    ----------
    version
        Cilium version, as "1.16" or "1.16.3".
    options
        May hold ``wildcard-rows``, 1 or 5, for a 1.20 that was looked at.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If the option is neither 1 nor 5.

    Examples
    --------
    >>> semantics("1.16").has_companions, semantics("v1.17.2").has_companions
    (True, False)
    """
    match = re.match(r"v?(\d+)\.(\d+)(?!\d)", version)
    known = (int(match[1]), int(match[2])) if match else (0, 0)
    if known < _OLDEST:
        raise FactError(f"Cilium {version!r}: not known; policies are resolved for 1.14 and later")
    rows = (options or {}).get(WILDCARD_ROWS, "5" if known >= _AGGREGATES else "1")
    if str(rows) not in ("1", "5"):
        raise SettingsError(f"{WILDCARD_ROWS}: {rows!r}; wanted 1 or 5")
    return Semantics(known < _NO_COMPANIONS, known >= _PORT_RANGES, int(rows))
