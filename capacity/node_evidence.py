"""What the nodes of a cluster, beside each other, tell of the costs of one quantity.

A cluster's curve over time cannot tell what an endpoint costs where all nodes hold about as many as
ever. Its nodes can: each holds another number of them, and each moves on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.driver_draws import REGENERATIONS
from capacity.facts import derivations
from capacity.growth import PER_NODE
from capacity.models.linear_drivers import MIN_ROWS
from capacity.models.node_costs import NodeCosts
from capacity.models.pooling import Evidence

_POLICY: Final = "policy_entries"
# Drivers of which each node has its own
_OWN: Final = (PER_NODE, _POLICY, REGENERATIONS)
# Fewer nodes than this are no crowd
_LEAST_NODES: Final = 3


@dataclass(frozen=True, slots=True)
class NodeEvidence:
    """Costs by driver as nodes tell them.

    Attributes
    ----------
    costs
        Mean and standard deviation of what it costs the nodes that were the worst; with the prior
        in it.
    mean
        The same of the mean over all nodes.
    words
        The same for people.
    rows
        What the rows alone say.
    """

    costs: Mapping[str, tuple[float, float]]
    mean: Mapping[str, tuple[float, float]]
    words: Mapping[str, str]
    rows: Evidence


NOTHING: Final = NodeEvidence({}, {}, {}, Evidence((), np.empty((0, 0)), np.empty(0)))


def node_evidence(
    limit: Mapping[str, Any],
    panel: pl.DataFrame | None,
    times: pl.Series,
    believed: Mapping[str, tuple[float, float]],
) -> NodeEvidence:
    """Fit the costs of a quantity over nodes and times.

    Parameters
    ----------
    limit
        A row of table limits.
    panel
        Table node_panel of the cluster.
    times
        Times that count: of the past, without what is left out of fits.
    believed
        Driver → mean and standard deviation known beforehand.
    """
    column = f"{limit['component']}_{limit['quantity']}"
    if panel is None or column not in panel.columns:
        return NOTHING
    wanted = derivations.structure(limit["component"], limit["subject"], limit["quantity"])
    rows = panel.drop_nulls(column).filter(pl.col("time").is_in(times.implode()))
    if column == "agent_memory" and rows["map_bytes"].null_count() < len(rows):
        rows = rows.drop_nulls("map_bytes").with_columns(pl.col(column) - pl.col("map_bytes"))
    if not _is_enough(rows):
        return NOTHING
    rows = _with_entries(_with_regenerations(rows) if column == "agent_cpu" else rows)
    names = tuple(n for n in wanted["driver"] if n in _OWN and n in rows.columns)
    if not names:
        return NOTHING
    nothing = (np.nan, np.nan)
    model = NodeCosts(prior=tuple(believed.get(name, nothing) for name in names)).fit(
        rows.select(names).to_numpy(), rows[column].to_numpy(), rows["node"].to_numpy(),
        rows["time"].to_physical().to_numpy(),
    )  # fmt: skip
    by_time = rows.group_by("time", maintain_order=True)
    worst = by_time.agg(pl.col("node").get(pl.col(column).arg_max()))["node"]
    return _evidence(model, names, np.searchsorted(model.nodes_, worst.to_numpy()))


def _is_enough(rows: pl.DataFrame) -> bool:
    return rows["node"].n_unique() >= _LEAST_NODES and len(rows) >= MIN_ROWS * _LEAST_NODES


def _with_regenerations(rows: pl.DataFrame) -> pl.DataFrame:
    """Give rows that tell of regenerations; where these are few, all rows without."""
    known = rows.drop_nulls(REGENERATIONS)
    return known if _is_enough(known) else rows.drop(REGENERATIONS)


def _with_entries(rows: pl.DataFrame) -> pl.DataFrame:
    """Add drivers under the names that fits know them by.

    Entries of a node's policy maps follow the fullest map at the node's usual number of endpoints:
    what one endpoint more brings of them counts as its own cost.
    """
    rows = rows.with_columns(pl.col("endpoints").alias(PER_NODE))
    if rows["policy_worst"].null_count() == len(rows):
        return rows
    # Silent below the agent's threshold: as for the cluster (observe.drivers), half of what is
    silent = rows["policy_worst"].min() / 2  # type: ignore[operator]
    usual = pl.col("endpoints").mean().over("node")
    return rows.with_columns((pl.col("policy_worst").fill_null(silent) * usual).alias(_POLICY))


def _evidence(model: NodeCosts, names: tuple[str, ...], worst: Any) -> NodeEvidence:
    doubt = np.sqrt(np.diagonal(model.covariance_))
    # The next worst node will be one of those, or one like them
    own = model.own_[worst].mean(axis=0)
    wide = np.sqrt((model.own_doubt_[worst] ** 2).mean(axis=0) + model.own_[worst].var(axis=0))
    told = [i for i in range(len(names)) if model.information_[i, i] > 0]
    return NodeEvidence(
        {names[i]: (float(own[i]), float(wide[i])) for i in told},
        {names[i]: (float(model.coef_[i]), float(doubt[i])) for i in told},
        {
            names[i]: f"{len(model.nodes_)} nodes: {model.coef_[i]:,.4g} ± {doubt[i]:,.2g}, "
            f"from node to node ± {model.between_[i]:,.2g}; the worst {own[i]:,.4g} "
            f"± {wide[i]:,.2g}"
            for i in told
        },
        Evidence(
            tuple(names[i] for i in told),
            model.information_[np.ix_(told, told)],
            model.weighted_[told],
        ),
    )
