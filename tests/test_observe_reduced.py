from __future__ import annotations

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from capacity.observe.reduced import reduced, times_of


def test_the_size_of_a_part_changes_nothing() -> None:
    # Five targets of two series each: gauges, counters that reset, copies; shuffled samples
    rng = np.random.default_rng(0)
    series = np.repeat(np.arange(10, dtype=np.uint32), 40)
    minutes = np.tile(np.arange(40), 10) * 60_000
    values = np.where(series < 6, rng.uniform(0, 9, 400), np.tile(np.arange(40) % 17, 10))
    samples = pl.DataFrame({"series": series, "time": minutes, "value": values}).with_columns(
        pl.col("time").cast(pl.Datetime("ms", "UTC")), pl.col("value").cast(pl.Float64)
    )
    keyed = pl.DataFrame(
        {
            "series": np.arange(10, dtype=np.uint32),
            "target": np.repeat(np.arange(5, dtype=np.uint32), 2),
            "kind": ["gauge"] * 6 + ["counter"] * 4,
            "scale": [1.0, 2.0] * 5,
        }
    )
    copied = pl.DataFrame({"series": [4, 5], "copy": [1, 1]}).cast(pl.UInt32)
    mixed = samples.sample(fraction=1.0, shuffle=True, seed=1)
    whole = reduced(samples, keyed, copied, 600.0)
    for part in (1, 100, 399):
        again = reduced(mixed, keyed, copied, 600.0, part)
        assert_frame_equal(again, whole, check_row_order=False)
    assert whole["target"].n_unique() == 5
    assert len(whole) == 5 * 4


def test_only_times_of_series_that_tell_something_count() -> None:
    samples = pl.DataFrame({"series": [0, 1, 1], "time": [1, 2, 3], "value": [0.0, 0.0, 0.0]})
    assert times_of(samples, pl.DataFrame({"series": [1]})).sort().to_list() == [2, 3]
