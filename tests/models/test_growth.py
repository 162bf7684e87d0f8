"""Laws of growth, seasons and steps: what is recovered of series whose law is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.models.growth import NodeGrowth
from capacity.models.growth_spread import CALIBRATED
from capacity.models.level_steps import level_steps
from capacity.models.seasons import season
from capacity.models.trends import TRENDS
from capacity.models.variogram import wander

AHEAD = np.array([1.0, 30.0, 90.0])


@pytest.mark.parametrize("law", ["drift", "line", "recent", "stepped"])
def test_a_straight_line_goes_on(law: str) -> None:
    told = TRENDS[law](100 + 2.0 * np.arange(60), AHEAD)
    assert told == pytest.approx(100 + 2.0 * (59 + AHEAD))


@pytest.mark.parametrize("law", TRENDS)
def test_a_constant_stays(law: str) -> None:
    assert TRENDS[law](np.full(40, 17.0), AHEAD) == pytest.approx([17.0] * 3)


def test_the_exponential_law_follows_compound_growth_for_a_while() -> None:
    history = 100 * 1.005 ** np.arange(100)
    told = TRENDS["exponential"](history, np.array([20.0]))
    assert told[0] == pytest.approx(100 * 1.005**119, rel=0.01)


def test_a_damped_trend_gains_less_and_less() -> None:
    told = TRENDS["damped"](100 + 2.0 * np.arange(60), np.arange(1.0, 200))
    assert (np.diff(told) > 0).all()
    assert (np.diff(told, 2) < 0).all()


def test_of_many_laws_the_true_one_is_drawn_most() -> None:
    rng = np.random.default_rng(3)
    straight = NodeGrowth(draws=10).fit(None, 500 + 3 * np.arange(120) + rng.normal(0, 3, 120))
    assert straight.weights_[list(TRENDS).index("flat")] < 0.01
    level = NodeGrowth(draws=10).fit(None, 500 + rng.normal(0, 3, 120))
    assert level.predict([90])[0] == pytest.approx(500, abs=6)


@pytest.mark.parametrize("seed", range(4))
def test_a_step_is_found_where_it_is_and_as_large_as_it_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    history = 1000 + 0.5 * np.arange(120) + rng.normal(0, 3, 120)
    history[70:] += 200
    found = level_steps(history)
    assert found.at.tolist() == [70]
    assert found.sizes[0] == pytest.approx(200, rel=0.05)
    assert abs(np.diff(found.removed(history))).max() < 30


def test_two_steps_of_either_sign_are_found() -> None:
    history = 1000 + np.random.default_rng(1).normal(0, 3, 150)
    history[40:] += 150
    history[110:] -= 100
    assert level_steps(history).sizes == pytest.approx([150, -100], rel=0.06)


@pytest.mark.parametrize(
    "history",
    [np.linspace(100, 900, 120), np.geomspace(100, 900, 120), np.full(50, 3.0),
     100 + 5.0 * np.maximum(np.arange(120) - 60, 0)],
    ids=["line", "exponential", "constant", "bend"],
)  # fmt: skip
def test_smooth_growth_has_no_steps(history: np.ndarray) -> None:
    assert len(level_steps(history).at) == 0


def test_a_pace_fades_slowly_as_growth_does() -> None:
    year, fade = 365.0, CALIBRATED.fade
    lasting = 100 + 2.0 * (119 + np.array([7.0, year]))
    near, far = NodeGrowth(draws=10).fit(None, 100 + 2.0 * np.arange(120)).predict([7, year])
    assert near == pytest.approx(lasting[0], abs=0.05)
    # The mean pace: medians of three at both ends are 117 days apart
    pace = 2.0 * 117 / 120
    assert far == pytest.approx(lasting[1] + pace * year * (-np.expm1(-fade) / fade - 1))


def test_shrinking_fades_as_growing_does() -> None:
    told = [
        NodeGrowth(draws=10).fit(None, 1000 + way * np.arange(120)).predict([90])[0] - 1000
        for way in (2.0, -2.0)
    ]
    assert told[0] == pytest.approx(-told[1], rel=1e-6)
    assert told[0] < 2 * (119 + 90)


def test_a_season_that_repeats_is_found_and_noise_is_none() -> None:
    rng = np.random.default_rng(0)
    days = np.arange(90)
    weekly = 30.0 * (days % 7 < 5)
    found = season(500 + 2.0 * days + weekly + rng.normal(0, 2, 90), 1.0)
    assert len(found.profile) == 7
    assert np.ptp(found.profile) == pytest.approx(30, rel=0.15)
    assert len(season(500 + rng.normal(0, 5, 90), 1.0).profile) == 0
    hours = np.arange(24 * 10)
    daily = season(100 + 10 * np.sin(hours * 2 * np.pi / 24) + rng.normal(0, 1, 240), 24.0)
    assert len(daily.profile) == 24


def test_a_forecast_keeps_the_days_of_the_week() -> None:
    days = np.arange(84)
    model = NodeGrowth(draws=100).fit(None, 500 + 50.0 * (days % 7 < 5))
    told = np.median(model.paths(14), axis=0)
    assert told == pytest.approx(500 + 50.0 * (np.arange(84, 98) % 7 < 5), rel=0.02)


def test_one_broken_scrape_moves_nothing() -> None:
    history = 500 + 1.0 * np.arange(100)
    clean = NodeGrowth(draws=50).fit(None, history).paths(60)
    history[55] = 3.0
    assert NodeGrowth(draws=50).fit(None, history).paths(60) == pytest.approx(clean, rel=0.02)


def test_a_jagged_past_gives_wider_paths_than_a_smooth_one() -> None:
    smooth = 500 + 2.0 * np.arange(100)
    jagged = smooth + 40 * np.sin(np.arange(100) / 9)
    widths = [
        np.ptp(np.quantile(NodeGrowth(draws=200).fit(None, h).paths(60)[:, -1], [0.05, 0.95]))
        for h in (smooth, jagged)
    ]
    assert widths[1] > widths[0]


@settings(max_examples=10)
@given(factor=st.floats(2, 50), seed=st.integers(0, 20))
def test_counts_times_ten_give_paths_times_ten(factor: float, seed: int) -> None:
    history = 400 + np.cumsum(np.random.default_rng(seed).normal(1, 4, 60))
    one = NodeGrowth(draws=20, seed=seed).fit(None, history).predict([20])
    assert NodeGrowth(draws=20, seed=seed).fit(None, factor * history).predict(
        [20]
    ) == pytest.approx(factor * one, rel=1e-6)


def test_noise_a_walk_and_a_walking_pace_are_told_apart() -> None:
    rng = np.random.default_rng(5)
    noise, walk = rng.normal(0, 3, 600), np.cumsum(rng.normal(0, 3, 600))
    paces = np.cumsum(np.cumsum(rng.normal(0, 0.1, 600)))
    line = 1000 + 2.0 * np.arange(600)
    assert wander(line) == (0.0, 0.0)
    assert max(wander(line + noise)) < 0.2
    assert wander(line + walk)[0] == pytest.approx(9, rel=0.35)
    assert wander(line + walk)[1] < 0.01
    assert wander(line + paces + noise)[1] == pytest.approx(0.01, rel=0.6)


def test_past_steps_make_every_law_skewed_to_more_steps() -> None:
    history = 1000 + np.random.default_rng(0).normal(0, 2, 160)
    for at in (30, 70, 110, 140):
        history[at:] += 120
    model = NodeGrowth(draws=800).fit(None, history)
    smooth = NodeGrowth(draws=800).fit(None, model.steps_.removed(history) + 3 * np.arange(160))
    widths = [np.ptp(np.quantile(m.paths(60)[:, -1], [0.05, 0.95])) for m in (model, smooth)]
    # 2.4 steps of 120 are to come in 60 days, Poisson-like: sd 120 * sqrt(1.5) and more
    assert widths[0] > 2 * 120
    assert widths[0] > 1.5 * widths[1]
