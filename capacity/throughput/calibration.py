"""The calibration file: what `capacity measure lb` measured on a machine, as JSON."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from capacity.errors import CalibrationError, SchemaError
from capacity.tables import Column, Table, check

SCHEMA: Final = "capacity.lb-calibration/1"
_MOST_BYTES: Final = 16 << 20

TIMINGS: Final = Table(
    "lb_timings",
    "one shape of the measured load balancer, or of one map",
    (
        Column("hook", pl.String, "", "xdp or tc"),
        Column("stage", pl.String, "", "base, service, ct, snat, reply, dsr, tunnel, op_*"),
        Column("services", pl.Int64, "1", "services"),
        Column("backends", pl.Int64, "1", "backends of each service"),
        Column("maglev", pl.Int64, "entries", "Maglev table of a service"),
        Column("ct_entries", pl.Int64, "entries", "size of CT and NAT maps, or of the one map"),
        Column("map_type", pl.String, "", "kind of the CT map, or of the one map"),
        Column("common_lru", pl.Boolean, "", "one LRU list for all CPUs"),
        Column("flows", pl.Int64, "1", "connections of a CPU"),
        Column("is_new", pl.Boolean, "", "every packet opens a connection"),
        Column("cores", pl.Int64, "1", "CPUs that ran at once"),
        Column("nanoseconds", pl.Float64, "ns", "median time of a packet or map operation"),
        Column("low", pl.Float64, "ns", "fastest quiet repetition"),
        Column("high", pl.Float64, "ns", "slowest quiet repetition"),
        Column("wall_over_kernel", pl.Float64, "1", "median wall time by kernel time"),
        Column("awake_over_kernel", pl.Float64, "1", "median time awake by kernel time"),
        Column("quiet", pl.Int64, "1", "repetitions that nobody disturbed"),
        Column("disturbed", pl.Int64, "1", "repetitions left out"),
    ),
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Measured costs of one machine.

    Attributes
    ----------
    timings : DataFrame
        Table `TIMINGS`.
    machine : dict
        CPU, kernel, CPUs, date, version of the program.
    scaling : str
        How cores scale, or why that could not be told.
    """

    timings: pl.DataFrame
    machine: dict[str, Any]
    scaling: str


def write(calibration: Calibration, path: Path) -> None:
    """Write the file whole or not at all."""
    content = json.dumps(
        {
            "schema": SCHEMA,
            "machine": calibration.machine,
            "scaling": calibration.scaling,
            "timings": calibration.timings.to_dicts(),
        },
        indent=1,
    )
    try:
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be written: {error.strerror}") from error
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(content + "\n")
    Path(name).chmod(0o644)
    Path(name).replace(path)


def read(path: Path) -> Calibration:
    """Read a calibration file.

    Raises
    ------
    CalibrationError
        If it cannot be read, is of another schema, or lacks what a tier needs.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise CalibrationError(f"{path}: {size:,} bytes are too many for a calibration file")
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"{path}: is no JSON: {error}") from error
    found = held.get("schema") if isinstance(held, dict) else None
    if found != SCHEMA:
        msg = f"{path}: schema {found!r}, wanted {SCHEMA!r}; make it by capacity measure lb --out"
        raise CalibrationError(msg)
    try:
        frame = pl.DataFrame(held["timings"], schema=TIMINGS.schema)
        timings = check(frame, TIMINGS)
        machine, scaling = dict(held["machine"]), str(held["scaling"])
    except (KeyError, TypeError, ValueError, SchemaError, pl.exceptions.PolarsError) as error:
        raise CalibrationError(f"{path}: not the table of a calibration: {error}") from error
    numbers = timings.select("nanoseconds", "low", "high", "cores", "flows")
    if timings.is_empty() or (numbers.min_horizontal() <= 0).any():
        raise CalibrationError(f"{path}: has no timings, or one of 0 or less")
    if numbers.max_horizontal().is_infinite().any():
        raise CalibrationError(f"{path}: has an infinite timing")
    return Calibration(timings, machine, scaling)
