from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from capacity import facts, observing
from capacity.cli import cli
from capacity.errors import FactError
from capacity.export import Metrics
from capacity.inventory import Inventory
from capacity.tables import OPTIONS
from capacity.upgrade import steps, upgrade


def inventory(**options: str) -> Inventory:
    rows = [(name.replace("_", "-"), value, "test") for name, value in options.items()]
    return Inventory(options=pl.DataFrame(rows, schema=OPTIONS.schema, orient="row"))


def test_an_upgrade_goes_one_minor_version_at_a_time() -> None:
    assert steps("v1.17.4", "1.20.1") == [("1.17", "1.18"), ("1.18", "1.19"), ("1.19", "1.20")]
    with pytest.raises(FactError, match="wanted is a newer version"):
        steps("1.18", "1.18")
    with pytest.raises(FactError, match="no facts"):
        steps("1.17", "1.99")


def test_from_1_17_to_1_18_the_ipcache_gets_a_new_layout_with_dearer_entries() -> None:
    table = upgrade("1.17", "1.18", Inventory())
    rows = table.filter(kind="map", name="cilium_ipcache_v2")
    sizes = rows.filter(change="value_size").row(0, named=True)
    assert (sizes["before"], sizes["after"]) == ("12", "24")
    # An LPM trie's node grows over a size class of the kernel's allocator
    before, after = (float(word) for word in sizes["effect"].split() if word.isdigit())
    assert after > before
    gone = table.filter(kind="map", change="gone")["name"].to_list()
    assert {"cilium_tunnel_map", "cilium_node_map"} <= set(gone)
    # The family of an address is no layout
    assert table.filter(name="cilium_egress_gw_policy_v6")["change"].to_list() == ["new"]


def test_a_default_that_grows_is_to_be_set_before_unless_it_is_set() -> None:
    name = "tofqdns-endpoint-max-ip-per-hostname"
    row = upgrade("1.16", "1.17", Inventory()).filter(name=name).row(0, named=True)
    assert row["act"]
    assert (row["before"], row["after"]) == ("50", "1000")
    assert "set dnsProxy.endpointMaxIpPerHostname to 50" in row["effect"]
    told = upgrade("1.16", "1.17", inventory(tofqdns_endpoint_max_ip_per_hostname="50"))
    assert not told.filter(name=name)["act"].any()


def test_an_option_that_goes_is_to_be_taken_out_where_it_is_set() -> None:
    assert not upgrade("1.18", "1.19", Inventory()).filter(name="bpf-lb-proto-diff")["act"].any()
    told = upgrade("1.18", "1.19", inventory(bpf_lb_proto_diff="true"))
    assert told.filter(name="bpf-lb-proto-diff", change="gone")["act"].to_list() == [True]
    assert told["act"].to_list() == sorted(told["act"], reverse=True)


def test_s30_values_that_do_nothing_or_fail_are_named_once_with_what_was_meant() -> None:
    values = {"bpf": {"ctGlobalTCPMax": 1048576, "policyMapMax": 32768}, "tunnel": "disabled"}
    told = upgrade("1.16", "1.18", Inventory(), values).filter(kind="value")
    effects = dict(told.select("name", "effect").iter_rows())
    assert set(effects) == {"bpf.ctGlobalTCPMax", "tunnel"}
    assert "did you mean bpf.ctTcpMax" in effects["bpf.ctGlobalTCPMax"]
    assert "fails from 1.15 on: use routingMode" in effects["tunnel"]
    assert told["step"].unique().to_list() == ["1.16 to 1.17"]
    late = upgrade("1.14", "1.16", Inventory(), {"tunnel": "vxlan"}).filter(kind="value")
    assert late.select("step", "change").rows() == [("1.14 to 1.15", "gone")]


@pytest.mark.parametrize("pair", list(zip(facts.VERSIONS, facts.VERSIONS[1:], strict=False)))
def test_each_step_rests_on_sources_and_tells_memory(pair: tuple[str, str]) -> None:
    table = upgrade(*pair, Inventory())
    assert table["source"].str.len_chars().min() > 5  # type: ignore[operator]
    assert table.filter(kind="memory")["effect"].str.contains("a node for empty maps").all()
    changed = table.filter(pl.col("before").is_not_null(), pl.col("after").is_not_null())
    assert (changed.filter(pl.col("kind") != "memory")["before"] != changed.filter(
        pl.col("kind") != "memory")["after"]).all()  # fmt: skip


def test_a_plan_for_a_newer_version_says_what_to_do_before(
    export: Callable[..., Metrics],
) -> None:
    metrics = export(({"__name__": "cilium_version", "version": "1.16.4"}, [(0, 0.0)]))
    told = observing.before_upgrade(metrics, Inventory(), "1.17")
    assert told[0].startswith("agents run 1.16, planned is 1.17: `capacity upgrade")
    assert any("endpointMaxIpPerHostname" in text for text in told[1:])
    assert observing.before_upgrade(metrics, Inventory(), "1.16") == []


def test_the_command_asks_before_an_upgrade_with_exit_code_1(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("tunnel: vxlan\nbpf: {policyMapMax: 32768}\n")
    run = CliRunner().invoke(
        cli, ["upgrade", "--from", "1.16", "--to", "1.17", "--values", str(values), "-o", "json"]
    )
    assert run.exit_code == 1, run.output
    told = json.loads(run.stdout)
    assert told[0]["act"]
    quiet = CliRunner().invoke(cli, ["upgrade", "--from", "1.18", "--to", "1.19"])
    assert quiet.exit_code == 0, quiet.output
