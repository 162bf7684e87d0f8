"""Checks that every entry of MODELS passes, and what each model recovers of a known truth."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from capacity.errors import ModelError
from capacity.models import MODELS
from capacity.models.growth import NodeGrowth
from capacity.models.linear_drivers import LinearDrivers, _nnls, _nnls_many, block_rows

RNG = np.random.default_rng


def history(rows: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = RNG(seed)
    nodes = np.linspace(500, 800, rows)
    drivers = np.column_stack([nodes, rng.uniform(1000, 2000, rows)])
    return drivers, 50 + 2 * drivers[:, 0] + 0.1 * drivers[:, 1] + rng.normal(0, 20, rows)


def ahead(name: str) -> Any:
    return np.array([3, 10]) if name == "growth" else np.array([[900.0, 1500.0], [1200.0, 1500.0]])


def make(name: str, **parameters: Any) -> Any:
    """A histogram draws nothing; its lowest bucket must be small beside values of tests."""
    return MODELS[name](first=0.01) if name == "decaying_histogram" else MODELS[name](**parameters)


def fitted(name: str, seed: int = 0) -> Any:
    drivers, target = history(seed=seed)
    return make(name, draws=50, seed=seed).fit(drivers, target)


@pytest.mark.parametrize("name", MODELS)
def test_two_fits_are_the_same(name: str) -> None:
    first, second = fitted(name), fitted(name)
    assert np.array_equal(first.predict(ahead(name)), second.predict(ahead(name)))
    for one, other in zip(first.interval(ahead(name)), second.interval(ahead(name)), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_no_state_before_it_is_fitted(name: str) -> None:
    model = make(name, draws=7)
    assert set(vars(model)) == set(model.get_params())
    assert clone(model).get_params() == model.get_params()


@pytest.mark.parametrize("name", MODELS)
def test_a_fitted_model_survives_pickling(name: str) -> None:
    model = fitted(name)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(ahead(name)), model.predict(ahead(name)))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_too_few_rows_are_refused(name: str, rows: int) -> None:
    drivers, target = history()
    with pytest.raises(ModelError, match="needed"):
        make(name).fit(drivers[:rows], target[:rows])


@pytest.mark.parametrize("name", MODELS)
def test_a_value_that_is_not_finite_is_refused(name: str) -> None:
    drivers, target = history()
    target[3] = np.nan
    with pytest.raises(ModelError, match="finite"):
        make(name).fit(drivers, target)


@pytest.mark.parametrize("name", MODELS)
def test_a_constant_history_forecasts_itself(name: str) -> None:
    model = make(name, draws=20).fit(np.ones((20, 2)), np.full(20, 7.0))
    X = np.array([5]) if name == "growth" else np.ones((1, 2))
    low, high = model.interval(X)
    # A histogram knows a value to the width of its bucket
    tolerance = 0.05 if name == "decaying_histogram" else 1e-6
    assert model.predict(X) == pytest.approx([7.0], rel=tolerance)
    assert low == pytest.approx([7.0], rel=tolerance)
    assert high == pytest.approx([7.0], rel=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_a_wider_level_gives_a_wider_interval(name: str) -> None:
    model = fitted(name)
    low50, high50 = model.interval(ahead(name), 0.5)
    low95, high95 = model.interval(ahead(name), 0.95)
    assert (low95 <= low50).all()
    assert (high95 >= high50).all()


@pytest.mark.parametrize("name", MODELS)
def test_an_interval_holds_what_comes_as_often_as_it_says(name: str) -> None:
    inside = []
    for seed in range(40):
        rng = RNG(seed)
        drivers, target = rng.uniform(1, 2, (70, 1)), rng.normal(100, 5, 70)
        target += 10 * drivers[:, 0]
        model = make(name, draws=100, seed=seed).fit(drivers[:60], target[:60])
        X = np.arange(1, 11) if name == "growth" else drivers[60:]
        low, high = model.interval(X)
        # A bucket of a histogram is as wide as a third of the noise
        inside.append(np.mean((low <= target[60:]) & (target[60:] <= high)))
    # Growth may do what no history shows, another node may cost more; the histogram forgets with a
    # half-life of a row
    least = 0.5 if name == "decaying_histogram" else 0.84
    assert least <= float(np.mean(inside)) <= (1.0 if name == "growth" else 0.98)


@pytest.mark.parametrize("name", [name for name in MODELS if name in ("linear_drivers",
                                                                      "node_costs")])  # fmt: skip
def test_other_drivers_than_were_fitted_are_refused(name: str) -> None:
    model = fitted(name)
    for other in (np.ones((2, 1)), np.ones((2, 3)), np.ones(2)):
        with pytest.raises(ModelError, match=r"2 drivers were fitted"):
            model.predict(other)
        with pytest.raises(ModelError, match=r"2 drivers were fitted"):
            model.interval(other)


def test_costs_of_simulated_data_are_recovered() -> None:
    drivers, target = history(rows=200)
    model = LinearDrivers(draws=100).fit(drivers, target)
    assert model.coef_ == pytest.approx([2.0, 0.1], rel=0.1)


def test_a_fixed_cost_stays_fixed_and_only_the_rest_is_fitted() -> None:
    drivers, target = history(rows=200)
    model = LinearDrivers(fixed=(2.0, np.nan), draws=100).fit(drivers, target)
    assert model.coef_[0] == 2.0
    assert (model.draws_[:, 1] == 2.0).all()
    assert model.coef_[1] == pytest.approx(0.1, rel=0.1)


def test_one_outlier_bends_nothing() -> None:
    drivers, target = history(rows=60)
    clean = LinearDrivers(draws=20).fit(drivers, target).predict(ahead("linear_drivers"))
    target[30] *= 10
    dirty = LinearDrivers(draws=20).fit(drivers, target).predict(ahead("linear_drivers"))
    assert dirty == pytest.approx(clean, rel=0.03)


def test_more_load_never_needs_less() -> None:
    model = fitted("linear_drivers")
    grid = np.column_stack([np.linspace(800, 5000, 40), np.full(40, 1500.0)])
    assert (np.diff(model.predict(grid)) >= 0).all()


def test_intervals_widen_beyond_the_data() -> None:
    model = fitted("linear_drivers")
    X = np.array([[800.0, 1500.0], [1600.0, 1500.0], [3200.0, 1500.0]])
    drawn = model.sample(X, reach=np.array([1.0, 2.0, 4.0]))
    width = np.diff(np.quantile(drawn, [0.05, 0.95], axis=0), axis=0)[0]
    assert width[0] < width[1] < width[2]


def test_the_90_percent_interval_covers_about_90_percent_within_the_data() -> None:
    inside = []
    for seed in range(80):
        drivers, target = history(rows=90, seed=seed)
        model = LinearDrivers(draws=60, seed=seed).fit(drivers[:60], target[:60])
        low, high = model.interval(drivers[60:])
        inside.append(np.mean((low <= target[60:]) & (target[60:] <= high)))
    assert 0.85 <= float(np.mean(inside)) <= 0.97


@pytest.mark.parametrize(("rows", "columns"), [(30, 3), (5, 7), (40, 4)])
def test_many_fits_at_once_are_each_fit_alone(rows: int, columns: int) -> None:
    rng = RNG(rows)
    design = np.column_stack([np.ones(rows), rng.uniform(0, 9, (rows, columns - 1))])
    if columns == 4:  # two drivers that are one
        design[:, 3] = design[:, 2]
    targets = rng.normal(3, 5, (40, rows)) + design @ rng.uniform(0, 2, columns)
    weights = rng.uniform(0.1, 1, rows)
    many = _nnls_many(design, targets, weights) @ design.T
    alone = np.stack([_nnls(design, target, weights) @ design.T for target in targets])
    assert many == pytest.approx(alone, abs=1e-6)


def test_growth_intervals_cover_random_walks_with_drift() -> None:
    inside = []
    for seed in range(150):
        walk = 1000 + np.cumsum(RNG(seed).normal(2, 3, 150))
        low, high = NodeGrowth(draws=150, seed=seed).fit(None, walk[:90]).interval([30, 60])
        inside.append((low <= walk[[119, 149]]) & (walk[[119, 149]] <= high))
    # Walks alone need 90 %; a cluster may jump or bend as well, so that intervals are wider
    assert 0.85 <= float(np.mean(inside)) <= 0.99


def test_the_node_count_never_falls_below_one() -> None:
    paths = NodeGrowth(draws=30).fit(None, np.linspace(50, 2, 30)).paths(200)
    assert paths.min() >= 1


def test_blocks_keep_neighbours_together() -> None:
    rows = block_rows(27, 40, RNG(0))
    assert rows.shape == (40, 27)
    assert ((rows >= 0) & (rows < 27)).all()
    assert (np.diff(rows[:, :3], axis=1) == 1).all()  # length 27^(1/3) = 3


def test_a_histogram_weighs_new_samples_more() -> None:
    values = np.r_[np.full(50, 100.0), np.full(10, 200.0)]
    model = MODELS["decaying_histogram"](first=1.0, half_life=2.0).fit(None, values)
    # 10 rows at a half-life of 2 hold 31/32 of the weight
    assert model.quantile(0.5) == pytest.approx(200, rel=0.05)
    slow = MODELS["decaying_histogram"](first=1.0, half_life=1e6).fit(None, values)
    assert slow.quantile(0.5) == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 0.99])
def test_quantiles_of_a_histogram_are_those_of_the_samples_to_a_bucket(level: float) -> None:
    values = RNG(0).lognormal(5, 0.5, 5000)
    model = MODELS["decaying_histogram"](first=1.0, half_life=1e9).fit(None, values)
    assert model.quantile(level) == pytest.approx(np.quantile(values, level), rel=0.06)
