"""`capacity fleet report` as a user runs it: hostile names, a broken cluster, a secret, a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml

from capacity.writing import file_name
from tests.command import Done, run

pytestmark = pytest.mark.notebook

LAB = Path(__file__).resolve().parents[2] / "data" / "lab"
SECRET = "planted-secret-of-prod"
NASTY = "../<img src=x onerror=alert(1)>|`\"'"
COMMAND = ("fleet", "report", "FLEET.yaml", "--out", "out", "--run", "r", "--workers", "1")


def test_a_fleets_report_is_whole_after_a_kill_with_hostile_names_and_a_broken_cluster(
    tmp_path: Path,
) -> None:
    """One run, since it takes seconds; each thing that must hold has its function below."""
    marks = killed_run(tmp_path)
    again = run(*COMMAND, "--metrics", "fleet.prom", cwd=tmp_path, CAPACITY_PROM_PASSWORD=SECRET)
    what_was_finished_is_taken_over(tmp_path, again, marks)
    broken_clusters_are_rows_and_stop_no_other(tmp_path, again)
    the_page_tells_verdict_chart_table_and_what_to_do(tmp_path)
    names_stay_text_and_secrets_stay_out_of_everything_written(tmp_path, again)
    the_site_holds_plotly_once_and_every_page_finds_it(tmp_path)


def killed_run(folder: Path) -> dict[str, int]:
    """Kill a run when its first cluster is there; give marks of what was made by then."""
    (folder / "token").write_text(SECRET + "\n", encoding="utf-8")
    clusters = [
        {"name": "lab", "source": str(LAB), "mesh": "eu", "settings": {"nodes": [500]}},
        {"name": NASTY, "source": str(LAB), "mesh": "eu"},
        {"name": "gone", "source": "nowhere", "mesh": "eu"},
        {"name": "down", "source": "http://127.0.0.1:9", "credentials": {"token_file": "token"}},
    ]
    (folder / "FLEET.yaml").write_text(yaml.safe_dump({"clusters": clusters}), encoding="utf-8")
    env = {**os.environ, "CAPACITY_PROM_PASSWORD": SECRET}
    with subprocess.Popen(
        [sys.executable, "-m", "capacity", *COMMAND], cwd=folder, env=env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as first:  # fmt: skip
        end = time.monotonic() + 120
        part = folder / "out" / "+fleet" / ".part"
        while not (part / "lab.json").exists() and time.monotonic() < end:
            assert first.poll() is None, "ended before its first cluster was there"
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
    assert not (folder / "out" / "+fleet" / "r").exists(), "a half run looks like a whole one"
    return {str(p): p.stat().st_mtime_ns for p in (folder / "out" / "lab").rglob("*.*")}


def what_was_finished_is_taken_over(folder: Path, again: Done, marks: dict[str, int]) -> None:
    page = folder / "out" / "lab" / "r" / "plan.html"
    assert marks[str(page)] == page.stat().st_mtime_ns, "a finished page was made again"
    assert not list((folder / "out" / "+fleet").glob(".*"))
    assert again.returncode == 2, "a cluster that could not be planned is exit code 2"


def broken_clusters_are_rows_and_stop_no_other(folder: Path, again: Done) -> None:
    final = folder / "out" / "+fleet" / "r"
    states = dict(pl.read_parquet(final / "fleet.parquet").select("cluster", "state").iter_rows())
    assert states == {"lab": "ok", NASTY: "ok", "gone": "failed", "down": "failed"}
    assert "failed: gone" in again.stderr
    for name in ("lab", NASTY):
        told = json.loads((folder / "out" / file_name(name) / "r" / "run.json").read_text())
        assert told["notebooks"]["plan"]["status"] == "ok"
    assert 'capacity_run_exit_code{cluster="fleet"} 2.0' in (folder / "fleet.prom").read_text()


def the_page_tells_verdict_chart_table_and_what_to_do(folder: Path) -> None:
    page = (folder / "out" / "+fleet" / "r" / "fleet.html").read_text(encoding="utf-8")
    places = [page.index(mark) for mark in ('class="verdict', 'class="chart"', "<table")]
    assert places == sorted(places)
    assert page.count('class="chart"') == 3
    headings = re.findall(r"<h2 id=[^>]*>(.*?)</h2>", page)
    assert headings[0] == "What breaks first, where, when"
    assert {"What to set today", "How sure this is", "Where the numbers come from"} < set(headings)
    assert "nowhere" in page
    assert 'href="fleet.html"' in (folder / "out/+fleet/r/index.html").read_text(encoding="utf-8")


def names_stay_text_and_secrets_stay_out_of_everything_written(folder: Path, again: Done) -> None:
    files = [p for p in (folder / "out").rglob("*") if p.is_file()]
    assert len(files) > 20
    for file in files:
        assert SECRET.encode() not in file.read_bytes(), file
        if file.suffix == ".html":
            assert "<img" not in file.read_text(encoding="utf-8"), file
        assert file.resolve().is_relative_to((folder / "out").resolve())
    assert SECRET not in again.stdout + again.stderr


def the_site_holds_plotly_once_and_every_page_finds_it(folder: Path) -> None:
    out = folder / "out"
    (library,) = out.glob("plotly-*.min.js")
    pages = [*out.rglob("plan.html"), *out.rglob("fleet.html")]
    assert len(pages) == 3
    for page in pages:
        text = page.read_text(encoding="utf-8")
        (source,) = re.findall(r'<script src="([^"]*)">', text)
        assert (page.parent / source).resolve() == library.resolve()
        assert len(text) < 800_000
        assert not re.findall(r"plotly\.js v\d", text)
