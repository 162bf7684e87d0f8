"""The command line as a user meets it: arguments in, streams and exit code out."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml

from capacity import shipped
from tests.command import Done, run


def one_line(result: Done) -> str:
    """The error of a call that failed as it should: exit 2, one line, no traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if "error:" in line.lower()]
    assert len(lines) == 1, result.stderr
    return lines[0]


LAB = str(shipped.path("data", "lab"))


def test_a_value_in_two_words_is_told_how_to_write_it(tmp_path: Path) -> None:
    said = one_line(run("plan", LAB, "--horizon", "1", "year", cwd=tmp_path))
    assert "extra argument (year)" in said
    assert "--horizon 1y, not 1 year" in said
    nested = one_line(run("fleet", "plan", "fleet.yaml", "other.yaml", "--out", "x", cwd=tmp_path))
    assert "quote one that holds spaces" in nested


def test_choices_of_facts_are_told_once(tmp_path: Path) -> None:
    result = run("facts", "map", cwd=tmp_path)
    assert "'map' is not one of" in one_line(result)
    assert result.stderr.count("quantities") == 1


def test_the_demo_says_that_it_is_one_and_never_fails_a_pipeline(tmp_path: Path) -> None:
    done = run("plan", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stderr
    assert "What breaks first" in done.stdout
    assert "What to set today" in done.stdout


def test_json_goes_to_standard_output_alone(tmp_path: Path) -> None:
    done = run("plan", LAB, "-o", "json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert told["schema"] == "capacity.outcome/1"
    assert told["verdict"] in {"fits", "short"}
    assert done.returncode == {"fits": 0, "short": 1}[told["verdict"]]
    assert set(told) == {
        "schema", "cluster", "settings", "verdict", "headline", "first_limit", "findings",
        "recommendations", "coverage", "warnings", "versions",
    }  # fmt: skip
    assert {"resource", "kind", "nodes", "date", "quantile"} <= set(told["first_limit"])


def test_out_is_whole_after_a_kill_holds_everything_and_the_same_plan_gives_the_same_bytes(
    tmp_path: Path,
) -> None:
    arguments = ("plan", LAB, "--nodes", "500", "--out")
    killed_half_way(tmp_path, *arguments, "a")
    for name in ("a", "b"):
        done = run(*arguments, name, cwd=tmp_path)
        assert done.returncode in (0, 1), done.stderr
    first, second = tmp_path / "a", tmp_path / "b"
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert {"outcome.json", "report.html", "manifests/helm-values.yaml"} <= set(map(str, files))
    assert files == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
    assert pl.read_parquet(first / "tables/exhaustion.parquet")["rank"][0] == 1
    assert yaml.safe_load((first / "manifests/helm-values.yaml").read_text())


def killed_half_way(folder: Path, *arguments: str) -> None:
    """Kill a plan by SIGKILL once it writes: nothing may stand where its output would be."""
    process = subprocess.Popen(
        [sys.executable, "-m", "capacity", *arguments],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (begun := list(folder.glob(".a-*"))) and time.monotonic() < deadline:
        assert process.poll() is None, "ended before it wrote anything"
        time.sleep(0.02)
    assert begun
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert not (folder / "a").exists()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = run("plan", LAB, "--out", "x", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert "would read" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert "nowhere" in one_line(run("plan", "nowhere", cwd=tmp_path))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sizes --memory 1Gi --set nope=1", "nope"),
        ("services ports --connections nan", "connections: nan"),
        ("services ports --connections inf", "connections: inf"),
        ("services diagnose --drops nan", "drops: nan"),
        ("services diagnose --drops -3", "drops: -3"),
        ("services diagnose --drops 1 --pressure 9", "pressure: 9"),
        ("services diagnose --drops 1 --kernel new", "kernel 'new'"),
        ("fleet plan nope.yaml --out f", "nope.yaml: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, command: str, said: str) -> None:
    assert said in one_line(run(*command.split(), cwd=tmp_path))


def test_an_empty_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.prom").touch()
    assert "empty.prom" in one_line(run("plan", "empty.prom", cwd=tmp_path))


def test_a_truncated_json_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"status":"success","data":{"resultType":"matrix","res')
    assert "cut.json" in one_line(run("plan", "cut.json", cwd=tmp_path))


def test_nodes_that_are_no_number_are_one_line(tmp_path: Path) -> None:
    assert "abc" in one_line(run("plan", "--nodes", "abc", cwd=tmp_path))


def test_an_unknown_version_is_one_line_that_names_the_known_ones(tmp_path: Path) -> None:
    line = one_line(run("plan", LAB, "--cilium", "9.99", cwd=tmp_path))
    assert "9.99" in line
    assert "1.17" in line


def test_a_prometheus_that_is_down_is_one_line_without_its_secrets(tmp_path: Path) -> None:
    line = one_line(run("plan", "http://me:s3cret@127.0.0.1:9/x", cwd=tmp_path))
    assert "127.0.0.1:9" in line
    assert "s3cret" not in line


def test_broken_parts_are_counted_and_the_rest_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for file in Path(LAB).rglob("*.prom.gz"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "2026-11-23T23-39-01Z_broken.prom").write_text(
        "cilium_endpoint 3\ncilium_endpoint{node= 4\n"
    )
    (folder / "policy.yaml").write_text("kind: CiliumNetworkPolicy\nspec: [\n")
    done = run("plan", "export", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    assert "broken.prom" in done.stderr
    assert "policy.yaml" in done.stderr


def test_a_policy_with_a_syntax_error_alone_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("kind: CiliumNetworkPolicy\nspec: [\n")
    line = one_line(run("plan", LAB, "--inventory", "policy.yaml", cwd=tmp_path))
    assert "policy.yaml" in line


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("keep")
    line = one_line(run("plan", LAB, "--out", "precious", cwd=tmp_path))
    assert "precious" in line
    assert [p.name for p in tmp_path.rglob("*")] == ["precious", "file"]


def test_a_failing_plan_leaves_no_output_behind(tmp_path: Path) -> None:
    one_line(run("plan", "nowhere", "--out", "x", cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "table",
    ["maps", "fill", "drivers", "options", "metrics", "limits", "quantities", "sources", "tables"],
)
def test_facts_are_printed_in_every_form(table: str, tmp_path: Path) -> None:
    rows = json.loads(run("facts", table, "-o", "json", cwd=tmp_path).stdout)
    assert rows
    assert run("facts", table, cwd=tmp_path).returncode == 0


def test_sizes_are_the_agents_own(tmp_path: Path) -> None:
    done = run("sizes", "--memory", "30Gi", "--cilium", "1.17", "-o", "json", cwd=tmp_path)
    sizes = {row["option"]: row["entries"] for row in json.loads(done.stdout)}
    assert sizes["bpf-ct-global-tcp-max"] == 282563
    assert sizes["bpf-sock-rev-map-max"] == 141281


def test_sizes_that_the_agent_refuses_exit_1(tmp_path: Path) -> None:
    arguments = [f"--set={name}" for name in ("bpf-nat-global-max=800000",
                 "bpf-ct-global-tcp-max=524288", "bpf-ct-global-any-max=262144")]  # fmt: skip
    done = run("sizes", "--memory", "30Gi", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "786432" in done.stderr.replace(",", "")


def test_read_tells_what_is_there_and_what_is_missing(tmp_path: Path) -> None:
    told = json.loads(run("read", LAB, "-o", "json", cwd=tmp_path).stdout)
    assert set(told) == {"sources", "metrics", "inventory", "coverage"}
    status = {row["want"]: row["status"] for row in told["coverage"]}
    assert status["driver nodes"] == "present"
    assert status["operator memory_limit"] == "unknown"


def test_public_exports_are_read_even_of_a_version_without_facts(
    shared: Path, tmp_path: Path
) -> None:
    folder = str(shared / "public" / "metrics")
    told = json.loads(run("read", folder, "-o", "json", cwd=tmp_path).stdout)
    with (shared / "public" / "metrics" / "provenance.csv").open() as file:
        wanted = {row["file"]: int(row["series"]) for row in csv.DictReader(file)}
    read = {Path(row["source"]).name: row["read"] for row in told["sources"]}
    assert {name: read[name] for name in wanted if name.endswith(".txt")} == {
        name: many for name, many in wanted.items() if name.endswith(".txt")
    }
    assert [row["status"] for row in told["coverage"]] == ["unknown"]
    assert "Cilium 1.9.10: no facts about it" in told["coverage"][0]["hint"]
