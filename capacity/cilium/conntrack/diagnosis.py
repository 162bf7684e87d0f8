"""What failed insertions into the conntrack map mean: a full map, or a lock of the kernel."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

from capacity.errors import SettingsError

# Kernels in which an update of a hash map fails with EBUSY while the same CPU holds a bucket's
# lock: from 5.11 (map_locked in kernel/bpf/hashtab.c, torvalds/linux 20b6cc34ea74) until 6.15
# (rqspinlock, 4fa8d68aa53e); cilium/cilium issues 35010, 47293, 33074
_LOCKED: Final = ((5, 11), (6, 15))
# Above this an LRU map is as good as full, below the other one it is nowhere near
_FULL: Final = 0.9
_EMPTY: Final = 0.5
_ISSUES: Final = "cilium/cilium issues 35010 and 47293"

Cause = Literal["none", "kernel_lock_contention", "map_full", "unknown"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why insertions fail, whether a larger map helps, one sentence, and where to read on."""

    finding: Cause
    recommend_resize: bool
    sentence: str
    pointer: str | None


def diagnose(
    drop_rate: float,
    *,
    pressure: float | None,
    kernel: str | None = None,
    coincides_with_collection: bool | None = None,
) -> Diagnosis:
    """Tell why packets are dropped with reason ``CT: Map insertion failed``.

    Parameters
    ----------
    drop_rate
        Such drops. [1/s]
    pressure
        Largest cilium_bpf_map_pressure of the node's ct maps, 0…1; None where no series is there.
    kernel
        Release of the node's kernel, as ``uname -r`` prints it.
    coincides_with_collection
        Whether the drops come with collections (cilium_datapath_conntrack_gc_runs_total).

    Returns
    -------
    Diagnosis
        The finding, in words why, and what to do.

    Raises
    ------
    SettingsError
        If a number is none that a node can have, or the release cannot be read.

    Examples
    --------
    >>> diagnose(12, pressure=0.03, kernel="5.14", coincides_with_collection=True).finding
    'kernel_lock_contention'
    """
    if not 0 <= drop_rate < math.inf:
        raise SettingsError(f"drops: {drop_rate:g} a second; wanted 0 or more")
    if pressure is not None and not 0 <= pressure <= 1:
        raise SettingsError(f"pressure: {pressure:g}; wanted 0…1, as cilium_bpf_map_pressure is")
    if kernel is not None and _release(kernel) is None:
        raise SettingsError(f"kernel {kernel!r} is not a release; write for example 6.18")
    if drop_rate == 0:
        return Diagnosis("none", False, "No insertion into a conntrack map fails.", None)
    told = f"{drop_rate:,.3g} insertions/s into conntrack maps fail"
    if pressure is not None and pressure >= _FULL:
        return Diagnosis(
            "map_full", True, f"{told} and the map is {pressure:.0%} full: raise bpf.ctTcpMax or "
            "bpf.ctAnyMax, or shorten what fills it.", "bpf.ctTcpMax",
        )  # fmt: skip
    if pressure is not None and pressure < _EMPTY and _locks(kernel):
        when = " at collections" if coincides_with_collection else ""
        return Diagnosis(
            "kernel_lock_contention", False,
            f"{told}{when} although the map is {pressure:.0%} full: kernels from 5.11 to 6.14 "
            f"refuse an update while its bucket is locked. A larger map does not help ({_ISSUES}).",
            "kernel>=6.15",
        )  # fmt: skip
    what = "its fill is not known" if pressure is None else f"the map is {pressure:.0%} full"
    return Diagnosis(
        "unknown", False,
        f"{told}; {what}{_of(kernel)}: tell full maps from locked ones first ({_ISSUES}).", None,
    )  # fmt: skip


def _locks(kernel: str | None) -> bool:
    release = _release(kernel)
    return release is not None and _LOCKED[0] <= release < _LOCKED[1]


def _release(kernel: str | None) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", kernel or "")
    return (int(found[1]), int(found[2])) if found else None


def _of(kernel: str | None) -> str:
    return "" if _release(kernel) is None else f", kernel {kernel}"
