"""How far laws bend is read off histories: straight ones narrow intervals, bent ones widen them."""

from __future__ import annotations

import numpy as np
import pytest

from capacity.models import LinearDrivers
from capacity.models.bend import Bend, bend, bend_spread
from capacity.models.linear_drivers import EXTRAPOLATION_SD


def history(power: float, seed: int = 0, grown: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Nodes, and what their power beyond the first half makes of a line."""
    nodes = np.linspace(100, 100 * grown, 80)
    reach = np.maximum(nodes / nodes[:40].max(), 1.0)
    noise = np.random.default_rng(seed).normal(0, 2, 80)
    return nodes, 50 + 4 * nodes * reach**power + noise


@pytest.mark.parametrize("power", [-0.3, 0.0, 0.3])
def test_a_bend_is_told_as_it_was_made(power: float) -> None:
    nodes, y = history(power)
    told = bend(LinearDrivers(), nodes[:, None], y, nodes)
    assert told is not None
    assert told.bend == pytest.approx(power, abs=0.05 + 2 * told.doubt)
    assert told.reach == pytest.approx(1.46, abs=0.05)


def test_a_history_that_hardly_grew_or_is_short_tells_no_bend() -> None:
    nodes, y = history(0.0, grown=1.1)
    assert bend(LinearDrivers(), nodes[:, None], y, nodes) is None
    nodes, y = history(0.0)
    assert bend(LinearDrivers(), nodes[::8, None], y[::8], nodes[::8]) is None


def test_straight_histories_narrow_the_judgment_and_bent_ones_widen_it() -> None:
    straight = [Bend(0.0, 0.02, 1.5)] * 12
    bent = [Bend(g, 0.02, 1.5) for g in np.random.default_rng(0).normal(0, 0.4, 12)]
    assert bend_spread(straight) < 0.06
    assert bend_spread(bent) == pytest.approx(np.std([b.bend for b in bent]), rel=0.2)
    assert bend_spread([]) == EXTRAPOLATION_SD


def test_bends_that_are_hardly_known_leave_the_judgment() -> None:
    assert bend_spread([Bend(0.0, 2.0, 1.2)] * 12) == pytest.approx(EXTRAPOLATION_SD, rel=0.2)


def test_a_narrow_bend_gives_a_narrow_interval_beyond_the_data() -> None:
    nodes, y = history(0.0)
    widths = []
    for spread in (0.02, 0.15):
        model = LinearDrivers(bend=spread).fit(nodes[:, None], y)
        drawn = model.sample(np.array([[600.0]]), reach=[2.0])
        widths.append(np.ptp(np.quantile(drawn, [0.05, 0.95])))
    assert widths[0] < 0.3 * widths[1]
