"""Chances that memory passes a size, on peaks whose law is known."""

from __future__ import annotations

import tracemalloc

import numpy as np
import polars as pl
import pytest

from capacity.rightsizing.peaks import COLUMNS, HORIZON, chance_above, peak_law, share_above

DAY = 24
MI = float(1 << 20)


def law(peaks: np.ndarray) -> pl.DataFrame:
    """Fit rows of daily peaks; an hour of each day has the peak."""
    many, days = peaks.shape
    steps = np.tile(np.arange(days * DAY, dtype=np.int32), many)
    values = np.repeat(peaks, DAY, axis=1) * np.where(np.arange(days * DAY) % DAY == 7, 1, 0.5)
    offsets = np.arange(many + 1) * days * DAY
    told = peak_law(
        offsets, steps, values.ravel().astype(np.float32), np.arange(many), many, 3600.0
    )
    return pl.DataFrame(told).fill_nan(None)


@pytest.mark.parametrize(("spread", "often"), [(10, 0.0), (25, 0.06), (50, 0.2)])
def test_chances_are_as_often_true_as_told(spread: int, often: float) -> None:
    rng = np.random.default_rng(3)
    many = 3000
    seen = rng.gumbel(400 * MI, spread * MI, (many, 14))
    coming = rng.gumbel(400 * MI, spread * MI, (many, HORIZON)).max(axis=1)
    level = seen.max(axis=1) * 1.15
    told = law(seen).with_columns(level=level).select(chance_above(pl.col("level"))).to_series()
    happened = (coming > level).mean()
    assert happened == pytest.approx(often, abs=0.03)
    assert told.mean() == pytest.approx(happened, abs=0.02)


def test_a_trend_goes_on_and_a_heap_that_fills_up_has_none() -> None:
    rng = np.random.default_rng(5)
    day = np.arange(14)
    noise = rng.normal(1, 0.02, (3, 14))
    growing, steady = 400 * MI * 1.02**day, np.full(14, 400 * MI)
    heap = 400 * MI * (1 - 0.7 * np.exp(-day))
    told = law(np.array([growing, steady, heap]) * noise)
    slope = told["peak_slope"].to_list()
    assert slope[0] == pytest.approx((growing[-1] - growing[0]) / 13, rel=0.15)
    assert slope[1:] == [0.0, 0.0]
    assert told["peak_mode"][0] == pytest.approx(growing[-1], rel=0.05)


def test_a_sample_far_away_in_time_is_no_history_and_takes_no_memory() -> None:
    rng = np.random.default_rng(7)
    peaks = rng.normal(400 * MI, 20 * MI, (1, 30)).astype(np.float32)
    steps = np.arange(30, dtype=np.int32) * DAY
    before, after = np.array([-(10**8)], np.int32), np.array([10**8], np.int32)
    one = peaks.ravel()
    wanted = peak_law(np.array([0, 30]), steps, one, np.array([0]), 1, 3600.0)
    tracemalloc.start()
    told = peak_law(
        np.array([0, 32]), np.concatenate([before, steps, after]),
        np.concatenate([one[:1], one, one[:1]]), np.array([0]), 1, 3600.0,
    )  # fmt: skip
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20
    assert told["peak_scale"] == pytest.approx(wanted["peak_scale"])
    assert told["peak_slope"] == wanted["peak_slope"]


def test_less_than_five_days_tell_no_chance() -> None:
    told = law(np.full((1, 4), 400 * MI))
    assert told.select(COLUMNS).row(0)[0] is None
    assert told.select(chance_above(pl.lit(500 * MI))).item() is None


def test_the_share_above_falls_from_one_to_none() -> None:
    rng = np.random.default_rng(1)
    use = rng.gamma(4, 50, 20_000)
    known = {f"p{q}": [float(np.quantile(use, q / 100))] for q in (50, 90, 95, 99)}
    told = pl.DataFrame({**known, "largest": [float(use.max())]})
    levels = np.linspace(0, use.max() * 1.1, 60)
    shares = [told.select(share_above(pl.lit(level))).item() for level in levels]
    assert shares[0] == 1.0
    assert shares[-1] == 0.0
    assert all(more >= less for more, less in zip(shares, shares[1:], strict=False))
    true = np.array([(use > level).mean() for level in levels])
    above_median = levels >= np.median(use)
    assert np.abs(np.array(shares) - true)[above_median].max() < 0.06
