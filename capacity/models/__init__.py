"""Models: one law a file, scikit-learn's contract, numpy inside."""

from __future__ import annotations

from typing import Any, Final

from capacity.models.decaying_histogram import DecayingHistogram
from capacity.models.growth import NodeGrowth
from capacity.models.linear_drivers import LinearDrivers
from capacity.models.node_costs import NodeCosts

__all__ = ["MODELS", "DecayingHistogram", "LinearDrivers", "NodeCosts", "NodeGrowth"]

MODELS: Final[dict[str, type[Any]]] = {
    "linear_drivers": LinearDrivers,
    "node_costs": NodeCosts,
    "growth": NodeGrowth,
    "decaying_histogram": DecayingHistogram,
}
