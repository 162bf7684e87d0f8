"""Kubernetes quantities, durations and counts: parse and format. Rounding is named in the call.

Bytes, millicores and entries are integers everywhere in the package; durations are seconds.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

from capacity.errors import SettingsError

Rounding = Literal["up", "down", "nearest"]

# Suffixes of Kubernetes resource quantities, kubernetes/apimachinery pkg/api/resource/suffix.go.
_SUFFIXES: Final[dict[str, Decimal]] = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(1 << 10),
    "Mi": Decimal(1 << 20),
    "Gi": Decimal(1 << 30),
    "Ti": Decimal(1 << 40),
    "Pi": Decimal(1 << 50),
    "Ei": Decimal(1 << 60),
}
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)\s*")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|y|w|d|h|m|s)")
# Prometheus durations, prometheus/common model/time.go: a year is 365 d, a week is 7 d.
_SECONDS: Final[dict[str, float]] = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 7 * 86400.0,
    "y": 365 * 86400.0,
}
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def rounded(value: float | Decimal, rounding: Rounding) -> int:
    """Round to an integer in the named direction.

    >>> rounded(2.1, "up"), rounded(2.9, "down"), rounded(2.5, "nearest")
    (3, 2, 2)
    """
    if rounding == "up":
        return math.ceil(value)
    if rounding == "down":
        return math.floor(value)
    return round(value)


def parse_quantity(text: str | float, *, what: str = "quantity") -> Decimal:
    """Read a Kubernetes quantity into its base unit.

    Parameters
    ----------
    text
        ``"30Gi"``, ``"250m"``, ``"1e3"`` or a number.
    what
        Named in the error.

    Raises
    ------
    SettingsError
        If the text is not a quantity.

    Examples
    --------
    >>> parse_quantity("1.5Gi"), parse_quantity("250m")
    (Decimal('1610612736.0'), Decimal('0.250'))
    """
    if isinstance(text, int | float):
        return Decimal(str(text))
    match = _QUANTITY.fullmatch(text)
    factor = _SUFFIXES.get(match.group(2)) if match else None
    if match is None or factor is None:
        msg = f"{what}: {text!r} is not a quantity; write for example 512Mi, 30Gi, 250m or 2"
        raise SettingsError(msg)
    try:
        return Decimal(match.group(1)) * factor
    except InvalidOperation:
        msg = f"{what}: {text!r} is not a number"
        raise SettingsError(msg) from None


def parse_bytes(text: str | float, *, what: str = "memory") -> int:
    """Bytes of a quantity, rounded up: a request must hold what it was asked for.

    >>> parse_bytes("30Gi")
    32212254720
    """
    return rounded(parse_quantity(text, what=what), "up")


def parse_millicores(text: str | float, *, what: str = "cpu") -> int:
    """Millicores of a CPU quantity, rounded up.

    >>> parse_millicores("250m"), parse_millicores("1.5"), parse_millicores(2)
    (250, 1500, 2000)
    """
    return rounded(parse_quantity(text, what=what) * 1000, "up")


def parse_duration(text: str | float, *, what: str = "duration") -> float:
    """Seconds of a Prometheus duration such as ``90d`` or ``1h30m``; a bare number is seconds.

    >>> parse_duration("180d"), parse_duration("1h30m")
    (15552000.0, 5400.0)
    """
    if isinstance(text, int | float):
        return float(text)
    compact = text.replace(" ", "")
    parts = _DURATION.findall(compact)
    if parts and "".join(n + u for n, u in parts) == compact:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        seconds = float(compact)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        msg = f"{what}: {text!r} is not a duration; write for example 90d, 12w, 1h30m or 3600"
        raise SettingsError(msg)
    return seconds


def format_bytes(value: float, digits: int = 4) -> str:
    """Bytes for people, in powers of 1024.

    >>> format_bytes(32212254720), format_bytes(1500), format_bytes(0)
    ('30 GiB', '1.465 KiB', '0 B')
    """
    step = 0
    while abs(value) >= 1024 and step < len(_BINARY) - 1:
        value /= 1024
        step += 1
    return f"{value:.{digits}g} {_BINARY[step]}B"


def bytes_to_quantity(value: int, rounding: Rounding = "up") -> str:
    """Bytes as a Kubernetes quantity in whole Mi (Gi where that is exact), never below with ``up``.

    >>> bytes_to_quantity(1610612737), bytes_to_quantity(2 << 30)
    ('1537Mi', '2Gi')
    """
    mebi = rounded(Decimal(value) / (1 << 20), rounding)
    return f"{mebi // 1024}Gi" if mebi and mebi % 1024 == 0 else f"{mebi}Mi"


def millicores_to_quantity(value: int) -> str:
    """Millicores as a Kubernetes quantity.

    >>> millicores_to_quantity(250), millicores_to_quantity(2000)
    ('250m', '2')
    """
    return str(value // 1000) if value % 1000 == 0 else f"{value}m"
