"""Right-sizing of workloads: container metrics → requests and limits, with reason and saving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from capacity.errors import ExportError
from capacity.inventory import Inventory
from capacity.rightsizing.advice import advise
from capacity.rightsizing.guards import guards
from capacity.rightsizing.part import USAGE
from capacity.rightsizing.peaks import MOST_DAYS
from capacity.rightsizing.source import parts
from capacity.rightsizing.usage import Usage, collect
from capacity.rightsizing.workloads import CONTAINER, workload_usage
from capacity.rightsizing_settings import RightsizingSettings
from capacity.tables import GUARDS

__all__ = ["Sizing", "rightsize"]

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Sizing:
    """What to set (table rightsizing), the use it rests on, where it was read, and what to know."""

    settings: RightsizingSettings
    resources: pl.DataFrame
    usage: pl.DataFrame
    sources: pl.DataFrame
    samples: int
    warnings: tuple[str, ...]
    guards: pl.DataFrame = field(default_factory=GUARDS.empty)


def rightsize(
    source: Any,
    settings: RightsizingSettings | None = None,
    inventory: Inventory | None = None,
    progress: Progress | None = None,
) -> Sizing:
    """Tell which requests and limits the containers of workloads should have.

    Parameters
    ----------
    source
        Metrics, or what `capacity.read` reads: a file, folder, frame, blocks or URL of an API.
    inventory
        What is set now, where it is known; else the metrics of kube-state-metrics tell it.

    Raises
    ------
    ExportError
        If the source holds no container metrics.
    """
    settings = settings or RightsizingSettings()
    inventory = inventory or Inventory()
    usage = collect(parts(source, settings), settings, progress)
    if usage.units.is_empty():
        raise ExportError(
            f"no container of a pod in the metrics: wanted are {' and '.join(USAGE)}, which the "
            "kubelets tell at /metrics/cadvisor (job kubelet of kube-prometheus-stack)"
        )
    if progress is not None:
        progress("sizing", 0.85)
    rows = workload_usage(usage, inventory.workloads)
    present, warnings = _present(rows, inventory)
    warnings += _spans(usage)
    told = advise(present, inventory.workloads, settings)
    planned = guards(told, rows, inventory.objects, settings) if settings.guards else GUARDS.empty()
    return Sizing(settings, told, rows, usage.sources, usage.samples, tuple(warnings), planned)


def _spans(usage: Usage) -> list[str]:
    """Say so where the history is so long that a time in it may be wrong."""
    days = round((usage.until - usage.since) * usage.width / 86_400)
    if days <= MOST_DAYS:
        return []
    # A wrong time may be of a year that Python's dates do not reach
    at = np.array([usage.since, usage.until]) * round(usage.width)
    first, last = at.astype("datetime64[s]").astype("datetime64[D]")
    return [
        f"samples lie {days} days apart, from {first} to {last}: is a time wrong? Daily peaks are "
        f"those of {MOST_DAYS} days around the middle; --start and --end leave out the rest"
    ]


def _present(rows: pl.DataFrame, inventory: Inventory) -> tuple[pl.DataFrame, list[str]]:
    """Leave out workloads that are gone, and say so."""
    listed = inventory.workloads.select(CONTAINER).unique()
    running = pl.col("running").max().over(CONTAINER) > 0
    keeps = running | pl.col("kind").is_in(["CronJob"])
    is_listed = rows.join(listed, on=list(CONTAINER), how="semi")
    kept = pl.concat([is_listed, rows.join(listed, on=list(CONTAINER), how="anti").filter(keeps)])
    gone = rows.select(CONTAINER).n_unique() - kept.select(CONTAINER).n_unique()
    warnings = []
    if gone:
        warnings.append(
            f"{gone} containers of workloads had no pod at the end of the history and are left out"
        )
    guessed = kept.filter(pl.col("by") == "pod name").select(CONTAINER[:3]).n_unique()
    if guessed:
        warnings.append(
            f"{guessed} workloads are told by the names of pods: kube_pod_owner of "
            "kube-state-metrics, or an inventory, makes them certain"
        )
    return kept, warnings
