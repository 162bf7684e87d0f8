"""Settings of `capacity resources`: what is read, by which rule, what a change must be worth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from capacity.errors import SettingsError
from capacity.units import parse_duration

# The keys of rightsizing.strategies.STRATEGIES, which a test compares: --help needs no polars
STRATEGY_NAMES: Final = (
    "capacity", "krr", "vpa", "goldilocks-guaranteed", "goldilocks-burstable",
)  # fmt: skip
GUARD_NAMES: Final = ("quota", "limit-range", "pdb", "hpa")
# prometheus/prometheus documentation: rate() needs two samples, scrapes come each 15 s to 2 min
_STEPS: Final = (30.0, 3600.0)
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class RightsizingSettings:
    """What `capacity resources` needs to know.

    `step` is the width over which CPU is averaged and of memory the largest value taken;
    `min_history` is what a container must have been seen for; `worth` the share of a request below
    which it is left alone; prices are for a core and a GiB for an hour, in any currency.

    Raises
    ------
    SettingsError
        On construction, with all faults in one message.
    """

    strategy: str = "capacity"
    cluster: str | None = None
    namespaces: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    step: str = "5m"
    min_history: str = "1d"
    worth: float = 0.1
    allow_hpa: bool = False
    cpu_price: float | None = None
    memory_price: float | None = None
    guards: tuple[str, ...] = ()
    quota_margin: float = 0.25

    def __post_init__(self) -> None:
        faults = list(_faults(self))
        if faults:
            raise SettingsError("; ".join(faults))

    @property
    def step_milliseconds(self) -> int:
        """Width of a step, in ms."""
        return round(parse_duration(self.step, what="step") * 1000)

    @property
    def min_seconds(self) -> float:
        """Least history, in s."""
        return parse_duration(self.min_history, what="min_history")


def _faults(settings: RightsizingSettings) -> list[str]:
    out = []
    if settings.strategy not in STRATEGY_NAMES:
        known = ", ".join(STRATEGY_NAMES)
        out.append(f"strategy: {settings.strategy!r} is not known; choose one of {known}")
    for name in ("step", "min_history"):
        try:
            parse_duration(getattr(settings, name), what=name)
        except SettingsError as error:
            out.append(str(error))
    if not out and not _STEPS[0] <= settings.step_milliseconds / 1000 <= _STEPS[1]:
        out.append(f"step: {settings.step!r} is not within 30s … 1h")
    out += [
        f"namespaces: {name!r} is no name of a namespace"
        for name in settings.namespaces
        if not _NAMESPACE.fullmatch(name)
    ]
    out += [
        f"guards: {name!r} is not known; choose of {', '.join(GUARD_NAMES)}"
        for name in settings.guards
        if name not in GUARD_NAMES
    ]
    if not 0 <= settings.quota_margin <= 10:
        out.append(f"quota_margin: {settings.quota_margin} is outside 0…10")
    if not 0 <= settings.worth <= 1:
        out.append(f"worth: {settings.worth} is outside 0…1")
    for name in ("cpu_price", "memory_price"):
        price = getattr(settings, name)
        if price is not None and not 0 <= price < float("inf"):
            out.append(f"{name}: {price} is no price of 0 or more")
    return out
