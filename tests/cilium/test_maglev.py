"""Maglev tables: equal to Cilium's own code, slot for slot."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from capacity.cilium.maglev import SEED, advice, lookup_table, moved, names, shares, table_sizes
from capacity.errors import SettingsError
from capacity.facts import VERSIONS

GOLDEN = Path(__file__).parents[1] / "golden" / "services" / "maglev.csv"
with GOLDEN.open(encoding="utf-8", newline="") as _file:
    ROWS = list(csv.DictReader(_file))


def difference(row: dict[str, str]) -> dict[str, Any]:
    """Name what is not as Cilium has it."""
    size, count, removed = int(row["m"]), int(row["backends"]), int(row["removed_id"]) - 1
    table = lookup_table(names(count), size, weights=[100] * count)
    own = shares(table, count)
    got = {
        "table_sha256_32": hashlib.sha256((table + 1).astype("<u4").tobytes()).hexdigest()[:32],
        "share_min": own.min(),
        "share_max": own.max(),
        "backends_without_slot": (own == 0).sum(),
    }
    if count > 1:
        got["slots_of_removed"] = own[removed]
        got["slots_changed_extra"] = moved(names(count), removed, size)
    return {name: value for name, value in got.items() if str(value) != row[name]}


def test_tables_shares_and_disruption_are_those_of_ciliums_own_code() -> None:
    wrong = {(row["m"], row["backends"]): difference(row) for row in ROWS}
    assert {key: told for key, told in wrong.items() if told} == {}


def test_all_recorded_tables_are_equal_where_they_are_beside_the_checkout(shared: Path) -> None:
    with (shared / "golden" / "maglev.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["m"]) < 2000]
    assert [row for row in rows[::5] if difference(row)] == []


def test_equal_weights_change_nothing_and_others_share_in_proportion() -> None:
    assert (lookup_table(names(7), 1021) == lookup_table(names(7), 1021, weights=[9] * 7)).all()
    own = shares(lookup_table(names(3), 16381, weights=[100, 200, 300]), 3)
    assert own / own.sum() == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.005)


@given(st.permutations(range(12)), st.sampled_from([251, 509]))
@limits(max_examples=15)
def test_the_order_of_backends_changes_no_slot(order: list[int], size: int) -> None:
    listed = names(12)
    mixed = lookup_table([listed[i] for i in order], size)
    assert (np.array(order)[mixed] == lookup_table(listed, size)).all()


@given(st.integers(1, 300), st.sampled_from([251, 509, 1021]))
@limits(max_examples=25)
def test_shares_differ_by_one_and_fill_the_table(count: int, size: int) -> None:
    own = shares(lookup_table(names(count), size), count)
    assert own.sum() == size
    assert own.max() - own.min() <= 1


@pytest.mark.parametrize("version", VERSIONS)
def test_sizes_are_primes_within_the_bounds_of_the_option(version: str) -> None:
    sizes = table_sizes(version)
    assert sizes[0] == 251
    assert sizes[-1] == 131071
    assert all(all(size % n for n in range(2, int(size**0.5) + 1)) for size in sizes)


def test_advice_has_100_slots_a_backend_and_tells_memory() -> None:
    told = advice(160, version="1.17", frontends=1000, cpus=2)
    row = told.table.filter(table_size=16381).row(0, named=True)
    assert told.table_size == 16381
    assert told.warning is None
    assert row["share_min"] >= 100
    assert row["table_bytes"] == 65524
    assert row["bytes"] > 1000 * 65524


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: lookup_table([], 251), "1 to 131,072 names"),
        (lambda: lookup_table(["a", "a"], 251), "none of them twice"),
        (lambda: lookup_table(["a"], 1), "table size: 1"),
        (lambda: lookup_table(["a"], 251, weights=[0]), "one of 1 to 65535"),
        (lambda: lookup_table(["a"], 251, seed="AAAA"), "12 bytes in base64"),
        (lambda: lookup_table(["a"], 251, seed="§"), "12 bytes in base64"),
        (lambda: advice(0, version="1.17"), "1 to 131,072 names"),
    ],
)
def test_what_cannot_be_is_told(call: Any, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        call()


def test_another_seed_gives_another_table() -> None:
    other = lookup_table(names(5), 251, seed="AAAA" + SEED[4:])
    assert (other != lookup_table(names(5), 251)).any()
