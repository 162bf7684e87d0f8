from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from capacity.recommend.steps import Target, sized

needs = st.floats(1, 1e7)
currents = st.one_of(st.none(), st.floats(1, 1e7))
headrooms = st.floats(0, 0.9)
units = st.sampled_from(["1", "byte", "millicore"])
lowests = st.one_of(st.none(), st.floats(0, 1e6))


def value(
    need: float,
    current: float | None,
    headroom: float,
    unit: str,
    lowest: float | None = 0.0,
    upper: float | None = None,
) -> float:
    return sized(Target(need, need, current, upper, headroom, unit, lowest)).value


@given(needs, currents, headrooms, units, lowests)
def test_a_target_holds_the_need_with_half_the_headroom_at_least(
    need: float, current: float | None, headroom: float, unit: str, lowest: float | None
) -> None:
    told = value(need, current, headroom, unit, lowest)
    assert told * (1 - headroom / 2) >= need * (1 - 1e-9)
    if current is None:
        assert told * (1 - headroom) >= need * (1 - 1e-9)
    if lowest is None:
        assert told >= (current or 0)


@given(needs, needs, currents, headrooms, units, lowests)
def test_more_load_never_gets_less(
    one: float, other: float, current: float | None, headroom: float, unit: str, lowest: float
) -> None:
    less, more = sorted((one, other))
    assert value(less, current, headroom, unit, lowest) <= value(
        more, current, headroom, unit, lowest
    )


@given(needs, currents, headrooms, units, lowests)
def test_what_was_applied_is_left_alone(
    need: float, current: float | None, headroom: float, unit: str, lowest: float | None
) -> None:
    once = value(need, current, headroom, unit, lowest)
    assert value(need, once, headroom, unit, lowest) == once


@given(needs, currents, headrooms, units)
def test_a_change_is_worth_a_restart(
    need: float, current: float | None, headroom: float, unit: str
) -> None:
    told = value(need, current, headroom, unit)
    if current is None or told == current:
        return
    if told < current:
        assert told <= 0.75 * current
    else:
        assert need > current * (1 - headroom / 2) * (1 - 1e-9)


@given(needs, st.floats(1, 1e6), currents)
def test_a_target_stays_within_what_cilium_accepts(
    need: float, upper: float, current: float | None
) -> None:
    assert value(need, current, 0.2, "1", upper=upper) <= upper


@given(needs)
def test_sizes_are_rounded_as_their_unit_wants(need: float) -> None:
    entries = value(need, None, 0.0, "1")
    assert math.log2(entries) % 1 == 0
    assert need <= entries < 2 * need + 2
    assert value(need, None, 0.0, "byte") % (64 << 20) == 0
    assert value(need, None, 0.0, "millicore") % 10 == 0
