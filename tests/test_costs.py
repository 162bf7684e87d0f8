"""A cluster with little history borrows the costs of its fleet, and the explanation says so."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from capacity import costs, forecast, forecast_tables
from capacity.errors import ExportError
from capacity.growth import grow
from capacity.settings import PlanSettings
from capacity.tables import EVIDENCE

from .test_forecast import LIMIT, drivers

MEMORY = LIMIT | {"component": "agent", "subject": None, "quantity": "memory", "unit": "byte",
                  "limit": 1e9, "kind": "settable"}  # fmt: skip
# Far from facts/priors.csv: agents of this fleet pay a third for a pod of the cluster
COST = 1500.0


def fitted(cluster: str, days: int, seed: int, aside: costs.Aside | None = None) -> forecast.Fitted:
    table = drivers(days, seed=seed, per_day=3.0 if days > 50 else 0.2)
    noise = np.random.default_rng(seed).normal(0, 1e6, days)
    rows = table.select(
        "time", value=1.5e8 + COST * pl.col("endpoints") + noise, worst_node=pl.lit("n7")
    )
    settings = PlanSettings("x", nodes=(2000,))
    growth = grow(table, settings)
    limit = MEMORY | {"cluster": cluster}
    return forecast.fit_quantity(limit, rows, table, growth, settings, aside)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fleet")
    for i in range(6):
        place = out / f"c{i}" / "tables"
        place.mkdir(parents=True)
        item = fitted(f"c{i}", 120, 10 + i)
        forecast_tables.evidence_table([item]).write_parquet(place / "evidence.parquet")
        forecast_tables.bends_table([item]).write_parquet(place / "bends.parquet")
    return out


def test_a_young_cluster_borrows_the_costs_of_its_fleet(pool: Path) -> None:
    alone = fitted("young", 20, 3)
    borrowed = fitted("young", 20, 3, costs.Aside({}, costs.fleet_costs(str(pool), "young")))
    at = int(np.searchsorted(alone.counts, 2000))
    truth = 1.5e8 + COST * 32 * 2000
    off = [abs(np.median(one.draws[:, at]) / truth - 1) for one in (alone, borrowed)]
    assert off[1] < 0.05 < off[0]
    told = forecast_tables.explanation_table([borrowed]).rows_by_key("part", named=True)
    assert "pooled over 6 other clusters" in told["endpoints"][0]["prior"]
    assert told["endpoints"][0]["learnt"] < 0.5


def test_a_cluster_with_a_history_of_its_own_borrows_little(pool: Path) -> None:
    fleet = costs.fleet_costs(str(pool), "other")
    mean = fleet["agent", None, "memory"].mean
    # Pods follow the nodes: only what both cost together can be told
    assert 32 * mean["endpoints"] + mean["nodes"] == pytest.approx(32 * COST, rel=0.03)
    own = fitted("other", 120, 77, costs.Aside({}, fleet))
    alone = fitted("other", 120, 77)
    at = int(np.searchsorted(own.counts, 2000))
    assert np.median(own.draws[:, at]) == pytest.approx(np.median(alone.draws[:, at]), rel=0.03)


def test_a_fleet_of_straight_laws_narrows_what_lies_beyond_the_data(pool: Path) -> None:
    bends = costs.fleet_bends(str(pool), "young")
    assert bends["agent", None, "memory"] < 0.1
    fleet = costs.fleet_costs(str(pool), "young")
    wide = fitted("young", 20, 3, costs.Aside({}, fleet))
    narrow = fitted("young", 20, 3, costs.Aside({}, fleet, bends))
    at = int(np.searchsorted(wide.counts, 2000))
    spread = [float(np.ptp(np.quantile(one.draws[:, at], [0.05, 0.95]))) for one in (wide, narrow)]
    assert spread[1] < 0.8 * spread[0]


def test_bends_of_older_plans_are_not_asked_for_and_broken_ones_are_told(
    pool: Path, tmp_path: Path
) -> None:
    own = tmp_path / "evidence.parquet"
    own.write_bytes((pool / "c0" / "tables" / "evidence.parquet").read_bytes())
    assert costs.fleet_bends(str(tmp_path), "c") == {}
    (tmp_path / "bends.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ExportError, match="is no table bends of a plan"):
        costs.fleet_bends(str(tmp_path), "c")


def test_a_cluster_does_not_borrow_from_itself(pool: Path) -> None:
    assert costs.fleet_costs(str(pool), "c0")["agent", None, "memory"].clusters == 5


def test_of_two_plans_of_one_time_the_last_by_path_counts(tmp_path: Path) -> None:
    keys = {"time": datetime(2026, 1, 1, tzinfo=UTC), "cluster": "a", "component": "agent",
            "subject": None, "quantity": "memory", "driver": "nodes"}  # fmt: skip
    for place, weighted in (("x", 50.0), ("y", 5.0)):
        (tmp_path / place).mkdir()
        rows = [{**keys, "other": "nodes", "value": 1.0},
                {**keys, "other": None, "value": weighted}]  # fmt: skip
        rows += [{**keys, "driver": f"n{i}", "other": None, "value": 1.0} for i in range(30)]
        frame = pl.DataFrame(rows, schema=EVIDENCE.schema)
        frame.write_parquet(tmp_path / place / "evidence.parquet")
    told = costs.fleet_costs(str(tmp_path), "other")["agent", None, "memory"]
    (tmp_path / "x" / "evidence.parquet").unlink()
    alone = costs.fleet_costs(str(tmp_path), "other")["agent", None, "memory"]
    assert told.mean == alone.mean


def test_a_pool_that_is_none_is_told_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"holds no evidence\.parquet; give a folder with plans"):
        costs.fleet_costs(str(tmp_path), "c")
    (tmp_path / "evidence.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ExportError, match="is no table evidence of a plan"):
        costs.fleet_costs(str(tmp_path), "c")
    pl.DataFrame({"cluster": ["a"]}).write_parquet(tmp_path / "evidence.parquet")
    with pytest.raises(ExportError, match="is no table evidence of a plan"):
        costs.fleet_costs(str(tmp_path), "c")
