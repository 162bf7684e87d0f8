"""Settings: one frozen dataclass a workflow; the one contract of command line, notebook, library.

A field's metadata holds its unit, help text and bounds; the command line makes its options from
them and the notebooks' parameter cells must equal them (tests hold both).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

from capacity.errors import SettingsError
from capacity.setting import setting
from capacity.units import parse_bytes, parse_duration

DEMO: Final = "demo"
T = TypeVar("T")
# Providers of facts/managed.csv, which a test compares
MANAGED: Final = ("gke", "aks", "eks", "eks-hybrid")
# The columns of table drivers, which a test compares: importing polars here would slow --help
DRIVER_NAMES: Final = (
    "nodes",
    "endpoints",
    "endpoints_per_node",
    "identities",
    "services",
    "backends",
    "policies",
    "policy_entries",
)


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What `capacity plan` needs to know; everything but the source has a default.

    Raises
    ------
    SettingsError
        On construction, with all faults in one message.
    """

    source: str = setting(
        DEMO,
        "Exports of the cluster: a folder or file of metrics and Kubernetes objects, or the URL of "
        "a Prometheus-compatible API. The shipped demo cluster where left out.",
        argument=True,
    )
    inventory: str | None = setting(
        None, "Folder or file of Kubernetes objects, where they are not in the source."
    )
    cluster: str | None = setting(
        None, "Name of the cluster to plan for, where the source holds several."
    )
    nodes: tuple[int, ...] = setting(
        (), "Node counts to plan for (several allowed). The growth of the history where left out.",
        "1",
    )  # fmt: skip
    horizon: str = setting("180d", "How far to look ahead, e.g. 180d, 26w, 1y.", "duration")
    set: tuple[str, ...] = setting(
        (),
        "Fix a driver at the planned node counts, e.g. --set services=4000 (several allowed). "
        f"Drivers: {', '.join(DRIVER_NAMES)}.",
        metavar="DRIVER=VALUE",
    )
    event: tuple[str, ...] = setting(
        (),
        "What you know will come, e.g. --event 2027-01-15:+200nodes (several allowed); any driver "
        "of --set, + or -.",
        metavar="DATE:±NUMBER DRIVER",
    )  # fmt: skip
    risk: float = setting(
        0.01, "Chance of running short that you accept; targets hold the 1 - risk quantile.", "1"
    )
    headroom: float = setting(0.2, "Share of a map that stays free at the planned node count.", "1")
    cilium: str | None = setting(
        None, "Cilium version, e.g. 1.18. Read from the metrics where left out."
    )
    memory: str | None = setting(
        None, "Memory of the smallest node, e.g. 30Gi; sizes dynamic maps where no metric tells.",
        "byte",
    )  # fmt: skip
    managed: str | None = setting(
        None, "Managed service that runs Cilium: gke, aks, eks or eks-hybrid. Only what its "
        "users can change is recommended.",
    )  # fmt: skip
    price_cpu: float | None = setting(
        None, "Price of a CPU core for a month, in your currency; prices requests.", "1"
    )
    price_memory: float | None = setting(
        None, "Price of a GiB of memory for a month, in your currency.", "1"
    )
    pool: str | None = setting(
        None, "Folder with plans of other clusters (their --out, or a fleet's): what too little "
        "history cannot tell of costs is borrowed from theirs.",
    )  # fmt: skip
    start: str | None = setting(None, "Start of the history: RFC 3339, epoch seconds, or -30d.")
    end: str | None = setting(None, "End of the history; the newest sample where left out.")
    step: str | None = setting(None, "Resolution asked from an API, e.g. 5m.", "duration")
    seed: int = setting(0, "Seed of the bootstrap; the same seed gives the same plan.")

    def __post_init__(self) -> None:
        faults = list(_faults(self))
        if faults:
            raise SettingsError("; ".join(faults))

    @property
    def horizon_seconds(self) -> float:
        """Horizon in seconds."""
        return parse_duration(self.horizon)

    @property
    def events(self) -> tuple[Event, ...]:
        """Known events, in the order of their dates."""
        return tuple(sorted(map(parse_event, self.event), key=lambda event: event.date))

    @property
    def fixed_drivers(self) -> dict[str, float]:
        """Drivers fixed by `set`, name to value."""
        pairs = (item.partition("=") for item in self.set)
        return {name.strip(): float(value) for name, _, value in pairs}


@dataclass(frozen=True, slots=True)
class Event:
    """A step of a driver that the user knows of: when (UTC), how much, of what, as written."""

    date: datetime
    amount: float
    driver: str
    text: str


_EVENT: Final = re.compile(r"(\S+?):([+-]\d+(?:\.\d+)?)\s*([a-z_]+)", re.ASCII)


def parse_event(text: str) -> Event:
    """Read an event such as ``2027-01-15:+200nodes``.

    Raises
    ------
    SettingsError
        If it is not DATE:±NUMBER DRIVER with a driver of DRIVER_NAMES.

    Examples
    --------
    >>> parse_event("2027-01-15:+200nodes").amount
    200.0
    """
    found = _EVENT.fullmatch(text.strip())
    wanted = "wanted is DATE:±NUMBER DRIVER, e.g. 2027-01-15:+200nodes"
    if found is None:
        raise SettingsError(f"event: {text!r} is not an event; {wanted}")
    try:
        day = datetime.strptime(found[1], "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise SettingsError(f"event: {found[1]!r} in {text!r} is no date; {wanted}") from None
    if found[3] not in DRIVER_NAMES:
        raise SettingsError(f"event: {found[3]!r} in {text!r} is not a driver of {DRIVER_NAMES}")
    return Event(day, float(found[2]), found[3], text)


def _faults(settings: PlanSettings) -> list[str]:
    out = []
    if not settings.source:
        out.append("source: is empty; give a path or URL, or leave it out for the demo")
    out += [f"nodes: {n} is not a node count; give 1 or more" for n in settings.nodes if n < 1]
    for name, low, high in (("risk", 0.0, 0.5), ("headroom", 0.0, 0.9)):
        value = getattr(settings, name)
        if not (low <= value <= high) or (name == "risk" and value == 0):
            out.append(f"{name}: {value} is outside {low:g}…{high:g}")
    if settings.managed is not None and settings.managed not in MANAGED:
        out.append(f"managed: {settings.managed!r} is not one of {', '.join(MANAGED)}")
    for name in ("price_cpu", "price_memory"):
        price = getattr(settings, name)
        if price is not None and not 0 <= price < math.inf:
            out.append(f"{name}: {price} is not a price of 0 or more")
    for name in ("horizon", "step"):
        text = getattr(settings, name)
        try:
            if text is not None and not 0 < parse_duration(text, what=name) < math.inf:
                out.append(f"{name}: {text!r} is not longer than 0")
        except SettingsError as error:
            out.append(str(error))
    try:
        if settings.memory is not None and parse_bytes(settings.memory) <= 0:
            out.append(f"memory: {settings.memory!r} is not more than 0")
    except SettingsError as error:
        out.append(str(error))
    for item in settings.event:
        try:
            parse_event(item)
        except SettingsError as error:
            out.append(str(error))
    for item in settings.set:
        name, equals, value = item.partition("=")
        if not equals or name.strip() not in DRIVER_NAMES:
            out.append(f"set: {item!r} is not DRIVER=VALUE; drivers are {', '.join(DRIVER_NAMES)}")
        elif not _is_amount(value):
            out.append(f"set: {value!r} in {item!r} is not a number of 0 or more")
    return out


def _is_amount(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False


def from_mapping(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make settings from a mapping such as notebook parameters; names and types are checked.

    papermill only warns at a name it does not know and turns ``1.20`` into ``1.2``: hence this.

    Raises
    ------
    SettingsError
        If a name is unknown or a value has another type than the field.

    Examples
    --------
    >>> from_mapping(PlanSettings, {"horizon": "90d", "nodes": [1500]}).nodes
    (1500,)
    """
    # A dataclass, which has no type of its own
    known = {f.name: f for f in fields(cast("Any", kind))}
    unknown = [name for name in values if name not in known]
    if unknown:
        raise SettingsError(f"unknown setting {unknown}; known: {sorted(known)}")
    faults: list[str] = []
    clean: dict[str, Any] = {}
    for name, value in values.items():
        tidy = tuple(value) if isinstance(value, list) else value
        if not _fits(tidy, str(known[name].type)):
            faults.append(f"{name}: {value!r} is not of type {known[name].type}")
        clean[name] = tidy
    if faults:
        raise SettingsError("; ".join(faults))
    return kind(**clean)


def _fits(value: Any, annotation: str) -> bool:
    if value is None:
        return "None" in annotation
    if annotation.startswith("tuple"):
        item = int if "int" in annotation else str
        return isinstance(value, tuple) and all(type(v) is item for v in value)
    if annotation.startswith("float"):
        return isinstance(value, float | int) and not isinstance(value, bool)
    return type(value) is (int if annotation.startswith("int") else str)
