from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity import facts
from capacity.cilium.map_sizes import validate
from capacity.recommend import Present
from capacity.recommend.present import helm_value, option_of
from capacity.recommend.together import accepted, one_a_setting, options_after, within_reach
from capacity.tables import RECOMMENDATION

SETTINGS = ("bpf.ctTcpMax", "bpf.ctAnyMax", "bpf.natMax", "bpf.policyMapMax", "bpf.lbMapMax")


def row(**more: Any) -> dict[str, Any]:
    blank = dict.fromkeys(RECOMMENDATION.schema) | {"component": "map", "reason": "needs more"}
    return blank | {"subject": "x", "status": "raise"} | more


def now(memory: int | None = None, version: str = "1.17", **options: str) -> Present:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return Present(version, {}, named, {}, memory)


@pytest.mark.parametrize("version", ["1.14", "1.17", "1.20"])
@settings(max_examples=30)
@given(
    targets=st.dictionaries(st.sampled_from(SETTINGS), st.integers(0, 26), min_size=1),
    memory=st.one_of(st.none(), st.integers(1 << 30, 1 << 40)),
    lowers=st.sets(st.sampled_from(SETTINGS)),
)
def test_nothing_is_told_that_an_agent_refuses(
    version: str, targets: dict[str, int], memory: int | None, lowers: set[str]
) -> None:
    present = now(memory, version)
    made = accepted(
        [
            row(setting=setting, target=float(1 << bits), current=float(1 << 20),
                status="lower" if setting in lowers else "raise")
            for setting, bits in targets.items()
        ],
        present,
    )  # fmt: skip
    told = validate(options_after(made, present), version=version, memory_bytes=memory)
    assert [finding for finding in told if finding.level == "error"] == []
    for one in made:
        assert (one["status"] == "error") == (one["target"] is None)


def test_s05_nat_beyond_both_tables_raises_the_tcp_table_with_it() -> None:
    present = now(bpf_ct_global_tcp_max="524288", bpf_ct_global_any_max="262144")
    asked = row(setting="bpf.natMax", target=float(1 << 20), current=524288.0)
    assert validate(options_after([asked], present), version="1.17")[0].level == "error"
    nat, tcp = accepted([asked], present)
    assert (nat["setting"], nat["target"], nat["status"]) == ("bpf.natMax", 1 << 20, "raise")
    assert (tcp["setting"], tcp["current"], tcp["status"]) == ("bpf.ctTcpMax", 524288, "raise")
    assert 2 * (tcp["target"] + 262144) >= 3 * (1 << 20)
    assert "two thirds" in tcp["reason"]


def test_tables_are_not_lowered_below_what_nat_needs() -> None:
    present = now(
        bpf_ct_global_tcp_max="1048576", bpf_ct_global_any_max="524288", bpf_nat_global_max="800000"
    )
    lower = row(setting="bpf.ctTcpMax", current=1048576.0, target=262144.0, status="lower")
    (made,) = accepted([lower], present)
    assert (made["status"], made["target"]) == ("ok", 1048576.0)
    assert "NAT" in made["reason"]


def test_a_fault_that_was_there_before_is_not_blamed_on_a_change() -> None:
    present = now(bpf_nat_global_max="18000000")
    (made,) = accepted([row(setting="bpf.lbMapMax", target=131072.0, current=65536.0)], present)
    assert made["status"] == "raise"


def test_maps_that_share_a_setting_agree_on_the_largest_target() -> None:
    rows = [
        row(setting="bpf.lbMapMax", subject="services", target=131072.0, current=65536.0),
        row(setting="bpf.lbMapMax", subject="backends", target=262144.0, current=65536.0),
        row(setting="bpf.lbMapMax", subject="rest", target=65536.0, current=65536.0, status="ok"),
    ]
    services, backends, rest = one_a_setting(rows)
    assert (services["status"], services["target"]) == ("ok", 262144)
    assert "decided by backends" in services["reason"]
    assert backends == rows[1]
    assert rest == rows[2]


def test_a_setting_is_lowered_only_where_all_its_maps_may_be() -> None:
    rows = [
        row(setting="s", target=1.0, current=4.0, status="lower"),
        row(setting="s", subject="y", target=4.0, current=4.0, status="ok"),
    ]
    assert {made["status"] for made in one_a_setting(rows)} == {"ok"}


@pytest.mark.parametrize("provider", ["gke", "aks"])
def test_users_of_a_managed_service_are_told_whom_to_ask(provider: str) -> None:
    (made,) = within_reach([row(setting="bpf.lbMapMax", target=131072.0)], provider)
    assert (made["status"], made["target"]) == ("redesign", None)
    assert "not yours to set" in made["reason"]
    assert "support" in made["alternative"]


def test_users_of_an_add_on_keep_the_values() -> None:
    (made,) = within_reach([row(setting="bpf.lbMapMax", target=131072.0)], "eks")
    assert (made["status"], made["target"]) == ("raise", 131072.0)


@pytest.mark.parametrize("version", facts.VERSIONS)
def test_settings_and_options_name_each_other(version: str) -> None:
    known = set(facts.chart_values(version)["key"])
    for name in facts.options(version)["option"]:
        value = helm_value(name, version)
        assert value.startswith("extraConfig.") or value in known
        assert option_of(value, version) is not None
