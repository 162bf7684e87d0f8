"""A synthetic Cilium cluster with known truth: metrics and inventory as a user would export them.

`settings` says what the cluster is like, `laws` and `truth` what is true of it (every law is
documented there), `cluster` draws it, `measured` and `objects` are what was scraped and listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from capacity.export import Metrics
from capacity.inventory import Inventory
from capacity.simulate.cluster import draw
from capacity.simulate.files import write
from capacity.simulate.measured import measure
from capacity.simulate.objects import Objects, inventory, objects
from capacity.simulate.truth import truth
from capacity.simulation_settings import SimulationSettings

__all__ = ["Simulation", "SimulationSettings", "simulate", "write"]


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulated cluster.

    `metrics` and `inventory` are what reading the written files gives; `objects` are the
    Kubernetes objects of the last step; `truth` holds settings, laws and where limits are reached.
    """

    settings: SimulationSettings
    metrics: Metrics
    inventory: Inventory
    truth: dict[str, Any]
    objects: Objects


def simulate(settings: SimulationSettings | None = None) -> Simulation:
    """Draw a synthetic cluster; the same settings give the same cluster.

    Parameters
    ----------
    settings
        The shipped demo cluster where left out.

    Examples
    --------
    >>> made = simulate(SimulationSettings(nodes=20, days=10))
    >>> made.truth["exhaustion"][0]["subject"], made.inventory.nodes.height
    ('lb4_services_v2', 20)
    """
    settings = settings or SimulationSettings()
    rng = np.random.default_rng(settings.seed)
    cluster = draw(settings, rng)
    metrics = measure(cluster, rng)
    made = objects(cluster, rng)
    now = {name: int(values[-1]) for name, values in cluster.counts.items()}
    return Simulation(settings, metrics, inventory(made), truth(settings, now), made)
