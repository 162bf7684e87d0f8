"""Map sizes against Cilium's own code, its unit tests, and agents that ran."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity import facts
from capacity.cilium.map_sizes import (
    CT_ANY,
    CT_TCP,
    DISTRIBUTED,
    NAT,
    NEIGH,
    RATIO,
    SOCK,
    Finding,
    dynamic_sizes,
    validate,
)
from capacity.errors import FactError, SettingsError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
DYNAMIC = (CT_TCP, CT_ANY, NAT, NEIGH, SOCK)
MOST = 16_777_216


def rows(name: str) -> list[dict[str, str]]:
    with (GOLDEN / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pairs(text: str) -> dict[str, int]:
    items = (item.split("=") for item in text.split(";") if item)
    return {name: int(value) for name, value in items}


def errors(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level == "error"]


def nat_of(findings: list[Finding], sizes: dict[str, int]) -> int | float | None:
    changed = [f.effective for f in findings if f.option == NAT and f.level == "warning"]
    return changed[0] if changed else sizes[NAT]


@pytest.mark.parametrize("version", ["1.14", "1.17.4", "1.18", "v1.20.1"])
def test_ciliums_own_code_gives_the_same_sizes(version: str):
    grid = rows("dynamic_sizes.csv")
    for row in grid:
        got = dynamic_sizes(
            int(row["total_memory_bytes"]), float(row["ratio"]),
            version=version, explicit=pairs(row["overrides"]),
        )  # fmt: skip
        columns = ("ct_tcp", "ct_any", "nat", "neigh", "sock_rev_nat")
        assert list(got.values()) == [int(row[c]) for c in columns], row
        assert tuple(got) == DYNAMIC
    assert len(grid) == 1008


@pytest.mark.parametrize("version", ["1.14", "1.17", "1.18", "1.20"])
def test_ciliums_own_limit_check_gives_the_same_verdict_and_nat(version: str):
    for row in rows("dynamic_sizes.csv"):
        memory, ratio = int(row["total_memory_bytes"]), float(row["ratio"])
        explicit = pairs(row["overrides"])
        sizes = dynamic_sizes(memory, ratio, version=version, explicit=explicit)
        # As a user would ask, and of the sizes that came out
        asked = validate({RATIO: ratio, **explicit}, version=version, memory_bytes=memory)
        came = validate(sizes, version=version)
        for found in (asked, came):
            assert bool(errors(found)) == (row["limit_check"] != "ok"), row
            if row["limit_check"] == "ok":
                assert nat_of(found, sizes) == int(row["nat_after_check"]), row


@pytest.mark.parametrize("row", rows("dynamic-size-tests.csv"), ids=lambda row: row["case_id"])
def test_upstreams_unit_tests_and_agent_logs_give_the_same_sizes(row: dict[str, str]):
    names = dict(zip(DYNAMIC, ("ct_tcp", "ct_any", "nat", "neigh", "sockrev"), strict=True))
    elements = dict(zip(DYNAMIC, ("ct", "ct", "nat", "neigh", "sockrev"), strict=True))
    cpus = int(row["possible_cpus"])
    got = dynamic_sizes(
        int(row["total_memory_bytes"]),
        float(row["ratio"]),
        version="1.18" if cpus > 1 else "1.17",
        explicit={n: int(row[f"explicit_{k}"]) for n, k in names.items() if row[f"explicit_{k}"]},
        possible_cpus=cpus,
        element_sizes={name: int(row[f"elem_{key}"]) for name, key in elements.items()},
        distributed_lru=cpus > 1,
    )
    wanted = {name: row[f"want_{key}"] for name, key in names.items() if row[f"want_{key}"]}
    assert {name: str(got[name]) for name in wanted} == wanted


@pytest.mark.parametrize("row", rows("agent_sizes.csv"), ids=lambda row: row["configuration"])
def test_a_real_agent_made_its_maps_in_the_same_sizes(row: dict[str, str]):
    got = dynamic_sizes(
        int(row["memory_bytes"]), float(row["ratio"]),
        version="1.17", explicit=pairs(row["explicit"]),
    )  # fmt: skip
    made = [row[c] for c in ("ct_tcp", "ct_any", "nat", "neigh", "sock_rev_nat")]
    # Maps that this configuration does not have are empty
    assert [str(n) if m else "" for n, m in zip(got.values(), made, strict=True)] == made


def test_the_recorded_agents_default_is_met():
    assert dynamic_sizes(25_276_502_016, 0.0025, version="1.17") == {
        CT_TCP: 221_723, CT_ANY: 110_861, NAT: 221_723, NEIGH: 221_723, SOCK: 110_861,
    }  # fmt: skip


LIMIT_NAMES = {
    "auth": "bpf-auth-map-max", "tcp": CT_TCP, "any": CT_ANY, "nat": NAT, "neigh": NEIGH,
    "policy": "bpf-policy-map-max", "lb": "bpf-lb-map-max", "frag": "bpf-fragments-map-max",
    "sockrev": SOCK,
}  # fmt: skip


@pytest.mark.parametrize("version", facts.VERSIONS)
@pytest.mark.parametrize("row", rows("map-limit-tests.csv"), ids=lambda row: row["case"])
def test_upstreams_limit_tests_give_the_same_verdict(row: dict[str, str], version: str):
    items = (item.removesuffix("(default)").split("=") for item in row["input"].split())
    options: dict[str, int | str | float] = {LIMIT_NAMES[n]: v for n, v in items}
    found = [f for f in validate(options, version=version) if f.level != "info"]
    moved = {"Policy above range": 65_536, "NAT auto sizing with default size": 4096}
    if version >= "1.18":
        moved["Policy below range"] = 256
    if row["case"] in moved:
        assert [(f.level, f.effective) for f in found] == [("warning", moved[row["case"]])]
    else:
        assert bool(errors(found)) == (row["error"] == "True")
        assert row["error"] == "True" or found == []


@pytest.mark.parametrize(
    ("options", "version", "level", "effective"),
    [
        ({"bpf-node-map-max": "16383"}, "1.17", "error", None),
        ({"bpf-lb-map-max": 0}, "1.14", "error", None),
        ({"bpf-lb-maglev-map-max": -1}, "1.20", "error", None),
        ({"bpf-policy-stats-map-max": 100}, "1.18", "warning", 1024),
        ({"bpf-policy-stats-map-max": 1 << 25}, "1.20", "warning", MOST),
        ({SOCK: 0}, "1.17", "error", None),
        ({RATIO: 1.01}, "1.17", "error", None),
        ({RATIO: "-0.1"}, "1.17", "error", None),
        ({RATIO: "0.25%"}, "1.17", "error", None),
        ({RATIO: "nan"}, "1.17", "error", None),
        ({CT_TCP: "1e+06"}, "1.17", "error", None),
        ({CT_TCP: 1e6 + 0.5}, "1.17", "error", None),
        ({RATIO: 0, CT_TCP: 2048, CT_ANY: 4096, NAT: 6144}, "1.17", "warning", 6144),
        ({RATIO: 0, CT_TCP: 2048, CT_ANY: 4096, NAT: 6145}, "1.17", "error", None),
        ({RATIO: 0, CT_TCP: 2048, CT_ANY: 4096}, "1.17", "warning", 4096),
        ({RATIO: 0.01, CT_TCP: 2048, CT_ANY: 4096}, "1.17", "warning", 4096),
        # What a node's memory decides is a warning without a size
        ({RATIO: 0.01, NAT: 1_000_000}, "1.17", "warning", None),
        ({RATIO: 0.01, CT_TCP: 2048}, "1.17", "warning", None),
        ({DISTRIBUTED: "true", RATIO: "0"}, "1.18", "error", None),
        ({DISTRIBUTED: "true"}, "1.17", "warning", None),
    ],
)  # fmt: skip
def test_a_setting_that_the_agent_minds_is_found(
    options: dict[str, Any], version: str, level: str, effective: int | None
):
    (found,) = validate(options, version=version)
    assert (found.level, found.effective) == (level, effective)
    assert found.message.startswith(found.option)


@pytest.mark.parametrize(
    ("options", "version"),
    [
        ({}, "1.17"),
        ({RATIO: "0.0025", "bpf-lb-map-max": "65536", "enable-ipv4": "true"}, "1.20"),
        ({RATIO: 0, CT_TCP: "524288", CT_ANY: 262144.0, NAT: 524288}, "1.14"),
        ({"bpf-lb-service-map-max": 0, "bpf-node-map-max": 16384}, "1.16"),
        ({SOCK: 0}, "1.18"),
        ({RATIO: 1, NAT: 1024}, "1.17"),
        ({DISTRIBUTED: "false", RATIO: 0}, "1.18"),
    ],
)
def test_a_setting_that_the_agent_takes_is_no_finding(options: dict[str, Any], version: str):
    assert validate(options, version=version) == []


def test_setting_the_default_still_switches_dynamic_sizing_off():
    (found,) = validate({CT_TCP: "524288"}, version="1.17")
    assert (found.option, found.level, found.effective) == (CT_TCP, "info", 524_288)
    assert "not sized dynamically" in found.message
    assert validate({CT_TCP: "524288", RATIO: 0}, version="1.17") == []
    memory = 32 << 30
    kept = dynamic_sizes(memory, 0.0025, version="1.17", explicit={CT_TCP: 524_288})
    free = dynamic_sizes(memory, 0.0025, version="1.17")
    assert (kept[CT_TCP], free[CT_TCP]) == (524_288, 301_401)
    assert all(kept[name] == free[name] for name in (CT_ANY, NEIGH, NAT, SOCK))


@pytest.mark.parametrize(
    ("name", "version", "told"),
    [
        ("bpf-ct-tcp-max", "1.17", "did you mean bpf-ct-global-tcp-max"),
        ("bpf_nat_global_max", "1.17", "did you mean bpf-nat-global-max"),
        ("bpf-map-dynamic-size-ration", "1.17", "did you mean bpf-map-dynamic-size-ratio"),
        ("bpf-node-map-max", "1.15", "1.15, which ignores it; it is one of other versions"),
        ("bpf-tunnel-max", "1.17", "capacity facts options"),
    ],
)
def test_a_name_that_the_agent_ignores_is_found(name: str, version: str, told: str):
    (found,) = validate({name: "65536"}, version=version)
    assert found.level == "warning"
    assert told in found.message


def test_no_flag_that_1_17_has_is_called_unknown():
    # Documentation/cmdref/cilium-agent.md and hidden flags of cilium/cilium b095517e62
    names = """
        bpf-auth-map-max bpf-ct-global-any-max bpf-ct-global-tcp-max bpf-ct-timeout-regular-any
        bpf-ct-timeout-regular-tcp bpf-ct-timeout-regular-tcp-fin bpf-ct-timeout-regular-tcp-syn
        bpf-ct-timeout-service-any bpf-ct-timeout-service-tcp bpf-ct-timeout-service-tcp-grace
        bpf-events-default-burst-limit bpf-events-default-rate-limit bpf-events-drop-enabled
        bpf-events-policy-verdict-enabled bpf-events-trace-enabled bpf-filter-priority
        bpf-fragments-map-max bpf-lb-acceleration bpf-lb-affinity-map-max bpf-lb-algorithm
        bpf-lb-dsr-dispatch bpf-lb-dsr-l4-xlate bpf-lb-external-clusterip bpf-lb-maglev-hash-seed
        bpf-lb-maglev-map-max bpf-lb-maglev-table-size bpf-lb-map-max bpf-lb-mode
        bpf-lb-rev-nat-map-max bpf-lb-rss-ipv4-src-cidr bpf-lb-rss-ipv6-src-cidr
        bpf-lb-service-backend-map-max bpf-lb-service-map-max bpf-lb-sock bpf-lb-sock-hostns-only
        bpf-lb-sock-terminate-pod-connections bpf-lb-source-range-map-max
        bpf-map-dynamic-size-ratio bpf-map-event-buffers bpf-nat-global-max bpf-neigh-global-max
        bpf-node-map-max bpf-policy-map-full-reconciliation-interval bpf-policy-map-max bpf-root
        bpf-sock-rev-map-max
    """
    found = validate(dict.fromkeys(names.split(), "1"), version="1.17")
    assert [f.message for f in found if "not an option" in f.message] == []


def test_all_faults_come_at_once_and_errors_first():
    options = {CT_TCP: 524_288, "bpf-policy-map-max": 70_000, CT_ANY: 1, "bpf-auth-map-max": 1}
    found = validate({RATIO: 0.01, **options}, version="1.17", memory_bytes=64 << 30)
    levels = [finding.level for finding in found]
    assert levels == sorted(levels, key=["error", "warning", "info"].index)
    assert {f.option for f in errors(found)} == {CT_ANY, "bpf-auth-map-max"}
    assert {"bpf-policy-map-max", CT_TCP} <= {f.option for f in found}


@pytest.mark.parametrize(
    ("version", "nat", "level"), [("1.18", 1_000_001, "warning"), ("1.19", 1_000_008, "info")]
)
def test_explicit_sizes_of_a_distributed_lru_are_rounded_from_1_19(
    version: str, nat: int, level: str
):
    options = {RATIO: 0.01, DISTRIBUTED: "true", NAT: 1_000_001}
    memory = 256 << 30
    sizes = dynamic_sizes(
        memory, 0.01, version=version, explicit={NAT: 1_000_001},
        possible_cpus=12, distributed_lru=True,
    )  # fmt: skip
    (found,) = validate(options, version=version, memory_bytes=memory, possible_cpus=12)
    assert sizes[NAT] == nat
    assert (found.level, found.effective) == (level, 1_000_008)


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"ratio": 1.5}, SettingsError, "dynamic-size-ratio: 1.5 is out of bounds"),
        ({"ratio": -0.1}, SettingsError, "wanted 0 .off. to 1"),
        ({"ratio": float("nan")}, SettingsError, "nan is out of bounds"),
        ({"memory_bytes": 0}, SettingsError, "memory: 0 bytes"),
        ({"memory_bytes": -1, "ratio": 0}, SettingsError, "memory: -1 bytes"),
        ({"possible_cpus": 0}, SettingsError, "possible CPUs: 0"),
        ({"distributed_lru": True}, SettingsError, "from 1.18 on"),
        ({"distributed_lru": True, "version": "1.19", "ratio": 0}, SettingsError, "above 0"),
        ({"version": "1.13"}, FactError, "1.13"),
    ],
)
def test_what_cannot_be_sized_is_refused_with_a_reason(
    change: dict[str, Any], error: type[Exception], told: str
):
    arguments: dict[str, Any] = {"memory_bytes": 1 << 34, "ratio": 0.01, "version": "1.17"}
    with pytest.raises(error, match=told):
        dynamic_sizes(**arguments | change)


def test_without_dynamic_sizing_sizes_are_explicit_or_the_defaults():
    static = dynamic_sizes(0, 0, version="1.17", explicit={CT_ANY: 5000, "bpf-lb-map-max": 7})
    assert static == {
        CT_TCP: 524_288, CT_ANY: 5000, NAT: 524_288, NEIGH: 524_288, SOCK: 262_144,
    }  # fmt: skip


MEMORY = st.integers(1 << 20, 1 << 43)
RATIOS = st.floats(0, 1, exclude_min=True, allow_subnormal=False)
VERSIONS = st.sampled_from(facts.VERSIONS)
EXPLICIT = st.dictionaries(st.sampled_from(DYNAMIC), st.integers(1024, MOST))


@given(MEMORY, MEMORY, RATIOS, VERSIONS, EXPLICIT)
def test_more_memory_never_gives_less(
    low: int, high: int, ratio: float, version: str, explicit: dict[str, int]
):
    low, high = sorted((low, high))
    small, large = (
        dynamic_sizes(m, ratio, version=version, explicit=explicit) for m in (low, high)
    )
    # A NAT capped by CT tables may come out below what it had before the cap held
    names = [name for name in DYNAMIC if explicit == {} or name not in (NAT, NEIGH)]
    assert all(small[name] <= large[name] for name in names)


@given(MEMORY, RATIOS, VERSIONS)
def test_what_dynamic_sizing_gives_is_never_refused(memory: int, ratio: float, version: str):
    sizes = dynamic_sizes(memory, ratio, version=version)
    found = validate({RATIO: ratio, **sizes}, version=version)
    assert [f for f in found if f.level != "info"] == []
    assert validate({RATIO: ratio}, version=version, memory_bytes=memory) == []


@given(MEMORY, RATIOS, VERSIONS, EXPLICIT)
def test_explicit_sizes_are_kept_and_a_dynamic_nat_fits_the_ct_tables(
    memory: int, ratio: float, version: str, explicit: dict[str, int]
):
    sizes = dynamic_sizes(memory, ratio, version=version, explicit=explicit)
    assert sizes.items() >= explicit.items()
    if NAT not in explicit:
        assert sizes[NAT] <= sizes[CT_TCP] + sizes[CT_ANY]
    if NEIGH not in explicit:
        assert sizes[NEIGH] == sizes[NAT]


@given(MEMORY, RATIOS, st.sampled_from(["1.19", "1.20"]), EXPLICIT, st.integers(1, 512))
def test_a_distributed_lru_has_a_multiple_of_the_cpus_within_the_limits(
    memory: int, ratio: float, version: str, explicit: dict[str, int], cpus: int
):
    sizes = dynamic_sizes(
        memory, ratio, version=version, explicit=explicit, possible_cpus=cpus, distributed_lru=True
    )
    assert all(size % cpus == 0 and size <= MOST for size in sizes.values())
    whole = dynamic_sizes(memory, ratio, version=version, explicit=explicit)
    tops = dict.fromkeys(DYNAMIC, MOST // cpus * cpus)
    assert all(min(whole[n], tops[n]) <= sizes[n] < whole[n] + 2 * cpus for n in DYNAMIC)


@given(st.permutations(list(EXPLICIT_OPTIONS := {
    RATIO: 0.01, CT_TCP: 524_288, CT_ANY: 10, NAT: 20_000_000, "bpf-policy-map-max": 1,
    "bpf-policy-map-maxx": 1,
})))  # fmt: skip
def test_the_order_of_options_and_numbers_as_text_change_nothing(order: list[str]):
    plain = validate({n: EXPLICIT_OPTIONS[n] for n in EXPLICIT_OPTIONS}, version="1.17")
    mixed = validate({n: str(EXPLICIT_OPTIONS[n]) for n in order}, version="1.17")
    assert {f.message for f in plain} == {f.message for f in mixed}
