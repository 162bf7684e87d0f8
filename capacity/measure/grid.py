"""What `capacity measure lb` measures: stages, services, backends, CT sizes, cores, map operations.

Every row is made from repetitions that nobody disturbed; where there are too few, nothing is told.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.errors import MeasureError, ModelError
from capacity.measure import loader
from capacity.measure.bpf import require
from capacity.measure.shapes import MOST_FLOWS, Shape
from capacity.measure.timing import Timing, allowed_cpus, name_of_cpu, time_shape
from capacity.models.usl import choose
from capacity.tables import check
from capacity.throughput.calibration import TIMINGS, Calibration

LEAST_CORES: Final = 4
_STAGES: Final = ("base", "service", "ct", "snat", "reply")
_CONNECTIONS: Final = 1000


@dataclass(frozen=True, slots=True)
class MeasureSettings:
    """What to measure; sizes above the defaults take longer and more memory.

    Attributes
    ----------
    services, backends, ct : tuple of int
        Values that each is varied over while the others stay at their first value.
    repeats : int
        Quiet repetitions of each row. [1]
    seconds : float
        Aim of one repetition. [s]
    patience : float
        How long to wait for undisturbed repetitions of a row. [s]
    """

    services: tuple[int, ...] = (100, 1000, 5000)
    backends: tuple[int, ...] = (10, 100)
    ct: tuple[int, ...] = (65_536, 524_288)
    repeats: int = 5
    seconds: float = 0.03
    patience: float = 2.0

    def __post_init__(self) -> None:
        faults = [
            f"{name}: {value} is not 1 or more"
            for name in ("services", "backends", "ct")
            for value in getattr(self, name)
            if value < 1
        ]
        if not (self.services and self.backends and self.ct):
            faults.append("services, backends and ct need a value each")
        if not 1 <= self.repeats <= 1000 or not 0.001 <= self.seconds <= 10:
            faults.append("repeats is 1…1000 and seconds 0.001…10")
        if not 0 <= self.patience <= 3600:
            faults.append(f"patience: {self.patience} is outside 0…3600")
        if faults:
            raise MeasureError("; ".join(faults))


def shapes(settings: MeasureSettings) -> list[Shape]:
    """Give the grid on one core, each shape once; a shape's flows fill 60 % of its CT map."""
    first = Shape(
        "xdp/base", settings.services[0], settings.backends[0], ct_entries=settings.ct[0],
        flows=_CONNECTIONS,
    )  # fmt: skip
    out = [replace(first, program=f"{hook}/{stage}") for hook in ("xdp", "tc") for stage in _STAGES]
    out += [replace(first, program=f"xdp/{stage}") for stage in ("dsr", "tunnel")]
    for entries in settings.ct:
        full = replace(first, ct_entries=entries, flows=max(1, entries * 6 // 10))
        new = replace(first, ct_entries=entries, flows=MOST_FLOWS)
        # Source NAT makes two entries of a connection in each of its maps
        half = replace(full, flows=max(1, entries * 3 // 10))
        out += [replace(full, program=f"xdp/{stage}") for stage in ("ct", "reply")]
        out.append(replace(half, program="xdp/snat"))
        out += [replace(new, program=f"xdp/{stage}") for stage in ("ct", "snat")]
        out.append(replace(new, program="xdp/ct", common_lru=False))
        out += list(_operations(entries))
    for services in settings.services:
        out.append(replace(first, program="xdp/service", services=services, flows=MOST_FLOWS))
    for backends in settings.backends:
        out.append(replace(first, program="xdp/ct", backends=backends, flows=10_000))
    return list(dict.fromkeys(out))


def _operations(entries: int) -> Iterator[Shape]:
    """Map operations alone: hits at 60 %, updates of held keys, and new keys in a full LRU."""
    held = max(1, entries * 6 // 10)
    yield Shape("xdp/op_none", ct_entries=entries, flows=held)
    for kind in ("hash", "lru_hash"):
        yield Shape("xdp/op_lookup", ct_entries=entries, flows=held, op_kind=kind)
        yield Shape("xdp/op_update", ct_entries=entries, flows=held, op_kind=kind)
    yield Shape("xdp/op_update", ct_entries=entries, flows=MOST_FLOWS)


def measure(
    settings: MeasureSettings,
    *,
    now: datetime | None = None,
    progress: Callable[[str, float], None] = lambda name, share: None,
    cpus: Sequence[int] | None = None,
) -> Calibration:
    """Measure this machine.

    Parameters
    ----------
    settings
        The grid.
    now
        Date told in the file; the clock's where None.
    progress
        Told the name of each shape and the share done.
    cpus
        CPUs to use; all that this process may use where None. One core runs on the last.

    Returns
    -------
    Calibration

    Raises
    ------
    MeasureError
        If the machine, kernel or user cannot, or other work disturbed too many repetitions on one
        CPU. Rows of several CPUs that were disturbed are left out, and `scaling` says so.
    """
    require()
    usable = list(cpus) if cpus is not None else allowed_cpus()
    code = loader.programs(loader.shipped())
    one = shapes(settings)
    counts = core_counts(len(usable))
    wanted = [(shape, usable[-1:]) for shape in one]
    wanted += [
        (shape, usable[-count:]) for count in counts for shape in _scaled(settings) if count > 1
    ]
    rows, disturbed = [], []
    for number, (shape, chosen) in enumerate(wanted):
        progress(f"{shape.program} on {len(chosen)} core(s)", number / len(wanted))
        timing = time_shape(
            shape, code, chosen,
            repeats=settings.repeats, seconds=settings.seconds, patience=settings.patience,
        )  # fmt: skip
        try:
            rows.append(_row(timing, settings.repeats))
        except MeasureError as error:
            if len(chosen) == 1:
                raise
            disturbed.append(f"{len(chosen)} CPUs: {error}")
    timings = check(pl.DataFrame(rows, schema=TIMINGS.schema), TIMINGS)
    scaling = "; ".join([_scaling(timings, len(usable)), *disturbed])
    return Calibration(timings, _machine(len(usable), now), scaling)


def _scaled(settings: MeasureSettings) -> list[Shape]:
    """Shapes that run on several cores: warm connections, and new ones."""
    first = Shape(
        "xdp/snat", settings.services[0], settings.backends[0], ct_entries=settings.ct[-1],
        flows=_CONNECTIONS,
    )  # fmt: skip
    return [replace(first, program="xdp/ct"), first, replace(first, flows=MOST_FLOWS)]


def core_counts(cpus: int) -> list[int]:
    """One, two, then powers of two up to all."""
    return sorted({c for c in (1, 2, 4, 8, 16, 32, 64, 128) if c <= cpus} | {cpus})


def _row(timing: Timing, repeats: int) -> dict[str, Any]:
    quiet, shape = timing.quiet, timing.shape
    disturbed = len(timing.repetitions) - len(quiet)
    if len(quiet) < repeats:
        worst = max(timing.repetitions, key=lambda r: r.waiting)
        msg = (
            f"other work disturbed {disturbed} of {len(timing.repetitions)} repetitions of "
            f"{shape.program} on CPU {', '.join(map(str, timing.cpus))} (a thread waited up to "
            f"{worst.waiting:.0%} of its time for its CPU; {worst.stolen:.2f} s went to the "
            "hypervisor): nothing is told; stop what runs beside, name quiet CPUs by --cpu, or "
            "give more --patience"
        )
        raise MeasureError(msg)
    times = [r.nanoseconds for r in quiet]
    hook, _, stage = shape.program.partition("/")
    return {
        "hook": hook, "stage": stage, "services": shape.services, "backends": shape.backends,
        "maglev": shape.maglev, "ct_entries": shape.ct_entries,
        "map_type": shape.op_kind if shape.is_operation else "lru_hash",
        "common_lru": shape.common_lru, "flows": shape.flows,
        "is_new": shape.flows > shape.ct_entries, "cores": len(timing.cpus),
        "nanoseconds": float(statistics.median(times)), "low": float(min(times)),
        "high": float(max(times)),
        "wall_over_kernel": statistics.median(r.wall_over_kernel for r in quiet),
        "awake_over_kernel": statistics.median(r.awake_over_kernel for r in quiet),
        "quiet": len(quiet), "disturbed": disturbed,
    }  # fmt: skip


def _machine(cpus: int, now: datetime | None) -> dict[str, Any]:
    return {
        "cpu": name_of_cpu(), "architecture": platform.machine(), "cpus": cpus,
        "kernel": platform.release(), "capacity": version("cilium-capacity"),
        "date": (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }  # fmt: skip


def _scaling(timings: pl.DataFrame, cpus: int) -> str:
    """Tell how cores scale, or why it cannot be told."""
    if cpus < LEAST_CORES:
        return (
            f"not fitted: {cpus} CPUs; a law of scaling needs measurements on at least "
            f"{LEAST_CORES} quiet cores"
        )
    rows = timings.filter(
        (pl.col("stage") == "snat") & ~pl.col("is_new") & (pl.col("flows") == _CONNECTIONS)
        & (pl.col("hook") == "xdp")
    )  # fmt: skip
    cores = rows["cores"].to_numpy().astype(float)
    rate = cores / rows["nanoseconds"].to_numpy() * 1e9
    try:
        return choose(np.asarray(cores), rate).sentence()
    except ModelError as error:
        return f"not fitted: {error}"
