"""The recorded agent in data/: what the folders hold, and that they are made as the README says."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from capacity.load.inventories import read_inventory

DATA = Path(__file__).resolve().parents[1] / "data"
STEPS = json.loads((DATA / "lab" / "truth.json").read_bytes())["steps"]


def make_lab() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_lab", DATA / "make_lab.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(folder: Path) -> dict[str, bytes]:
    """Give the made files of the lab folders; READMEs are written by hand."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in ("lab", "lab-k8s", "lab-scale")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file() and path.name != "README.md"
    }


def unpacked(packed: dict[str, bytes]) -> dict[str, bytes]:
    """Unpack archives: builds of zlib differ in how they pack."""
    return {
        name: gzip.decompress(data) if name.endswith(".gz") else data
        for name, data in packed.items()
    }


def scrape(step: dict[str, object]) -> dict[str, float]:
    (path,) = (DATA / "lab" / "walk").glob(f"*_{step['step']}.prom.gz")
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    return {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line[0] != "#"
    }


def test_the_recording_gives_the_same_files_again(shared: Path, tmp_path: Path) -> None:
    if not (shared / "recorded" / "snap").is_dir():
        pytest.skip("the recording is not beside this checkout")
    make_lab().make(shared / "recorded", tmp_path)

    again, kept = unpacked(files(tmp_path)), unpacked(files(DATA))

    assert again.keys() == kept.keys()
    assert [name for name in kept if again[name] != kept[name]] == []


def test_the_lab_is_small() -> None:
    sizes = {name: len(data) for name, data in files(DATA).items()}
    assert sum(sizes.values()) < 700_000
    assert max(sizes.values()) < 200_000


def test_archives_hold_no_time_of_their_own() -> None:
    packed = [data for name, data in files(DATA).items() if name.endswith(".gz")]
    assert packed
    assert all(data[4:8] == b"\0\0\0\0" for data in packed)


def test_every_step_has_a_scrape_and_maps_of_its_time() -> None:
    walk = {path.name for path in (DATA / "lab" / "walk").iterdir()}
    stems = [f"{step['time'].replace(':', '-')}_{step['step']}" for step in STEPS]

    assert walk == {
        f"{stem}{ending}" for stem in stems for ending in (".prom.gz", ".bpftool.json.gz")
    }
    assert stems == sorted(stems)
    assert len(STEPS) == 11


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step["step"])
def test_what_the_kernel_says_agrees_with_what_the_agent_says(step: dict[str, int]) -> None:
    values = scrape(step)
    ipcache = values['cilium_bpf_map_pressure{map_name="ipcache"}'] * 512_000
    policy = values.get('cilium_bpf_map_pressure{map_name="cilium_policy_*"}')
    resident = values["cilium_process_resident_memory_bytes"]

    assert step["ipcache_entries"] == round(ipcache)
    # The pressure of policy maps is only reported above a tenth
    assert (policy is None) == (step["policy_entries_most"] < 0.1 * 16_384)
    if policy is not None:
        assert step["policy_entries_most"] == round(policy * 16_384)
    # Two addresses of each node are in the node map: its own and the router's
    assert step["node_map_entries"] == 2 * step["nodes"] == 2 * values["cilium_nodes_all_num"]
    assert resident == pytest.approx(step["rss_bytes"], rel=0.005)
    assert values["cilium_process_cpu_seconds_total"] <= step["cpu_seconds"]


def test_the_walk_only_grows() -> None:
    for name in ("nodes", "endpoints", "policies", "services", "ipcache_entries", "policy_entries"):
        values = [step[name] for step in STEPS]
        assert values == sorted(values), name
    assert (STEPS[0]["nodes"], STEPS[-1]["nodes"]) == (1, 301)
    assert STEPS[-1]["policy_entries"] == 808_425


def test_the_maps_of_the_walk_are_read_with_times_and_whole_names() -> None:
    maps = read_inventory(DATA / "lab").bpf_maps
    told = maps.group_by("time").agg(pl.len(), pl.col("memlock").sum()).sort("time")

    assert told.with_columns(pl.col("time").dt.to_string("%Y-%m-%dT%H:%M:%SZ")).rows() == [
        (step["time"], step["maps"], step["maps_memlock_bytes"]) for step in STEPS
    ]
    assert {"cilium_lb4_services_v2", "cilium_node_map_v2", "cilium_policy"} <= set(maps["name"])


def test_scrapes_hold_no_buckets_and_a_type_for_each_series() -> None:
    for name, data in files(DATA).items():
        if not name.endswith(".prom.gz"):
            continue
        text = gzip.decompress(data).decode()
        typed = set(re.findall(r"^# TYPE (\S+)", text, re.M))
        named = set(re.findall(r"^([a-z_0-9]+)[{ ]", text, re.M))
        families = {n if n in typed else re.sub(r"_(?:sum|count)$", "", n) for n in named}

        assert "_bucket{" not in text
        assert "# HELP" not in text
        assert families == typed
        assert {"cilium_bpf_map_pressure", "cilium_nodes_all_num"} <= named


def test_tables_of_single_factors_have_every_level() -> None:
    agent = pl.read_csv(DATA / "lab-scale" / "agent.csv")
    operator = pl.read_csv(DATA / "lab-scale" / "operator.csv")

    assert agent.group_by("factor").len().sort("factor").rows() == [
        ("endpoints", 5), ("identities", 4), ("ipcache_1000ids", 4), ("nodes", 4),
        ("policies_ep20_id1000", 6), ("policies_no_ep", 4), ("services_x10", 4),
    ]  # fmt: skip
    assert operator["factor"].n_unique() == 7
    assert agent["rss_bytes"].min() > 100e6  # type: ignore[operator]
