"""A tier's formulas against a replay flow by flow; orders that hold; published numbers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.charts.tier import carries, headline
from capacity.cli_lb import lb as command
from capacity.errors import CalibrationError, ModelError, SettingsError
from capacity.facts import lb
from capacity.models.queueing import Core
from capacity.throughput import calibration as files
from capacity.throughput import costs, shares, tier
from capacity.throughput.replay import replay
from capacity.tier_settings import TierSettings

BASE = TierSettings(spare=0, mpps=1.0)


def carried(nodes: int = 6, **changed: object) -> float:
    row = tier.capacity_of(dataclasses.replace(BASE, **changed), nodes)  # type: ignore[arg-type]
    return float(row["packets"])


@pytest.mark.parametrize("snat", [True, False])
@pytest.mark.parametrize("in_cluster", [True, False])
@pytest.mark.parametrize(("nodes", "resilient"), [(2, False), (5, True), (12, False)])
def test_passes_hops_and_moves_are_those_of_a_replay(
    nodes: int, resilient: bool, in_cluster: bool, snat: bool
) -> None:
    flows = 100_000
    seen = replay(
        flows, nodes, 4,
        in_cluster=in_cluster, snat=snat, replies=1.5, resilient=resilient, seed=nodes,
    )  # fmt: skip
    given_ = dataclasses.replace(
        BASE, replies=1.5, mode="snat" if snat else "dsr",
        placement="cluster" if in_cluster else "dedicated",
    )  # fmt: skip
    told, router = tier.load(given_, nodes), "resilient" if resilient else "modulo"
    error = 4 * 0.5 / np.sqrt(flows)
    assert seen.hop_share == pytest.approx(told.hop, abs=error)
    assert seen.passes == pytest.approx(told.passes, abs=error * 2.5)
    assert seen.moved == pytest.approx(shares.moved(nodes, router), abs=error)
    lost = shares.broken(nodes, router, mode=given_.mode, maglev=True, backends=9)
    assert seen.broken == pytest.approx(lost, abs=error)


@pytest.mark.parametrize(("nodes", "cores", "flows"), [(3, 8, 2_000), (10, 16, 50_000), (2, 1, 50)])
def test_the_busiest_core_is_as_busy_as_in_a_replay(nodes: int, cores: int, flows: int) -> None:
    seen = [
        replay(flows, nodes, cores, in_cluster=False, snat=False, seed=s).busiest for s in range(60)
    ]
    low, high = (shares.imbalance(nodes * cores, flows, q) for q in (0.05, 0.95))
    inside = np.mean([(low - 1e-9 <= one <= high + 1e-9) for one in seen])
    assert inside >= 0.8
    assert np.median(seen) == pytest.approx(shares.imbalance(nodes * cores, flows), rel=0.06)


def test_line_rates_of_64_byte_frames_are_those_everybody_knows() -> None:
    assert shares.line_rate(10, 64) == pytest.approx(14.88e6, rel=1e-3)
    assert shares.line_rate(100, 64) == pytest.approx(148.8e6, rel=1e-3)
    # Seznam's 25 GbE card was driven with 14.8 Mpps (facts): less than half of its line
    assert shares.line_rate(25, 64) > 2 * 14.8e6


@pytest.mark.parametrize("placement", ["cluster", "dedicated"])
def test_replies_that_skip_the_tier_and_earlier_hooks_carry_more(placement: str) -> None:
    def of(**more: object) -> float:
        return carried(placement=placement, nic=1000.0, latency=1e5, **more)

    assert of(mode="dsr") > of(mode="snat")
    assert of() > of(xdp="off")
    assert of(xdp="generic") == pytest.approx(of(xdp="off"))
    assert of() > of(encryption="ipsec") > of(encryption="wireguard")
    assert of() >= of(tunnel=True)
    assert of(policy="Local") >= of()
    assert of(per_connection=100.0) > of(per_connection=2.0)
    assert of(connections=10_000) > of(connections=20_000_000)


@settings(max_examples=5)
@given(
    st.floats(0.05, 60), st.sampled_from(["snat", "dsr"]), st.integers(0, 3), st.integers(1, 64),
    st.sampled_from(["cluster", "dedicated"]), st.integers(64, 1500),
)  # fmt: skip
def test_the_nodes_needed_fit_and_one_less_does_not(
    mpps: float, mode: str, spare: int, cores: int, placement: str, packet: int
) -> None:
    asked = TierSettings(
        mpps=mpps, mode=mode, spare=spare, cores=cores, placement=placement, packet=packet
    )
    needed = tier.nodes_needed(asked)
    assert tier.capacity_of(asked, needed)["fits"]
    assert needed == spare + 1 or not tier.capacity_of(asked, needed - 1)["fits"]
    assert tier.nodes_needed(dataclasses.replace(asked, spare=spare + 1)) == needed + 1
    assert tier.nodes_needed(dataclasses.replace(asked, upgrading=2)) == needed + 2


def test_a_budget_of_latency_ends_a_tier_before_its_cpu_does() -> None:
    tight = tier.capacity_of(dataclasses.replace(BASE, latency=20.0, nic=400.0, cpu=0.95), 4)
    loose = tier.capacity_of(dataclasses.replace(BASE, latency=1e5, nic=400.0, cpu=0.95), 4)
    assert (tight["limit"], loose["limit"]) == ("latency", "cpu")
    assert tight["packets"] < loose["packets"]


def test_one_flow_larger_than_a_core_is_not_cured_by_nodes() -> None:
    asked = dataclasses.replace(BASE, largest=50.0)
    assert tier.capacity_of(asked, 50)["limit"] == "flow"
    with pytest.raises(SettingsError, match="flow ends it at 0"):
        tier.nodes_needed(asked)


def test_what_is_asked_wrongly_is_told_all_at_once() -> None:
    with pytest.raises(SettingsError, match=r"mpps: -1 .*cpu: 1.5 .*mode: 'nat' is none of snat"):
        TierSettings(mpps=-1, cpu=1.5, mode="nat")
    with pytest.raises(SettingsError, match="2 nodes of which 2 may be away leave none"):
        tier.capacity_of(dataclasses.replace(BASE, spare=2), 2)
    with pytest.raises(ModelError, match="8 buckets for 9 nodes"):
        shares.bucket_imbalance(9, 8)


def test_a_cost_seen_in_production_takes_the_place_of_measured_parts() -> None:
    asked = dataclasses.replace(
        BASE, pass_cost=2000.0, cores=4, cpu=0.5, mode="dsr", placement="dedicated",
        nic=400.0, latency=1e5, connections=1_000_000_000,
    )  # fmt: skip
    row = tier.capacity_of(asked, 10)
    assert row["packets"] == pytest.approx(10 * 4 * 0.5 / 2000e-9, rel=0.03)
    assert row["packets_low"] < row["packets"] < row["packets_high"]
    assert any("2000 ns" in line for line in tier.doubts(asked))


# Published numbers ------------------------------------------------------------------------------


def test_katran_on_another_machine_costs_what_the_shipped_rows_say() -> None:
    """Katran keeps connections and encapsulates (IPIP), as stage tunnel does."""
    row = lb.published().filter(datapath="Katran XDP LB", cores=1)
    told = costs.fact("driver", "xdp") + costs.program(costs.reference(), "xdp", "tunnel", 1000)
    seen = 1e9 / row["value"][0]
    assert told.middle == pytest.approx(seen, rel=0.15)
    assert told.low / costs.ELSEWHERE < seen < told.high * costs.ELSEWHERE


def test_held_out_cpu_of_seznam_lies_between_known_and_new_connections() -> None:
    """64 B SYNs at 14.8 Mpps took 6.49 of 8 cores; how many were new connections is not told."""
    row = lb.published().filter("holdout", quantity="cores").row(0, named=True)
    driver, held = costs.fact("driver", "xdp"), costs.reference()
    rate = row["offered"] / row["cores"]
    wake, hold = costs.fact("wake", "xdp").middle, costs.fact("hold", "xdp").middle
    known = driver.middle + costs.program(held, "xdp", "tunnel", 1000).middle
    used = [
        row["cores"] * float(Core(ns * 1e-9, wake * 1e-9, hold * 1e-9).utilization(rate))
        for ns in (known, driver.middle + costs.opening(held, "ct", 100).middle)
    ]
    assert used[0] < row["value"] < used[1]


def test_held_out_rates_of_tc_and_ipvs_keep_their_proportion_within_the_bounds() -> None:
    """Cores of that node are not told, so that only proportions can be compared."""
    rows = lb.published().filter(quantity="rate")
    seen = [rows.filter(datapath=name)["value"][0] for name in
            ("Cilium NodePort tc", "kube-proxy IPVS NodePort")]  # fmt: skip
    told = costs.fact("driver", "tc") + costs.program(costs.reference(), "tc", "snat", 1000)
    ipvs = 1e9 / rows.filter(datapath="IPVS", cores=1)["value"][0]
    assert ipvs / told.high < seen[0] / seen[1] < ipvs / told.low


# Calibration files ------------------------------------------------------------------------------


def test_a_calibration_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    files.write(costs.reference(), tmp_path / "c.json")
    again = files.read(tmp_path / "c.json")
    assert again.timings.equals(costs.reference().timings)
    assert again.machine == costs.reference().machine
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is no JSON"), ("[" * 100_000, "is no JSON"), ("[]", "schema None"),
        ('{"schema": "other/1"}', "wanted 'capacity.lb-calibration/1'"),
        ('{"schema": "capacity.lb-calibration/1"}', "not the table of a calibration"),
        ('{"schema": "capacity.lb-calibration/1", "timings": [], "machine": {}, "scaling": ""}',
         "no timings"),
        ('{"schema": "capacity.lb-calibration/1", "timings": [{"hook": 3}], "machine": {}}',
         "not the table"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_calibration_is_told_why(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "c.json"
    file.write_text(content)
    with pytest.raises(CalibrationError, match=told):
        files.read(file)


def test_a_slower_machine_needs_more_nodes_and_its_own_law_of_cores_is_taken() -> None:
    held = costs.reference()
    times = pl.col("nanoseconds", "low", "high")
    slow = dataclasses.replace(held, timings=held.timings.with_columns(times * 4))
    asked = TierSettings(mpps=20.0, packet=64, nic=400.0)
    assert tier.nodes_needed(asked, slow) > tier.nodes_needed(asked, held)
    one = held.timings.filter(stage="snat", cores=2, is_new=False)
    bent = [
        one.with_columns(pl.lit(n, pl.Int64).alias("cores"), times * (1 + 0.2 * (n - 1)))
        for n in (1, 2, 4, 8, 16, 32)
    ]  # fmt: skip
    own = dataclasses.replace(
        held, timings=pl.concat([held.timings.filter(pl.col("cores") == 1), *bent])
    )
    assert tier.cores_law(held) is tier.published_law()
    assert tier.cores_law(own).model.law == "amdahl"
    assert np.median(tier.efficiency(tier.cores_law(own), 32)) == pytest.approx(1 / 7.2, rel=0.1)


# Command and chart ------------------------------------------------------------------------------


def run(*words: str) -> tuple[int, str, str]:
    told = CliRunner().invoke(command, words, standalone_mode=True)
    return told.exit_code, told.stdout, told.stderr


def test_the_command_tells_nodes_machine_and_doubts() -> None:
    code, out, err = run("size", "--mpps", "10", "--mode", "dsr", "--cores", "16", "-o", "json")
    rows = json.loads(out)
    assert code == 0
    fitting = [row["nodes"] for row in rows if row["fits"]]
    assert f"{min(fitting)} nodes carry 10 million packets/s, of which 1 may be away" in err
    assert "measured on another machine" in err
    assert "16 cores are beyond the 6" in err


def test_named_node_counts_that_are_too_few_exit_1(tmp_path: Path) -> None:
    code, out, _ = run("size", "--mpps", "500", "--nodes", "3", "-o", "csv",
                       "--chart", str(tmp_path / "a.html"))  # fmt: skip
    assert code == 1
    assert out.splitlines()[1].endswith("false")
    assert "plotly" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_the_chart_says_which_count_is_enough() -> None:
    asked = TierSettings(mpps=8.0)
    table = tier.tier(asked, [2, 6, 12, 20])
    first = table.filter("fits")["nodes"].min()
    assert headline(table, asked) == f"{first} nodes carry 8 million packets/s (SNAT, XDP native)"
    figure = carries(table, asked)
    assert list(figure.data[1].x) == [2, 6, 12, 20]
    assert headline(table.with_columns(fits=False), asked).startswith("No count shown carries")
