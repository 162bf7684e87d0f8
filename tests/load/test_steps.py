"""A step thins text while it is read, and gives what thinning after reading does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import capacity
from capacity.load import exposition, line_blocks
from capacity.load.gather import Selection
from capacity.load.lines import Told
from capacity.load.steps import Thinner

_SAMPLE = st.tuples(
    st.sampled_from(['a{x="1"}', 'a{x="2"}', "b_total", "b_created", "c"]),
    st.one_of(st.just("NaN"), st.integers(-5, 5).map(str)),
    st.integers(0, 400),
)
_WIDTH = 60


def text_of(samples: Sequence[tuple[str, str, int]], form: str) -> str:
    if form == "dump":
        told = (
            (f'{{__name__="{name}"}}' if "{" not in name else '{__name__="a", ' + name[2:], value,
             1_700_000_000_000 + time * 1000)
            for name, value, time in samples
        )  # fmt: skip
        return "".join(f"{name} {value} {time}\n" for name, value, time in told)
    lines = (f"{name} {value} {1_700_000_000 + time}\n" for name, value, time in samples)
    return "# TYPE a gauge\n" + "".join(lines) + "# EOF\n"


def last_of_each_step(metrics: capacity.Metrics) -> pl.DataFrame:
    window = pl.col("time").dt.epoch("ms") // (_WIDTH * 1000)
    told = metrics.samples.join(metrics.series, on="series").sort("metric", "labels", "time")
    return (
        told.group_by("metric", "labels", window.alias("w"), maintain_order=True).last().drop("w")
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(_SAMPLE, min_size=1, max_size=60),
    st.sampled_from(["dump", "openmetrics"]),
    st.booleans(),
    st.one_of(st.none(), st.tuples(st.integers(0, 200), st.integers(200, 400))),
)
def test_thinning_while_reading_gives_what_thinning_afterwards_does(
    samples: list[tuple[str, str, int]],
    form: str,
    in_order: bool,  # noqa: FBT001
    span: tuple[int, int] | None,
) -> None:
    # Each series and time once: of repeated ones those that are left out are not compared
    # One that is always kept, as a file without any is an error
    samples = [*samples, ("keep", "1", 200)]
    once = list({(name, time): (name, value, time) for name, value, time in samples}.values())
    once = sorted(once, key=lambda one: (one[0], one[2])) if in_order else once
    times = dict(zip(("start", "end"), (1_700_000_000 + t for t in span or ()), strict=False))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.om"
        path.write_text(text_of(once, form))
        whole = capacity.read(path, **times)  # type: ignore[arg-type]
        with (
            mock.patch.object(exposition, "SMALL", 0),
            mock.patch.object(line_blocks, "BLOCK", 99),
        ):
            thin = capacity.read(path, step=_WIDTH, **times)  # type: ignore[arg-type]
    order = ["metric", "labels", "time"]
    got = thin.samples.join(thin.series, on="series").select(*order, "value").sort(order)
    assert got.equals(last_of_each_step(whole).select(*order, "value").sort(order))
    counts = ["read", "kept", "refused", "reason"]
    assert thin.sources.select(counts).equals(whole.sources.select(counts))


@pytest.mark.parametrize("is_in_ms", [True, False])
def test_a_series_in_order_is_thinned_at_once(*, is_in_ms: bool) -> None:
    times = (1_699_999_980 + np.arange(4_000) * 15).astype(np.float64)
    zeros = np.zeros(4_000, np.uint32)
    told = Told(zeros, zeros, np.ones(4_000), times * (1000 if is_in_ms else 1))
    thinner = Thinner(Selection(step=_WIDTH * 1000), np.zeros(1, np.int64), is_in_ms)
    stay = thinner.thinned(told, np.zeros(4_000, np.bool_))
    assert len(stay.values) + len(thinner.rest().values) == 1_000
    assert thinner.left_out.tolist() == [3_000]
