"""What each container of each pod used, step by step: the parts of an export put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.export import Metrics, concat
from capacity.observe.names import copies
from capacity.rightsizing.part import CPU, MEMORY, Part
from capacity.rightsizing.steps import COUNTER, GAUGE, UNUSED, Held, Integers, Numbers, Singles
from capacity.rightsizing.steps import Steps as Rows
from capacity.rightsizing_settings import RightsizingSettings

# Seconds of CPU a second are cores
_KINDS: Final = {CPU: (COUNTER, 1000.0), MEMORY: (GAUGE, 1.0)}
# The pause container holds the pod's network, Kubernetes before dockershim's end names it so
_PAUSE: Final = "POD"
UNIT: Final = ("namespace", "pod", "container")
Values = tuple[Integers, Numbers, Singles]


@dataclass(frozen=True, slots=True)
class Usage:
    """Use of every unit, a container of a pod: CPU [millicore], memory [byte], by step.

    `units` names them (cluster, namespace, pod, container, unit); `width` is that of a step [s];
    `since` and `until` are the first and last step there is of any unit; `state` what is set.
    """

    units: pl.DataFrame
    cpu: Values
    memory: Values
    width: float
    since: int
    until: int
    samples: int
    state: Metrics
    sources: pl.DataFrame


def collect(
    parts: Iterable[Part],
    settings: RightsizingSettings,
    progress: Callable[[str, float], None] | None = None,
) -> Usage:
    """Put the parts of an export together.

    Containers that several scrapers tell of count once; the old and the new container of a
    restarted pod are one unit, the larger of both where they overlap.
    """
    width = settings.step_milliseconds
    held = {CPU: Held(), MEMORY: Held()}
    units = pl.DataFrame(schema={**dict.fromkeys(UNIT, pl.String), "unit": pl.UInt32})
    states, sources, samples = [], [], 0
    bounds: list[int] = []
    before = pl.DataFrame(schema={"key": pl.UInt64, "time": pl.Int64, "value": pl.Float64})
    for part in parts:
        keyed = _containers(part.series, settings)
        units = _numbered(units, keyed)
        keyed = keyed.join(units, on=UNIT, maintain_order="left")
        rows, before = _rows(part, keyed, width, before)
        samples += int(rows.many.sum())
        _add(rows, keyed, held)
        if len(rows.step):
            bounds += [int(rows.step.min()), int(rows.step.max())]
        states.append(part.state)
        sources.append(part.sources())
        if progress is not None:
            progress("reading", 0.8 * part.share)
    return Usage(
        units, held[CPU].placed(len(units)), held[MEMORY].placed(len(units)), width / 1000,
        min(bounds, default=0), max(bounds, default=0), samples,
        concat(states), pl.concat(sources).unique(maintain_order=True),
    )  # fmt: skip


def _containers(series: pl.DataFrame, settings: RightsizingSettings) -> pl.DataFrame:
    """Give the series that tell the use of one container, whole."""
    core = pl.col("labels").str.json_path_match("$['cpu']")
    is_one = (
        pl.col("metric").is_in([CPU, MEMORY])
        & pl.all_horizontal(pl.col(name).is_not_null() & (pl.col(name) != "") for name in UNIT)
        & (pl.col("container") != _PAUSE)
        # Kubelets may tell each core of its own
        & core.fill_null("total").is_in(["", "total"])
    )
    if settings.namespaces:
        is_one &= pl.col("namespace").is_in(settings.namespaces)
    return series.filter(is_one)


def _numbered(units: pl.DataFrame, keyed: pl.DataFrame) -> pl.DataFrame:
    """Give each new unit the next number."""
    new = keyed.select(UNIT).unique(maintain_order=True).join(units, on=UNIT, how="anti")
    return pl.concat([units, new.sort(UNIT).with_row_index("unit", offset=len(units)).select(
        *UNIT, pl.col("unit").cast(pl.UInt32))])  # fmt: skip


def _rows(
    part: Part, keyed: pl.DataFrame, width: int, before: pl.DataFrame
) -> tuple[Rows, pl.DataFrame]:
    """Give a window's steps, and the last sample of each series for the next window.

    Series are the same where their labels are, whatever number they have in a window.
    """
    numbers = part.series["series"].to_numpy()
    hashes = part.series.select("series", key=part.series.drop("series").hash_rows())
    last = hashes.join(before, on="key", how="left", maintain_order="left")
    many = int(numbers.max()) + 1 if len(numbers) else 0
    carried = np.full(many, -1, np.int64), np.zeros(many)
    carried[0][numbers] = last["time"].fill_null(-1).to_numpy()
    carried[1][numbers] = last["value"].fill_null(0.0).to_numpy()
    kinds, scales = np.full(many, UNUSED, np.uint8), np.ones(many)
    for metric, (kind, scale) in _KINDS.items():
        own = keyed.filter(pl.col("metric") == metric)["series"].to_numpy()
        kinds[own], scales[own] = kind, scale
    rows = part.reduce(kinds, scales, width, carried)
    ends = hashes.with_columns(time=carried[0][numbers], value=carried[1][numbers]).drop("series")
    return rows, ends.filter(pl.col("time") >= 0).unique("key", maintain_order=True)


def _add(rows: Rows, keyed: pl.DataFrame, held: dict[str, Held]) -> None:
    """Hold the rows by unit and resource, one value a step."""
    if keyed.is_empty():
        return
    many = int(keyed["series"].to_numpy().max()) + 1
    units = np.zeros(many, np.uint32)
    units[keyed["series"].to_numpy()] = keyed["unit"].to_numpy()
    is_again = keyed.select(pl.struct("metric", "unit").is_duplicated()).to_series()
    for metric, resource in held.items():
        own = keyed.filter(pl.col("metric") == metric)
        several = keyed.filter(is_again & (keyed["metric"] == metric))
        single = own.join(several, on="series", how="anti")["series"].to_numpy()
        chosen = np.zeros(many, bool)
        chosen[single] = True
        which = chosen[rows.series]
        resource.add(units[rows.series[which]], rows.step[which], rows.value[which])
        if len(several):
            told = _merged(rows, several, many)
            resource.add(*(told[name].to_numpy() for name in ("unit", "step", "value")))


def _merged(rows: Rows, several: pl.DataFrame, many: int) -> pl.DataFrame:
    """Give one value a step of units with several series: of copies the one with most samples."""
    chosen = np.zeros(many, bool)
    chosen[several["series"].to_numpy()] = True
    which = chosen[rows.series]
    columns: dict[str, Any] = {
        name: getattr(rows, name)[which] for name in ("series", "step", "value", "many")
    }
    copied = copies(several.drop("unit"))
    keys = several.select("series", "unit").join(copied, on="series", how="left")
    # A series without a copy is a group of its own
    alone = pl.concat_str(pl.lit("s"), "series")
    keys = keys.with_columns(group=pl.coalesce(pl.concat_str(pl.lit("c"), "copy"), alone))
    told = pl.DataFrame(columns).join(keys.drop("copy"), on="series")
    told = told.with_columns(total=pl.col("many").sum().over("series"))
    best = told.sort("group", "step", "total", "series", descending=[False, False, True, False])
    best = best.unique(["group", "step"], keep="first", maintain_order=True)
    merged = best.group_by("unit", "step").agg(pl.col("value").max())
    return merged.sort("unit", "step")
