"""Scores and the rules of other tools, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.models.peers import PEERS
from capacity.models.scoring import inside, pinball, skill

DAYS = np.arange(-60.0, 1.0)
AHEAD = np.array([1.0, 30.0])


def test_pinball_loss_of_the_median_is_half_the_error() -> None:
    assert pinball(np.array([10.0, 4.0]), np.array([[7.0], [7.0]]), (0.5,)).tolist() == [1.5, 1.5]


def test_a_high_quantile_that_is_passed_costs_more_than_one_that_is_not_reached() -> None:
    loss = pinball(np.array([12.0, 8.0]), np.array([[10.0], [10.0]]), (0.99,))
    assert loss == pytest.approx([0.99 * 2, 0.01 * 2])


@given(st.floats(-3, 3))
def test_the_true_quantile_has_the_least_loss(shift: float) -> None:
    truth = np.random.default_rng(0).normal(size=4000)
    best = np.quantile(truth, 0.95)
    losses = [pinball(truth, np.full((4000, 1), q), (0.95,)).mean() for q in (best, best + shift)]
    assert losses[0] <= losses[1] + 1e-9


def test_coverage_and_skill_are_shares() -> None:
    assert inside(np.array([1.0, 5.0]), np.zeros(2), np.full(2, 3.0)) == 0.5
    assert skill(1.0, 4.0) == 0.75
    assert skill(1.0, 0.0) is None


def test_of_a_straight_history_both_lines_tell_what_comes() -> None:
    for name in ("predict_linear", "straight line"):
        assert PEERS[name](DAYS, 300 + 2 * DAYS, AHEAD) == pytest.approx([302, 360]), name
    assert PEERS["naive"](DAYS, 300 + 2 * DAYS, AHEAD).tolist() == [300, 300]


def test_predict_linear_sees_seven_days_only() -> None:
    values = np.where(DAYS < -7, 1e6, 10.0)
    assert PEERS["predict_linear"](DAYS, values, AHEAD) == pytest.approx([10, 10])


def test_krr_asks_for_the_peak_of_fourteen_days_and_15_percent() -> None:
    values = np.full(len(DAYS), 100.0)
    values[DAYS == -10] = 200.0
    values[DAYS == -20] = 900.0
    assert PEERS["KRR"](DAYS, values, AHEAD) == pytest.approx([230, 230])


def test_vpa_asks_for_a_bucket_above_the_recent_peaks_and_15_percent() -> None:
    values = np.full(len(DAYS), 4e8)
    told = PEERS["VPA"](DAYS, values, AHEAD)[0]
    assert 1.15 * 4e8 <= told <= 1.15 * 4e8 * 1.05
