"""Drivers of a scenario: those that are told, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from capacity.driver_draws import MAP_BYTES
from capacity.growth import PER_NODE
from capacity.models.linear_drivers import Array
from capacity.scenario_text import Change

# Kinds of objects that every cluster of a mesh knows of the others
REMOTE: Final = ("nodes", "endpoints", "identities")
# Kinds of objects that clusters may share; pods and nodes are never two clusters' own
_SHAREABLE: Final = ("services", "backends", "identities", "policies", "policy_entries")


def moved(
    plain: Mapping[str, Array],
    at: Mapping[str, Array],
    change: Change,
    policies: float = 1.0,
) -> dict[str, Array]:
    """Apply what a scenario tells of drivers; what follows from it moves along.

    Pods and pods of a node are one thing seen twice. Backends are pods: more pods behind the same
    services are more backends, more services bring backends as the present ones do.

    Parameters
    ----------
    plain
        Draws of the drivers where nothing changes: what +500 and x2 are told of.
    at
        Draws at the scenario's node count.
    change
        The scenario.
    policies
        How many times as many entries the fullest policy map has.
    """
    out = dict(at)
    for name in set(change.drivers) & set(out) - {"nodes"}:
        out[name] = change.drivers[name].of(plain[name])
    denser = _times(PER_NODE, out, at, change)
    pods = _times("endpoints", out, at, change)
    more = denser if denser is not None else pods
    follow: dict[str, Array | float | None] = {
        "endpoints": denser,
        PER_NODE: pods,
        "backends": _times("services", out, at, change) if "services" in change.drivers else more,
        "policy_entries": policies * (1.0 if more is None else more),
    }
    for name, times in follow.items():
        if name in out and name not in change.drivers and times is not None:
            out[name] = out[name] * times
    return out


def _times(
    name: str, out: Mapping[str, Array], at: Mapping[str, Array], change: Change
) -> Array | None:
    """Give how many times as much there is of a driver that is told; None where it is not."""
    if name not in change.drivers or name not in out:
        return None
    return np.asarray(out[name] / np.maximum(at[name], 1e-9))


def share(name: str, change: Change) -> float:
    """Give what a merger or split makes of a driver of one cluster."""
    if name not in (*REMOTE, *_SHAREABLE):
        return 1.0
    shared = change.shared if name in _SHAREABLE else 0.0
    merged = change.merge * (1 - shared) + shared
    return merged * (shared + (1 - shared) / change.split)


def with_map_bytes(
    out: dict[str, Array], at: Mapping[str, Array], slopes: Mapping[str, float], more: float
) -> dict[str, Array]:
    """Let the bytes of maps follow the drivers that moved; `more` is what other sizes add. [byte].

    Parameters
    ----------
    out, at
        Draws after and before drivers were moved.
    slopes
        Bytes of maps that one more of a driver makes.
    """
    if MAP_BYTES not in out:
        return out
    grown = sum(slope * (out[n] - at[n]) for n, slope in slopes.items() if n in out)
    return out | {MAP_BYTES: np.maximum(out[MAP_BYTES] + grown + more, 0.0)}
