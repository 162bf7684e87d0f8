"""What a packet costs a core: driver, program and maps, encryption; by path, flows and hook.

Rows of facts (lb_costs.csv) give devices and encryption; a calibration gives programs and maps.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.errors import CalibrationError
from capacity.facts import lb
from capacity.throughput.calibration import Calibration, read

Array = npt.NDArray[np.float64]

# 5 and 95 % bounds of a cost measured elsewhere, as factors: a judgment. Katran's published 194 ns
# a packet on another machine lie 12 % from what the shipped rows give (docs/throughput.md).
ELSEWHERE: Final = 1.3
# Bounds of a cost seen in production, which holds for the traffic of then: a judgment
SEEN_SPREAD: Final = 0.2
_Z95: Final = 1.645


@dataclass(frozen=True, slots=True)
class Cost:
    """Time of a core for a packet: middle, and 5 and 95 % bounds. [ns]."""

    middle: float
    low: float
    high: float

    def __add__(self, other: Cost) -> Cost:
        """Add costs that may be wrong together: bounds add."""
        return Cost(self.middle + other.middle, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Cost:
        """Give a multiple."""
        return Cost(self.middle * factor, self.low * factor, self.high * factor)

    def draw(self, z: Array) -> Array:
        """Give draws for standard normal `z`: log-normal on each side of the middle."""
        if self.middle <= 0:
            return np.zeros_like(z)
        up = np.log(max(self.high / self.middle, 1.0)) / _Z95
        down = np.log(max(self.middle / max(self.low, 1e-9), 1.0)) / _Z95
        return np.asarray(self.middle * np.exp(np.where(z > 0, up, down) * z), float)


NOTHING: Final = Cost(0.0, 0.0, 0.0)


@cache
def reference() -> Calibration:
    """Give the calibration that ships: one machine of ours, told in its field `machine`."""
    with as_file(files("capacity.throughput").joinpath("reference.json")) as path:
        return read(path)


@cache
def fact(part: str, path: str) -> Cost:
    """Give one row of lb_costs.csv. [ns]."""
    row = lb.costs().row(
        by_predicate=(pl.col("part") == part) & (pl.col("path") == path), named=True
    )
    return Cost(row["nanoseconds"], row["low"], row["high"])


def program(
    calibration: Calibration, hook: str, stage: str, flows: float, *, spread: float = 1.0
) -> Cost:
    """Give the cost of a program's stage on a packet of a known connection, harness taken off.

    Parameters
    ----------
    calibration
        Measured timings.
    hook, stage
        xdp or tc; service, ct, snat, reply, dsr, tunnel.
    flows
        Connections whose entries a core walks through: more miss the caches more often. Between
        measured counts the cost goes with the logarithm of the flows; beyond them it stays. [1]
    spread
        Factor by which bounds are widened, for a calibration of another machine.

    Raises
    ------
    CalibrationError
        If the stage or its base was not measured.
    """
    rows = calibration.timings.filter(
        (pl.col("stage") == stage) & ~pl.col("is_new") & (pl.col("cores") == 1)
        & (pl.col("services") == _first(calibration, "services"))
        & (pl.col("backends") == _first(calibration, "backends"))
    )  # fmt: skip
    # Walking through many flows was measured on XDP only: maps are the same ones
    own = rows.filter(pl.col("hook") == hook)
    rows = rows.filter(pl.col("hook") == ("xdp" if len(own) < len(rows) - len(own) else hook))
    if rows.is_empty():
        raise CalibrationError(f"the calibration has no row of stage {stage}; measure again")
    used_hook = rows["hook"][0]
    points = rows.group_by("flows").agg(pl.col("nanoseconds", "low", "high").mean()).sort("flows")
    at = np.log(points["flows"].to_numpy())
    base = _base(calibration, used_hook)
    told = [
        max(float(np.interp(np.log(max(flows, 1.0)), at, points[name].to_numpy())) - base, 1.0)
        for name in ("nanoseconds", "low", "high")
    ]
    if len(points) == 1 and stage not in ("ct", "service"):
        # Measured with few connections only: what more of them cost is the CT map's part
        few, many = (
            program(calibration, hook, "ct", n).middle for n in (points["flows"][0], flows)
        )
        told = [one + max(many - few, 0.0) for one in told]
    return Cost(told[0], told[1] / spread, told[2] * spread)


def _first(calibration: Calibration, column: str) -> int:
    return int(calibration.timings.filter(pl.col("stage") == "base")[column][0])


def _base(calibration: Calibration, hook: str) -> float:
    rows = calibration.timings.filter((pl.col("stage") == "base") & (pl.col("hook") == hook))
    if rows.is_empty():
        raise CalibrationError(f"the calibration has no row of stage base on {hook}; measure again")
    return float(rows["nanoseconds"].min())  # type: ignore[arg-type]


def opening(calibration: Calibration, stage: str, services: int, *, spread: float = 1.0) -> Cost:
    """Give what the first packet of a connection costs in all: entries made, Maglev asked.

    The difference between few and `services` services is that of stage `service`, where every
    packet asks another service's table.

    Raises
    ------
    CalibrationError
        If new connections were not measured.
    """
    new = calibration.timings.filter(
        pl.col("is_new"), pl.col("common_lru"), pl.col("cores") == 1, hook="xdp"
    )
    rows = new.filter(pl.col("stage") == stage)
    if rows.is_empty():
        raise CalibrationError(f"the calibration has no new connections of {stage}; measure again")
    tables = new.filter(pl.col("stage") == "service").sort("services")
    base = _base(calibration, "xdp")
    extra = 0.0
    if len(tables) > 1:
        at, told = np.log(tables["services"].to_numpy()), tables["nanoseconds"].to_numpy()
        extra = max(float(np.interp(np.log(max(services, 1)), at, told) - told[0]), 0.0)
    middle = float(rows["nanoseconds"].mean()) - base + extra  # type: ignore[arg-type]
    low = float(rows["low"].min()) - base + extra  # type: ignore[arg-type]
    high = float(rows["high"].max()) - base + extra  # type: ignore[arg-type]
    return Cost(middle, low / spread, high * spread)


@dataclass(frozen=True, slots=True)
class Passes:
    """Cost of each kind of pass of a packet through a node, and which hook it takes. [ns].

    Attributes
    ----------
    forward : Cost
        From a client to a backend on another node, source NAT or DSR.
    opened : Cost
        What the first packet of a connection costs beyond `forward`.
    reply : Cost
        The way back of source NAT.
    deliver : Cost
        Into a pod of this node, or out of it.
    encrypt, decrypt : Cost
        Of a packet between nodes.
    hook : str
        xdp or tc: which packets do not need an skb.
    """

    forward: Cost
    opened: Cost
    reply: Cost
    deliver: Cost
    encrypt: Cost
    decrypt: Cost
    hook: str


def passes(
    calibration: Calibration | None,
    *,
    mode: str,
    xdp: str,
    tunnel: bool,
    encryption: str,
    flows: float,
    services: int,
) -> Passes:
    """Give the costs of all passes of a node.

    Generic XDP runs after the kernel made an skb: it saves nothing of the driver's part, and is
    taken as tc is. IPIP and Geneve count as stage tunnel, DSR by an IP option as stage dsr.
    """
    spread = ELSEWHERE if calibration is None else 1.0
    held = calibration or reference()
    hook = "xdp" if xdp == "native" else "tc"
    driver = fact("driver", hook)
    stage = "snat" if mode == "snat" else "tunnel" if tunnel else "dsr"
    forward = program(held, hook, stage, flows, spread=spread)
    if mode == "snat" and tunnel:
        added = program(held, "xdp", "tunnel", 1000, spread=spread)
        plain = program(held, "xdp", "ct", 1000, spread=spread)
        forward = forward + _difference(added, plain)
    new = opening(held, "snat" if mode == "snat" else "ct", services, spread=spread)
    crypt = [
        NOTHING if encryption == "none" else fact(part, encryption)
        for part in ("encrypt", "decrypt")
    ]
    return Passes(
        driver + forward,
        _difference(new, program(held, hook, "snat" if mode == "snat" else "ct", flows)),
        driver + program(held, hook, "reply", flows, spread=spread),
        fact("driver", "tc") + program(held, "tc", "ct", flows, spread=spread),
        crypt[0], crypt[1], hook,
    )  # fmt: skip


def seen(nanoseconds: float, encryption: str) -> Passes:
    """Give passes that all cost what was seen in production; only encryption comes on top."""
    one = Cost(nanoseconds, nanoseconds * (1 - SEEN_SPREAD), nanoseconds * (1 + SEEN_SPREAD))
    crypt = [
        NOTHING if encryption == "none" else fact(part, encryption)
        for part in ("encrypt", "decrypt")
    ]
    return Passes(one, NOTHING, one, one, crypt[0], crypt[1], "xdp")


def _difference(more: Cost, less: Cost) -> Cost:
    middle = max(more.middle - less.middle, 0.0)
    return Cost(
        middle, min(middle, max(more.low - less.middle, 0.0)), max(more.high - less.middle, middle)
    )


def machine_of(calibration: Calibration | None) -> str:
    """Say whose costs these are."""
    held = (calibration or reference()).machine
    told = f"{held.get('cpu', 'a CPU')}, Linux {held.get('kernel', 'not told')}"
    if calibration is None:
        return (
            f"costs of programs were measured on another machine ({told}); bounds are widened "
            f"by {ELSEWHERE:g}: measure yours by capacity measure lb --out FILE, and give "
            "--calibration FILE"
        )
    return f"costs of programs: {told}; {json.dumps(calibration.scaling)[1:-1]}"
