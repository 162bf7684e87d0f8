"""A simulated cluster follows its laws, looks like an export, and is the same every time."""

import gzip
import json
import shutil
import subprocess
import time
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
import yaml
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from upath import UPath

import capacity
from capacity.errors import SettingsError
from capacity.load import prom_api
from capacity.observe import observe
from capacity.simulate import Simulation, SimulationSettings, simulate, write
from capacity.simulate import laws as law
from capacity.simulate.formats import WRITERS
from capacity.simulate.truth import exhaustion
from capacity.simulation_settings import FORMATS
from capacity.tables import BACKENDS, ENDPOINTS, NODES, OPTIONS, SAMPLES, SERIES, SERVICES, check
from tests.prometheus_server import needed, serving_blocks

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"
SMALL = SimulationSettings(nodes=60, days=30, seed=3)
QUIET = replace(SMALL, noise=0.0, gaps=0.0, restarts=0.0, replacements=0.0)
STORMY = replace(SMALL, restarts=0.2, replacements=0.01)


@pytest.fixture(scope="module")
def small() -> Simulation:
    return simulate(SMALL)


@pytest.fixture(scope="module")
def quiet() -> Simulation:
    return simulate(QUIET)


@pytest.fixture(scope="module")
def stormy() -> Simulation:
    return simulate(STORMY)


@pytest.fixture(scope="module")
def default() -> Simulation:
    return simulate()


def entries(made: Simulation, name: str) -> pl.DataFrame:
    rows = made.metrics.select("cilium_bpf_map_pressure", map_name=name)
    return rows.with_columns(entries=(pl.col("value") * made.truth["limits"][name]).round())


def last(frame: pl.DataFrame, made: Simulation) -> pl.DataFrame:
    return frame.filter(pl.col("time") == made.settings.end_time)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def nodes_where(made: Simulation, **key: str) -> int | None:
    rows = [row for row in made.truth["exhaustion"] if key.items() <= row.items()]
    assert len(rows) == 1, f"{key} is not told once"
    return rows[0]["nodes"]


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    first = write(simulate(SMALL), tmp_path / "a")
    second = write(simulate(SMALL), tmp_path / "b")

    assert files(first) == files(second)


def rows(metrics: capacity.export.Metrics) -> pl.DataFrame:
    told = metrics.series.join(metrics.samples, on="series").drop("series")
    return told.sort(told.columns)


def test_every_format_is_written_by_somebody() -> None:
    assert ("tables", *WRITERS) == FORMATS


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "blocks"])
def test_what_is_written_in_a_format_reads_back_as_it_was(format: str, tmp_path: Path) -> None:
    made = simulate(replace(STORMY, format=format, days=6, step="6h"))
    folder = write(made, tmp_path / format)

    again = capacity.read(folder / "metrics")

    assert rows(again).equals(rows(made.metrics))
    assert again.sources["refused"].sum() == 0


@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 2**16), nodes=st.integers(7, 14),
    restarts=st.floats(0, 0.3), gaps=st.floats(0, 0.1),
)  # fmt: skip
def test_every_format_of_a_cluster_is_observed_alike(
    seed: int, nodes: int, restarts: float, gaps: float
) -> None:
    """Blocks too, which promtool makes: read directly, without a server."""
    told = SimulationSettings(
        nodes=nodes, days=3, step="6h", seed=seed, restarts=restarts, gaps=gaps
    )
    made = simulate(told)
    wanted = observe(made.metrics)
    assert not wanted.is_empty()
    for format in FORMATS:
        if format == "blocks" and which("promtool") is None:
            continue
        with TemporaryDirectory() as folder:
            out = write(replace(made, settings=replace(told, format=format)), Path(folder) / "out")
            again = observe(capacity.read(out / "metrics"))
        assert_frame_equal(again, wanted, check_row_order=False)


@pytest.mark.parametrize("packed", ["gz", "zst", "zip", "tar.gz", "memory://"])
def test_a_packed_or_stored_cluster_is_observed_alike(packed: str, tmp_path: Path) -> None:
    made = simulate(replace(SMALL, nodes=8, days=3, step="6h", format="openmetrics"))
    folder = write(made, tmp_path / "out") / "metrics"
    source = str(tmp_path / "packed")
    whole = [path for path in folder.iterdir() if path.is_file()]
    assert whole
    if packed in ("zip", "tar.gz"):
        source = shutil.make_archive(source, "gztar" if packed == "tar.gz" else "zip", folder)
    elif packed == "memory://":
        source = f"memory://{tmp_path.name}/simulated"
        for path in whole:
            UPath(f"{source}/{path.name}").write_bytes(path.read_bytes())
    else:
        Path(source).mkdir()
        pack = gzip.compress if packed == "gz" else zstandard.compress
        for path in whole:
            (Path(source) / f"{path.name}.{packed}").write_bytes(pack(path.read_bytes()))
    assert_frame_equal(observe(capacity.read(source)), observe(made.metrics), check_row_order=False)


@pytest.mark.prometheus
def test_a_cluster_is_observed_alike_from_a_server_by_both_ways(tmp_path: Path) -> None:
    """Remote read, and query_range."""
    needed()
    made = simulate(replace(SMALL, nodes=8, days=3, step="6h", gaps=0.0, format="blocks"))
    folder = write(made, tmp_path / "out") / "metrics"
    wanted = observe(made.metrics)
    first, last = (made.metrics.samples["time"].dt.epoch("ms").sort()[i] for i in (0, -1))
    asked = {"metrics": [".+"], "start": first, "end": last, "step": 21_600}
    with serving_blocks(folder, tmp_path) as url:
        for remote in (True, False):
            told = prom_api.fetch(url, remote_read=remote, aggregate="none", **asked)  # type: ignore[arg-type]
            cluster = told.series.with_columns(cluster=pl.lit(wanted["cluster"][0]))
            again = observe(replace(told, series=cluster))
            assert_frame_equal(again, wanted, check_row_order=False)


def test_prometheus_makes_blocks_of_a_simulation(tmp_path: Path) -> None:
    if which("promtool") is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    made = simulate(replace(STORMY, format="blocks", days=2, step="6h"))
    folder = write(made, tmp_path / "blocks") / "metrics"
    (folder / "wal").mkdir()  # promtool opens a whole database
    dumped = tmp_path / "dump.txt"
    with dumped.open("wb") as file:
        subprocess.run(["promtool", "tsdb", "dump", str(folder)], stdout=file, check=True)

    assert rows(capacity.read(dumped)).equals(rows(made.metrics))


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"format: 'xml' is none of tables, openmetrics"):
        SimulationSettings(format="xml")


def test_blocks_without_promtool_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    made = simulate(replace(SMALL, format="blocks", days=2))

    with pytest.raises(SettingsError, match="needs promtool"):
        write(made, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_another_seed_gives_another_cluster(small: Simulation) -> None:
    other = simulate(replace(SMALL, seed=4))

    assert not other.metrics.samples.equals(small.metrics.samples)
    assert not other.inventory.backends.equals(small.inventory.backends)


def test_the_tables_are_as_declared(small: Simulation) -> None:
    check(small.metrics.series, SERIES)
    check(small.metrics.samples, SAMPLES)
    made = simulate(replace(SMALL, with_pods=True)).inventory
    for frame, table in (
        (made.nodes, NODES),
        (made.services, SERVICES),
        (made.backends, BACKENDS),
        (made.options, OPTIONS),
        (made.endpoints, ENDPOINTS),
    ):
        assert not check(frame, table).is_empty()


def test_a_series_is_told_once_and_in_time_order(small: Simulation) -> None:
    assert not small.metrics.series.drop("series").is_duplicated().any()
    samples = small.metrics.samples
    assert not samples.select("series", "time").is_duplicated().any()
    assert samples.equals(samples.sort("series", "time"))
    assert samples["series"].n_unique() == small.metrics.series.height


def test_without_noise_the_maps_hold_what_the_laws_say(quiet: Simulation) -> None:
    for name in ("ipcache", "tunnel_map"):
        counted = entries(quiet, name).join(
            quiet.metrics.select("cilium_nodes_all_num").select("node", "time", nodes="value"),
            on=["node", "time"],
        )
        expected = law.cluster_law(QUIET, counted["nodes"].to_numpy())[name]
        np.testing.assert_array_equal(counted["entries"].to_numpy(), expected)


def test_without_noise_the_worst_policy_map_holds_what_the_law_says() -> None:
    # A map so small that 60 nodes fill more than the threshold below which there is no sample
    made = simulate(replace(QUIET, policy_map_max=2048))
    found = entries(made, "cilium_policy_*").group_by("time").agg(pl.col("entries").max())
    known = made.metrics.select("cilium_nodes_all_num").group_by("time")
    both = found.join(known.agg(nodes=pl.col("value").max()), on="time")
    expected = law.cluster_law(QUIET, both["nodes"].to_numpy())["policy_worst"]

    assert both.height == QUIET.steps
    # Identities and policies are whole numbers: 3 × a half, and another half
    np.testing.assert_allclose(both["entries"].to_numpy(), expected, atol=2)


@pytest.mark.parametrize("name", ["ipcache", *law.LB_MAPS, "cilium_policy_*"])
def test_with_noise_the_last_step_is_near_the_law(default: Simulation, name: str) -> None:
    key = "policy_worst" if name == "cilium_policy_*" else name
    found = last(entries(default, name), default)["entries"].max()
    expected = float(law.cluster_law(default.settings, default.settings.nodes)[key])

    assert found == default.truth["now"]["drawn"][key]
    assert found == pytest.approx(expected, rel=0.02)


def test_the_inventory_gives_the_load_balancer_entries_exactly(default: Simulation) -> None:
    per_port = (
        default.inventory.backends.group_by("namespace", "service", "port")
        .agg(slots=pl.col("address").n_unique())
        .join(default.inventory.services, on=["namespace", "service"])
    )
    # ClusterIP 1; node port: the one address of the node and a surrogate; load balancer 1
    each = pl.col("cluster_ips") + 2 * pl.col("node_ports") + pl.col("load_balancer_ips")
    counted = per_port.select(
        lb4_services_v2=(each * (1 + pl.col("slots"))).sum(), lb4_reverse_nat=each.sum()
    ).row(0, named=True)
    loaded = per_port.filter(each > 0)
    counted["lb4_backends_v3"] = (
        default.inventory.backends.join(loaded, on=["namespace", "service"], how="semi")
        .select("address", "port")
        .n_unique()
    )

    for name, number in counted.items():
        seen = last(entries(default, name), default)["entries"].unique().to_list()
        assert seen == [number], name


def test_the_cluster_grows_to_the_nodes_of_the_inventory(small: Simulation) -> None:
    seen = small.metrics.select("cilium_nodes_all_num").group_by("time").agg(pl.col("value").max())
    counts = seen.sort("time")["value"].to_list()

    assert (counts[0], counts[-1]) == (SMALL.first_nodes, SMALL.nodes)
    assert counts == sorted(counts)
    assert small.inventory.nodes.height == SMALL.nodes


def test_each_agent_reports_from_its_first_step_to_its_last(quiet: Simulation) -> None:
    reporting = quiet.metrics.select("cilium_endpoint").group_by("time").len()
    known = (
        quiet.metrics.select("cilium_nodes_all_num").group_by("time").agg(pl.col("value").first())
    )
    both = reporting.join(known, on="time")

    assert both["len"].to_list() == both["value"].to_list()


def test_a_replaced_node_has_a_new_name_and_the_old_address(stormy: Simulation) -> None:
    agents = stormy.metrics.select("cilium_endpoint").with_columns(
        instance=pl.col("labels").str.json_path_match("$.instance")
    )
    lives = agents.group_by("instance").agg(
        pl.col("node").n_unique(), pl.col("pod").n_unique(), times=pl.col("time").is_duplicated()
    )

    assert (lives["node"] > 1).any()
    assert lives["node"].to_list() == lives["pod"].to_list()
    assert not lives["times"].list.any().any()


def test_a_restart_resets_the_counters(stormy: Simulation) -> None:
    start = stormy.metrics.select("cilium_process_start_time_seconds").select(
        "node", "time", start="value"
    )
    cpu = stormy.metrics.select("cilium_process_cpu_seconds_total").join(start, on=["node", "time"])
    steps = cpu.sort("node", "time").with_columns(
        change=pl.col("value").diff().over("node"),
        restarted=pl.col("start").diff().over("node") > 0,
    )
    kept = steps.filter(~pl.col("restarted"))
    reset = steps.filter("restarted")

    assert reset.height > 100
    assert (kept["change"] > 0).all()
    assert (reset["change"] < 0).mean() > 0.6  # a young process may pass the older one's total
    age = reset["time"].dt.epoch("ms") / 1000 - reset["start"]
    assert age.is_between(0, 2 * STORMY.step_seconds).all()
    # No process uses less than the base or more than a few times the law
    assert (reset["value"] / age.clip(1)).is_between(0.01, 1).all()


def test_added_less_deleted_services_are_the_frontends_of_an_agent(stormy: Simulation) -> None:
    events = stormy.metrics.select("cilium_services_events_total").with_columns(
        action=pl.col("labels").str.json_path_match("$.action")
    )
    wide = events.pivot("action", index=["node", "time"], values="value").with_columns(
        held=pl.col("add") - pl.col("delete").fill_null(0)
    )
    frontends = last(entries(stormy, "lb4_reverse_nat"), stormy)["entries"].max()

    assert (events["value"] > 0).all()
    assert wide["delete"].null_count() > 0
    assert last(wide, stormy)["held"].unique().to_list() == [frontends]


def test_a_gap_is_a_missing_sample_and_never_a_zero() -> None:
    whole = simulate(replace(SMALL, gaps=0.0))
    holed = simulate(replace(SMALL, gaps=0.25))

    def agents(made: Simulation) -> pl.DataFrame:
        return made.metrics.select("cilium_.*").filter(
            pl.col("node").is_not_null(), pl.col("metric") != "cilium_version"
        )

    assert agents(holed).height / agents(whole).height == pytest.approx(0.75, abs=0.03)
    assert (agents(holed)["value"] > 0).all()


def test_a_scrape_is_missing_for_all_series_of_an_agent(small: Simulation) -> None:
    always = ["cilium_endpoint", "cilium_nodes_all_num", "cilium_process_resident_memory_bytes"]
    scrapes = [small.metrics.select(metric).select("node", "time") for metric in always]

    assert scrapes[0].equals(scrapes[1])
    assert scrapes[0].equals(scrapes[2])


def test_values_are_rounded_as_exporters_round_them(small: Simulation) -> None:
    memory = small.metrics.select("cilium(_operator)?_process_resident_memory_bytes")["value"]
    cpu = small.metrics.select("cilium(_operator)?_process_cpu_seconds_total")["value"]
    maps = small.metrics.select("cilium_bpf_map_pressure").with_columns(
        entries=pl.col("value")
        * pl.col("map_name").replace_strict(small.truth["limits"], return_dtype=pl.Float64)
    )

    assert (memory % law.PAGE == 0).all()
    np.testing.assert_allclose(cpu * 100, (cpu * 100).round(), atol=1e-6)
    np.testing.assert_allclose(maps["entries"], maps["entries"].round(), atol=1e-6)


def test_the_policy_gauge_is_absent_up_to_its_threshold(default: Simulation) -> None:
    policy = entries(default, "cilium_policy_*")
    ipcache = entries(default, "ipcache")

    assert policy["value"].min() > 0.1
    assert policy["node"].n_unique() < 0.6 * ipcache["node"].n_unique()


def test_an_agent_counts_the_identities_of_its_own_endpoints(default: Simulation) -> None:
    local = default.metrics.select("cilium_identity", type="cluster_local")
    pods = default.metrics.select("cilium_endpoint").select("node", "time", endpoints="value")
    both = local.join(pods, on=["node", "time"])
    total = default.metrics.select("cilium_operator_identity_gc_entries", status="alive")

    assert (both["value"] < both["endpoints"]).all()
    assert total["value"][-1] == default.truth["now"]["drawn"]["identities"]


def test_connections_follow_the_week_and_not_the_nodes(default: Simulation) -> None:
    rows = entries(default, "ct4_global").with_columns(weekday=pl.col("time").dt.weekday())
    by_day = rows.group_by("weekday").agg(pl.col("entries").median()).sort("weekday")["entries"]
    weeks = rows.group_by("time").agg(pl.col("entries").median()).sort("time")["entries"]

    assert by_day.max() / by_day.min() == pytest.approx(1.25 / 0.75, rel=0.2)
    assert weeks[-28:].mean() / weeks[:28].mean() == pytest.approx(1, abs=0.05)


def test_memory_of_agents_is_spread_as_the_truth_says(default: Simulation) -> None:
    told = default.truth["now"]["agent"]
    rss = last(default.metrics.select("cilium_process_resident_memory_bytes"), default)
    maps = last(default.metrics.select("cilium_bpf_maps_virtual_memory_max_bytes"), default)
    both = rss.join(maps.select("node", maps="value"), on="node")

    for quantity, memory in {
        "memory_rss": both["value"],
        "memory": both["value"] + both["maps"],
    }.items():
        assert memory.median() == pytest.approx(told[f"{quantity}, median node"], rel=0.05)
        p99 = told[f"{quantity}, 99th percentile of the nodes"]
        assert memory.quantile(0.99) == pytest.approx(p99, rel=0.03)
        assert memory.max() == pytest.approx(told[f"{quantity}, worst node"], rel=0.03)


def test_the_demo_runs_out_where_it_was_meant_to(default: Simulation) -> None:
    first = default.truth["exhaustion"][0]
    worst = {"component": "map", "statistic": "worst node"}
    high = {"quantity": "memory", "statistic": "99th percentile of the nodes"}

    assert (first["subject"], first["nodes"]) == ("lb4_services_v2", 1477)
    assert nodes_where(default, subject="cilium_policy_*", **worst) == 1732
    assert nodes_where(default, subject="ct4_global", **worst) is None
    assert nodes_where(default, **high) == pytest.approx(1600, rel=0.03)


def test_a_law_is_below_the_limit_one_node_before_and_at_it_there(default: Simulation) -> None:
    keys = {"cilium_policy_*": "policy_worst", "service_ids": "lb4_reverse_nat"}
    told = [row for row in default.truth["exhaustion"] if row["nodes"] and row["subject"]]

    assert len(told) >= 6
    for row in told:
        key = keys.get(row["subject"], row["subject"])
        before, there = law.cluster_law(default.settings, [row["nodes"] - 1, row["nodes"]])[key]
        assert before < row["limit"] <= there, row["subject"]


def test_dates_go_on_at_the_mean_pace(quiet: Simulation) -> None:
    row = next(row for row in quiet.truth["exhaustion"] if row["date"])
    pace = (QUIET.nodes - QUIET.first_nodes) / (QUIET.steps - 1)
    expected = QUIET.end_time + timedelta(days=(row["nodes"] - QUIET.nodes) / pace)

    assert row["date"] == f"{expected:%Y-%m-%dT%H:%M:%SZ}"


def test_a_larger_map_lasts_for_more_nodes() -> None:
    def reach(settings: SimulationSettings, subject: str) -> int:
        return next(r["nodes"] for r in exhaustion(settings) if r["subject"] == subject)

    larger = replace(SMALL, lb_map_max=131072, policy_map_max=32768)

    # Nearly in proportion: the laws have small bases
    assert reach(larger, "lb4_services_v2") == pytest.approx(2 * 1477, rel=0.01)
    assert reach(larger, "cilium_policy_*") == pytest.approx(2 * 1732, rel=0.03)


def test_a_map_size_of_its_own_has_a_capacity_series_of_its_own() -> None:
    plain = simulate(replace(SMALL, days=2))
    sized = simulate(replace(SMALL, days=2, lb_map_max=131072))

    def capacity(made: Simulation, group: str) -> list[float]:
        rows = made.metrics.select("cilium_bpf_map_capacity", map_group=group)
        return rows["value"].unique().to_list()

    assert capacity(plain, "cilium_lb4_services_v2") == []
    assert capacity(sized, "cilium_lb4_services_v2") == [131072]
    assert capacity(plain, "default") == [65536]
    # 30 GiB at ratio 0.0025: scenario S02 of real agents
    assert capacity(plain, "cilium_ct4_global") == [282563]
    assert capacity(plain, "cilium_ct_any4_global") == [141281]


@pytest.mark.parametrize("nodes", [20, 40])
def test_each_node_has_as_many_series(nodes: int) -> None:
    settings = replace(QUIET, nodes=nodes, nodes_start=nodes, days=3)
    series = simulate(settings).metrics.series
    agents = series.filter(pl.col("node").is_not_null(), pl.col("map_name") != "cilium_policy_*")
    per_node = agents.group_by("node").len()["len"]

    assert len(per_node) == nodes
    assert per_node.n_unique() == 1


def test_pods_are_the_backends_and_fill_the_nodes() -> None:
    made = simulate(replace(SMALL, with_pods=True))
    pods = made.inventory.endpoints
    endpoints = last(made.metrics.select("cilium_endpoint"), made)
    per_node = dict(pods.group_by("node").len().iter_rows())
    addresses = {pod["status"]["podIP"] for pod in made.objects.pods}
    backends = made.inventory.backends.filter(pl.col("service") != "kubernetes")["address"]

    assert pods.height == made.truth["now"]["drawn"]["pods"] == len(addresses)
    assert set(backends) <= addresses
    for node, count in endpoints.select("node", "value").iter_rows():
        assert per_node[node] == count - 2


def test_the_files_hold_what_the_simulation_holds(small: Simulation, tmp_path: Path) -> None:
    folder = write(small, tmp_path / "new" / "out")
    parts = sorted((folder / "metrics").glob("samples-*.parquet"))
    samples = pl.concat(pl.read_parquet(path) for path in parts).sort("series", "time")
    config = yaml.safe_load((folder / "inventory" / "cilium-config.yaml").read_text())

    assert samples.equals(small.metrics.samples)
    assert pl.read_parquet(folder / "metrics" / "series.parquet").equals(small.metrics.series)
    assert config["data"]["bpf-lb-map-max"] == "65536"
    assert config["data"]["bpf-map-dynamic-size-ratio"] == "0.0025"
    assert json.loads((folder / "truth.json").read_text())["exhaustion"]
    assert not list(tmp_path.glob("**/.simulate-*"))


def test_the_package_reads_the_inventory_that_was_written(tmp_path: Path) -> None:
    made = simulate(replace(SMALL, with_pods=True))
    found = capacity.read_inventory(write(made, tmp_path / "out") / "inventory")

    for name, keys in {
        "nodes": ["node"],
        "services": ["namespace", "service"],
        "backends": ["namespace", "service", "address", "port"],
        "endpoints": ["namespace", "pod"],
    }.items():
        expected = getattr(made.inventory, name).sort(keys)
        assert getattr(found, name).sort(keys).equals(expected), name
    assert found.option("bpf-lb-map-max") == "65536"
    assert found.sources["refused"].sum() == 0


def test_the_package_reads_the_metrics_that_were_written(small: Simulation, tmp_path: Path) -> None:
    found = capacity.read(write(small, tmp_path / "out") / "metrics")

    for metric in small.metrics.series["metric"].unique():
        order = ["labels", "node", "pod", "map_name", "time"]
        expected = small.metrics.select(metric).sort(order)
        assert found.select(metric).sort(order).equals(expected), metric


def test_an_earlier_simulation_is_replaced_and_nothing_else(
    small: Simulation, quiet: Simulation, tmp_path: Path
) -> None:
    folder = write(small, tmp_path / "out")
    before = files(folder)
    write(quiet, folder)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep me")

    assert files(folder) != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]
    with pytest.raises(SettingsError, match="mine is not empty and holds no earlier simulation"):
        write(small, mine)
    assert files(mine) == {"notes.txt": b"keep me"}


def test_a_file_in_the_way_is_told(small: Simulation, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")

    with pytest.raises(SettingsError, match="out is a file; give a folder"):
        write(small, tmp_path / "out")


def test_all_faults_of_settings_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        SimulationSettings(
            nodes=1, nodes_start=5, version="1.20", memory="lots", gaps=2, end="2026-11-01"
        )

    message = str(caught.value)
    for part in (
        "nodes: 1 is outside",
        "nodes_start: 5",
        "'1.20' is not simulated",
        "'lots'",
        "gaps: 2 is outside 0…0.9",
        "has no time zone",
        "30 pods, outside 200",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"step": "100d"}, "fit twice into 90 d"),
        ({"step": "soon"}, "'soon' is not a duration"),
        ({"step": "1m"}, "take a longer step"),
        ({"end": "yesterday"}, "'yesterday' is not a time"),
        ({"cluster": ""}, "cluster: is empty"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SimulationSettings(**wrong)  # type: ignore[arg-type]


def test_every_setting_says_what_it_is() -> None:
    for setting in fields(SimulationSettings):
        assert setting.metadata["help"].endswith("."), setting.name
        assert "unit" in setting.metadata, setting.name


def test_hourly_steps_keep_the_rate_of_counters() -> None:
    made = simulate(replace(QUIET, days=7, step="1h"))
    cpu = made.metrics.select("cilium_process_cpu_seconds_total").sort("node", "time")
    rate = cpu.with_columns(rate=pl.col("value").diff().over("node") / 3600)["rate"].drop_nulls()
    counts = law.cluster_law(QUIET, QUIET.first_nodes)
    base = law.AGENT.base_cores + float(
        law.AGENT.pod_cores * counts["pods"] + law.AGENT.identity_cores * counts["identities"]
    )

    assert made.settings.steps == 7 * 24
    assert rate.mean() == pytest.approx(base, rel=0.1)


def test_thousands_of_nodes_have_more_series_than_polars_filters_at_once(tmp_path: Path) -> None:
    made = simulate(SimulationSettings(nodes=20, days=2, step="6h", seed=1))
    many = 40_000
    series = pl.DataFrame(
        {"series": range(many), "metric": ["cilium_version"] * many}, schema_overrides=SERIES.schema
    )
    series = pl.concat([SERIES.empty(), series], how="diagonal").with_columns(cluster=pl.lit("c"))
    metrics = replace(made.metrics, series=series, samples=SAMPLES.empty())
    folder = write(replace(made, metrics=metrics), tmp_path / "large")
    assert len(pl.read_parquet(folder / "metrics" / "series.parquet")) == many
    assert (folder / "metrics" / "samples-state.parquet").exists()


def test_the_demo_takes_less_than_three_seconds_of_cpu() -> None:
    # CPU time: other tests that run at the same time do not count
    before = time.process_time()
    simulate()

    assert time.process_time() - before < 3


def test_the_shipped_demo_is_what_the_defaults_give(default: Simulation) -> None:
    parts = sorted((DEMO / "metrics").glob("samples-*.parquet"))
    samples = pl.concat(pl.read_parquet(path) for path in parts).sort("series", "time")
    series = pl.read_parquet(DEMO / "metrics" / "series.parquet")
    expected = default.metrics.samples

    assert series.equals(default.metrics.series)
    assert samples.select("series", "time").equals(expected.select("series", "time"))
    # Other versions of the mathematics may round a page or an entry otherwise
    np.testing.assert_allclose(samples["value"], expected["value"], rtol=1e-3)
    assert json.loads((DEMO / "truth.json").read_text()) == json.loads(json.dumps(default.truth))


def test_the_shipped_demo_is_small() -> None:
    sizes = [len(data) for data in files(DEMO).values()]

    assert max(sizes) < 2**20
    assert sum(sizes) < 2_500_000
