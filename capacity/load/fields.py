"""Fields of Kubernetes objects: taken by path, with the type they must have, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from capacity.errors import SettingsError
from capacity.units import parse_quantity, rounded

Object = Mapping[str, Any]
_T = TypeVar("_T")
# What kubectl takes where an object in a file names none
DEFAULT: Final = "default"
TEMPLATE: Final = "{{"
# What a column of integers holds
LARGEST: Final = (1 << 63) - 1


class Fault(ValueError):
    """An object that is refused: field path, value, what was wanted."""


def value_at(item: Object, path: str, kind: type[_T]) -> _T | None:
    """Value at a dotted path; None where it is not told."""
    value: Any = item
    for name in path.split("."):
        if not isinstance(value, dict):
            raise Fault(f"{path}: {value!r:.40} on the way is no mapping")
        value = value.get(name)
        if value is None:
            return None
    if not isinstance(value, kind):
        raise Fault(f"{path} is {value!r:.60}, wanted {kind.__name__}")
    return value


def dicts_at(item: Object, path: str) -> list[dict[str, Any]]:
    """List of mappings at a dotted path."""
    values = value_at(item, path, list) or []
    if not all(isinstance(value, dict) for value in values):
        raise Fault(f"{path} holds something else than mappings")
    return values


def name_of(item: Object) -> str:
    """Name of an object; Fault where it is missing or a template."""
    name = text_at(item, "metadata.name")
    if TEMPLATE in name:
        raise Fault(f"metadata.name {name!r} is a template; read what `helm template` prints")
    return name


def text_at(item: Object, path: str) -> str:
    """Text at a dotted path; Fault where it is missing."""
    value = value_at(item, path, str)
    if not value:
        raise Fault(f"{path} is missing")
    return value


def texts_in(entries: Iterable[Object], *names: str) -> list[str]:
    """Distinct texts under these names, sorted."""
    found = {entry.get(name) for entry in entries for name in names if is_text(entry.get(name))}
    return sorted(map(str, found))


def is_text(value: Any) -> bool:
    """Tell whether a value is a text that says something."""
    return isinstance(value, str) and value not in ("", "None")


def namespace_of(item: Object) -> str:
    """Namespace of an object, that of kubectl where none is told."""
    return value_at(item, "metadata.namespace", str) or DEFAULT


def as_json(told: Object | list[Any] | None) -> str:
    """JSON with sorted keys; nothing told is an empty object."""
    return json.dumps({} if told is None else told, sort_keys=True, ensure_ascii=False)


def labels_of(item: Object) -> str:
    """Labels of an object as JSON."""
    return as_json(value_at(item, "metadata.labels", dict))


def quantity_at(item: Object, path: str, parse: Callable[[str | float], int]) -> int | None:
    """Quantity at a dotted path, parsed; None where it is not told."""
    value = value_at(item, path, object)
    if value is None:
        return None
    if not isinstance(value, str | int | float):
        raise Fault(f"{path} is {value!r:.60}, wanted a quantity")
    try:
        number = parse(value)
    except (SettingsError, ArithmeticError, ValueError) as error:
        raise Fault(f"{path}: {error}") from None
    return bounded(number, path, LARGEST)


def bounded(number: int, path: str, most: int) -> int:
    """Give a number that is from 0 to most; Fault otherwise."""
    if not 0 <= number <= most:
        raise Fault(f"{path} is {number}, wanted 0 to {most}")
    return number


def whole(text: str | float) -> int:
    """Give a quantity as a whole number, rounded down."""
    return rounded(parse_quantity(text), "down")
