"""Sizes of BPF maps in entries: the agent's dynamic sizing, and what it says of explicit sizes.

The sizing itself is in map_sizing; numbers are rows of facts/dynamic.csv and facts/options.csv;
bytes are in map_memory.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import polars as pl

from capacity import facts
from capacity.cilium.map_sizing import (
    CT_ANY,
    CT_TCP,
    DISTRIBUTED,
    DISTRIBUTED_SINCE,
    DYNAMIC,
    NAT,
    NEIGH,
    RATIO,
    ROUNDED_SINCE,
    SOCK,
    Facts,
    Sizes,
    aligned,
    check,
    dynamic_facts,
    dynamic_sizes,
    release_of,
    up,
)

__all__ = [
    "CT_ANY",
    "CT_TCP",
    "DISTRIBUTED",
    "NAT",
    "NEIGH",
    "RATIO",
    "SOCK",
    "Finding",
    "dynamic_sizes",
    "validate",
]

# Options that the agent moves into their bounds, with a warning, where it refuses others:
# cilium/cilium pkg/option/config.go checkMapSizeLimits (b095517e62) lowers the policy map; from
# 1.18 on pkg/maps/policymap/cell.go createFactory moves both ways.
_LOWERED: Final = frozenset({"bpf-policy-map-max", "bpf-policy-stats-map-max"})
_RAISED_SINCE: Final = (1, 18)

Level = Literal["error", "warning", "info"]
_ORDER: Final[Mapping[Level, int]] = {"error": 0, "warning": 1, "info": 2}
_INTEGER = re.compile(r"[+-]?\d+")
_TRUE: Final = frozenset({"1", "t", "true"})

_Value = int | float | str


@dataclass(frozen=True, slots=True)
class Finding:
    """What the agent makes of one option.

    `error`: the agent refuses to start; `warning`: it takes another value, or the value works
    against itself; `info`: worth knowing. `value` is as given (None: not set), `effective` what
    the agent then uses (None: it does not start, or that depends on the node's memory).
    """

    option: str
    level: Level
    value: _Value | None
    effective: int | float | None
    message: str


def validate(
    options: Mapping[str, int | str | float],
    *,
    version: str,
    memory_bytes: int | None = None,
    possible_cpus: int = 1,
) -> list[Finding]:
    """Tell what an agent says at its start of the map sizes in its options.

    Parameters
    ----------
    options
        Option → value, as in the ConfigMap ``cilium-config``; options that size no map are left
        alone. Where ``bpf-map-dynamic-size-ratio`` is not among them, the agent's default holds.
    version
        Cilium version, e.g. ``1.17``.
    memory_bytes
        MemTotal of the node. Without it, sizes that are dynamic are not known, and NAT is held
        against the smallest CT tables that dynamic sizing gives. [byte]
    possible_cpus
        Possible CPUs of the node; matters with ``bpf-distributed-lru`` only. [1]

    Returns
    -------
    list of Finding
        Errors first; empty where there is nothing to say. All faults, where the agent names the
        first and stops.

    Raises
    ------
    SettingsError
        If the memory or the CPUs are out of bounds.
    FactError
        If the version is not known.

    References
    ----------
    .. [1] cilium/cilium pkg/option/config.go ``checkMapSizeLimits``, b095517e62 (1.17dev), the same
       in 24143732b6 (1.14); pkg/maps/nodemap/cell.go ``newNodeMap``, da63c10eb3 (1.16).
    .. [2] 1.18 and later: cilium/cilium-cli fc661364d, vendored pkg/option/config.go and
       pkg/loadbalancer/config.go ``NewConfig``; cilium/cilium pkg/maps/policymap/cell.go.
    .. [3] Documentation/network/ebpf/maps.rst of cilium/cilium b095517e62: NAT at most two thirds
       of the CT tables.

    Examples
    --------
    >>> found = validate({NAT: 524288, CT_TCP: 2048, CT_ANY: 4096}, version="1.17")
    >>> found[0].option, found[0].level, found[0].effective
    ('bpf-nat-global-max', 'warning', 4096)
    >>> [f.level for f in validate({"bpf-policy-map-max": "255"}, version="1.17")]
    ['error']
    """
    release = release_of(version)
    known = dynamic_facts(version)
    ratio, findings = _ratio(options, version)
    check(1 if memory_bytes is None else memory_bytes, ratio or 0.0, possible_cpus)
    numbers, faults = _numbers(options, version)
    findings += faults + _unknown(options, version)
    distributed = str(options.get(DISTRIBUTED, "")).lower() in _TRUE
    if distributed and release >= DISTRIBUTED_SINCE:
        numbers, faults = _rounded(numbers, options, ratio, version, possible_cpus)
        findings += faults
    findings += _limits(numbers, options, version)
    findings += _switched_off(numbers, options, ratio, known)
    sizes: Sizes | None = None
    if ratio == 0 or (ratio is not None and memory_bytes is not None):
        sizes = dynamic_sizes(
            memory_bytes or 0, ratio, version=version, explicit=numbers,
            possible_cpus=possible_cpus,
            distributed_lru=distributed and ratio > 0 and release >= DISTRIBUTED_SINCE,
        )  # fmt: skip
    wanted = _wanted_nat(numbers, known, ratio, memory_bytes, version)
    if wanted is not None:
        findings += _nat(wanted, numbers, sizes, known)
    return sorted(findings, key=lambda finding: _ORDER[finding.level])


def _ratio(options: Mapping[str, _Value], version: str) -> tuple[float | None, list[Finding]]:
    """Ratio that holds, None where the agent would not start with it, and then the fault."""
    given = options.get(RATIO, _defaults(version)[RATIO])
    try:
        ratio = float(given)
    except ValueError:
        ratio = math.nan
    if 0 <= ratio <= 1:
        return ratio, []
    told = f"{RATIO}: {given!r}; the agent starts with a number of 0 (off) to 1 only"
    return None, [Finding(RATIO, "error", given, None, f"{told}; Cilium's chart sets 0.0025")]


def _numbers(options: Mapping[str, _Value], version: str) -> tuple[Sizes, list[Finding]]:
    """Sizes that are set, as integers, and findings for those that are none."""
    numbers: Sizes = {}
    findings = []
    known = _bounds(version)
    for name, value in options.items():
        if name not in known:
            continue
        number = _whole(value)
        if number is not None:
            numbers[name] = number
            continue
        told = f"{name}: {value!r} is not a whole number of entries; write plain digits"
        hint = "(Helm turns large unquoted numbers into 1e+06)"
        findings.append(Finding(name, "error", value, None, f"{told} {hint}"))
    return numbers, findings


def _whole(value: _Value) -> int | None:
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value.strip()) else None
    return int(value) if math.isfinite(value) and value == int(value) else None


def _unknown(options: Mapping[str, _Value], version: str) -> list[Finding]:
    """Names that look like a map size and are none in this version: the agent ignores them."""
    here, anywhere = _names(version), _names(None)
    sizes = {name for name in anywhere if name.endswith("-max")} | {RATIO}
    findings = []
    for name, value in options.items():
        if name in here or not name.startswith(("bpf-", "bpf_")):
            continue
        like = 0.75 if name.endswith(("-max", "_max")) else 0.85
        close = difflib.get_close_matches(name.replace("_", "-"), sizes, n=1, cutoff=like)
        if name in anywhere:
            hint = "it is one of other versions only"
        elif close:
            hint = f"did you mean {close[0]}?"
        elif name.endswith("-max"):
            hint = "`capacity facts options` lists those that exist"
        else:
            continue
        told = f"{name}: not an option of Cilium {version}, which ignores it; {hint}"
        findings.append(Finding(name, "warning", value, None, told))
    return findings


@cache
def _names(version: str | None) -> frozenset[str]:
    return frozenset(facts.options(version)["option"])


@cache
def _bounds(version: str) -> Mapping[str, tuple[int | None, int | None]]:
    """Bounds of explicit sizes: option → smallest, largest; None where the agent does not look."""
    entries = facts.options(version).filter(
        pl.col("option").str.contains("^bpf-.*-max$"), unit="entries"
    )
    bounds = entries.select("option", pl.col("min", "max").cast(pl.Int64)).iter_rows()
    checked = {
        name: (row["limit_min"], row["limit_max"]) for name, row in dynamic_facts(version).items()
    }
    return {name: (least, most) for name, least, most in bounds} | checked


def _limits(numbers: Sizes, options: Mapping[str, _Value], version: str) -> list[Finding]:
    findings = []
    bounds = _bounds(version)
    release = release_of(version)
    for name, number in numbers.items():
        least, most = bounds[name]
        # A default of 0 means: as bpf-lb-map-max, or sized dynamically
        if number == 0 and _defaults(version)[name] == "0":
            continue
        if least is not None and number < least:
            told, bound = "below the minimum", least
            moved = name in _LOWERED and release >= _RAISED_SINCE
        elif most is not None and number > most:
            told, bound, moved = "above the maximum", most, name in _LOWERED
        else:
            continue
        then = "takes that instead; set it" if moved else "refuses to start; set a size in bounds"
        level: Level = "warning" if moved else "error"
        why = f"{name}: {number} is {told} {bound}; the agent {then}"
        findings.append(Finding(name, level, options[name], bound if moved else None, why))
    return findings


@cache
def _defaults(version: str) -> Mapping[str, str]:
    return dict(facts.options(version).select("option", "default").iter_rows())


def _switched_off(
    numbers: Sizes, options: Mapping[str, _Value], ratio: float | None, known: Facts
) -> list[Finding]:
    told = "is the default, but as it is set, this map is not sized dynamically: leave it out"
    return [
        Finding(name, "info", options[name], number, f"{name}: {number} {told} to follow {RATIO}")
        for name, number in numbers.items()
        if ratio and name in DYNAMIC and number == known[name]["default"]
    ]


def _rounded(
    numbers: Sizes,
    options: Mapping[str, _Value],
    ratio: float | None,
    version: str,
    cpus: int,
) -> tuple[Sizes, list[Finding]]:
    """Sizes of distributed LRU maps as the agent takes them, and what there is to say to that."""
    if not ratio:
        told = f"{DISTRIBUTED}: the agent refuses to start without {RATIO} above 0: set 0.0025"
        return numbers, [Finding(DISTRIBUTED, "error", options[DISTRIBUTED], None, told)]
    rounds = release_of(version) >= ROUNDED_SINCE
    known = dynamic_facts(version)
    out, findings = dict(numbers), []
    for name, number in numbers.items():
        if name not in DYNAMIC:
            continue
        size = aligned(number, cpus, known) if rounds else up(number, cpus)
        if size == number:
            continue
        told = f"{name}: {number} is no multiple of {cpus} possible CPUs up to the maximum"
        if rounds:
            out[name] = size
            why = f"{told}; the agent takes {size}"
        else:
            why = f"{told}; the kernel takes {size}, so the agent makes the map anew at each start"
        level: Level = "info" if rounds else "warning"
        findings.append(Finding(name, level, options[name], size, why))
    return out, findings


def _wanted_nat(
    numbers: Sizes, known: Facts, ratio: float | None, memory: int | None, version: str
) -> int | None:
    """NAT entries before they are held against the CT tables; the least where memory is unknown."""
    if NAT in numbers or ratio is None:
        return numbers.get(NAT)
    if ratio == 0:
        return int(known[NAT]["default"])
    if memory is None:
        return int(known[NAT]["minimum"])
    return dynamic_sizes(memory, ratio, version=version)[NAT]


def _nat(wanted: int, numbers: Sizes, sizes: Sizes | None, known: Facts) -> list[Finding]:
    """NAT against both CT tables together, or the least they can be where that is not known."""
    least = {name: known[name]["minimum"] for name in (CT_TCP, CT_ANY)} | numbers | (sizes or {})
    tables = least[CT_TCP] + least[CT_ANY]
    certain = sizes is not None or (CT_TCP in numbers and CT_ANY in numbers)
    given, cut = numbers.get(NAT), tables * 2 // 3
    lowered = given is None or given == known[NAT]["default"]
    if wanted > tables:
        then = f"takes {cut} instead" if lowered else "refuses to start"
        where = "" if certain else " where dynamic sizing makes these no larger"
        why = f"{NAT}: {wanted} exceeds both CT tables together ({tables}){where}; the agent {then}"
        level: Level = "warning" if lowered or not certain else "error"
        effective = cut if lowered and certain else None
        return [
            Finding(NAT, level, given, effective, f"{why}: raise {CT_TCP} or set at most {cut}")
        ]
    # Dynamic sizes are rounded one by one, which may put NAT one above two thirds
    if given is not None and certain and 3 * given > 2 * tables + 3:
        why = f"{NAT}: {given} is more than two thirds of both CT tables together ({tables})"
        told = f"{why}, the maximum by Cilium's documentation: set at most {cut}"
        return [Finding(NAT, "warning", given, given, told)]
    return []
