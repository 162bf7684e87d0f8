"""Scenarios as users write them: ``grow: nodes=+500, services=x2, cilium=1.18``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from capacity import facts
from capacity.errors import CapacityError, SettingsError
from capacity.settings import DRIVER_NAMES

_AMOUNT: Final = re.compile(r"([+\-x]?)(\d+(?:\.\d+)?)", re.ASCII)
_ALIAS: Final = {"pods": "endpoints", "pods_per_node": "endpoints_per_node"}
_SWITCHES: Final = {"on": True, "off": False}
_MODE: Final = "bpf-lb-mode"
_HELP: Final = (
    "wanted is NAME: KEY=VALUE, … with keys " + ", ".join((*DRIVER_NAMES, "pods_per_node"))
    + " (VALUE 500, +500, -500 or x2), cilium, merge, split, mesh, shared, churn, ces, kvstore, "
    "mode, or an agent option such as bpf-lb-map-max"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Amount:
    """A driver's new value: set, added, or multiplied."""

    how: str
    value: float

    def of(self, old: Any) -> Any:
        """Give the new value of an old one, never below 0; numbers or arrays."""
        if self.how == "x":
            return old * self.value
        if self.how in ("+", "-"):
            moved = old + (self.value if self.how == "+" else -self.value)
            return moved * (moved > 0)
        return old * 0 + self.value


@dataclass(frozen=True, slots=True)
class Change:
    """One scenario: what differs from the cluster as it is or grows.

    `merge` alike clusters become one, `split` parts are made of it, `mesh` alike clusters know
    each other; `shared` is the share of services, identities and policies that every one has.
    `text` is how it was asked for.
    """

    name: str
    drivers: dict[str, Amount] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    cilium: str | None = None
    merge: int = 1
    split: int = 1
    mesh: int = 1
    shared: float = 0.0
    churn: float | None = None
    ces: bool | None = None
    kvstore: bool | None = None
    text: str = ""


BASE: Final = Change("as it is")


def parse(text: str) -> Change:
    """Read a scenario.

    Raises
    ------
    SettingsError
        With all faults in one message.

    Examples
    --------
    >>> told = parse("grow: nodes=+500, services=x2, mesh=3")
    >>> told.name, told.drivers["nodes"].of(1000), told.drivers["services"].of(80), told.mesh
    ('grow', 1500.0, 160.0, 3)
    """
    name, colon, rest = text.partition(":")
    items = [item.strip() for item in rest.split(",") if item.strip()]
    if not colon or not name.strip() or not items:
        raise SettingsError(f"change {text!r} is no scenario; {_HELP}")
    values: dict[str, Any] = {"drivers": {}, "options": {}}
    faults = []
    for item in items:
        try:
            _read(item, values)
        except CapacityError as error:
            faults.append(str(error))
    if faults:
        raise SettingsError(f"change {name.strip()!r}: {'; '.join(faults)}")
    return Change(name.strip(), text=", ".join(items), **values)


def _read(item: str, values: dict[str, Any]) -> None:
    key, equals, value = (part.strip() for part in item.partition("="))
    if not equals or not value:
        raise SettingsError(f"{item!r} is not KEY=VALUE")
    key = _ALIAS.get(key, key)
    if key in DRIVER_NAMES:
        values["drivers"][key] = _amount(item, value)
    elif key == "mode":
        values["options"][_MODE] = _one_of(item, value, ("snat", "dsr", "hybrid"))
    elif key in _READERS:
        values[key] = _READERS[key](item, value)
    elif key in _options():
        values["options"][key] = value
    else:
        near = get_close_matches(key, [*DRIVER_NAMES, *_READERS, *_options()], 1)
        meant = f"; {near[0]!r} is near" if near else f"; {_HELP}"
        raise SettingsError(f"{key!r} is not known{meant}")


def _options() -> set[str]:
    return {str(name) for name in facts.options()["option"]}


def _amount(item: str, value: str) -> Amount:
    found = _AMOUNT.fullmatch(value)
    if found is None or not math.isfinite(float(found[2])):
        raise SettingsError(f"{item!r}: {value!r} is none of 500, +500, -500, x2")
    return Amount(found[1] or "=", float(found[2]))


def _count(item: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or not 1 <= int(value) <= 511:
        raise SettingsError(f"{item!r}: {value!r} is no number of clusters, 1 to 511")
    return int(value)


def _share(item: str, value: str) -> float:
    told = _amount(item, value)
    if told.how != "=" or told.value > 1:
        raise SettingsError(f"{item!r}: {value!r} is no share of 0 to 1")
    return told.value


def _rate(item: str, value: str) -> float:
    told = _amount(item, value)
    if told.how != "=":
        raise SettingsError(f"{item!r}: {value!r} is no rate of pods a second")
    return told.value


def _switch(item: str, value: str) -> bool:
    return _SWITCHES[_one_of(item, value, tuple(_SWITCHES))]


def _one_of(item: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise SettingsError(f"{item!r}: {value!r} is none of {', '.join(known)}")
    return value


def _version(item: str, value: str) -> str:
    del item
    return facts.minor(value)


_READERS: Final[dict[str, Callable[[str, str], Any]]] = {
    "cilium": _version, "merge": _count, "split": _count, "mesh": _count, "shared": _share,
    "churn": _rate, "ces": _switch, "kvstore": _switch,
}  # fmt: skip
