"""Sizes of BPF maps in entries: the agent's dynamic sizing, and what it says of explicit sizes.

Numbers are rows of facts/dynamic.csv and facts/options.csv; bytes are in map_memory.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import polars as pl

from capacity import facts
from capacity.errors import SettingsError

RATIO: Final = "bpf-map-dynamic-size-ratio"
CT_TCP: Final = "bpf-ct-global-tcp-max"
CT_ANY: Final = "bpf-ct-global-any-max"
NAT: Final = "bpf-nat-global-max"
NEIGH: Final = "bpf-neigh-global-max"
SOCK: Final = "bpf-sock-rev-map-max"
DISTRIBUTED: Final = "bpf-distributed-lru"
_DYNAMIC: Final = (CT_TCP, CT_ANY, NAT, NEIGH, SOCK)

# Releases that brought bpf-distributed-lru with `0 = dynamic` for the socket map, and rounding of
# explicit sizes: cilium/cilium-cli 6e65fa094 (2025-05-27) and eb3291189 (2026-01-13), vendored
# pkg/option/config.go and pkg/loadbalancer/config.go.
_DISTRIBUTED_SINCE: Final = (1, 18)
_ROUNDED_SINCE: Final = (1, 19)
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
_Release = tuple[int, int]
_Sizes = dict[str, int]
_Facts = Mapping[str, Mapping[str, Any]]


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


def dynamic_sizes(
    memory_bytes: int,
    ratio: float,
    *,
    version: str,
    explicit: Mapping[str, int] | None = None,
    possible_cpus: int = 1,
    element_sizes: Mapping[str, int] | None = None,
    distributed_lru: bool = False,
) -> dict[str, int]:
    """Sizes of the dynamically sized maps as an agent with this memory computes them.

    Parameters
    ----------
    memory_bytes
        MemTotal of the node; may be 0 where the ratio is. [byte]
    ratio
        Option ``bpf-map-dynamic-size-ratio``, 0…1; 0 switches dynamic sizing off. [1]
    version
        Cilium version, e.g. ``1.17``.
    explicit
        Options that are set, option → entries. A set option keeps its value, also where that is
        the default, and gives no memory back to the others. Options of maps that are not sized
        dynamically are left alone; `validate` judges them. [1]
    possible_cpus
        Possible CPUs of the node; matters with `distributed_lru` only. [1]
    element_sizes
        Bytes of key and value, option → bytes, in place of the facts. [byte]
    distributed_lru
        Option ``bpf-distributed-lru``, 1.18 and later.

    Returns
    -------
    dict of str to int
        Option → entries of one IP family's maps, before the agent's limit check. [1]

    Raises
    ------
    SettingsError
        If the memory, the ratio or the CPUs are out of bounds, or the agent would not start with
        such a distributed LRU.
    FactError
        If the version is not known.

    Notes
    -----
    With A = ⌊memory·ratio⌋ (the float product cut) and T = the bytes of all five maps at their
    default sizes, each map gets ⌊default·A / T⌋ entries, within its minimum and maximum. NAT that
    exceeds the CT maps together gets two thirds of them; the neighbor map gets what NAT got.
    A distributed LRU rounds results up to a multiple of the CPUs (maxima down), from 1.19 on
    also explicit sizes and a capped NAT. From 1.18 on ``bpf-sock-rev-map-max: 0`` means dynamic.
    Products of 2⁶³ and more, which wrap in the agent (A above 16 TiB), do not wrap here.

    References
    ----------
    .. [1] cilium/cilium pkg/option/config.go ``calculateDynamicBPFMapSizes``, b095517e62 (1.17dev),
       the same in 24143732b6 (1.14) to 1.17; 1.18 to 1.20: cilium/cilium-cli 011bd4acc, eb3291189,
       fc661364d, vendored pkg/option/config.go and pkg/loadbalancer/config.go.

    Examples
    --------
    >>> dynamic_sizes(32 << 30, 0.0025, version="1.17")["bpf-ct-global-tcp-max"]
    301401
    >>> sizes = dynamic_sizes(32 << 30, 0.0025, version="1.17", explicit={CT_TCP: 65536})
    >>> sizes["bpf-nat-global-max"], sizes["bpf-ct-global-any-max"]
    (144157, 150700)
    """
    release = _release(version)
    _check(memory_bytes, ratio, possible_cpus)
    if distributed_lru and (release < _DISTRIBUTED_SINCE or ratio == 0):
        why = f"the agent has it from 1.18 on and wants a ratio above 0; here {version}, {ratio:g}"
        raise SettingsError(f"{DISTRIBUTED}: {why}")
    known = _facts(version)
    given = {name: int(size) for name, size in (explicit or {}).items() if name in _DYNAMIC}
    if release >= _DISTRIBUTED_SINCE and given.get(SOCK) == 0:
        del given[SOCK]
    if ratio == 0:
        return {name: given.get(name, int(known[name]["default"])) for name in _DYNAMIC}
    cpus = possible_cpus if distributed_lru else 1
    total = sum(
        known[name]["default"] * (element_sizes or {}).get(name, known[name]["element_size"])
        for name in _DYNAMIC
    )
    sizes = _filled(given, known, int(float(memory_bytes) * ratio), total, cpus)
    if distributed_lru and release >= _ROUNDED_SINCE:
        sizes = {name: _aligned(size, cpus, known) for name, size in sizes.items()}
    return {name: sizes[name] for name in _DYNAMIC}


def _filled(given: Mapping[str, int], known: _Facts, free: int, total: int, cpus: int) -> _Sizes:
    """Sizes that are given, and for the others their share of the free bytes."""
    sizes = dict(given)
    for name in (CT_TCP, CT_ANY, NAT, SOCK):
        if name not in given:
            sizes[name] = _share(known[name], free, total, cpus)
    tables = sizes[CT_TCP] + sizes[CT_ANY]
    if NAT not in given and sizes[NAT] > tables:
        sizes[NAT] = tables * 2 // 3
    sizes.setdefault(NEIGH, sizes[NAT])
    return sizes


def _share(fact: Mapping[str, Any], free: int, total: int, cpus: int) -> int:
    entries = _up(fact["default"] * free // total, cpus)
    if entries < fact["minimum"]:
        return _up(fact["minimum"], cpus)
    return fact["maximum"] // cpus * cpus if entries > fact["maximum"] else entries


def _aligned(size: int, cpus: int, known: _Facts) -> int:
    """Size as the kernel makes it of a distributed LRU, capped by the agent."""
    most = known[NAT]["maximum"] // cpus * cpus
    return size if size <= 0 else min(_up(size, cpus), most)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _check(memory: int, ratio: float, cpus: int) -> None:
    if not 0 <= ratio <= 1:
        raise SettingsError(f"{RATIO}: {ratio!r} is out of bounds; wanted 0 (off) to 1")
    if memory < 0 or (memory == 0 and ratio > 0):
        raise SettingsError(f"memory: {memory} bytes; wanted the MemTotal of a node, above 0")
    if cpus < 1:
        raise SettingsError(f"possible CPUs: {cpus}; wanted 1 or more")


def _release(version: str) -> _Release:
    major, minor = facts.minor(version).split(".")
    return int(major), int(minor)


@cache
def _facts(version: str) -> _Facts:
    return {row["option"]: row for row in facts.dynamic(version).iter_rows(named=True)}


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
    release = _release(version)
    known = _facts(version)
    ratio, findings = _ratio(options, version)
    _check(1 if memory_bytes is None else memory_bytes, ratio or 0.0, possible_cpus)
    numbers, faults = _numbers(options, version)
    findings += faults + _unknown(options, version)
    distributed = str(options.get(DISTRIBUTED, "")).lower() in _TRUE
    if distributed and release >= _DISTRIBUTED_SINCE:
        numbers, faults = _rounded(numbers, options, ratio, version, possible_cpus)
        findings += faults
    findings += _limits(numbers, options, version)
    findings += _switched_off(numbers, options, ratio, known)
    sizes: _Sizes | None = None
    if ratio == 0 or (ratio is not None and memory_bytes is not None):
        sizes = dynamic_sizes(
            memory_bytes or 0, ratio, version=version, explicit=numbers,
            possible_cpus=possible_cpus,
            distributed_lru=distributed and ratio > 0 and release >= _DISTRIBUTED_SINCE,
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


def _numbers(options: Mapping[str, _Value], version: str) -> tuple[_Sizes, list[Finding]]:
    """Sizes that are set, as integers, and findings for those that are none."""
    numbers: _Sizes = {}
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
    checked = {name: (row["limit_min"], row["limit_max"]) for name, row in _facts(version).items()}
    return {name: (least, most) for name, least, most in bounds} | checked


def _limits(numbers: _Sizes, options: Mapping[str, _Value], version: str) -> list[Finding]:
    findings = []
    bounds = _bounds(version)
    release = _release(version)
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
    numbers: _Sizes, options: Mapping[str, _Value], ratio: float | None, known: _Facts
) -> list[Finding]:
    told = "is the default, but as it is set, this map is not sized dynamically: leave it out"
    return [
        Finding(name, "info", options[name], number, f"{name}: {number} {told} to follow {RATIO}")
        for name, number in numbers.items()
        if ratio and name in _DYNAMIC and number == known[name]["default"]
    ]


def _rounded(
    numbers: _Sizes,
    options: Mapping[str, _Value],
    ratio: float | None,
    version: str,
    cpus: int,
) -> tuple[_Sizes, list[Finding]]:
    """Sizes of distributed LRU maps as the agent takes them, and what there is to say to that."""
    if not ratio:
        told = f"{DISTRIBUTED}: the agent refuses to start without {RATIO} above 0: set 0.0025"
        return numbers, [Finding(DISTRIBUTED, "error", options[DISTRIBUTED], None, told)]
    rounds = _release(version) >= _ROUNDED_SINCE
    known = _facts(version)
    out, findings = dict(numbers), []
    for name, number in numbers.items():
        if name not in _DYNAMIC:
            continue
        size = _aligned(number, cpus, known) if rounds else _up(number, cpus)
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
    numbers: _Sizes, known: _Facts, ratio: float | None, memory: int | None, version: str
) -> int | None:
    """NAT entries before they are held against the CT tables; the least where memory is unknown."""
    if NAT in numbers or ratio is None:
        return numbers.get(NAT)
    if ratio == 0:
        return int(known[NAT]["default"])
    if memory is None:
        return int(known[NAT]["minimum"])
    return dynamic_sizes(memory, ratio, version=version)[NAT]


def _nat(wanted: int, numbers: _Sizes, sizes: _Sizes | None, known: _Facts) -> list[Finding]:
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
