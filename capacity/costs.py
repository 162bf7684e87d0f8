"""What is known of costs beside a cluster's own history: from elsewhere, and from its fleet.

Costs from elsewhere are rows of facts/priors.csv; a fleet is told by the tables `evidence` of other
clusters' plans (`--pool`). A cluster with much history outweighs both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.errors import ExportError, SchemaError
from capacity.models.bend import Bend, bend_spread
from capacity.models.pooling import Evidence, Pooled, pooled
from capacity.models.prior import BASE, expected, prior, told
from capacity.node_evidence import NOTHING, NodeEvidence, node_evidence
from capacity.tables import BENDS, EVIDENCE, Table, check

Key = tuple[str, str | None, str]
# Costs of resident memory hold for what a limit is held against, too: maps are its constant part
PRIOR_OF: Final = {"memory": "memory_rss", "cpu": "cpu"}
_FILE: Final = "evidence.parquet"
_BENDS: Final = "bends.parquet"
_KEYS: Final = ("component", "subject", "quantity")


@dataclass(frozen=True, slots=True)
class Aside:
    """What is known beside the history.

    Attributes
    ----------
    slopes
        Driver → bytes of maps that one more of it makes (kernel_memory.py). [byte]
    fleet
        (component, subject, quantity) → costs pooled over other clusters.
    bends
        The same → standard deviation of bends that other clusters showed. [1]
    panel
        Table node_panel of the cluster.
    """

    slopes: Mapping[str, float] = field(default_factory=dict)
    fleet: Mapping[Key, Pooled] = field(default_factory=dict)
    bends: Mapping[Key, float] = field(default_factory=dict)
    panel: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class Believed:
    """Costs believed beforehand: driver → mean and standard deviation, and whose they are.

    `bend` is the standard deviation of bends beyond the data, None where no fleet tells.
    `first` are their standard deviations before the cluster's own nodes told theirs (`nodes`).
    """

    costs: Mapping[str, tuple[float, float]]
    source: Mapping[str, str]
    first: Mapping[str, float] = field(default_factory=dict)
    nodes: NodeEvidence = NOTHING
    bend: float | None = None

    def of(self, names: list[str]) -> tuple[tuple[float, float], ...] | None:
        """Give them in the order of drivers, nan where nothing is believed; None for none."""
        nothing = (np.nan, np.nan)
        return tuple(self.costs.get(name, nothing) for name in names) if self.costs else None

    def deviations(self, names: Sequence[str]) -> tuple[float, ...]:
        """Give how sure costs were before the cluster's own data, inf where nothing was known."""
        own = {name: deviation for name, (_, deviation) in self.costs.items()}
        first = {**own, **dict.fromkeys(self.nodes.costs, np.inf), **self.first}
        return tuple(first.get(name, np.inf) for name in names)


def believed(limit: Mapping[str, Any], aside: Aside) -> Believed:
    """Give what is believed of a quantity's costs: by its fleet, where that tells."""
    component, subject, quantity = (limit[key] for key in _KEYS)
    name = PRIOR_OF.get(quantity, "")
    known, source = prior(component, name), told(component, name)
    costs = {n: (known.median[n], known.deviation(n)) for n in known.median if n != BASE}
    fleet = aside.fleet.get((component, subject, quantity))
    if fleet is None:
        return Believed(costs, source)
    own = {n: fleet.prior(n) for n in fleet.mean}
    words = {
        n: f"fleet: {mean:,.4g} ± {deviation:,.2g}; pooled over {fleet.clusters} other clusters"
        for n, (mean, deviation) in own.items()
    }
    bend = aside.bends.get((component, subject, quantity))
    return Believed({**costs, **own}, {**source, **words}, bend=bend)


def with_nodes(
    known: Believed, limit: Mapping[str, Any], times: pl.Series, aside: Aside
) -> Believed:
    """Add what the cluster's nodes beside each other tell of costs, at times that count."""
    told = node_evidence(limit, aside.panel, times, known.costs)
    # Doubt of a cost grows with it: what was learnt shows beside the same share of a larger one
    first = {
        name: known.costs[name][1] * max(told.costs[name][0] / known.costs[name][0], 1.0)
        for name in told.costs
        if known.costs.get(name, (0.0, 0.0))[0] > 0
    }
    return Believed({**known.costs, **told.costs}, known.source, first, told, known.bend)


def churn_cpu(pods_per_second: float, nodes: float, label_sets: float) -> list[dict[str, Any]]:
    """Tell what pods that come cost agents and operator in CPU, as rows of table control_plane.

    Parameters
    ----------
    pods_per_second
        Pods made in the whole cluster. [1/s]
    nodes
        Nodes they are spread over. [1]
    label_sets
        Identities that a new pod brings. [1]
    """
    rate = pods_per_second
    named = {"identities_made": rate * label_sets}
    asked = {
        "agent": {"addresses_made": rate, "endpoints_made": rate / max(nodes, 1.0), **named},
        "operator": {"endpoints_made": rate, **named},
    }
    rows = []
    for component, drivers in asked.items():
        known = prior(component, "cpu")
        idle = known.median.get(BASE, 0.0)
        drawn = expected(component, "cpu", drivers)
        low, middle, high = np.quantile(drawn, [0.05, 0.5, 0.95])
        rows.append({
            "server": f"each {component}", "what": "CPU of pods that come", "unit": "millicore",
            "value": float(middle),
            "why": f"{low:,.3g} to {high:,.3g} in nine of ten cases"
            + (f", {idle:.3g} of it idle" if idle else "; idle: not known")
            + "; recorded and published costs (facts/priors.csv), nothing of this cluster",
        })  # fmt: skip
    return rows


def evidence_rows(limit: Mapping[str, Any], told: Evidence, time: Any) -> list[dict[str, Any]]:
    """Give rows of table evidence: what one quantity's history says of its costs."""
    keys: dict[str, Any] = {"time": time}
    keys |= {key: limit[key] for key in ("cluster", *_KEYS)}
    pairs = [
        {"driver": one, "other": other, "value": float(told.information[i, j])}
        for i, one in enumerate(told.names)
        for j, other in enumerate(told.names)
    ]
    single = [
        {"driver": name, "other": None, "value": float(value)}
        for name, value in zip(told.names, told.weighted, strict=True)
    ]
    told_rows: list[dict[str, Any]] = [*pairs, *single]
    return [keys | row for row in told_rows]


def fleet_costs(place: str, cluster: str) -> dict[Key, Pooled]:
    """Pool costs of all other clusters whose plans lie in a folder.

    Parameters
    ----------
    place
        Folder that is searched for evidence.parquet, as plans and fleets write it.
    cluster
        Left out: its own history is told by itself.

    Raises
    ------
    ExportError
        If there is no such file, or one cannot be read.
    """
    files = _files(place)
    if not files:
        raise ExportError(
            f"pool: {place} holds no {_FILE}; give a folder with plans (--out) of other clusters"
        )
    newest = _others([_read(file, EVIDENCE) for file in files], cluster)
    out: dict[Key, Pooled] = {}
    for key, part in newest.partition_by(list(_KEYS), as_dict=True, maintain_order=True).items():
        told = [_evidence(one) for one in part.partition_by("cluster")]
        first = believed(dict(zip(_KEYS, key, strict=True)), Aside()).costs
        found = pooled(told, {**_vague(told), **first})
        if found.mean:
            out[key[0], key[1], key[2]] = found
    return out


def fleet_bends(place: str, cluster: str) -> dict[Key, float]:
    """Tell how far laws of all other clusters bent, from the tables beside their evidence.

    Raises
    ------
    ExportError
        If one cannot be read.
    """
    beside = [file.with_name(_BENDS) for file in _files(place)]
    told = [_read(file, BENDS) for file in beside if file.is_file()]
    if not told:
        return {}
    # A plan made twice says it once
    rows = _others(told, cluster).unique(["cluster", *_KEYS], keep="last", maintain_order=True)
    out: dict[Key, float] = {}
    for key, part in rows.partition_by(list(_KEYS), as_dict=True, maintain_order=True).items():
        seen = [Bend(*one) for one in part.select("bend", "doubt", "reach").iter_rows()]
        out[key[0], key[1], key[2]] = bend_spread(seen)
    return out


def _files(place: str) -> list[Path]:
    root = Path(place)
    return sorted(root.rglob(_FILE)) if root.is_dir() else [root] if root.is_file() else []


def _others(frames: list[pl.DataFrame], cluster: str) -> pl.DataFrame:
    """Give the newest rows of each other cluster."""
    rows = pl.concat(frames).filter(pl.col("cluster") != cluster)
    # Of two plans with one newest time the later file holds: rows stay in the order of files
    rows = rows.sort("cluster", maintain_order=True)
    return rows.filter(pl.col("time") == pl.col("time").max().over("cluster"))


def _read(file: Path, table: Table) -> pl.DataFrame:
    try:
        frame = check(pl.read_parquet(file), table)
    except (OSError, pl.exceptions.PolarsError, SchemaError) as error:
        told = " ".join(str(error).split())
        raise ExportError(f"pool: {file}: is no table {table.name} of a plan: {told}") from None
    numbers = frame.select(pl.col(pl.Float64))
    if not all(column.is_finite().all() for column in numbers):
        raise ExportError(f"pool: {file}: holds values that are no numbers; plan that cluster anew")
    return frame


def _evidence(rows: pl.DataFrame) -> Evidence:
    names = rows["driver"].unique().sort().to_list()
    info, weighted = np.zeros((len(names), len(names))), np.zeros(len(names))
    for driver, other, value in rows.select("driver", "other", "value").iter_rows():
        if other is None:
            weighted[names.index(driver)] = value
        elif other in names:
            info[names.index(driver), names.index(other)] = value
    return Evidence(tuple(names), (info + info.T) / 2, weighted)


def _vague(told: list[Evidence]) -> dict[str, tuple[float, float]]:
    """Of drivers that nothing elsewhere tells of: what each explains alone, in all clusters."""
    info: dict[str, float] = {}
    weighted: dict[str, float] = {}
    for one in told:
        for i, name in enumerate(one.names):
            info[name] = info.get(name, 0.0) + float(one.information[i, i])
            weighted[name] = weighted.get(name, 0.0) + float(one.weighted[i])
    means = {name: weighted[name] / total for name, total in info.items() if total > 0}
    return {name: (mean, mean) for name, mean in means.items() if mean > 0}
