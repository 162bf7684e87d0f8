"""Bytes of maps against the kernel: its own report, its cgroup accounting, a real agent's maps."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.cilium.map_memory import (
    NO_COMMON_LRU,
    NO_PREALLOC,
    charged_bytes,
    maglev_charged_bytes,
    memlock_bytes,
)
from capacity.errors import FactError, SettingsError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
# What a process pays for each open map file beside the map: struct file (184) and dentry (192),
# both in slabs of 192 with 8 bytes of accounting; sizes by BTF of 6.18.44
OPEN_FILE = 400


def rows(name: str) -> list[dict[str, Any]]:
    with (GOLDEN / name).open(encoding="utf-8", newline="") as file:
        return [
            {key: int(value) if value.isdigit() else value for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def asked(row: dict[str, Any], entries: int | None = None) -> dict[str, Any]:
    keys = ("key_size", "value_size", "max_entries", "flags")
    shape = {key: row[key] for key in keys}
    filled = row.get("entries", 0) if entries is None else entries
    return {"map_type": row["type"], **shape, "entries": filled, "cpus": row.get("ncpu", 2)}


def test_every_row_that_a_kernel_reported_is_met_to_the_byte():
    grid = rows("memlock_grid.csv")
    wrong = [
        (row, got)
        for row in grid
        if (got := memlock_bytes(**asked(row), kernel=row["kernel"])) != row["memlock_bytes"]
    ]
    assert len(grid) == 1012
    assert wrong == []


def test_kernels_before_6_4_report_keys_and_values_in_whole_pages():
    # Where the kernel rounded max_entries (NO_COMMON_LRU), the column was made without that
    grid = [r for r in rows("memlock_grid.csv") if r["max_entries"] == r["max_entries_reported"]]
    wrong = [
        (row, got)
        for row in grid
        if (got := memlock_bytes(**asked(row), kernel="6.1.192")) != row["legacy_pre64_bytes"]
    ]
    assert len(grid) > 950
    assert wrong == []


@pytest.mark.parametrize("kernel", ["5.11", "5.15.0-105-generic", "6.3.13", "v6.1"])
def test_all_kernels_from_5_11_to_6_3_report_alike(kernel: str):
    assert memlock_bytes("hash", 12, 12, 1000, cpus=4, kernel=kernel) == 24_576


def test_a_real_agents_maps_are_met_to_the_byte_where_all_memory_is_preallocated():
    grid = [r for r in rows("pins_memlock.csv") if not r["flags"] & NO_PREALLOC]
    wrong = [r for r in grid if memlock_bytes(**asked(r, entries=0)) != r["memlock_bytes"]]
    assert len(grid) > 60
    assert wrong == []


def test_a_real_agents_maps_without_preallocation_hold_a_whole_number_of_entries():
    grid = [r for r in rows("pins_memlock.csv") if r["flags"] & NO_PREALLOC]
    for row in grid:
        empty, one = (memlock_bytes(**asked(row, entries=n)) for n in (0, 1))
        entries, rest = divmod(row["memlock_bytes"] - empty, one - empty)
        assert rest == 0, row
        assert 0 <= entries <= row["max_entries"], row
    assert len(grid) > 20


def test_charges_measured_on_large_maps_are_met_within_one_percent():
    grid = [row for row in rows("real_grid.csv") if "percpu" not in row["type"]]
    for row in grid:
        assert charge(row) == pytest.approx(row["memcg_kmem_delta"], rel=0.01), row
    assert len(grid) == 59


def test_charges_measured_on_200_small_maps_of_a_shape_are_met_within_one_percent():
    grid = [row for row in rows("charged_small.csv") if "percpu" not in row["type"]]
    for row in grid:
        own = row["memcg_kmem_delta"] - OPEN_FILE * row["fds_kept"]
        got = charge(row | {"label": ""}) if row["label"] == "" else maglev(row)
        assert got is not None
        # A page of 4096 bytes is the grain of the counter
        assert got * row["maps"] == pytest.approx(own, rel=0.01, abs=4096), row
    assert len(grid) == 37


def charge(row: dict[str, Any]) -> int | None:
    if not str(row["label"]).startswith("maglev"):
        return charged_bytes(**asked(row), kernel=row["kernel"])
    # The program that measured kept the inner maps open
    services = int(row["label"].split("svc")[1])
    return (maglev(row) or 0) + OPEN_FILE * services


def maglev(row: dict[str, Any]) -> int | None:
    table, services = row["label"].removeprefix("maglev_M").split("_svc")
    return maglev_charged_bytes(
        int(table), int(services), row["max_entries"], cpus=row["ncpu"], kernel=row["kernel"]
    )


def test_what_was_not_measured_is_unknown_instead_of_guessed():
    for kind in ("percpu_hash", "lru_percpu_hash", "percpu_array", "sockhash", "bloom_filter"):
        assert charged_bytes(kind, 8, 16, 1024, cpus=2) is None
    assert charged_bytes("hash", 8, 16, 1024, cpus=2, kernel="5.10") is None
    assert charged_bytes("hash", 8, 16, 1024, flags=NO_PREALLOC, cpus=2, kernel="5.15") is None
    assert charged_bytes("hash", 8, 16, 1024, cpus=2, kernel="5.15") is not None
    assert charged_bytes("lpm_trie", 24, 12, 1024, flags=1, cpus=2, kernel="6.12") is None
    assert charged_bytes("lpm_trie", 24, 12, 1024, flags=1, cpus=2, kernel="6.13") is not None
    assert maglev_charged_bytes(16381, 10, cpus=2, kernel="5.15") is None


def test_the_trie_node_lost_its_16_bytes_of_rcu_in_6_13():
    old, new = (
        memlock_bytes("lpm_trie", 24, 12, 512_000, flags=1, entries=1000, cpus=2, kernel=kernel)
        for kernel in ("6.12.111+deb12-cloud-amd64", "6.13")
    )
    assert (old, new) == (72_000, 56_000)


def test_a_hash_of_6_12_differs_by_its_64_bytes_of_lock_pointers():
    kernels = ("6.4", "6.12", "6.14", "6.15", "6.18", "7.2")
    known = [memlock_bytes("lru_hash", 14, 56, 1000, cpus=2, kernel=k) for k in kernels]
    assert known == [137_344] * 3 + [137_280] * 3


def test_preallocated_maps_of_maps_have_a_spare_element_a_cpu_up_to_6_15():
    old, new = (
        memlock_bytes("hash_of_maps", 2, 4, 1000, cpus=8, kernel=kernel)
        for kernel in ("6.15", "6.16")
    )
    assert old - new == 8 * (48 + 8 + 8)


def test_map_types_are_read_in_any_case_and_flags_without_effect_change_nothing():
    plain = memlock_bytes("lru_hash", 14, 56, 1000, cpus=2)
    assert memlock_bytes("LRU_HASH", 14, 56, 1000, cpus=2) == plain
    # RDONLY_PROG, ZERO_SEED; and NO_PREALLOC, which no LRU map can have
    for flags in (128, 64, NO_PREALLOC):
        assert memlock_bytes("lru_hash", 14, 56, 1000, flags=flags, cpus=2) == plain


def test_distributed_lru_takes_a_multiple_of_the_cpus():
    asked_for, multiple = (
        memlock_bytes("lru_hash", 14, 56, size, flags=NO_COMMON_LRU, cpus=48)
        for size in (65_500, 65_520)
    )
    assert asked_for == multiple


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"map_type": "arena"}, FactError, r"map type 'arena'.*known types: hash, lru_hash"),
        ({"kernel": "5.10.0-30"}, FactError, "kernel 5.10.0-30: .* from 5.11"),
        ({"kernel": "linux"}, SettingsError, "kernel 'linux' is not a release"),
        ({"cpus": 0}, SettingsError, "cpus: 0 possible CPUs; wanted 1"),
        ({"entries": -1}, SettingsError, "entries: -1 is negative"),
        ({"max_entries": -5}, SettingsError, "max_entries: -5 is negative"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_a_reason(
    change: dict[str, Any], error: type[Exception], told: str
):
    arguments: dict[str, Any] = {
        "map_type": "hash", "key_size": 8, "value_size": 8, "max_entries": 10, "cpus": 2,
    }  # fmt: skip
    with pytest.raises(error, match=told):
        memlock_bytes(**arguments | change)


KNOWN = st.sampled_from(["hash", "lru_hash", "hash_of_maps", "array", "prog_array", "lpm_trie"])
SIZES = st.integers(4, 512)
ENTRIES = st.integers(1, 1 << 24)
FLAGS = st.sampled_from([0, NO_PREALLOC])
CPUS = st.integers(1, 512)
KERNELS = st.sampled_from(["6.12", "6.13", "6.18"])


@given(KNOWN, SIZES, SIZES, ENTRIES, ENTRIES, FLAGS, CPUS, KERNELS)
def test_more_entries_never_take_less(
    kind: str, key: int, value: int, low: int, high: int, flags: int, cpus: int, kernel: str
):
    low, high = sorted((low, high))
    for rule in (memlock_bytes, charged_bytes):
        small = rule(kind, key, value, low, flags=flags, entries=low, cpus=cpus, kernel=kernel)
        large = rule(kind, key, value, high, flags=flags, entries=high, cpus=cpus, kernel=kernel)
        assert small is None or large is None or small <= large


@given(KNOWN, SIZES, SIZES, SIZES, ENTRIES, FLAGS, CPUS, KERNELS)
def test_wider_values_are_never_reported_as_less(
    kind: str, key: int, low: int, high: int, entries: int, flags: int, cpus: int, kernel: str
):
    narrow, wide = (
        memlock_bytes(
            kind, key, value, entries, flags=flags, entries=entries, cpus=cpus, kernel=kernel
        )
        for value in sorted((low, high))
    )
    assert narrow <= wide


@given(KNOWN, SIZES, SIZES, ENTRIES, FLAGS, CPUS)
def test_a_cgroup_is_never_charged_less_than_the_kernel_reports(
    kind: str, key: int, value: int, entries: int, flags: int, cpus: int
):
    shape: Any = {"flags": flags, "entries": entries, "cpus": cpus}
    charged = charged_bytes(kind, key, value, entries, **shape)
    assert charged is not None
    # The per-CPU counters and pointers of hashes are reported, but not charged
    assert charged >= memlock_bytes(kind, key, value, entries, **shape) - 40 * cpus


@given(SIZES, SIZES, ENTRIES, st.integers(0, 1 << 20), CPUS)
def test_each_entry_of_a_map_without_preallocation_costs_the_same(
    key: int, value: int, size: int, entries: int, cpus: int
):
    def report(held: int) -> int:
        return memlock_bytes("hash", key, value, size, flags=1, entries=held, cpus=cpus)

    assert report(entries) - report(0) == entries * (report(1) - report(0))


@given(st.integers(1, 1 << 20), ENTRIES, CPUS)
def test_no_kernel_before_6_4_looks_at_what_is_in_a_map(entries: int, size: int, cpus: int):
    full, empty = (
        memlock_bytes("hash", 8, 8, size, flags=1, entries=n, cpus=cpus, kernel="5.15")
        for n in (entries, 0)
    )
    assert full == empty
    assert full % 4096 == 0
