"""Runs of reports: whole or not at all, resumed, compared with the last one, discreet, escaped."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from capacity import metrics
from capacity.changes import changes
from capacity.errors import CapacityError, SettingsError
from capacity.locks import locked
from capacity.report import kernel
from capacity.report.index import reindex
from capacity.report.notebook import settings_for
from capacity.report.runs import Task, causes, exit_code, newest, prune, read_run, run, runs_of
from capacity.report.site import clusters_page, document, error_page, link
from capacity.report.summary import escaped
from capacity.settings import PlanSettings
from capacity.warm import Start, warmed
from capacity.writing import file_name, write
from tests.command import Done
from tests.command import run as command

CHANGES = ["cilium=1.20", "nodes=5,7", "risk=0.05", "cluster="]
NASTY = "../<img src=x onerror=alert(1)>|`\"'\n{braces}"
SECRET = "planted-secret"
OUTCOME = {
    "schema": "capacity.outcome/1", "cluster": NASTY, "settings": {"nodes": [500]},
    "verdict": "short", "headline": f"Cluster {NASTY} is short", "warnings": [],
    "first_limit": {"resource": f"map {NASTY}", "kind": "settable", "nodes": 900,
                    "date": "2027-01-02"},
    "recommendations": [], "versions": {"capacity": "0.1.0", "cilium": "1.18"},
    "findings": [{
        "component": "map", "subject": NASTY, "quantity": "map_entries", "unit": "1",
        "kind": "settable", "current": 10.0, "limit": 16.0, "usage": 0.625, "nodes_early": 900,
        "date_early": "2027-01-02T00:00:00Z", "status": "short",
    }],
}  # fmt: skip


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    with kernel.kernels() as started:
        yield started


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[..., str]:
    """Write a notebook with the plan's parameters and these cells."""
    shipped = json.loads(Path("notebooks/plan.ipynb").read_text(encoding="utf-8"))
    first = next(c for c in shipped["cells"] if "parameters" in c["metadata"].get("tags", []))

    def make(name: str, *sources: str, outcome: Any = None) -> str:
        blank = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
        cells = [{**blank, "id": f"c{i}", "source": s} for i, s in enumerate(sources)]
        if outcome is not None:
            told = {"id": "o", "metadata": {"summary": "outcome.json"}}
            cells.append({**blank, **told, "source": f"print({json.dumps(outcome)!r})"})
        path = tmp_path / f"{name}.ipynb"
        whole = {**shipped, "cells": [first, *cells]}
        path.write_text(json.dumps(whole), encoding="utf-8")
        return str(path)

    return make


def task(folder: Path, *notebooks: str, run: str = "1", **more: Any) -> Task:
    settings = more.pop("settings", PlanSettings())
    return Task(NASTY, folder, run, tuple((name, settings) for name in notebooks), **more)


@pytest.mark.notebook
def test_a_failed_notebook_leaves_a_page_with_the_cause_and_the_others_go_on(
    notebook: Callable[..., str], start: Start, tmp_path: Path
) -> None:
    # One raises, one kills its kernel, one leaves state behind, the last must not see it
    books = [
        notebook("raises", "1 / 0"),
        notebook("dies", "import os; os._exit(1)"),
        notebook("leaves", "import builtins; builtins.left = 1"),
        notebook("good", "import builtins; print(hasattr(builtins, 'left'))", outcome=OUTCOME),
    ]
    made = run(task(tmp_path / "out", *books), start, workers=2)
    told = read_run(made)
    assert {n: row["status"] for n, row in told["notebooks"].items()} == {
        "raises": "failed", "dies": "failed", "leaves": "ok", "good": "ok",
    }  # fmt: skip
    assert "ZeroDivisionError" in (made / "raises.html").read_text(encoding="utf-8")
    assert "kernel died" in (made / "dies.html").read_text(encoding="utf-8")
    assert "False" in (made / "good.html").read_text(encoding="utf-8")
    assert exit_code(told) == 2
    assert json.loads((made / "outcome.json").read_text(encoding="utf-8")) == OUTCOME
    assert sorted(p.name for p in made.iterdir() if p.name.startswith(".")) == []


RUN_IN_A_PROCESS = """
import sys
from pathlib import Path
from capacity.report import kernel
from capacity.report.runs import Task, run
from capacity.settings import PlanSettings
label, folder, *books = sys.argv[1:]
with kernel.kernels() as start:
    run(Task(label, Path(folder), "1", tuple((b, PlanSettings()) for b in books)), start)
"""


@pytest.mark.notebook
def test_a_killed_run_goes_on_where_it_was_and_gives_the_same_bytes(
    notebook: Callable[..., str], start: Start, tmp_path: Path
) -> None:
    count, go = tmp_path / "count", tmp_path / "go"
    first = notebook("first", f"open({str(count)!r}, 'a').write('x')", outcome=OUTCOME)
    second = notebook(
        "second",
        f"import time\nfrom pathlib import Path\nwhile not Path({str(go)!r}).exists():\n"
        "    time.sleep(0.05)\nprint(2)",
    )
    arguments = [NASTY, str(tmp_path / "out"), first, second]
    with subprocess.Popen([sys.executable, "-c", RUN_IN_A_PROCESS, *arguments]) as killed:
        page, end = tmp_path / "out" / ".part" / ".first.done.json", time.monotonic() + 60
        while not page.exists() and time.monotonic() < end:
            assert killed.poll() is None, "ended before its first page was there"
            time.sleep(0.02)
        killed.kill()
    assert runs_of(tmp_path / "out") == []
    go.touch()
    again = run(task(tmp_path / "out", first, second), start)
    assert count.read_text() == "x", "the finished notebook ran again"
    whole = run(task(tmp_path / "whole", first, second), start)
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for file in files:
        assert (whole / file).read_bytes() == (again / file).read_bytes(), file


@pytest.mark.notebook
def test_a_secret_is_in_nothing_that_is_written(
    notebook: Callable[..., str], start: Start, tmp_path: Path
) -> None:
    source = f"https://me:{SECRET}@prom.example/api?token={SECRET}"
    token = f'{SECRET}-token"<'
    books = [
        notebook("says", "print(source)", f"print({token!r}, {json.dumps(token)!r})"),
        notebook("fails", f"raise ValueError(source + {token!r})"),
    ]
    settings = PlanSettings(source=source)
    out = tmp_path / "out"
    made = run(task(out / "c", *books, settings=settings, secrets=(token,)), start)
    reindex(out)
    files = [p for p in out.rglob("*") if p.is_file()]
    assert len(files) >= 7
    assert [p for p in files if SECRET in p.read_text(encoding="utf-8")] == []
    assert "prom.example" in (made / "fails.html").read_text(encoding="utf-8")


def fake_run(folder: Path, name: str, outcome: dict[str, Any], **more: Any) -> None:
    told = {
        "cluster": NASTY, "verdict": outcome["verdict"], "headline": outcome["headline"],
        "first_limit": outcome["first_limit"], "previous": None, "pictures": [],
        "changes": [], "notebooks": {
            "plan": {"status": "ok", "page": "plan.html", "outcome": "plan.outcome.json",
                     "error": None}},
        **more,
    }  # fmt: skip
    (folder / name).mkdir(parents=True)
    (folder / name / "run.json").write_text(json.dumps(told), encoding="utf-8")
    (folder / name / "plan.outcome.json").write_text(json.dumps(outcome), encoding="utf-8")


def test_retention_deletes_the_oldest_runs_and_nothing_else(tmp_path: Path) -> None:
    for name in ("2026-01-01", "2026-01-02", "2026-01-03"):
        fake_run(tmp_path, name, OUTCOME)
    (tmp_path / "2025-notes").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "2026-01-01")
    assert prune(tmp_path, 2) == ["2026-01-01"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "2025-notes", "2026-01-02", "2026-01-03", "linked",
    ]  # fmt: skip
    assert newest(tmp_path) == tmp_path / "2026-01-03"


def test_names_from_outside_are_text_in_every_page(tmp_path: Path) -> None:
    folder = tmp_path / file_name(NASTY)
    fake_run(folder, "1", OUTCOME)
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "run.json").write_text("{", encoding="utf-8")
    reindex(tmp_path)
    for page in [*tmp_path.rglob("*.html")]:
        text = page.read_text(encoding="utf-8")
        assert "<img" not in text
        assert "onerror=alert(1)&gt;" in text
    assert "<img" not in error_page(NASTY, NASTY, NASTY)
    assert link(NASTY, NASTY).count("<") == 2
    assert document("t", "").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("name", "safe"),
    [("prod-eu.1", True), ("..", False), (".hidden", False), ("a/b", False), ("", False),
     ("CON", False), ("x" * 300, False), ("ü", False), ("a\0b", False), ("-rf", False)],
)  # fmt: skip
def test_names_become_folders_that_stay_inside(name: str, safe: bool, tmp_path: Path) -> None:
    made = file_name(name)
    assert (made == name) == safe
    assert (tmp_path / made).resolve().parent == tmp_path.resolve()
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", made)


def test_different_names_become_different_folders() -> None:
    names = ["a/b", "a b", "a-b", "../a-b", "a?b", "A-B/"]
    assert len({file_name(name) for name in names}) == len(names)


def test_markdown_shows_text_as_it_is() -> None:
    assert escaped("1. <b>*x*</b> | [a](http://b) `c`\n# d") == (
        r"1\. &lt;b&gt;\*x\*&lt;/b&gt; \| \[a\]\(http&#58;//b\) \`c\` \# d"
    )
    assert escaped("6.3 GiB") == "6.3 GiB"


def test_changes_say_what_and_why() -> None:
    newer = json.loads(json.dumps(OUTCOME))
    row = newer["findings"][0]
    row["current"], row["nodes_early"], row["date_early"] = 14.0, 700, "2026-12-01T00:00:00Z"
    told = changes(OUTCOME, newer)
    assert [(c.was, c.now, c.why) for c in told] == [
        ("900 nodes from 2027-01-02 (short)", "700 nodes from 2026-12-01 (short)", "use 10 to 14")
    ]
    newer["settings"], newer["verdict"] = {"nodes": [100]}, "fits"
    assert changes(OUTCOME, newer)[0].why == "settings changed: nodes"
    assert changes(OUTCOME, OUTCOME) == []
    assert changes(None, OUTCOME) == []


def test_a_cause_that_notebooks_share_is_told_once() -> None:
    errors = {
        "plan": "gone: no such file",
        "maps": "gone: no such file",
        "growth": "",
        "fleet": "x",
    }
    told = {"notebooks": {name: {"error": error} for name, error in errors.items()}}
    assert causes(told) == {"gone: no such file": ["plan", "maps"], "x": ["fleet"]}


def test_parameters_are_typed_and_named_before_anything_runs() -> None:
    made = settings_for(
        "plan", {"source": "x"}, ["cilium=1.20", "nodes=5,7", "risk=0.05", "cluster="]
    )
    assert (made.cilium, made.nodes, made.risk, made.cluster) == ("1.20", (5, 7), 0.05, None)
    for change, message in (
        ("horizn=1y", "no parameter of notebook plan"),
        ("nodes=many", "'many' is not of type int"),
        ("risk", "wanted NAME=VALUE"),
    ):
        with pytest.raises(SettingsError, match=message):
            settings_for("plan", {}, [change])


def test_a_second_run_over_the_same_folder_is_refused(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from capacity.locks import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SettingsError, match="another run is at work"), locked(tmp_path):
            pass
        other.kill()
    with locked(tmp_path, 5.0):
        pass


def test_metrics_are_what_promtool_accepts(tmp_path: Path) -> None:
    fake_run(tmp_path, "1", OUTCOME)
    out = tmp_path / "capacity.prom"
    began = datetime(2026, 1, 1, tzinfo=UTC)
    metrics.of_run(tmp_path / "1", out, began, began, 1)
    text = out.read_text(encoding="utf-8")
    assert 'capacity_verdict{cluster="../<img' in text
    assert "\\n{braces}" in text
    assert "capacity_runs_out_nodes" in text
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is needed: apt-get install prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_place_that_cannot_be_written_is_one_clear_message(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(SettingsError, match=r"cannot be written: .*what was finished is kept"):
        write(file / "page.html", "x")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    if os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root only")
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.notebook
def test_a_full_or_read_only_place_is_one_message_and_the_next_run_heals(
    notebook: Callable[..., str], small: Path, tmp_path: Path
) -> None:
    book = notebook("big", "print('x' * 300_000)")

    def report(run: str) -> Done:
        options = ("--name", "c", "--run", run, "--out", small / "out")
        return command("report", book, *options, cwd=tmp_path)

    full = report("1")
    assert full.returncode == 2
    assert "No space left on device; free space or name another folder" in full.stderr
    assert "Traceback" not in full.stderr
    assert runs_of(small / "out" / "c") == []
    subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
    healed = report("1")
    assert healed.returncode == 0, healed.stderr
    made = small / "out" / "c" / "1"
    assert {p.name for p in made.iterdir()} == {"big.html", "index.html", "run.json", "summary.md"}
    before = {p: p.read_bytes() for p in small.rglob("*.*") if p.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    closed = report("2")
    assert closed.returncode == 2
    assert "Read-only file system" in closed.stderr
    assert {p: p.read_bytes() for p in small.rglob("*.*") if p.is_file()} == before


@pytest.mark.parametrize("fork", [True, False])
def test_jobs_answer_fail_die_or_take_too_long_each_for_itself(fork: bool) -> None:
    if fork and sys.platform != "linux":
        pytest.skip("jobs are forked on Linux only")

    def answer(call: str, timeout: float = 20, **arguments: Any) -> bytes:
        with closing(start(call, arguments, {})) as job:
            return job.answer(timeout)

    with warmed([], fork=fork) as start:
        assert answer("os:fsencode", filename="found") == b"found"
        with pytest.raises(CapacityError, match="TypeError: .*bytes"):
            answer("capacity.writing:file_name", text="a")
        with pytest.raises(SettingsError, match="duration"):
            answer("capacity.units:parse_duration", text="x")
        with pytest.raises(CapacityError, match="its process died"):
            answer("os:_exit", status=3)
        began = time.monotonic()
        with pytest.raises(CapacityError, match="took longer than 1 s"):
            answer("signal:pause", 1)
        assert time.monotonic() - began < 15


def test_jobs_end_with_whoever_started_them(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("jobs are forked on Linux only")
    code = (
        "import time; from capacity.warm import warmed\n"
        "with warmed([]) as start:\n"
        "    print(start('signal:pause', {}, {}).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.05)
    pytest.fail("the job outlived its parent")


def test_an_index_of_many_clusters_is_sorted_by_what_is_short_first() -> None:
    told = {"cluster": "c", "changes": [], "headline": "h", "notebooks": {}}
    fits = {**told, "verdict": "fits", "first_limit": None}
    short = {
        **told,
        "verdict": "short",
        "first_limit": {"resource": "r", "nodes": 1, "date": "2027"},
    }
    page = clusters_page([("a", "1", fits), ("b", "1", short)])
    assert page.index('href="b/index.html"') < page.index('href="a/index.html"')
    assert "1 of 2 run short" in page
