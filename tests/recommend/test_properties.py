"""Properties of all kinds of recommendations: made from a recording, under any settings there are.

The recording is fitted once; what is set, the node count and the headroom are drawn.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capacity import facts, observing, planning, shipped
from capacity.cilium.map_sizes import validate
from capacity.forecast import Fitted
from capacity.forecast_tables import exhaustion_row, rank
from capacity.growth import Growth, grow
from capacity.recommend import Present, Situation, present, recommend
from capacity.recommend.present import option_of
from capacity.recommend.together import options_after
from capacity.settings import PlanSettings
from capacity.tables import CHANGES

VERSION = "1.17"


class Lab:
    """What a plan of the recorded agent knows before anything is recommended."""

    # No dataclass: hypothesis would print it whole with every failing example
    def __init__(
        self, fitted: list[Fitted], growth: Growth, exhaustion: pl.DataFrame, there: Situation,
        asked: PlanSettings,
    ) -> None:  # fmt: skip
        self.fitted, self.growth, self.exhaustion = fitted, growth, exhaustion
        self.situation, self.settings = there, asked

    def advice(self, now: Present, nodes: int, headroom: float) -> pl.DataFrame:
        asked = dataclasses.replace(self.settings, nodes=(nodes,), headroom=headroom)
        there = dataclasses.replace(self.situation, present=now)
        return recommend(self.fitted, self.exhaustion, self.growth, asked, there)


@pytest.fixture(scope="module")
def lab() -> Lab:
    asked = PlanSettings(str(shipped.path("data", "lab")), nodes=(500,), cilium=VERSION)

    def say(name: str, share: float) -> None:
        return

    seen = observing.observed(asked, say)
    growth = grow(seen.drivers, asked)
    fitted, gaps = planning._fit_all(seen, growth, asked, say)
    assert not gaps
    table = rank([exhaustion_row(item, growth, asked) for item in fitted])
    now = present(seen.steps, seen.inventory, VERSION, 32 << 30)
    return Lab(fitted, growth, table, Situation(now, seen.steps, "history", 30.0), asked)


def applied(now: Present, advice: pl.DataFrame) -> Present:
    """Set what the rows tell, as Helm would: sizes, and options of the agent."""
    rows = advice.filter(pl.col("status").is_in(CHANGES)).to_dicts()
    sizes = {row["setting"]: float(row["target"]) for row in rows}
    options = options_after(rows, now)
    return dataclasses.replace(now, sizes={**now.sizes, **sizes}, options=options)


MAPS = ("bpf.policyMapMax", "bpf.lbMapMax", "bpf.ctTcpMax", "bpf.ctAnyMax", "bpf.natMax")
RESOURCES = ("resources.limits.memory", "resources.requests.memory", "resources.limits.cpu",
             "resources.requests.cpu")  # fmt: skip
sets = st.fixed_dictionaries(
    {},
    optional={name: st.integers(8, 24) for name in MAPS}
    | {name: st.integers(20, 36) for name in RESOURCES if name.endswith("memory")}
    | {name: st.integers(3, 14) for name in RESOURCES if name.endswith("cpu")},
)


def now_of(lab: Lab, told: dict[str, int]) -> Present:
    """Give what is set: powers of two, maps as explicit options too."""
    sizes = {name: float(1 << bits) for name, bits in told.items()}
    if "bpf.policyMapMax" in sizes:
        sizes["bpf.policyMapMax"] = min(sizes["bpf.policyMapMax"], 65536.0)
    options = {
        option_of(name, VERSION): str(int(size)) for name, size in sizes.items() if name in MAPS
    }
    known = {name: value for name, value in options.items() if name is not None}
    return dataclasses.replace(lab.situation.present, sizes=sizes, options=known)


drawn = given(told=sets, nodes=st.integers(1, 20_000), headroom=st.sampled_from([0.0, 0.2, 0.5]))
few = settings(max_examples=10)


@few
@drawn
def test_applied_recommendations_ask_for_nothing_more(
    lab: Lab, told: dict[str, int], nodes: int, headroom: float
) -> None:
    now = now_of(lab, told)
    first = lab.advice(now, nodes, headroom)
    again = lab.advice(applied(now, first), nodes, headroom)
    left = again.filter(pl.col("status").is_in(CHANGES))
    assert left.is_empty(), left.select("setting", "current", "target", "status", "reason").rows()


@few
@drawn
# NAT set larger than the tables it needs, in an export without a metric of it
@example(told={"bpf.natMax": 19, "bpf.ctAnyMax": 8, "bpf.ctTcpMax": 8}, nodes=1, headroom=0.0)
def test_every_row_is_sound_whatever_is_set(
    lab: Lab, told: dict[str, int], nodes: int, headroom: float
) -> None:
    now = now_of(lab, told)
    advice = lab.advice(now, nodes, headroom)
    before = {one.message for one in validate(now.options, version=VERSION)}
    after = validate(options_after(advice.to_dicts(), now), version=VERSION)
    assert [one for one in after if one.level == "error" and one.message not in before] == []
    caps = facts.options(VERSION).drop_nulls("max")
    most = dict(caps.select("helm_value", pl.col("max").cast(pl.Float64)).iter_rows())
    for row in advice.iter_rows(named=True):
        sound(row, most)


def sound(row: dict[str, Any], most: dict[str, float]) -> None:
    status, target, current = row["status"], row["target"], row["current"]
    if status == "redesign":
        # Never "increase X" where nothing increases it: what to do instead is told
        assert target is None
        assert row["setting"].startswith("(no setting)")
        assert "cluster" in row["alternative"] or "fewer" in row["alternative"]
    if status in CHANGES:
        assert not row["setting"].startswith("(")
        assert target <= most.get(row["setting"], float("inf"))
        assert row["side_effect"]
        assert row["alternative"]
        assert row["cost"] is not None
    if status == "raise":
        assert target > current
    if status == "lower":
        # A restart is worth a quarter at least, and it gives something back
        assert target <= 0.75 * current
        assert row["cost"] < 0
        assert row["cost_total"] <= row["cost"]


@few
@given(told=sets, one=st.integers(1, 20_000), other=st.integers(1, 20_000))
def test_more_nodes_never_get_a_smaller_size(
    lab: Lab, told: dict[str, int], one: int, other: int
) -> None:
    now = now_of(lab, told)
    less, more = (lab.advice(now, nodes, 0.2) for nodes in sorted((one, other)))
    sized = pl.col("target").is_not_null() & (pl.col("status") != "error")
    keys = ["component", "subject", "setting"]
    pairs = less.filter(sized).join(more.filter(sized), on=keys, nulls_equal=True)
    falling = pairs.filter(pl.col("target_right") < pl.col("target"))
    assert falling.is_empty(), falling.select(*keys, "target", "target_right").rows()
