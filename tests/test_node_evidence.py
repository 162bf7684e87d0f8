"""A plan tells what an endpoint costs from the nodes beside each other, and says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from capacity import forecast_tables
from capacity.costs import Aside
from capacity.forecast import Fitted, fit_quantity, worst_by_time
from capacity.growth import grow
from capacity.node_evidence import NOTHING, node_evidence
from capacity.observe import Look, drivers, look
from capacity.settings import PlanSettings
from capacity.simulate import laws, measured
from capacity.simulate.cluster import draw
from capacity.simulation_settings import SimulationSettings

from .test_costs import MEMORY

LIMIT = MEMORY | {"cluster": "c"}
# Far from facts/priors.csv: an endpoint of this cluster costs 1.2 MB
COST_KIB = 1200.0


@pytest.fixture(scope="module")
def seen() -> Look:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laws, "AGENT", replace(laws.AGENT, endpoint_kib=COST_KIB))
        settings = SimulationSettings(nodes=40, days=20, step="12h", seed=1, cluster="c")
        rng = np.random.default_rng(1)
        return look(measured.measure(draw(settings, rng), rng))


def fitted(seen: Look, panel: pl.DataFrame | None) -> Fitted:
    driven = drivers(seen.steps)
    maps = seen.steps.filter(component="agent", quantity="memory_bpf_maps")
    rows = worst_by_time(seen.steps, LIMIT)
    rows = rows.join(maps.select("time", map_bytes="largest"), on="time", how="left")
    settings = PlanSettings("x", nodes=(60,))
    return fit_quantity(LIMIT, rows, driven, grow(driven, settings), settings, Aside(panel=panel))


def test_the_panel_holds_each_nodes_own_numbers(seen: Look) -> None:
    worst = seen.steps.filter(component="agent", quantity="memory").select("time", "largest")
    mine = seen.panel.group_by("time").agg(pl.col("agent_memory").max())
    both = worst.join(mine, on="time")
    assert len(both) == len(worst)
    assert both["largest"].equals(both["agent_memory"])
    assert seen.panel["endpoints"].null_count() == 0
    assert seen.panel["envoy_cpu"].null_count() == len(seen.panel)


def test_nodes_tell_a_cost_that_priors_have_wrong(seen: Look) -> None:
    truth = 1024 * COST_KIB
    alone, both = fitted(seen, None), fitted(seen, seen.panel)
    at = 1 + both.names.index("endpoints_per_node")
    off = [abs(float(np.median(one.model.draws_[:, at])) / truth - 1) for one in (alone, both)]
    assert off[1] < 0.15
    assert off[0] > 0.4


def test_the_explanation_names_the_nodes_and_what_they_tell(seen: Look) -> None:
    told = forecast_tables.explanation_table([fitted(seen, seen.panel)])
    row = told.row(by_predicate=pl.col("part") == "endpoints_per_node", named=True)
    assert row["between_nodes"].startswith(f"{seen.panel['node'].n_unique()} nodes: 1.")
    assert row["basis"] == "observed"
    assert "recorded" in row["prior"]
    assert told.filter(part="identities")["between_nodes"].to_list() == [None]


def test_other_clusters_borrow_what_nodes_tell(seen: Look) -> None:
    sums = []
    for panel in (None, seen.panel):
        rows = forecast_tables.evidence_table([fitted(seen, panel)])
        own = rows.filter(driver="endpoints_per_node", other="endpoints_per_node")
        sums.append(own["value"].item())
    assert sums[1] > 5 * sums[0]


def test_a_forecast_from_a_past_time_does_not_see_later_rows(seen: Look) -> None:
    times = seen.panel["time"].unique().sort()
    early = times[: len(times) // 2]
    spoilt = seen.panel.with_columns(
        pl.when(pl.col("time") > early[-1])
        .then(0.0)
        .otherwise("agent_memory")
        .alias("agent_memory")
    )
    told = [node_evidence(LIMIT, panel, early, {}).costs for panel in (seen.panel, spoilt)]
    assert told[0] == told[1]
    assert node_evidence(LIMIT, spoilt, times, {}).costs != told[0]


def test_one_node_or_no_panel_tells_nothing(seen: Look) -> None:
    one = seen.panel.filter(node=0)
    assert node_evidence(LIMIT, one, one["time"], {}) is NOTHING
    assert node_evidence(LIMIT, None, one["time"], {}) is NOTHING
    operator = LIMIT | {"component": "operator"}
    assert node_evidence(operator, seen.panel, one["time"], {}) is NOTHING


@pytest.mark.parametrize("rows", [1, 4, 14])
def test_regenerations_told_only_lately_lose_nothing_else(seen: Look, rows: int) -> None:
    is_late = pl.int_range(pl.len()) >= pl.len() - rows
    panel = seen.panel.with_columns(regenerations=pl.when(is_late).then(pl.col("endpoints")))
    told = [
        node_evidence(LIMIT | {"quantity": "cpu"}, one, panel["time"], {}).costs
        for one in (panel, panel.with_columns(regenerations=pl.lit(None, pl.Float64)))
    ]
    assert told[0] == told[1]
