"""How often the agent collects expired entries: its interval follows what it deletes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from capacity import facts

# cilium/cilium pkg/maps/ctmap/ctmap.go calculateInterval, b095517e625e
_MANY: Final = 0.25
_MOST: Final = 0.9
_FEW: Final = 0.05
_SLOWER: Final = 1.5
_ROUNDS: Final = 64


def next_interval(interval: float, deleted: float, *, version: str) -> float:
    """Give the interval after a collection.

    Parameters
    ----------
    interval
        Before it. [s]
    deleted
        Entries deleted / size of the map, the largest such share of all maps. [1]
    version
        Cilium version.

    Returns
    -------
    float
        [s]

    Examples
    --------
    >>> next_interval(300, 0.5, version="1.17"), next_interval(300, 0.01, version="1.17")
    (150.0, 450.0)
    """
    if deleted == 0.0:
        return float(interval)
    if deleted > _MANY:
        shorter = round(interval * (1 - min(deleted, _MOST)))
        return float(max(shorter, _bound("conntrack-gc-shortest", version)))
    if deleted < _FEW:
        longer = round(interval * _SLOWER)
        return float(min(longer, _bound("conntrack-gc-longest", version)))
    return float(interval)


def steady_interval(
    flows: Sequence[tuple[float, int]], *, version: str, fixed: float = 0, most: float = 0
) -> float:
    """Give the interval that collections settle at, the longest of those they swing between.

    Parameters
    ----------
    flows
        Entries that expire a second and size of the map, a pair a map. [1/s], [1]
    version
        Cilium version.
    fixed, most
        Options conntrack-gc-interval and conntrack-gc-max-interval; 0: not set. [s]

    Returns
    -------
    float
        [s]
    """
    if fixed:
        return float(fixed)
    interval = float(_bound("conntrack-gc-first", version))
    seen: list[float] = []
    for _ in range(_ROUNDS):
        deleted = max((min(rate * interval / size, 1.0) for rate, size in flows), default=0.0)
        after = next_interval(interval, deleted, version=version)
        after = min(after, most) if most else after
        if after in seen:
            return max(seen[seen.index(after) :])
        seen.append(after)
        interval = after
    return interval


def _bound(name: str, version: str) -> int:
    return int(facts.limits(version).filter(limit=name)["value"][-1])
