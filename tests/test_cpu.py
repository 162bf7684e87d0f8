"""CPU of agents follows regenerations of endpoints: recorded costs first, then the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capacity.driver_draws import scenario_draws
from capacity.export import build
from capacity.observing import Observed, observed
from capacity.planning import plan
from capacity.settings import PlanSettings

from .conftest import START

HOUR = 3_600_000
# Far from the 0.45 ms of facts/priors.csv
MS = 4.0


def export(folder: Path, *, nodes: int = 12, hours: int = 120) -> str:
    """Agents whose CPU is 10 millicores and 4 ms a regeneration, busier in turn."""
    rng = np.random.default_rng(0)
    labels: list[dict[str, str]] = []
    values = []
    for i in range(nodes):
        rate = rng.gamma(1.0, 3.0, hours) * (1 + 0.1 * i)
        used = 0.010 + MS / 1000 * rate + 0.001 * rng.normal(size=hours)
        told = {
            "cilium_endpoint_regenerations_total": 3600 * np.cumsum(rate),
            "cilium_process_cpu_seconds_total": 3600 * np.cumsum(used),
            "cilium_endpoint": np.full(hours, 30.0),
            "cilium_nodes_all_num": np.linspace(100, 130, hours).round(),
        }
        for name, column in told.items():
            more = {"outcome": "success"} if "regenerations" in name else {}
            labels.append({"__name__": name, "node": f"n{i:02}", **more})
            values.append(column)
    series = np.repeat(np.arange(len(labels)), hours)
    times = np.tile(START + HOUR * np.arange(hours), len(labels))
    metrics = build(labels, series, times, np.concatenate(values), cluster="c")
    metrics.series.write_parquet(folder / "series.parquet")
    metrics.samples.write_parquet(folder / "samples.parquet")
    return str(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return export(tmp_path_factory.mktemp("busy"))


@pytest.fixture(scope="module")
def seen(source: str) -> Observed:
    return observed(PlanSettings(source, cilium="1.17"), lambda name, share: None)


def test_regenerations_of_the_busiest_node_stand_beside_the_cpu(seen: Observed) -> None:
    limit = seen.limits.filter(component="agent", quantity="cpu").row(0, named=True)
    rows = seen.history(limit).drop_nulls()
    told = MS * rows["regenerations"].to_numpy() + 10
    assert rows["value"].to_numpy() == pytest.approx(told, rel=0.2)


def test_a_regeneration_costs_what_nodes_show_and_not_what_was_recorded(source: str) -> None:
    made = plan(PlanSettings(source, cilium="1.17", nodes=(130, 260)))
    told = made.explanation.filter(component="agent", quantity="cpu", part="regenerations")
    row = told.row(0, named=True)
    assert row["prior"].startswith("recorded: 0.45 (0.15 to 5)")
    assert row["between_nodes"].startswith("12 nodes: 3.98")
    assert row["basis"] == "observed"
    basis = made.scenario.filter(driver="regenerations")
    assert basis.is_empty()  # a rate of the busiest node is no count of the cluster
    at = made.forecast.filter(component="agent", quantity="cpu").sort("nodes")
    assert at["q95"][1] > 1.5 * at["q95"][0]


def test_a_rate_at_a_node_count_is_that_of_any_step_of_the_history(seen: Observed) -> None:
    limit = seen.limits.filter(component="agent", quantity="cpu").row(0, named=True)
    rows = seen.history(limit).join(seen.drivers, on="time").drop_nulls(["regenerations", "nodes"])
    now = float(rows["nodes"][-1])
    drawn = scenario_draws(rows, ["regenerations"], np.array([now, 2 * now]), PlanSettings("x"))
    assert drawn.basis == ("as often as before",)
    values = rows["regenerations"].to_numpy()
    assert np.isin(drawn.draws[:, 0, 0].round(6), values.round(6)).all()
    assert drawn.draws[:, 1, 0] == pytest.approx(2 * drawn.draws[:, 0, 0])
    assert float(np.median(drawn.draws[:, 0, 0])) == pytest.approx(np.median(values), rel=0.2)
