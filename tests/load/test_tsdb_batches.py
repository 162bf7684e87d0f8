"""A block in batches gives what the block as frames gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from capacity.load import read, tsdb_batches
from capacity.load.gather import Selection
from capacity.tables import SERIES
from tests.prometheus_server import write_blocks

LABELS = [key for key in SERIES.schema if key != "series"]
ODD = r'up{pod="a",path="C:\\x \"quoted\" ü\nnext",zone="1",cluster="north"}'


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # More series than a batch holds chunks, one of them longer than a chunk
    series = [(ODD, range(0, 6_000_000, 15_000), range(400))]
    series += [(f'up{{pod="p{k:03d}"}}', range(0, 60_000, 15_000), range(k, k + 4))
               for k in range(600)]  # fmt: skip
    moved = [(text, [1_790_000_000_000 + t for t in at], list(map(float, values)))
             for text, at, values in series]  # fmt: skip
    folder = tmp_path_factory.mktemp("block")
    data = write_blocks(moved, folder, "--max-block-duration=48h")
    (found,) = (path for path in data.iterdir() if (path / "index").exists())
    return found


def kept(*told: object) -> tuple[np.ndarray, ...]:
    return tuple(np.array(one) for one in told)


def test_series_and_samples_are_those_of_the_whole_read(block: Path) -> None:
    whole = read(str(block))
    opened = tsdb_batches.opened(block, Selection())
    assert opened is not None
    assert (
        opened.series.select(LABELS).sort(LABELS).equals(whole.series.select(LABELS).sort(LABELS))
    )
    every = np.ones(len(opened.series), bool)
    start, end = 1_790_000_000_000, 1_790_000_030_000
    for low, high in ((0, 1 << 62), (start, end)):
        found = tsdb_batches.reduced(opened, every, low, high, kept)
        assert len(found) > 1
        rows = pl.concat(
            pl.DataFrame(
                {"series": np.repeat(series, np.diff(edges)), "at": times, "value": values}
            )
            for series, edges, times, values in found
        )
        told = rows.join(opened.series, on="series").select(*LABELS, "at", "value")
        at = pl.col("time").dt.epoch("ms")
        wanted = whole.samples.filter(at.is_between(low, high)).with_columns(at=at)
        named = wanted.join(whole.series, on="series").select(*LABELS, "at", "value")
        assert told.sort(*LABELS, "at").equals(named.sort(*LABELS, "at"))


def test_a_block_with_deleted_samples_or_a_broken_index_is_left_to_the_whole_read(
    block: Path, tmp_path: Path
) -> None:
    (tmp_path / "index").write_bytes(b"nothing")
    assert tsdb_batches.opened(tmp_path, Selection()) is None
    (tmp_path / "index").write_bytes((block / "index").read_bytes())
    assert tsdb_batches.opened(tmp_path, Selection()) is not None
    (tmp_path / "tombstones").write_bytes(b"\x01\x30\xba\x30\x01broken")
    assert tsdb_batches.opened(tmp_path, Selection()) is None
