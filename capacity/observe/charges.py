"""Memory of an agent's pod as the worst one has it: charged for the BPF maps of its node.

The kernel charges a map to the pod that makes it: the first agent after boot. Agents that start
later find the maps pinned, so that working sets of equal agents differ by the bytes of the maps.
After the next boot of its node every agent is a first one: a limit must hold that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.observe.derived import derived, renumbered

Array = npt.NDArray[np.float64]
Told = tuple[pl.DataFrame, pl.DataFrame]

# What told whether a pod is charged: subject of quantity map_charge
BY_BOOT: Final = "start of agent and node"
BY_LEVEL: Final = "two levels of memory"
BY_HEIGHT: Final = "level of memory"
ASSUMED: Final = "assumed"
# An agent that starts so soon after its node found no maps. [s]
_AFTER_BOOT: Final = 900.0
# Starts so close to each other are one. [s]
_JITTER: Final = 30.0
# Two levels are two where they lie so many (pooled) standard deviations apart: a normal or an even
# distribution that is cut in two comes to 2.7 and 3.5. K. M. Ashman, C. M. Bird, S. E. Zepf,
# Detecting bimodality in astronomical datasets, Astronomical Journal 108 (1994), equation 16
_APART: Final = 5.0
_MAD: Final = 1.4826
# Levels are those of maps where they lie within this multiple of what the agent reports
_LIKELY: Final = (0.5, 3.0)
# Where nothing is reported, one odd agent is no evidence
_ENOUGH: Final = 3
# Share of the maps' bytes beyond resident memory from which the level alone tells a first pod:
# resident memory counts the agent's program, which the pod may not be charged for
_HIGH: Final = 0.75
_NODE: Final = ["cluster", "node"]
_WIDE: Final = ("memory_working_set", "memory_rss", "memory_bpf_maps", "start_time", "boot_time")


def agent_memory(rows: pl.DataFrame, targets: pl.DataFrame) -> Told:
    """Derive `memory` of agents from working sets: each as if it were charged for its maps.

    Parameters
    ----------
    rows
        Columns time, target, value.
    targets
        Columns cluster, node, component, subject, quantity, series, target.

    Returns
    -------
    rows, targets
        With `memory`, `map_charge` (1: the pod is charged; the subject says what told) and, where
        both kinds of pods were seen, `memory_maps_seen` (how far they lie apart). [byte]
    """
    wide = _wide(rows, targets.filter(pl.col("component") == "agent"))
    if wide.is_empty():
        return rows, targets
    judged = pl.concat(
        [_judged(part) for part in wide.partition_by("cluster", maintain_order=True)]
    )
    made = (
        ("memory", judged.with_columns(value="memory", subject=pl.lit(None, pl.String))),
        ("map_charge", judged.with_columns(value=pl.col("charged").cast(pl.Float64),
                                           subject="evidence")),
        ("memory_maps_seen", _seen(judged)),
    )  # fmt: skip
    for quantity, told in made:
        keys = [*_NODE, "subject"]
        new = told.select(keys).unique().sort(keys, nulls_last=True)
        new = renumbered(new, targets).with_columns(
            component=pl.lit("agent"), quantity=pl.lit(quantity), series=pl.lit(_SERIES)
        )
        numbers = new.select(*keys, "target")
        told = told.join(numbers, on=keys, nulls_equal=True)  # noqa: PLW2901
        rows, targets = derived(rows, targets, told, new)
    return rows, targets


_SERIES: Final = "container_memory_working_set_bytes"


def _wide(rows: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """Give a row an agent and step: what is known of its memory and its start."""
    wanted = own.filter(pl.col("quantity").is_in(_WIDE)).select("target", *_NODE, "quantity")
    picked = [pl.col("value").filter(pl.col("quantity") == name).max().alias(name)
              for name in _WIDE]  # fmt: skip
    wide = rows.join(wanted, on="target").group_by("time", *_NODE).agg(picked)
    held = ("memory_bpf_maps", "start_time", "boot_time")
    usual = pl.col("memory_bpf_maps").median().over("time", "cluster")
    # Of the clock, not of the process: starts differ by parts of a second from scrape to scrape
    is_begun = pl.col("start_time").diff().over(_NODE).abs() > _JITTER
    return (
        wide.sort(*_NODE, "time", nulls_last=True)
        .with_columns(pl.col(held).forward_fill().over(_NODE))
        .drop_nulls("memory_working_set")
        .with_columns(maps=pl.coalesce("memory_bpf_maps", usual))
        .with_columns(life=is_begun.fill_null(value=False).cum_sum())
    )


def _judged(agents: pl.DataFrame) -> pl.DataFrame:
    """Say of each agent of a cluster at each step whether it is charged; add what it lacks."""
    told = agents.with_columns(
        level=_level(agents), by_boot=pl.col("start_time") - pl.col("boot_time") <= _AFTER_BOOT
    )
    unit = pl.col("maps") if told["maps"].null_count() == 0 else pl.lit(1.0)
    told = told.with_columns(share=pl.col("level") / unit)
    split = _split(told, has_maps=told["maps"].null_count() == 0)
    above = pl.lit(None, pl.Boolean) if split is None else pl.col("share") >= split
    middle = told["share"].median()
    is_high = told["maps"].null_count() == 0 and isinstance(middle, float) and middle >= _HIGH
    height = pl.lit(True if split is None and is_high else None, pl.Boolean)  # noqa: FBT003
    told = told.with_columns(
        charged=pl.coalesce("by_boot", above, height, pl.lit(False)),  # noqa: FBT003
        evidence=pl.when(pl.col("by_boot").is_not_null()).then(pl.lit(BY_BOOT))
        .when(above.is_not_null()).then(pl.lit(BY_LEVEL))
        .when(height.is_not_null()).then(pl.lit(BY_HEIGHT))
        .otherwise(pl.lit(ASSUMED)),
    )  # fmt: skip
    lacking = _lacking(told)
    return told.with_columns(
        seen=lacking.seen,
        memory=pl.col("memory_working_set")
        + pl.when(pl.col("charged")).then(0.0).otherwise(lacking.bytes),
    )


def all_charged(steps: pl.DataFrame) -> bool:
    """Say whether agents are known to be charged for their maps, but for a few at most.

    Then working sets hold what the kernel charges, more than agents report included.

    Parameters
    ----------
    steps
        Table steps of one cluster.
    """
    told = steps.filter(component="agent", quantity="map_charge")
    newest = told.filter(pl.col("time") == pl.col("time").max())
    agents = float(newest["nodes"].sum())
    known = newest.filter(pl.col("subject") != ASSUMED)
    charged = float((known["nodes"] * known["mean"]).sum())
    return charged >= _ENOUGH and agents - charged < _ENOUGH - 0.5


def _level(agents: pl.DataFrame) -> pl.Expr:
    """Give the bytes beyond resident memory: of a life of the agent, else of five steps."""
    beyond = pl.col("memory_working_set") - pl.col("memory_rss")
    if agents["start_time"].null_count() == 0:
        return beyond.median().over(*_NODE, "life")
    return beyond.rolling_median(5, min_samples=1).over(_NODE)


@dataclass(frozen=True, slots=True)
class _Lacking:
    """What a pod that is not charged lacks [byte], and how far both kinds lie apart."""

    bytes: pl.Expr
    seen: float | None


def _lacking(told: pl.DataFrame) -> _Lacking:
    """Take what the agent reports, as far as the two kinds of pods lie apart where both are seen.

    The kernel charges more than it reports for tries, so that the distance wins over the report.
    """
    known = told.filter(pl.col("evidence") != ASSUMED).drop_nulls("share")
    kinds = [known.filter(pl.col("charged") == kind) for kind in (True, False)]
    reported = pl.col("maps").fill_null(0.0)
    if any(kind.select(*_NODE, "life").n_unique() < _ENOUGH for kind in kinds):
        return _Lacking(reported, None)
    high, low = (float(kind["share"].median()) for kind in kinds)  # type: ignore[arg-type]
    apart = high - low
    if told["maps"].null_count() > 0:
        return _Lacking(pl.lit(apart), apart) if apart > 0 else _Lacking(reported, None)
    if not _LIKELY[0] <= apart <= _LIKELY[1]:
        return _Lacking(reported, None)
    return _Lacking(pl.col("maps") * apart, apart * float(told["maps"].median()))  # type: ignore[arg-type]


def _split(told: pl.DataFrame, *, has_maps: bool) -> float | None:
    """Find what lies between two levels; None where there is one."""
    values = told["share"].drop_nulls().to_numpy()
    found = two_levels(values)
    if found is None:
        return None
    low, high = found
    middle = (low + high) / 2
    if has_maps:
        return middle if _LIKELY[0] <= high - low <= _LIKELY[1] else None
    above = told.filter(pl.col("share") >= middle)[_NODE].n_unique()
    below = told.filter(pl.col("share") < middle)[_NODE].n_unique()
    return middle if min(above, below) >= _ENOUGH else None


def two_levels(values: Array) -> tuple[float, float] | None:
    """Give the medians of two levels that values lie on; None where one level tells them as well.

    Notes
    -----
    The cut leaves the least squares within both parts (N. Otsu, A threshold selection method from
    gray-level histograms, 1979); two levels must lie `_APART` standard deviations apart.

    Examples
    --------
    >>> two_levels(np.array([1.0, 1.1, 0.9, 9.0, 9.1]))
    (1.0, 9.05)
    >>> two_levels(np.linspace(0, 1, 50))
    """
    if len(values) < 2:
        return None
    ordered = np.sort(values)
    count = np.arange(1, len(ordered))
    below = np.cumsum(ordered)[:-1]
    total = ordered.sum()
    rest = len(ordered) - count
    between = (below / count - (total - below) / rest) ** 2 * count * rest
    at = int(np.argmax(between)) + 1
    low, high = ordered[:at], ordered[at:]
    centers = float(np.median(low)), float(np.median(high))
    spread = [_MAD * float(np.median(np.abs(part - np.median(part)))) for part in (low, high)]
    pooled = float(np.hypot(spread[0], spread[1])) / np.sqrt(2)
    return centers if centers[1] - centers[0] > _APART * pooled else None


def _seen(judged: pl.DataFrame) -> pl.DataFrame:
    """Give the newest distance between pods of both kinds, a row a cluster."""
    return (
        judged.drop_nulls("seen")
        .group_by("cluster", maintain_order=True)
        .agg(time=pl.col("time").max(), value=pl.col("seen").last())
        .with_columns(node=pl.lit(None, pl.String), subject=pl.lit(None, pl.String))
    )
