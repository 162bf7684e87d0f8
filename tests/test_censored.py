"""Full maps and throttled CPUs: recognized, told, and not taken for growth that has stopped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from capacity.censored import findings, mark
from capacity.export import Metrics
from capacity.forecast import Fitted, fit_quantity, worst_by_time
from capacity.growth import grow
from capacity.inventory import Inventory
from capacity.limits import limits
from capacity.observe import drivers, steps
from capacity.settings import PlanSettings

from .conftest import DAY

Export = Callable[..., Metrics]
SIZE = 65_536
DAYS = 60
SETTINGS = PlanSettings("x")


def cluster(
    export: Export, fill: np.ndarray, more: list[tuple[dict[str, str], np.ndarray]]
) -> pl.DataFrame:  # noqa: E501
    nodes = np.linspace(400, 700, DAYS).round()

    def daily(values: np.ndarray) -> list[tuple[int, float]]:
        return [(i * DAY, float(v)) for i, v in enumerate(values)]

    agent = {"node": "n"}
    series = [
        (agent | {"__name__": "cilium_nodes_all_num"}, nodes),
        (agent | {"__name__": "cilium_bpf_map_pressure", "map_name": "tunnel_map"}, fill / SIZE),
        (agent | {"__name__": "cilium_bpf_map_capacity", "map_group": "default"},
         np.full(DAYS, float(SIZE))),
        *more,
    ]  # fmt: skip
    return steps(export(*[(labels, daily(values)) for labels, values in series]))


def fit(told: pl.DataFrame, component: str) -> tuple[Fitted, list[str]]:
    driven = drivers(told)
    rows = limits(told, Inventory(), SETTINGS, "1.17").iter_rows(named=True)
    limit = next(row for row in rows if row["component"] == component)
    marked = mark(worst_by_time(told, limit), told, limit)
    found = [str(row["detail"]) for row in findings(marked, limit)]
    return fit_quantity(limit, marked, driven, grow(driven, SETTINGS), SETTINGS), found


def wanted() -> np.ndarray:
    """What the cluster would fill of a map if it had room: 110 entries a node."""
    return 110 * np.linspace(400, 700, DAYS).round()


def test_a_full_map_is_no_plateau(export: Export) -> None:
    fitted, (finding,) = fit(cluster(export, np.minimum(wanted(), SIZE), []), "map")
    assert "map tunnel_map was full in" in finding
    assert "growth is told from the time before" in finding
    # At 1,400 nodes twice of what 700 want; a plateau would stay near 65,536
    at = fitted.draws[:, np.abs(fitted.counts - 1400).argmin()]
    assert np.median(at) == pytest.approx(154_000, rel=0.05)
    # It is full today, whatever comes
    assert np.quantile(fitted.dates(), 0.5) == 0
    assert fitted.rows["value"].max() > SIZE


def test_a_map_that_is_not_full_is_left_alone(export: Export) -> None:
    fitted, found = fit(cluster(export, 0.8 * wanted(), []), "map")
    assert found == []
    assert fitted.rows["value"].to_list() == pytest.approx((0.8 * wanted()).round().tolist())


def test_of_a_map_that_was_always_full_only_a_lower_bound_is_known(export: Export) -> None:
    fitted, (finding,) = fit(cluster(export, np.full(DAYS, float(SIZE)), []), "map")
    assert "collect two weeks with a higher limit" in finding
    assert np.quantile(fitted.dates(), 0.5) == 0


def cpu(export: Export, *, throttled: float, limit: float) -> pl.DataFrame:
    """An agent that needs 2 millicores a node, given `limit` millicores from day 40 on."""
    container = {"container": "cilium-agent", "pod": "cilium-1", "node": "n"}
    need = 2 * np.linspace(400, 700, DAYS).round()
    used = np.where(np.arange(DAYS) < 40, need, np.minimum(need, limit)) / 1000
    is_cut = (np.arange(DAYS) >= 40) * throttled
    seconds = DAY / 1000
    many = np.full(DAYS, 10.0)
    return cluster(export, 0.1 * wanted(), [
        ({"__name__": "cilium_process_cpu_seconds_total", "node": "n"}, np.cumsum(used) * seconds),
        (container | {"__name__": "container_cpu_cfs_periods_total"}, np.cumsum(many) * seconds),
        (container | {"__name__": "container_cpu_cfs_throttled_periods_total"},
         np.cumsum(many * is_cut) * seconds),
        (container | {"__name__": "kube_pod_container_resource_limits", "resource": "cpu"},
         np.full(DAYS, 5.0)),
    ])  # fmt: skip


def test_a_throttled_cpu_is_told_and_not_fitted(export: Export) -> None:
    fitted, (finding,) = fit(cpu(export, throttled=0.5, limit=1150), "agent")
    assert "agent CPU was held back by its limit in 20 steps" in finding
    assert "raise or remove resources.limits.cpu" in finding
    at = fitted.draws[:, np.abs(fitted.counts - 1400).argmin()]
    assert np.median(at) == pytest.approx(2800, rel=0.05)


def test_little_throttling_is_no_finding(export: Export) -> None:
    _, found = fit(cpu(export, throttled=0.1, limit=10_000), "agent")
    assert found == []
