"""Laws of scaling against the reference program, known truths, and published curves."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.errors import ModelError
from capacity.facts import lb
from capacity.models.usl import LAWS, Scaling, capacity_at, choose

# SPEC SDM91 on a Sun SPARCcenter 2000: N. J. Gunther, Guerrilla Capacity Planning (2007), data of
# R package usl 2.0.0, whose tests give α 0.02773, β 1.044e-4, γ 90.0, peak 96.52 (smoeding/usl,
# tests/summary.Rout.save). Ours weighs odd points less: within 3 %.
LOAD = [1, 18, 36, 72, 108, 144, 216]
SCRIPTS = [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2]
# What is not reproduced within 5 %, and why (docs/throughput.md)
APART = {"DPDK rxonly": "five points: too few to prefer a law with a peak"}
CURVES = lb.published().filter(~pl.col("holdout"), quantity="rate")


def test_the_fit_is_that_of_the_r_package_usl() -> None:
    model = Scaling("usl", relative=False).fit(LOAD, SCRIPTS)
    assert model.parameters_["alpha"] == pytest.approx(0.02773, rel=0.03)
    assert model.parameters_["beta"] == pytest.approx(1.044e-4, rel=0.04)
    assert model.parameters_["gamma"] == pytest.approx(90.0, rel=0.03)
    assert model.peak_ == pytest.approx(96.52, rel=0.03)
    assert Scaling("amdahl", relative=False).fit(LOAD[:3], SCRIPTS[:3]).limit_ > SCRIPTS[2]


def test_peak_and_limit_follow_from_coefficients() -> None:
    # The same package: peak.scalability(u, 0.001, 0.00001) = 316.0696
    n = np.arange(1.0, 600, 20)
    model = Scaling("usl").fit(n, capacity_at(n, 0.001, 1e-5, 90.0))
    assert model.peak_ == pytest.approx(316.0696, rel=1e-3)
    amdahl = Scaling("amdahl").fit(n, capacity_at(n, 0.001, 0.0, 90.0))
    assert amdahl.limit_ == pytest.approx(90_000, rel=1e-3)


@settings(max_examples=20)
@given(st.floats(0.001, 0.2), st.floats(0.0005, 0.02), st.floats(1.0, 1e7))
def test_exact_curves_give_their_parameters_back(alpha: float, beta: float, gamma: float) -> None:
    n = np.arange(1.0, 17)
    told = Scaling("usl").fit(n, capacity_at(n, alpha, beta, gamma)).parameters_
    assert list(told.values()) == pytest.approx([alpha, beta, gamma], rel=0.02, abs=1e-6)


def test_one_odd_point_bends_nothing() -> None:
    n = np.arange(1.0, 13)
    rate = capacity_at(n, 0.03, 0.001, 5e6)
    clean = Scaling("usl").fit(n, rate).predict(n)
    rate[5] *= 0.5
    assert Scaling("usl").fit(n, rate).predict(n) == pytest.approx(clean, rel=0.03)


def test_the_90_percent_interval_covers_about_90_percent() -> None:
    inside = []
    n = np.arange(1.0, 9)
    truth = capacity_at(n, 0.03, 0.002, 5e6)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        seen, new = (truth * (1 + rng.normal(0, 0.01, 8)) for _ in range(2))
        low, high = Scaling("usl", draws=200, seed=seed).fit(n, seen).interval(n)
        inside.append(np.mean((low <= new) & (new <= high)))
    assert 0.84 <= float(np.mean(inside)) <= 0.97


@pytest.mark.parametrize(
    ("law", "truth"),
    [
        ("linear", lambda n: 5e6 * n),
        ("amdahl", lambda n: capacity_at(n, 0.06, 0.0, 5e6)),
        ("usl", lambda n: capacity_at(n, 0.02, 0.004, 5e6)),
        ("ceiling", lambda n: np.minimum(5e6 * n, 4e7)),
    ],
)
def test_the_evidence_prefers_the_law_that_made_the_curve(law: str, truth: object) -> None:
    n = np.arange(1.0, 17)
    noise = 1 + np.random.default_rng(3).normal(0, 0.005, 16)
    assert choose(n, truth(n) * noise).model.law == law  # type: ignore[operator]


def test_nothing_is_told_beyond_the_data_unless_asked_and_then_more_widely() -> None:
    n = np.arange(1.0, 7)
    model = Scaling("linear").fit(n, 5e6 * n * (1 + np.random.default_rng(0).normal(0, 0.01, 6)))
    with pytest.raises(ModelError, match="beyond the 6 that was measured"):
        model.predict([7])
    with pytest.raises(ModelError, match="beyond"):
        model.interval([7])
    near, far = (model.interval([k], extrapolate=True) for k in (6, 60))
    assert far[1] / far[0] > 1.5 * near[1] / near[0]
    assert model.predict([12], extrapolate=True) == pytest.approx(6e7, rel=0.03)


@pytest.mark.parametrize("datapath", CURVES["datapath"].unique(maintain_order=True))
def test_published_curves_are_reproduced_by_the_law_of_the_evidence(datapath: str) -> None:
    rows = CURVES.filter(datapath=datapath)
    choice = choose(rows["cores"].to_numpy(), rows["value"].to_numpy())
    worst = choice.candidates[0].worst
    if datapath in APART:
        assert worst > 0.1, f"no longer apart: {APART[datapath]}"
        assert "no law here holds well" in choice.sentence()
    else:
        assert worst <= 0.05


@pytest.mark.parametrize("law", LAWS)
def test_too_few_points_and_values_that_are_no_rates_are_refused(law: str) -> None:
    with pytest.raises(ModelError, match="needed"):
        Scaling(law).fit([1], [5.0])
    with pytest.raises(ModelError, match="finite"):
        Scaling(law).fit([1, 2, 3, 4, 5], [1, 2, np.nan, 4, 5])
    with pytest.raises(ModelError, match="above 0"):
        Scaling(law).fit([1, 2, 3, 4, 5], [1, 2, 0, 4, 5])


def test_a_choice_needs_four_points() -> None:
    with pytest.raises(ModelError, match="at least 4"):
        choose([1, 2, 4], [1.0, 2.0, 4.0])
