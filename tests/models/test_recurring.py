"""Seasons of a quantity beside its drivers, and how an offset dies out."""

from __future__ import annotations

import numpy as np
import pytest

from capacity.models.linear_drivers import LinearDrivers
from capacity.models.recurring import recurring
from capacity.models.seasons import season


def traffic(days: int, per_day: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Entries that follow growing nodes, a quarter less at weekends; and their law."""
    at = np.arange(days * per_day) / per_day
    law = 20.0 * (500 + 3 * at)
    week = np.where(at % 7 < 5, 1.0, 0.75)
    noise = np.random.default_rng(seed).normal(1, 0.02, len(at))
    return law * week * noise, law


def test_a_weekend_is_a_share_of_what_grows() -> None:
    values, law = traffic(56)
    found = recurring(np.arange(56.0)[::-1], values, law, 1.0)
    ahead = found.factor(np.arange(1.0, 8))  # days 56…62: a Monday first
    assert ahead[5:].mean() / ahead[:5].mean() == pytest.approx(0.75, abs=0.03)
    assert found.factor(np.array([-1.0, 0.0])) == pytest.approx(ahead[5:], abs=1e-12)


def test_gaps_of_a_history_do_not_shift_its_week() -> None:
    values, law = traffic(70)
    kept = np.random.default_rng(1).random(70) > 0.2
    kept[-1] = True
    found = recurring(np.arange(70.0)[::-1][kept], values[kept], law[kept], 1.0)
    ahead = found.factor(np.arange(1.0, 8))
    assert ahead[5:].mean() / ahead[:5].mean() == pytest.approx(0.75, abs=0.05)


def test_noise_has_no_season() -> None:
    noise = np.random.default_rng(0).normal(100, 5, 60)
    assert len(recurring(np.arange(60.0)[::-1], noise, np.full(60, 100.0), 1.0).season.profile) == 0


def test_a_week_of_hours_is_told_from_days_and_hours() -> None:
    hours = np.arange(24 * 28)
    day = 10 * np.sin(2 * np.pi * hours / 24)
    week = np.where(hours // 24 % 7 < 5, 0.0, -8.0)
    noise = np.random.default_rng(0).normal(0, 4, len(hours))
    found = season(day + week + noise, 24.0)
    assert len(found.profile) == 168
    true = (day + week)[:168] - (day + week)[:168].mean()
    # A profile of four values an hour of the week would be off by half of the noise
    assert np.std(found.profile - true) < 1.2


def test_what_a_profile_took_widens_the_residuals() -> None:
    x = np.arange(40.0)[:, None]
    y = 5 * x[:, 0] + np.random.default_rng(0).normal(0, 1, 40)
    plain, spent = (LinearDrivers(draws=20, spent=s).fit(x, y) for s in (0.0, 11.0))
    wider = spent.residuals_.std() / plain.residuals_.std()
    assert wider == pytest.approx(np.sqrt(51 / 40 * 38 / 27), rel=0.02)


def ar(pace: float, rows: int = 300) -> np.ndarray:
    rng, out = np.random.default_rng(4), np.zeros(rows)
    for i in range(1, rows):
        out[i] = pace * out[i - 1] + rng.normal()
    return out


def test_an_offset_that_dies_out_is_forecast_to_die_out() -> None:
    x = np.linspace(0, 10, 300)[:, None]
    model = LinearDrivers(draws=2000).fit(x, 1000 + 30 * x[:, 0] + ar(0.8))
    first, lasting = model.memory_
    assert first == pytest.approx(0.8, abs=0.08)
    assert lasting == pytest.approx(0.8, abs=0.1)
    told = model.sample(np.full((3, 1), 10.0), ahead=np.array([1.0, 5.0, 60.0]))
    widths = told.std(axis=0)
    # One step ahead of an AR(1) sqrt(1 - 0.8^2) of the noise is left, far ahead all of it
    assert widths[0] / widths[2] == pytest.approx(0.6, abs=0.12)
    assert widths[0] < widths[1] < widths[2]


def test_noise_without_memory_is_as_wide_tomorrow_as_in_a_year() -> None:
    x = np.linspace(0, 10, 200)[:, None]
    y = 1000 + 30 * x[:, 0] + np.random.default_rng(0).normal(0, 5, 200)
    told = LinearDrivers(draws=4000).fit(x, y).sample(np.full((2, 1), 10.0), ahead=[1.0, 365.0])
    assert told[:, 0].std() / told[:, 1].std() == pytest.approx(1, abs=0.08)
