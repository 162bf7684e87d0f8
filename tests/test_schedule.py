"""Units say just what is to be run: what systemd, a shell and YAML read back is the same words."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from capacity.cli import cli
from capacity.errors import SettingsError
from capacity.schedule import KINDS, Unit, report_words, units
from tests.command import run

NASTY = 'a b\'; $(reboot) `x` %n $HOME "q" \\ #'
WORDS = report_words("https://prom.example", "/srv/out %d", keep=3, name=NASTY, metrics="/m/x.prom")
VARIABLES = {"CAPACITY_PROM_TOKEN_FILE": f"/run/{NASTY}"}


def test_a_crontab_line_runs_just_these_words() -> None:
    (line,) = units(Unit(WORDS, "weekly", VARIABLES), "cron").values()
    assert line.startswith("0 6 * * 1 CAPACITY_PROM_TOKEN_FILE=")
    # cron ends the command at a bare percent sign and takes backslashes off others
    assert "%" not in line.replace("\\%", "")
    words = shlex.split(line.replace("\\%", "%"))
    assert words[5] == f"CAPACITY_PROM_TOKEN_FILE=/run/{NASTY}"
    assert words[6:] == ["capacity", *WORDS]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    made = units(Unit(WORDS, "weekly", VARIABLES), "systemd")
    assert set(made) == {"cilium-capacity.service", "cilium-capacity.timer"}
    service = made["cilium-capacity.service"]
    assert "SuccessExitStatus=1\n" in service
    start = next(line for line in service.splitlines() if line.startswith("ExecStart="))
    assert "%%n" in start
    assert "$$HOME" in start
    assert "$(" not in start.replace("$$(", "")
    # Of variables systemd expands nothing: a doubled sign would stay doubled
    name = next(line for line in service.splitlines() if line.startswith("Environment="))
    assert "$HOME" in name
    assert "$$" not in name
    if (verify := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is needed: apt-get install systemd")
    for name, text in made.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    places = [str(tmp_path / name) for name in made]
    done = subprocess.run([verify, "verify", *places], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_workflow_runs_just_these_words() -> None:
    (text,) = units(Unit(WORDS, "daily", VARIABLES), "github").values()
    told = yaml.safe_load(text)
    assert told["on"]["schedule"] == [{"cron": "0 6 * * *"}]
    assert told["permissions"] == {"contents": "read"}
    step = next(s for s in told["jobs"]["report"]["steps"] if "env" in s)
    assert step["env"] == VARIABLES
    assert shlex.split(step["run"].splitlines()[0])[1 : len(WORDS) + 2] == ["capacity", *WORDS]


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=30))
def test_any_name_is_one_word_of_the_command(name: str) -> None:
    words = report_words("src", "out", keep=1, name=name or "x")
    (line,) = units(Unit(words), "cron").values()
    assert shlex.split(line.replace("\\%", "%"))[5:] == ["capacity", *words]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_line_breaks_and_expressions_are_refused(kind: str) -> None:
    with pytest.raises(SettingsError, match="control character"):
        units(Unit(("report", "a\n* * * * * reboot")), kind)
    if kind == "github":
        with pytest.raises(SettingsError, match="would evaluate"):
            units(Unit(("report", "${{ secrets.X }}")), kind)


def test_credentials_stand_in_no_unit() -> None:
    with pytest.raises(SettingsError) as caught:
        report_words("https://me:planted-secret@prom.example", "out", keep=1)
    assert "planted-secret" not in str(caught.value)


def test_the_command_prints_or_writes(tmp_path: Path) -> None:
    invoke = CliRunner().invoke
    printed = invoke(cli, ["schedule", "cron", "data/lab", "--out", "r", "--set", "nodes=5"])
    assert printed.output.strip() == (
        "0 6 * * 1 capacity report all data/lab --out r --keep 12 --wait 1h --plotly site "
        "--set nodes=5"
    )
    invoke(cli, ["schedule", "systemd", "/data/lab", "--out", "/r", "--write", str(tmp_path)])
    assert {p.suffix for p in tmp_path.iterdir()} == {".service", ".timer"}


def test_a_relative_path_in_a_systemd_unit_is_refused(tmp_path: Path) -> None:
    given = ["schedule", "systemd", "data/lab", "--out", "reports", "--token-file", "token"]
    done = run(*given, "--metrics", "/m/x.prom", cwd=tmp_path)
    assert done.returncode == 2
    assert "reports, data/lab, token: a service runs in /" in done.stderr
    assert run("schedule", "cron", *given[2:], cwd=tmp_path).returncode == 0


PROMETHEUS = "http://prom.example:9090"


def cronjob(*more: str) -> dict[str, Any]:
    arguments = ["schedule", "cronjob", PROMETHEUS, "--name", NASTY, "--set", "nodes=5", *more]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.stderr
    schemas = pytest.importorskip("kubernetes_validate")
    documents = list(yaml.safe_load_all(done.stdout))
    for document in documents:
        schemas.validate(document, "1.37", strict=True)
    (job,) = [document for document in documents if document["kind"] == "CronJob"]
    return job  # type: ignore[no-any-return]


def test_the_cronjob_holds_when_and_how_many_runs_stay() -> None:
    job = cronjob("--every", "monthly", "--keep", "3")
    assert job["spec"]["schedule"] == "0 6 1 * *"
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    words = [word.replace("$$(", "$(") for word in container["args"]]
    assert words == ["--keep", "3", "--wait", "1h", "--name", NASTY, "--set", "nodes=5"]


@pytest.mark.parametrize(("code", "passed"), [(0, 0), (1, 0), (2, 1)])
def test_the_cronjobs_script_runs_the_report_and_pushes_its_metrics(
    tmp_path: Path, code: int, passed: int
) -> None:
    """The script as it is, with another root; pip, the report and curl are ones that tell."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is needed")
    job = cronjob("--pushgateway", "http://push.example:9091")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    tell = f'#!{bash}\nprintf "%s\\n" "${{0##*/}}" "$@" >> "{tmp_path}/told"\n'
    programs = {
        "bin/python": "", "bin/curl": "",
        "scratch/venv/bin/pip": "",
        "scratch/venv/bin/capacity": f'echo m 1 > "{tmp_path}/reports/capacity.prom"; exit {code}',
    }  # fmt: skip
    for name, more in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(tell + more, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "reports").mkdir()
    script = container["command"][2]
    for place in ("/scratch", "/reports", "/var/run/secrets", "/prometheus/"):
        script = script.replace(place, f"{tmp_path}{place}")
    env = {item["name"]: item["value"] for item in container["env"]}
    words = [word.replace("$$(", "$(") for word in container["args"]]
    done = subprocess.run(
        [bash, "-c", script, "report", *words], capture_output=True, text=True, check=False,
        env={**env, "PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == passed, done.stderr
    told = (tmp_path / "told").read_text(encoding="utf-8").splitlines()
    start = told.index("capacity")
    assert told[start : start + 3] == ["capacity", "report", "all"]
    assert PROMETHEUS in told[start:]
    assert NASTY in told[start:]
    assert "http://push.example:9091/metrics/job/cilium-capacity" in told


def test_the_cronjob_keeps_no_list_that_did_not_come_whole(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is needed")
    (container,) = cronjob()["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    curl = 'for word in "$@"; do case "$word" in */nodes) fine=1;; esac; done\n'
    curl += 'while [ $# -gt 1 ]; do if [ "$1" = -o ]; then out=$2; fi; shift; done\n'
    curl += 'printf "{\\"kind\\"" > "${out:-/dev/stdout}"; test -n "${fine:-}"\n'
    programs = {"bin/python": "", "scratch/venv/bin/pip": "", "scratch/venv/bin/capacity": "",
                "bin/curl": curl}  # fmt: skip
    for name, text in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!{bash}\n{text}", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    script = container["command"][2].replace("/scratch", f"{tmp_path}/scratch")
    env = {"PROMETHEUS": PROMETHEUS, "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    done = subprocess.run([bash, "-c", script, "report"], env=env, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "not read: api/v1/pods" in done.stderr
    listed = {path.name for path in (tmp_path / "scratch" / "dump").iterdir()}
    assert listed == {"api-v1-nodes.json"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cronjob", PROMETHEUS, "--out", "r"], "the pod writes to its claim"),
        (["cronjob", PROMETHEUS, "--token-file", "t"], "Secret cilium-capacity-prometheus"),
        (["cronjob", "data/lab"], "a pod does not see it"),
        (["cronjob", "http://me:planted-secret@prom.example"], "credentials in a URL"),
        (["cron", "data/lab"], "--out FOLDER"),
        (["cron", "data/lab", "--out", "r", "--pushgateway", "http://p"], "is for a CronJob"),
    ],
)
def test_options_that_a_unit_would_ignore_are_refused(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = run("schedule", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "planted-secret" not in done.stderr
