"""BPF maps as bpftool prints them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from capacity.errors import ExportError
from capacity.load.bpftool import time_in
from capacity.load.inventories import read_inventory

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kubernetes"


def entry(**more: Any) -> dict[str, Any]:
    shape = {"type": "hash", "bytes_key": 4, "bytes_value": 8, "max_entries": 16}
    return {"id": 1, "name": "m", "flags": 1, "bytes_memlock": 100} | shape | more


def write(folder: Path, entries: list[Any], name: str = "maps.json") -> Path:
    (folder / name).write_text(json.dumps(entries))
    return folder / name


def test_a_map_is_a_row_with_the_kernels_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, [entry(name="cilium_ipcache", type="lpm_trie", bytes_key=24)])
    assert read_inventory(path).bpf_maps.row(0) == (
        None, None, "cilium_ipcache", "lpm_trie", 24, 8, 16, 1, 100,
    )  # fmt: skip


def test_the_time_in_the_file_name_is_the_time_of_the_maps(tmp_path: Path) -> None:
    path = write(tmp_path, [entry()], "2026-11-23T23-39-23Z_m00.bpftool.json")
    assert str(read_inventory(path).bpf_maps["time"][0]) == "2026-11-23 23:39:23+00:00"


@pytest.mark.parametrize("name", ["maps.json", "2026-13-45T99-99-99Z.json", "20261123.json"])
def test_a_name_without_a_time_gives_none(name: str) -> None:
    assert time_in(name) is None


def test_pins_beside_the_list_tell_whole_names_and_count_no_map_twice(tmp_path: Path) -> None:
    for name in ("maglev.json", "maglev.pins.txt"):
        shutil.copy(GOLDEN / name, tmp_path)
    listed = json.loads((tmp_path / "maglev.json").read_bytes())
    maps = read_inventory(tmp_path).bpf_maps

    assert len(maps) == len(listed) == 65
    assert maps["memlock"].sum() == sum(told["bytes_memlock"] for told in listed)
    assert {"cilium_policy_01967", "cilium_lb4_maglev", "cilium_calls_hostns_01967"} <= set(
        maps["name"]
    )


def test_lists_of_two_nodes_are_two_sets_of_maps(tmp_path: Path) -> None:
    for node in ("node.a.example", "node.b.example"):
        shutil.copy(GOLDEN / "maglev.json", tmp_path / f"{node}.json")
        shutil.copy(GOLDEN / "maglev.pins.txt", tmp_path / f"{node}.pins.txt")

    assert len(read_inventory(tmp_path).bpf_maps) == 2 * 65


def test_pins_alone_are_enough() -> None:
    maps = read_inventory(GOLDEN / "maglev.pins.txt").bpf_maps

    assert len(maps) == 36
    assert maps.filter(name="cilium_ct4_global").row(0)[3:] == (
        "lru_hash", 14, 56, 221723, 0, 30801960,
    )  # fmt: skip


def test_cut_names_are_made_whole_where_the_shape_leaves_one_choice() -> None:
    maps = read_inventory(GOLDEN / "maglev.json").bpf_maps
    pins = read_inventory(GOLDEN / "maglev.pins.txt").bpf_maps
    single = pins.filter(~pl.col("name").str.contains(r"calls|policy_\d"))

    assert set(single["name"]) <= set(maps["name"])
    assert {"cilium_lb4_reverse_nat", "cilium_lb4_reverse_sk"} <= set(maps["name"])
    assert "cilium_policy_0" not in set(maps["name"])


def test_a_short_name_is_never_changed(tmp_path: Path) -> None:
    known = {"type": "lpm_trie", "bytes_key": 24, "bytes_value": 12}
    path = write(tmp_path, [entry(name="cilium_ip", **known)])
    assert read_inventory(path).bpf_maps["name"].to_list() == ["cilium_ip"]


def test_pins_in_the_list_itself_tell_names(tmp_path: Path) -> None:
    pinned = ["/sys/fs/bpf/tc/globals/cilium_policy_v2_00012"]
    path = write(tmp_path, [entry(name="cilium_policy_v", pinned=pinned)])
    assert read_inventory(path).bpf_maps["name"].to_list() == ["cilium_policy_v2_00012"]


def test_maps_without_a_number_are_all_kept(tmp_path: Path) -> None:
    bare = [{k: v for k, v in entry(name=name).items() if k != "id"} for name in ("a", "b")]
    assert read_inventory(write(tmp_path, bare)).bpf_maps["name"].to_list() == ["a", "b"]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (entry(max_entries="16"), "map 2: max_entries is '16', wanted a count"),
        (entry(bytes_key=-1), "map 2: bytes_key is -1, wanted a count"),
        (entry(flags=None), "map 2: flags is None, wanted a count"),
        (entry(type=1), "map 2: type is 1, wanted a text"),
        ("x", "map 2: 'x' is no map"),
    ],
)
def test_a_broken_map_is_refused_and_the_rest_is_used(
    tmp_path: Path, broken: Any, told: str
) -> None:
    read = read_inventory(write(tmp_path, [entry(), broken]))

    assert len(read.bpf_maps) == 1
    assert read.sources["reason"].to_list() == [told]
    assert read.sources.select("format", "read", "kept", "refused").row(0) == ("bpftool", 2, 1, 1)


def test_a_broken_line_of_pins_is_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "node.pins.txt"
    path.write_text(f"/sys/fs/bpf/a {json.dumps(entry())}\n\n/sys/fs/bpf/b {{oops\n")
    read = read_inventory(path)

    assert read.bpf_maps["name"].to_list() == ["a"]
    assert "line 3: '/sys/fs/bpf/b {oops' is not a path and a JSON object" in read.sources["reason"]


def test_an_empty_list_is_no_inventory(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no inventory in 1 files"):
        read_inventory(write(tmp_path, []))


def test_every_recorded_configuration_is_read_whole(shared: Path) -> None:
    pins = sorted((shared / "recorded" / "maps").glob("*.pins.txt"))
    assert pins, "no recorded maps beside this checkout"
    for path in pins:
        listed = json.loads(path.with_name(path.name.replace(".pins.txt", ".json")).read_bytes())
        lines = path.read_text().splitlines()

        assert len(read_inventory(path).bpf_maps) == len(lines), path
        both = read_inventory([path.with_name(path.name.replace(".pins.txt", ".json")), path])
        assert len(both.bpf_maps) == len(listed), path
        assert both.sources["refused"].sum() == 0
