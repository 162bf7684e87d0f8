"""Samples into order: the compiled way for many gives what the plain one does for few."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import SchemaError
from capacity.export import Metrics
from capacity.load import gather, order
from capacity.load.gather import Selection, Source, assemble
from capacity.load.labels import LABEL_COLUMNS, label_columns

Row = tuple[int, int, int | None, float]
SAMPLE = {"source": pl.UInt32, "series": pl.UInt32, "time": pl.Int64, "value": pl.Float64}
# Series 1 and 3 are the same
SERIES = pl.DataFrame(
    [label_columns({"__name__": name}) for name in ("a", "b", "c", "b", "d")],
    schema=dict.fromkeys(LABEL_COLUMNS, pl.String),
)


def assembled(rows: list[Row], selection: Selection, large: int, cuts: list[int]) -> Metrics:
    frame = pl.DataFrame(rows, schema=SAMPLE, orient="row")
    edges = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    parts = [frame[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "LARGE", large)
        sources = [Source("one", "x"), Source("two", "x")]
        return assemble(SERIES, pl.concat(parts, rechunk=False), sources, selection)


rows = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 4),
        st.integers(0, 6) | st.none(),
        st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf")]),
    ),
    max_size=30,
)
selections = st.sampled_from(
    [Selection(), Selection(start=2), Selection(end=3), Selection(start=1, end=4)]
)


@given(rows, selections, st.lists(st.integers(0, 30), max_size=3))
def test_many_samples_are_ordered_as_few_are(
    told: list[Row], selection: Selection, cuts: list[int]
) -> None:
    few = assembled(told, selection, 1_000, cuts)
    many = assembled(told, selection, 0, cuts)
    for name in ("series", "samples", "sources"):
        assert getattr(many, name).equals(getattr(few, name)), name


@given(rows, selections)
def test_the_last_told_sample_of_a_series_and_time_is_kept(
    told: list[Row], selection: Selection
) -> None:
    made = assembled(told, selection, 0, [])
    names = ["a", "b", "c", "b", "d"]
    wanted: dict[tuple[str, int], float] = {}
    for _, series, time, value in told:
        is_wanted = (
            time is not None
            and pl.DataFrame({"t": [time]}).select(selection.holds(pl.col("t"))).item()
        )
        if time is not None and is_wanted and value == value:
            wanted[names[series], time] = value
    joined = made.samples.join(made.series, on="series")
    kept = joined.select("metric", pl.col("time").dt.epoch("ms"), "value").rows()
    assert {(metric, time): value for metric, time, value in kept} == wanted
    assert len(kept) == len(wanted)
    assert made.samples.equals(made.samples.sort("series", "time"))


def test_samples_in_order_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(gather, "LARGE", 0)
    monkeypatch.setattr(order, "placed", never)
    told = pl.DataFrame(
        [(0, 0, 1, 1.0), (0, 0, 2, 2.0), (1, 2, 1, 3.0)], schema=SAMPLE, orient="row"
    )
    made = assemble(SERIES, told, [Source("one", "x"), Source("two", "x")], Selection())
    assert made.samples["value"].to_list() == [1.0, 2.0, 3.0]
    assert made.series["metric"].to_list() == ["a", "c"]
    assert made.sources["kept"].to_list() == [2, 1]


@pytest.mark.parametrize("row", [(2, 0, 1, 1.0), (0, 5, 1, 1.0)])
def test_a_sample_of_nothing_that_is_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, row: Row
) -> None:
    monkeypatch.setattr(gather, "LARGE", 0)
    told = pl.DataFrame([row], schema=SAMPLE, orient="row")
    with pytest.raises(SchemaError, match="a series or a source that is not there"):
        assemble(SERIES, told, [Source("one", "x"), Source("two", "x")], Selection())


def test_source_frames_of_unequal_parts_are_taken() -> None:
    told = pl.DataFrame([(0, 0, t, float(t)) for t in range(10)], schema=SAMPLE, orient="row")
    uneven = told.with_columns(
        value=pl.concat([told["value"][:3], told["value"][3:]], rechunk=False)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "LARGE", 0)
        made = assemble(SERIES, uneven, [Source("one", "x")], Selection())
    assert made.samples["value"].to_list() == list(map(float, range(10)))
    assert replace(made).series["metric"].to_list() == ["a"]


def test_a_million_samples_in_any_order_are_ordered() -> None:
    rng = np.random.default_rng(1)
    count = 300_000
    told = pl.DataFrame(
        {"source": np.zeros(count, np.uint32), "series": rng.integers(0, 5, count, np.uint32),
         "time": rng.permutation(count).astype(np.int64), "value": rng.random(count)}
    )  # fmt: skip
    made = assemble(SERIES, told, [Source("one", "x")], Selection())
    key = pl.col("series").replace_strict([0, 1, 2, 3, 4], [0, 1, 2, 1, 3], return_dtype=pl.UInt32)
    wanted = told.select(key, "time", "value").sort("series", "time")
    assert made.samples["value"].equals(wanted["value"])
