"""Units say just what is to be run: what systemd, a shell and YAML read back is the same words."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from capacity.cli import cli
from capacity.errors import SettingsError
from capacity.schedule import KINDS, Unit, report_words, units

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
    run = CliRunner().invoke
    printed = run(cli, ["schedule", "cron", "data/lab", "--out", "r", "--set", "nodes=5"])
    assert printed.output.strip() == (
        "0 6 * * 1 capacity report all data/lab --out r --keep 12 --wait 1h --set nodes=5"
    )
    run(cli, ["schedule", "systemd", "data/lab", "--out", "/r", "--write", str(tmp_path)])
    assert {p.suffix for p in tmp_path.iterdir()} == {".service", ".timer"}


def test_the_cronjob_is_the_manifest_of_the_plan() -> None:
    done = CliRunner().invoke(cli, ["schedule", "cronjob", "data/lab", "--out", "r"])
    kinds = [doc["kind"] for doc in yaml.safe_load_all(done.stdout)]
    assert "CronJob" in kinds
    assert "ClusterRole" in kinds
