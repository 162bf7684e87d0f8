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

from capacity.facts import derivations
from capacity.growth import PER_NODE
from capacity.models.linear_drivers import MIN_ROWS, Array
from capacity.models.node_costs import NodeCosts

_POLICY: Final = "policy_entries"
# Fewer nodes than this are no crowd
_LEAST_NODES: Final = 3


@dataclass(frozen=True, slots=True)
class NodeEvidence:
    """Costs by driver as nodes tell them.

    Attributes
    ----------
    costs
        Mean and standard deviation of what a further node's cost is; with the prior in it.
    doubt
        Standard deviation of the mean alone: without what nodes differ by.
    words
        The same for people.
    names, information, weighted
        What the rows alone say, as `models.pooling.Evidence` holds it.
    """

    costs: Mapping[str, tuple[float, float]]
    doubt: Mapping[str, float]
    words: Mapping[str, str]
    names: tuple[str, ...]
    information: Array
    weighted: Array


NOTHING: Final = NodeEvidence({}, {}, {}, (), np.empty((0, 0)), np.empty(0))


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
    if rows["node"].n_unique() < _LEAST_NODES or len(rows) < MIN_ROWS * _LEAST_NODES:
        return NOTHING
    rows = _with_entries(rows)
    names = tuple(
        name for name in wanted["driver"] if name in (PER_NODE, _POLICY) and name in rows.columns
    )
    if not names:
        return NOTHING
    nothing = (np.nan, np.nan)
    model = NodeCosts(prior=tuple(believed.get(name, nothing) for name in names)).fit(
        rows.select(names).to_numpy(), rows[column].to_numpy(), rows["node"].to_numpy(),
        rows["time"].to_physical().to_numpy(),
    )  # fmt: skip
    return _evidence(model, names, len(model.nodes_))


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


def _evidence(model: NodeCosts, names: tuple[str, ...], nodes: int) -> NodeEvidence:
    doubt = np.sqrt(np.diagonal(model.covariance_))
    wide = np.hypot(doubt, model.between_)
    told = [i for i in range(len(names)) if model.information_[i, i] > 0]
    return NodeEvidence(
        {names[i]: (float(model.coef_[i]), float(wide[i])) for i in told},
        {names[i]: float(doubt[i]) for i in told},
        {
            names[i]: f"{nodes} nodes: {model.coef_[i]:,.4g} ± {doubt[i]:,.2g}, "
            f"from node to node ± {model.between_[i]:,.2g}"
            for i in told
        },
        tuple(names[i] for i in told),
        model.information_[np.ix_(told, told)],
        model.weighted_[told],
    )
