"""A size on its way from need to target: small named steps, each says in words what it did."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

MEMORY_STEP: Final = 64 << 20
CPU_STEP: Final = 10
# What a change must be worth before agents restart for it: a size is raised only when more than
# this part of its headroom is used up, and lowered only when it saves at least this part of it.
SPENT_HEADROOM: Final = 0.5
WORTH_LOWERING: Final = 0.25


@dataclass(frozen=True, slots=True)
class Target:
    """A size on its way through the steps.

    Attributes
    ----------
    need
        What is needed at the planned node count. [of the unit]
    value
        The size so far. [of the unit]
    current
        What is set now; None where nothing is. [of the unit]
    upper
        The most that is accepted; None: no bound. [of the unit]
    headroom
        Share that stays free, 0…1. [1]
    unit
        ``1`` (entries), ``byte`` or ``millicore``.
    lowest
        It is never lowered below this; None: it is never lowered at all. [of the unit]
    """

    need: float
    value: float
    current: float | None
    upper: float | None
    headroom: float
    unit: str
    lowest: float | None = None


def with_headroom(target: Target) -> Target:
    """Leave the asked share free."""
    return replace(target, value=target.value / (1 - target.headroom))


def rounded_up(target: Target) -> Target:
    """Round up: maps to a power of two (hash buckets are anyway), memory to 64Mi, CPU to 10m.

    Buckets: roundup_pow_of_two(max_entries) in kernel/bpf/hashtab.c, Linux 6.12.
    """
    if target.unit == "1":
        return replace(target, value=float(1 << math.ceil(math.log2(max(target.value, 1)))))
    step = MEMORY_STEP if target.unit == "byte" else CPU_STEP
    return replace(target, value=float(math.ceil(target.value / step) * step))


def at_least(target: Target) -> Target:
    """Never go below the lowest size that may be set."""
    return replace(target, value=max(target.value, target.lowest or 0.0))


def capped(target: Target) -> Target:
    """Stay within what is accepted."""
    return replace(target, value=min(target.value, target.upper or math.inf))


def worth_it(target: Target) -> Target:
    """Keep what is set where a change is not worth a restart.

    Half of the headroom may be used up before a size is raised; it is lowered only where that
    saves a quarter, and may be lowered at all.
    """
    if target.current is None:
        return target
    spent = target.need / (1 - target.headroom * SPENT_HEADROOM) > target.current
    if spent:
        return replace(target, value=max(target.value, target.current))
    saves = target.value <= target.current * (1 - WORTH_LOWERING)
    return target if saves and target.lowest is not None else replace(target, value=target.current)


STEPS: Final[tuple[Callable[[Target], Target], ...]] = (
    with_headroom,
    rounded_up,
    at_least,
    worth_it,
    capped,
)


def sized(target: Target) -> Target:
    """Send a target through all steps.

    Examples
    --------
    >>> sized(Target(50_000, 50_000, 65_536, None, 0.2, "1")).value
    65536
    >>> sized(Target(60_000, 60_000, 65_536, None, 0.2, "1")).value
    131072.0
    """
    for step in STEPS:
        target = step(target)
    return target
