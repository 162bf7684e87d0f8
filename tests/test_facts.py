"""Facts are rows one can trust: whole, sourced, ordered by version, true of a real agent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity import facts
from capacity.errors import FactError
from capacity.facts import derivations
from capacity.facts.schema import TABLES
from capacity.tables import DRIVERS

GOLDEN = Path(__file__).parent / "golden"
FOLDER = Path(facts.__file__).parent
VERSIONED: dict[str, Callable[[str | None], pl.DataFrame]] = {
    "maps": facts.maps,
    "options": facts.options,
    "metrics": facts.metrics,
    "limits": facts.limits,
    "dynamic": facts.dynamic,
}
WHOLE = {name: read(None) for name, read in VERSIONED.items()}
# Map types as bpftool prints them, and those that hold memory from the start whatever the flags
TYPES = {
    "hash", "lru_hash", "percpu_hash", "lru_percpu_hash", "array", "percpu_array", "lpm_trie",
    "prog_array", "perf_event_array", "array_of_maps", "hash_of_maps",
}  # fmt: skip
ALLOCATED = TYPES - {"hash", "percpu_hash", "hash_of_maps", "lpm_trie"}
UNITS = {"1", "entries", "IDs", "byte", "millicore", "s", "1/s", "bool"}
KINDS = {"settable", "hard", "soft", "install-time"}

versions = st.sampled_from(facts.VERSIONS)
tables = st.sampled_from(sorted(VERSIONED))


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.csv")))
def test_every_row_of_every_file_names_its_source(name: str) -> None:
    rows = pl.read_csv(FOLDER / name, infer_schema=False)
    assert not rows.is_empty()
    assert rows["source"].str.strip_chars().str.len_chars().fill_null(0).min() > 5  # type: ignore[operator]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_files_have_the_declared_columns_in_order(table: Any) -> None:
    header = (FOLDER / f"{table.name}.csv").read_text().split("\n", 1)[0]
    assert header.split(",") == [column.name for column in table.columns]


@pytest.mark.parametrize("name", sorted(VERSIONED))
def test_verified_is_told_in_every_row(name: str) -> None:
    text = pl.read_csv(FOLDER / f"{name}.csv", infer_schema=False)["verified"]
    assert set(text) <= {"true", "false"}
    assert WHOLE[name]["verified"].dtype == pl.Boolean


@pytest.mark.parametrize("name", sorted(VERSIONED))
def test_versions_of_a_row_are_known_and_in_order(name: str) -> None:
    for since, until in WHOLE[name].select("since", "until").iter_rows():
        assert {since, until} <= set(facts.VERSIONS)
        assert number(since) <= number(until)


@given(tables, versions)
def test_a_row_holds_between_since_and_until_and_nowhere_else(name: str, version: str) -> None:
    got = VERSIONED[name](version)
    wanted = [
        row
        for row in WHOLE[name].iter_rows()
        if number(row[got.columns.index("since")])
        <= number(version)
        <= number(row[got.columns.index("until")])
    ]
    assert got.rows() == wanted


@given(versions, st.integers(0, 99), st.sampled_from(["", "-dev", "-rc.1", "+build"]))
def test_a_patch_release_has_the_facts_of_its_minor(version: str, patch: int, tail: str) -> None:
    assert facts.minor(f"v{version}.{patch}{tail}") == version
    assert facts.maps(f"{version}.{patch}{tail}").equals(facts.maps(version))


def test_versions_are_compared_as_numbers() -> None:
    assert facts.minor("1.20") == "1.20" == facts.LATEST
    with pytest.raises(FactError, match=r"1\.2: no facts .* 1\.14, .* take 1\.14"):
        facts.minor("1.2")
    with pytest.raises(FactError, match=r"1\.100\.0: no facts .* take 1\.20"):
        facts.maps("1.100.0")


@pytest.mark.parametrize("text", ["", "latest", "1", "1.x", "main-1.17", "1.17.x"])
def test_what_is_no_version_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(FactError, match=rf"'{re.escape(text)}' cannot be read; write it as 1\.17"):
        facts.options(text)


def test_evidence_covers_each_version_once() -> None:
    assert tuple(facts.evidence()["version"]) == facts.VERSIONS


@pytest.mark.parametrize("version", facts.VERSIONS)
@pytest.mark.parametrize("name", ["maps", "options", "metrics", "dynamic"])
def test_a_version_has_one_row_for_each_thing(name: str, version: str) -> None:
    rows = VERSIONED[name](version)
    assert rows[rows.columns[0]].is_unique().all()


@pytest.mark.parametrize("version", facts.VERSIONS)
def test_a_limit_has_one_default_row_and_it_comes_last(version: str) -> None:
    for _, rows in facts.limits(version).group_by("limit"):
        assert rows["default"].to_list() == [False] * (len(rows) - 1) + [True]
        assert rows["condition"].is_unique().all()


def test_units_are_of_a_small_set() -> None:
    for frame in (WHOLE["options"], WHOLE["limits"], WHOLE["metrics"], facts.quantities()):
        assert set(frame["unit"].drop_nulls()) <= UNITS


def test_words_that_stand_for_a_choice_are_of_a_small_set() -> None:
    maps = WHOLE["maps"]
    assert set(maps["type"]) <= TYPES
    assert set(maps["kind"]) <= KINDS
    assert set(WHOLE["limits"]["kind"]) <= KINDS
    assert set(maps["prealloc"]) == {"always", "never", "option"}
    assert set(maps["per"]) == {"node", "endpoint", "cpu"}
    assert set(maps["family"].drop_nulls()) == {4, 6}
    assert set(WHOLE["metrics"]["type"]) == {"gauge", "counter", "histogram"}


@pytest.mark.parametrize("version", facts.VERSIONS)
def test_every_option_of_a_map_is_an_option_of_that_version(version: str) -> None:
    used = facts.maps(version)["option"].drop_nulls()
    assert set(used) <= set(facts.options(version)["option"])


@pytest.mark.parametrize("version", facts.VERSIONS)
def test_a_map_has_the_bounds_and_the_default_of_its_option(version: str) -> None:
    joined = facts.maps(version).join(facts.options(version), on="option", suffix="_option")
    assert not joined.is_empty()
    for row in joined.iter_rows(named=True):
        assert row["dynamic"] == row["dynamic_option"], row["map"]
        assert row["max"] == row["max_option"], row["map"]
        # The hidden sizes of load balancer maps take 0 too: the size of bpf-lb-map-max
        assert row["min"] == (row["min_option"] or row["min"]), row["map"]
        if row["default"] != "0":
            assert str(row["max_entries"]) == row["default"], row["map"]


@pytest.mark.parametrize("version", facts.VERSIONS)
def test_dynamic_maps_are_those_of_the_sizing_constants(version: str) -> None:
    maps = facts.maps(version).filter("dynamic")
    sizing = facts.dynamic(version)
    assert set(maps["option"]) == set(sizing["option"])
    sizes = maps.filter(family=6).select(
        "option", "max_entries", element=pl.col("key_size") + pl.col("value_size")
    )
    for row in sizes.join(sizing, on="option").iter_rows(named=True):
        assert row["element"] == row["element_size"], row["option"]
        assert row["max_entries"] == row["default"], row["option"]


def test_kinds_follow_from_types_and_options() -> None:
    for row in WHOLE["maps"].iter_rows(named=True):
        evicts = row["type"].startswith("lru")
        assert row["kind"] == ("soft" if evicts else "settable" if row["option"] else "hard")
        assert (row["prealloc"] == "always") == (row["type"] in ALLOCATED), row["map"]
        assert row["type"] != "lpm_trie" or row["prealloc"] == "never"


def test_a_map_without_pressure_has_no_label_and_one_with_pressure_has_all() -> None:
    for row in WHOLE["maps"].iter_rows(named=True):
        told = [row[c] for c in ("metric_label", "pressure_threshold", "pressure_source")]
        assert all(x is not None for x in told) if row["pressure"] else not any(told), row["map"]


@pytest.mark.parametrize("version", facts.VERSIONS)
def test_every_label_leads_back_to_its_map(version: str) -> None:
    for name, label in facts.maps(version).select("map", "metric_label").iter_rows():
        assert facts.map_of_label(name, version) == name
        if label is not None:
            told = label.replace("<endpoint id>", "02366")
            assert facts.map_of_label(told, version) == name


@pytest.mark.parametrize(
    ("label", "version", "name"),
    [
        ("ct4_global", "1.16", "cilium_ct4_global"),
        ("cilium_ct4_global", "1.16", "cilium_ct4_global"),
        ("policy_02366", "1.14", "cilium_policy_"),
        ("cilium_policy_*", "1.16", "cilium_policy_"),
        ("cilium_policy_*", "1.17", "cilium_policy_v2_"),
        ("cilium_policy_v2_*", "1.18", "cilium_policy_v2_"),
        ("cilium_policy_v2_*", "1.16", "cilium_policy_"),
        ("cilium_policy_v3_00042", "1.20", "cilium_policy_v3_"),
        ("policy", "1.19", "cilium_policy_v2_"),
        ("cilium_auth_map", "1.17", "cilium_auth_map"),
        ("policystats", "1.18", "cilium_policystats"),
        ("calls_netdev_00003", "1.17", "cilium_calls_"),
        ("ipcache", "1.17", "cilium_ipcache"),
        ("ipcache", "1.18", None),
        ("ipcache_v2", "1.17", None),
        ("node_map_v2", "1.15", None),
        ("policy_of_mine", "1.17", None),
        ("", "1.17", None),
    ],
)
def test_labels_of_metrics_name_pinned_maps(label: str, version: str, name: str | None) -> None:
    assert facts.map_of_label(label, version) == name


def test_a_label_of_an_unknown_version_is_refused() -> None:
    with pytest.raises(FactError, match="no facts"):
        facts.map_of_label("ipcache", "1.13")


def test_sources_count_every_row() -> None:
    lines = sum(len(pl.read_csv(path, infer_schema=False)) for path in FOLDER.glob("*.csv"))
    assert facts.sources()["rows"].sum() == lines
    assert facts.sources()["source"].is_unique().all()


def test_every_observed_quantity_is_explained() -> None:
    known = facts.quantities()
    assert known["quantity"].is_unique().all()
    metrics = dict(known.select("quantity", "metrics").iter_rows())
    for row in derivations.observed().iter_rows(named=True):
        assert re.fullmatch(metrics[row["quantity"]], row["metric"]), row


def test_cilium_metrics_that_are_observed_are_facts() -> None:
    observed = derivations.observed()["metric"]
    assert set(observed.filter(observed.str.starts_with("cilium_"))) <= set(
        WHOLE["metrics"]["metric"]
    )


def pins(text: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for line in text.splitlines():
        if not line.startswith("#"):
            configuration, name, fields = line.split(" ", 2)
            yield configuration, name, json.loads(fields)


def fact_of_pin(name: str) -> dict[str, Any]:
    found = facts.map_of_label(name, "1.17")
    assert found is not None, name
    return facts.maps("1.17").filter(pl.col("map") == found).row(0, named=True)


@pytest.mark.parametrize(
    ("configuration", "name", "pin"),
    [
        pytest.param(*pin, id=f"{pin[0]}-{pin[1]}")
        for pin in pins((GOLDEN / "pins_default.txt").read_text())
    ],
)
def test_maps_of_a_real_agent_have_the_shape_of_the_facts(
    configuration: str, name: str, pin: dict[str, Any]
) -> None:
    fact = fact_of_pin(name)
    assert (fact["type"], fact["key_size"], fact["value_size"]) == (
        pin["type"],
        pin["bytes_key"],
        pin["bytes_value"],
    )
    # Sizes of perf event arrays are the CPUs' number; dynamic ones are plain at ratio 0 only
    if fact["max_entries"] is not None and (configuration == "ratio0" or not fact["dynamic"]):
        assert fact["max_entries"] == pin["max_entries"]
    without = {"never"} if configuration != "noprealloc" else {"never", "option"}
    assert (fact["prealloc"] in without) == bool(pin["flags"] & 1)


def test_all_recorded_agents_have_maps_of_known_shape(shared: Path) -> None:
    files = sorted((shared / "recorded" / "maps").glob("*.pins.txt"))
    if not files:
        pytest.skip("no recorded pins in shared/recorded/maps")
    shapes = {
        (Path(path).name, pin["type"], pin["bytes_key"], pin["bytes_value"])
        for file in files
        for path, _, fields in (line.partition(" ") for line in file.read_text().splitlines())
        for pin in [json.loads(fields)]
    }
    wrong = [
        shape
        for shape in shapes
        if (fact := fact_of_pin(shape[0]))
        and (fact["type"], fact["key_size"], fact["value_size"]) != shape[1:]
    ]
    assert len(shapes) > 100
    assert not wrong


# Numbers that plans rest on, from cilium/cilium at the commits of evidence.csv
@pytest.mark.parametrize(
    ("version", "name", "value_size", "max_entries"),
    [
        ("1.14", "cilium_policy_", 24, 16384),
        ("1.17", "cilium_policy_v2_", 24, 16384),
        ("1.18", "cilium_policy_v2_", 8, 16384),
        ("1.19", "cilium_policy_v2_", 12, 16384),
        ("1.17", "cilium_ipcache", 12, 512000),
        ("1.18", "cilium_ipcache_v2", 24, 512000),
        ("1.19", "cilium_lb4_services_v2", 12, 65536),
        ("1.15", "cilium_node_map", 2, 16384),
        ("1.18", "cilium_node_map_v2", 4, 16384),
    ],
)
def test_shapes_by_version(version: str, name: str, value_size: int, max_entries: int) -> None:
    row = facts.maps(version).filter(pl.col("map") == name).row(0, named=True)
    assert (row["value_size"], row["max_entries"]) == (value_size, max_entries)
    assert row["verified"]


@pytest.mark.parametrize(
    ("version", "option", "default", "chart"),
    [
        ("1.14", "bpf-ct-timeout-regular-tcp", "21600", None),
        ("1.15", "bpf-ct-timeout-regular-tcp", "8000", None),
        ("1.16", "tofqdns-endpoint-max-ip-per-hostname", "50", "50"),
        ("1.17", "tofqdns-endpoint-max-ip-per-hostname", "1000", "1000"),
        ("1.17", "bpf-sock-rev-map-max", "262144", None),
        ("1.18", "bpf-sock-rev-map-max", "0", None),
        ("1.20", "bpf-map-dynamic-size-ratio", "0.0025", "0.0025"),
        ("1.19", "preallocate-bpf-maps", "true", "false"),
    ],
)
def test_defaults_by_version(version: str, option: str, default: str, chart: str | None) -> None:
    row = facts.options(version).filter(pl.col("option") == option).row(0, named=True)
    assert (row["default"], row["chart_default"]) == (default, chart)


def test_dynamic_sizing_divides_memory_by_the_total_that_agents_log() -> None:
    # Agents log 149422080 bytes for all default maps: cilium/cilium issue 32184
    for version in facts.VERSIONS:
        rows = facts.dynamic(version)
        assert (rows["default"] * rows["element_size"]).sum() == 149_422_080


@pytest.mark.parametrize(
    ("version", "limit", "value"),
    [
        ("1.17", "service-ids", 65535),
        ("1.17", "cluster-identities", 65280),
        ("1.17", "snat-ports", 32768),
        ("1.14", "clusters", 255),
        ("1.19", "ipcache-entries", 512000),
    ],
)
def test_limits_where_nothing_is_configured(version: str, limit: str, value: int) -> None:
    row = facts.limits(version).filter(pl.col("limit") == limit, pl.col("default"))
    assert row["value"].to_list() == [value]


def test_releases_up_to_1_19_were_read_and_1_20_only_in_part() -> None:
    for version in facts.VERSIONS[:-1]:
        assert facts.maps(version)["verified"].all()
    assert not facts.maps(facts.LATEST)["verified"].any()


# Maps that a capacity plan is asked about, by a part of their name
ASKED = (
    "ipcache", "policy", "lb4_services", "lb4_backends", "lb4_reverse_nat", "ct4_global",
    "snat_v4_external", "nodeport_neigh4", "frag_datagrams", "auth_map", "metrics", "lxc",
    "node_map", "egress_gw_policy", "l2_responder", "srv6_vrf", "throttle",
)  # fmt: skip


@pytest.mark.parametrize("version", facts.VERSIONS)
def test_every_map_that_is_asked_about_has_a_kind_of_limit_and_what_fills_it(version: str) -> None:
    rows = facts.maps(version)
    # The tunnel map went with 1.18: pkg/maps/tunnel is gone
    asked = (*ASKED, "tunnel_map") if version < "1.18" else ASKED
    for name in asked:
        found = rows.filter(pl.col("map").str.contains(name, literal=True))
        assert len(found), name
        assert found["driver"].str.len_chars().min() > 0
    assert set(rows["kind"]) == {"hard", "settable", "soft"}


def test_equations_of_maps_name_drivers_that_are_observed() -> None:
    rows = derivations._rows("structure.csv").filter(component="map")
    assert set(rows["driver"]) <= set(DRIVERS.schema)
    labels = {
        label
        for version in facts.VERSIONS
        for label in facts.maps(version)["metric_label"].drop_nulls()
    }
    # What traffic of a node fills follows its pods and peers: the rows without a subject
    traffic = re.compile("^(ct|snat)_?|^(cilium_)?policy_|^ipmasq|^vtep")
    own = set(rows["subject"].drop_nulls())
    assert {label for label in labels if not traffic.match(label)} <= own
