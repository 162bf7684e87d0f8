"""Table doubts: signals that lie. Gauges that the inventory contradicts, samples without a value.

Suspected leaks are found in observe/leaks.py and told here too.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.cilium.conntrack import diagnose
from capacity.export import Metrics
from capacity.facts import derivations
from capacity.inventory import Inventory
from capacity.observe.charges import ASSUMED
from capacity.observe.leaks import Leak
from capacity.observe.reduced import is_usable
from capacity.tables import DOUBTS, check
from capacity.units import format_bytes

# A dump and a scrape are never of one instant: differences up to these are churn
_ENTRIES_SLACK: Final = 16
_ENTRIES_SHARE: Final = 0.05
_COUNT_SHARE: Final = 0.1
_CT_MAP: Final = r"^(cilium_)?ct_?(any)?[46]_global$"
_DRIVERS: Final = ("nodes", "endpoints", "identities", "policies")


def doubts(
    metrics: Metrics,
    steps: pl.DataFrame,
    driven: pl.DataFrame,
    inventory: Inventory,
    leaks: list[Leak],
    version: str,
) -> pl.DataFrame:
    """Give table doubts of one cluster.

    Parameters
    ----------
    metrics
        The export, for samples that are no numbers.
    steps, driven
        Tables steps and drivers.
    inventory
        What the kernel and the API server told of maps and objects.
    leaks
        As `observe.leaks.leaks` found them.
    version
        Cilium minor version.
    """
    cluster = str(driven["cluster"][0])
    rows = [
        *(_leak(leak) for leak in leaks),
        *_charges(steps),
        *_maps(steps, inventory, version),
        *_objects(driven, inventory),
        *_not_finite(metrics),
        *_insertions(steps, inventory),
    ]
    blank = {"cluster": cluster, "since": None, "until": None, "metric": None}
    return check(pl.DataFrame([blank | row for row in rows], schema=DOUBTS.schema), DOUBTS)


def corrected(steps: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Add to a map's entries what the kernel holds and the gauge does not see.

    The agent counts some maps by its own cache, which knows nothing of entries leaked in the
    kernel (cilium/cilium issues 32311 and 23551). Since when they are there nobody knows: they are
    added at all times, so that the present is right and the growth that of the gauge.
    """
    hidden = found.filter(pl.col("kind") == "conflict", pl.col("used") == _KERNEL).select(
        "subject", more=pl.col("other") - pl.col("metric"), rate=pl.col("other") / pl.col("metric")
    )
    entries = pl.col("quantity") == "map_entries"
    values = ["largest", "smallest", "mean"]
    joined = steps.join(hidden, on="subject", how="left", maintain_order="left")
    # Pressure where no size is told: the ratio of both counts stands for the entries
    ratio = (pl.col("quantity") == "map_pressure") & pl.col("rate").is_finite()
    told = [
        pl.when(entries & pl.col("more").is_not_null())
        .then(pl.col(name) + pl.col("more"))
        .when(ratio)
        .then(pl.col(name) * pl.col("rate"))
        .otherwise(name)
        .alias(name)
        for name in values
    ]
    return joined.with_columns(told).drop("more", "rate")


_KERNEL: Final = "inventory, added to the gauge at all times"


def _leak(leak: Leak) -> dict[str, Any]:
    return {
        "kind": "leak suspected",
        "subject": leak.component,
        "since": leak.since,
        "until": leak.until,
        "metric": leak.growth,
        "other": leak.expected,
        "unit": "1",
        "used": "left out of the fit",
        "detail": (
            f"{leak.component} memory grew {leak.growth:.3g} times from {leak.since:%Y-%m-%d %H:%M}"
            f" to {leak.until:%Y-%m-%d %H:%M}, {format_bytes(round(leak.slope))} an hour, while "
            f"what it serves grew {leak.expected:.3g} times at most: a leak is suspected; the time "
            "is left out of the fit. Compare with the known leaks of your version, take a heap "
            "profile (gops, pprof) before a restart frees it, and keep a memory limit meanwhile"
        ),
    }


def _charges(steps: pl.DataFrame) -> list[dict[str, Any]]:
    """Say which working sets miss the maps that the kernel charged to an earlier pod."""
    told = steps.filter(component="agent", quantity="map_charge")
    newest = told.filter(pl.col("time") == pl.col("time").max())
    rows = []
    for by, nodes, share in newest.select("subject", "nodes", "mean").sort("subject").iter_rows():
        later = round(nodes * (1 - share))
        added = _newest(steps, "memory_maps_seen") or _newest(steps, "memory_bpf_maps")
        if later == 0 or added is None:
            continue
        size = format_bytes(round(added))
        start = "are taken to have started" if by == ASSUMED else "started"
        rows.append(
            {
                "kind": "maps charged to an earlier pod", "subject": "agent",
                "metric": _newest(steps, "memory_working_set"), "other": added, "unit": "byte",
                "used": "added to the working sets of later pods",
                "detail": (
                    f"{later:,} of {nodes:,} agents {start} after another "
                    f"one had made the maps ({by}): their working sets miss up to {size} of "
                    "kernel memory that they are charged for after the next boot of their node; "
                    "the plan adds it"
                    + ("; node_boot_time_seconds of node_exporter would tell" if by == ASSUMED
                       else "")
                ),
            }
        )  # fmt: skip
    return rows


def _newest(steps: pl.DataFrame, quantity: str) -> float | None:
    rows = steps.filter(component="agent", quantity=quantity).sort("time")
    return float(rows["largest"][-1]) if len(rows) else None


def _maps(steps: pl.DataFrame, inventory: Inventory, version: str) -> list[dict[str, Any]]:
    """Compare entries that the kernel holds with those that the gauge tells."""
    held = inventory.map_entries.drop_nulls("entries").group_by("map").agg(pl.col("entries").max())
    kernel = dict(held.iter_rows())
    told = steps.filter(pl.col("quantity") == "map_entries").sort("time")
    newest = told.unique("subject", keep="last", maintain_order=True)
    rows = []
    for subject, gauge in newest.select("subject", "largest").iter_rows():
        name = facts.map_of_label(subject, version)
        found = kernel.get(name or "")
        if found is None or found <= gauge * (1 + _ENTRIES_SHARE) + _ENTRIES_SLACK:
            continue
        rows.append(
            {
                "kind": "conflict",
                "subject": subject,
                "metric": gauge,
                "other": float(found),
                "unit": "1",
                "used": _KERNEL,
                "detail": (
                    f"map {subject} holds {found:,} entries in the kernel, the gauge says "
                    f"{gauge:,.0f}: entries the agent does not know of (cilium/cilium issues "
                    "32311, 23551); the kernel's count is used"
                ),
            }
        )
    return rows


def _objects(driven: pl.DataFrame, inventory: Inventory) -> list[dict[str, Any]]:
    """Compare numbers of objects in the inventory with the newest that the metrics tell."""
    rows = []
    for name in _DRIVERS:
        told, listed = driven[name].drop_nulls(), len(getattr(inventory, name))
        if not listed or told.is_empty():
            continue
        gauge = float(told[-1])
        if abs(gauge - listed) <= _COUNT_SHARE * max(gauge, listed) + 1:
            continue
        rows.append(
            {
                "kind": "conflict",
                "subject": name,
                "metric": gauge,
                "other": float(listed),
                "unit": "1",
                "used": "metrics",
                "detail": (
                    f"the inventory lists {listed:,} {name}, the metrics tell {gauge:,.0f}; the "
                    "metrics are used: is the inventory of the same cluster and time, and whole?"
                ),
            }
        )
    return rows


def _not_finite(metrics: Metrics) -> list[dict[str, Any]]:
    """Count samples that are no usable numbers, by metric."""
    bad = metrics.samples.filter(~is_usable(pl.col("value")))
    used = metrics.series.join(derivations.observed(), on="metric", how="semi")
    counted = bad.join(used.select("series", "metric"), on="series").group_by("metric")
    return [
        {
            "kind": "not finite",
            "subject": name,
            "since": since,
            "until": until,
            "other": float(count),
            "unit": "1",
            "used": "left out",
            "detail": f"{count:,} samples of {name} are no number, or beyond 64 bits: left out",
        }
        for name, count, since, until in counted.agg(
            pl.len(), since=pl.col("time").min(), until=pl.col("time").max()
        )
        .sort("metric")
        .iter_rows()
    ]


def _insertions(steps: pl.DataFrame, inventory: Inventory) -> list[dict[str, Any]]:
    """Tell whether failed insertions into conntrack maps are a reason to make these larger."""
    lately = steps.filter(pl.col("time") >= pl.col("time").max() - pl.duration(days=1))
    failed = lately.filter(quantity="ct_insertion_failures")
    rate = failed["largest"].max()
    if not isinstance(rate, float) or rate <= 0:
        return []
    pressure = _fullest(lately.filter(pl.col("subject").str.contains(_CT_MAP)))
    kernels = inventory.nodes["kernel"].drop_nulls().unique().sort()
    found = diagnose(rate, pressure=pressure, kernel=kernels[0] if len(kernels) else None)
    return [{
        "kind": "failed insertions", "subject": "map ct", "since": failed["time"].min(),
        "until": failed["time"].max(), "metric": rate,
        "other": rate if pressure is None else pressure, "unit": "1/s",
        "used": "larger maps help" if found.recommend_resize else "no larger map",
        "detail": found.sentence,
    }]  # fmt: skip


def _fullest(maps: pl.DataFrame) -> float | None:
    """Give the largest share of its size that a map is full; None where none is told."""
    sizes = maps.filter(quantity="map_max_entries").select("time", "subject", size="smallest")
    entries = maps.filter(quantity="map_entries").join(sizes, on=["time", "subject"], how="inner")
    told = pl.concat(
        [
            maps.filter(quantity="map_pressure").select(share="largest"),
            entries.select(share=pl.col("largest") / pl.col("size")),
        ]
    )["share"].max()
    return float(told) if isinstance(told, float) else None
