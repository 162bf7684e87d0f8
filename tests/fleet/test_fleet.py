"""Fleets: FLEET.yaml is checked, each cluster stands alone, nothing is lost, sums are right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity import facts
from capacity.errors import SettingsError
from capacity.fleet import results as stored
from capacity.fleet import running
from capacity.fleet.members import Member, environment, from_plain, read_fleet, to_plain
from capacity.fleet.mesh import limit_of, meshes, own_addresses
from capacity.fleet.overview import collected, fleet_table
from capacity.fleet.pages import write_fleet
from capacity.fleet.running import FLEET, Job, clear, run_fleet
from capacity.fleet.work import perform
from capacity.settings import PlanSettings

LAB = str(Path(__file__).resolve().parents[2] / "data" / "lab")
SECRET = "planted-secret"
NASTY = "../<img src=x onerror=alert(1)>|`"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "FLEET.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def result(name: str, mesh: str | None = "m", **more: Any) -> dict[str, Any]:
    """Give what a worker gives: 100 nodes with 3,000 pods that double in a year."""
    growth = [
        {"time": "2026-07-01T00:00:00Z", "q05": 120.0, "q50": 150.0, "q95": 180.0},
        {"time": "2027-01-01T00:00:00Z", "q05": 150.0, "q50": 200.0, "q95": 250.0},
    ]
    finding = {
        "rank": 1, "component": "map", "subject": "lxc", "quantity": "map_entries", "unit": "1",
        "kind": "settable", "setting": None, "current": 10.0, "limit": 100.0, "usage": 0.1,
        "nodes_early": 300, "nodes_median": 400, "date_early": "2027-01-01T00:00:00Z",
        "date_median": None, "probability": 0.5, "status": "short",
    }  # fmt: skip
    first = {"resource": f"map {NASTY}", "kind": "settable", "nodes": 300, "date": "2027-01-01",
             "probability_within_horizon": 0.5}  # fmt: skip
    return {
        "cluster": name, "mesh": mesh, "status": "ok", "error": None, "seconds": 1.0,
        "version": "1.18", "verdict": "short", "headline": "h", "first_limit": first,
        "warnings": 0, "time": "2026-01-01T00:00:00Z", "growth": growth, "findings": [finding],
        "drivers": {"nodes": 100.0, "endpoints": 3000.0, "identities": 50.0, "services": 9.0},
        **more,
    }  # fmt: skip


def failed(name: str, mesh: str | None = "m") -> dict[str, Any]:
    return {"cluster": name, "mesh": mesh, "status": "failed", "error": NASTY, "seconds": 0.0}


def test_clusters_are_read_with_defaults_and_paths_beside_the_file(
    written: Callable[[str], Path], tmp_path: Path
) -> None:
    path = written(
        "defaults: {timeout: 2m, settings: {horizon: 90d}}\n"
        "clusters:\n"
        "- {name: a, source: dump, mesh: eu, settings: {nodes: [5]}}\n"
        "- {name: b, source: 'https://prom.example', credentials: {token_file: t, user_env: U}}\n"
    )
    one, two = read_fleet(path)
    assert one.settings == PlanSettings(str(tmp_path / "dump"), nodes=(5,), horizon="90d")
    assert (one.timeout, one.mesh, one.folder) == (120.0, "eu", "a")
    assert two.credentials == {"token_file": str(tmp_path / "t"), "user_env": "U"}
    assert from_plain(json.loads(json.dumps(to_plain(two)))) == two


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clusters: 5", "a list `clusters`"),
        ("clusters: []", "no clusters"),
        ("clusters: [{name: a}]", r"cluster 1 \(a\): source: wanted a text"),
        ("clusters: [{name: a, source: x, sauce: y}]", r"unknown keys \['sauce'\]"),
        ("clusters: [{name: a, source: x}, {name: a, source: y}]", "two clusters are named 'a'"),
        ("clusters: [{name: a, source: x, settings: {nodes: many}}]", "is not of type"),
        ("clusters: [{name: a, source: x, timeout: soon}]", "soon"),
        ("clusters: [{name: a, source: x, credentials: {token: t}}]", "unknown 'token'"),
        ("a: [", "cannot be read"),
        ("!!python/object/apply:os.system ['x']", "cannot be read"),
    ],
)
def test_faults_of_the_file_are_named(
    written: Callable[[str], Path], text: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        read_fleet(written(text))


@pytest.mark.parametrize(
    "cluster",
    [f"source: 'https://me:{SECRET}@prom.example'",
     f"source: 'https://prom.example', credentials: {{token_env: '{SECRET}-1'}}"],
)  # fmt: skip
def test_secrets_in_the_file_are_refused_and_not_repeated(
    written: Callable[[str], Path], cluster: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read_fleet(written(f"clusters: [{{name: a, {cluster}}}]"))
    assert SECRET not in str(caught.value)


def test_references_are_resolved_where_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROD", SECRET)
    told = environment({"token_env": "PROD", "ca_file": "/ca.pem"})
    assert told == {"CAPACITY_PROM_TOKEN": SECRET, "CAPACITY_PROM_CA_FILE": "/ca.pem"}
    with pytest.raises(SettingsError, match="variable GONE"):
        environment({"token_env": "GONE"})


def test_a_mesh_fills_one_ipcache_together() -> None:
    results = [result(f"c{i}") for i in range(4)]
    frame = meshes([(r["cluster"], "m") for r in results], results)
    row = frame.filter(pl.col("resource") == "ipcache entries").row(0, named=True)
    assert row["current"] == 4 * own_addresses(results[0]) == 4 * (3000 + 3 * 100 + 40)
    assert row["limit"] == 512_000
    assert row["nodes_full"] == int(512_000 / row["current"] * 400)
    assert row["ahead_q50"] == pytest.approx(2 * row["current"])
    assert row["ahead_q95"] == pytest.approx(2.5 * row["current"])
    assert row["status"] == "ok"


def test_a_mesh_is_full_when_its_sum_is_though_no_cluster_is() -> None:
    members = [(f"c{i}", "m") for i in range(100)]
    frame = meshes(members, [result(name) for name, _ in members])
    row = frame.filter(pl.col("resource") == "ipcache entries").row(0, named=True)
    # 334,000 today and 668,000 in a year: linear between the points of the curve
    assert row["status"] == "short"
    assert row["date_early"] < row["date_median"]
    assert row["date_median"].isoformat()[:7] in ("2026-07", "2026-06")


def test_what_running_agents_hold_counts_where_it_is_more() -> None:
    finding = {**result("a")["findings"][0], "subject": "ipcache", "current": 600_000.0}
    one = result("a", findings=[finding])
    frame = meshes([("a", "m"), ("b", "m")], [one, failed("b")])
    row = frame.filter(pl.col("resource") == "ipcache entries").row(0, named=True)
    assert (row["current"], row["status"], row["counted"], row["clusters"]) == (
        600_000.0, "short", 1, 2,
    )  # fmt: skip


def test_more_clusters_than_a_mesh_takes_are_told() -> None:
    members = [(f"c{i}", "m") for i in range(256)]
    frame = meshes(members, [failed(name) for name, _ in members])
    assert frame.row(0, named=True)["status"] == "short"
    assert limit_of("clusters", facts.LATEST) == 255


@given(st.lists(st.floats(1, 1e5), min_size=1, max_size=8))
def test_sums_of_a_mesh_do_not_depend_on_the_order(pods: list[float]) -> None:
    results = [
        result(f"c{i}", drivers={"nodes": 10.0, "endpoints": p, "identities": None})
        for i, p in enumerate(pods)
    ]
    members = [(r["cluster"], "m") for r in results]
    one, other = meshes(members, results), meshes(members[::-1], results[::-1])
    assert one["current"].to_list() == pytest.approx(other["current"].to_list())


def test_the_table_holds_each_limit_and_each_failure() -> None:
    frame = fleet_table([result("a"), failed("b"), result("c", findings=[])])
    assert frame["cluster"].to_list() == ["a", "b", "c"]
    assert frame["state"].to_list() == ["ok", "failed", "ok"]
    assert frame["date_early"][0].year == 2027
    assert frame["error"][1] == NASTY


def test_what_is_written_is_escaped_whole_and_equal_for_equal_results(tmp_path: Path) -> None:
    members = [Member(NASTY, PlanSettings(), "m"), Member("b", PlanSettings())]
    results = [result(NASTY), failed("b", None)]
    one = write_fleet(tmp_path / "1", "r", members, results, pages=True)
    slow = [{**r, "seconds": 9.0} for r in results]
    other = write_fleet(tmp_path / "2", "r", members, slow, pages=True)
    page = (one / "index.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert 'href="../../img-src-x-onerror-alert-1-' in page
    assert "\\|\\`" in (one / "summary.md").read_text(encoding="utf-8")
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert any(path.parts[0] == "mesh" for path in files)
    for file in files:
        if file.name != "timing.json":
            assert (one / file).read_bytes() == (other / file).read_bytes(), file
    told = json.loads((one / "outcome.json").read_text(encoding="utf-8"))
    assert told["not_planned"] == [{"cluster": "b", "state": "failed", "error": NASTY}]
    assert "1 cluster could not be planned" in told["headline"]
    with pytest.raises(SettingsError, match="never overwritten"):
        write_fleet(tmp_path / "1", "r", members, results, pages=True)
    read = stored.read(tmp_path / "1")
    assert read.limits.equals(fleet_table(results))
    assert read.outcome == told
    (one / "outcome.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SettingsError, match="is not the outcome of a fleet"):
        stored.read(one)
    with pytest.raises(SettingsError, match="no results of"):
        stored.read(tmp_path)


def test_the_next_run_says_what_changed_in_which_cluster_and_why(tmp_path: Path) -> None:
    members = [Member("a", PlanSettings()), Member("b", PlanSettings())]
    sooner = {**result("a")["first_limit"], "nodes": 200, "date": "2026-07-01"}
    write_fleet(tmp_path, "1", members, [result("a"), result("b")], pages=False)
    later = [result("a", first_limit=sooner, drivers={"nodes": 150.0}), failed("b")]
    made = write_fleet(tmp_path, "2", members, later, pages=False)
    told = json.loads((made / "run.json").read_text(encoding="utf-8"))
    assert told["previous"] == "1"
    changed = {c["what"]: (c["was"], c["now"], c["why"]) for c in told["changes"]}
    assert changed["a"] == (
        "300 nodes from 2027-01-01 (short)", "200 nodes from 2026-07-01 (short)", "use 100 to 150",
    )  # fmt: skip
    assert changed["b"][1] == "failed"
    for page in ("index.html", "summary.md"):
        assert "use 100 to 150" in (made / page).read_text(encoding="utf-8")


def members_of(tmp_path: Path) -> list[Member]:
    """Give two good clusters, one that is not there, and one that takes too long."""
    return [
        Member("good", PlanSettings(LAB, nodes=(500,)), "m"),
        Member(NASTY, PlanSettings(LAB), "m"),
        Member("gone", PlanSettings(str(tmp_path / "gone"))),
        Member("slow", PlanSettings(LAB), None, timeout=0.01),
    ]


def test_slow_and_broken_clusters_stop_no_other_and_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = members_of(tmp_path)
    job = Job("plan", tmp_path / "out", "r")
    results = run_fleet(members, job)
    assert [r["status"] for r in results] == ["ok", "ok", "failed", "late"]
    assert "no such file or folder" in results[2]["error"]
    assert collected(members, results).outcome["states"] == {"ok": 2, "failed": 1, "late": 1}
    assert len(json.dumps(results[0])) < 20_000, "only aggregates travel"
    again: list[str] = []

    def counted(told: Any, *rest: Any) -> Any:
        again.append(told["name"])
        return perform(told, *rest)

    monkeypatch.setattr(running, "perform", counted)
    assert run_fleet(members, job)[0] == results[0]
    assert sorted(again) == ["gone", "slow"], "finished clusters were done again"
    clear(job.out)
    assert list((job.out / FLEET).iterdir()) == []


def test_a_dask_cluster_that_loses_a_worker_loses_nothing(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    members = [Member(f"c{i}", PlanSettings(LAB, seed=i)) for i in range(3)]
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0",
        host="127.0.0.1", protocol="tcp",
    ) as cluster:  # fmt: skip
        lost: list[Any] = []

        def lose(name: str, share: float) -> None:
            if share >= 0.3 and not lost:
                lost.append(next(iter(cluster.workers.values())))
                future = asyncio.run_coroutine_threadsafe(
                    lost[0].close(timeout=1, nanny=False, reason="test"), cluster.loop.asyncio_loop
                )
                future.result(30)

        job = Job("plan", tmp_path / "out", "r", scheduler=cluster.scheduler_address)
        results = run_fleet(members, job, progress=lose)
    assert lost
    assert [r["error"] for r in results] == [None] * len(members)
    assert [r["cluster"] for r in results] == [m.name for m in members]


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    job = Job("plan", tmp_path, "r", scheduler="nowhere")
    with pytest.raises(SettingsError, match="--scheduler nowhere"):
        run_fleet([Member("a", PlanSettings(LAB))], job)
