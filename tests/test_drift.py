from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import capacity
from capacity import shipped
from capacity.cli import cli
from capacity.drift import drift, read_outcome
from capacity.errors import SettingsError
from capacity.export import Metrics
from capacity.load import read, read_inventory
from capacity.manifests import manifests
from capacity.outcome import outcome
from capacity.planning import Plan
from capacity.settings import PlanSettings


@pytest.fixture(scope="module")
def lab() -> Plan:
    return capacity.plan(PlanSettings(str(shipped.path("data", "lab")), nodes=(500,)))


@pytest.fixture(scope="module")
def planned(lab: Plan) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(outcome(lab)))
    return told


@pytest.fixture(scope="module")
def today() -> Metrics:
    return read(shipped.path("data", "lab"))


def states(planned: dict[str, Any], today: Metrics, folder: Path, text: str) -> dict[str, str]:
    (folder / "values.yaml").write_text(text, encoding="utf-8")
    table = drift(planned, today, read_inventory(str(folder)))
    return dict(table.select("setting", "status").iter_rows())


def test_a_plan_that_nobody_applied_is_open(
    planned: dict[str, Any], today: Metrics, tmp_path: Path
) -> None:
    told = states(planned, today, tmp_path, "bpf: {policyMapMax: 16384}\n")
    assert told["bpf.policyMapMax"] == "open"
    assert told["bpf.lbMapMax"] == "applied"
    assert told["resources.limits.memory"] == "unknown"
    assert told["nodes"] == "applied"


def test_values_that_were_applied_wait_for_agents_to_restart(
    lab: Plan, planned: dict[str, Any], today: Metrics, tmp_path: Path
) -> None:
    told = states(planned, today, tmp_path, manifests(lab)["helm-values.yaml"])
    assert told["bpf.policyMapMax"] == "pending"
    assert told["resources.limits.memory"] == "applied"


def test_a_value_that_nobody_planned_has_moved(
    planned: dict[str, Any], today: Metrics, tmp_path: Path
) -> None:
    told = states(planned, today, tmp_path, "bpf: {policyMapMax: 30000, lbMapMax: 99999}\n")
    assert told["bpf.policyMapMax"] == "moved"
    assert told["bpf.lbMapMax"] == "moved"


def test_more_nodes_than_planned_for_are_a_drift(
    planned: dict[str, Any], today: Metrics, tmp_path: Path
) -> None:
    fewer = [row | {"nodes": 100} for row in planned["recommendations"]]
    told = states(planned | {"recommendations": fewer}, today, tmp_path, "bpf: {}\nipam: {}\n")
    assert told["nodes"] == "moved"


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no outcome.json"), ("[]", "no outcome of schema"),
     ('{"schema": "capacity.outcome/1"}', "has no recommendations, versions")],
)  # fmt: skip
def test_what_is_no_plan_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match="holds no plan"):
        read_outcome(tmp_path)
    (tmp_path / "outcome.json").write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_outcome(tmp_path)


def test_the_command_fails_while_something_is_open(planned: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "outcome.json").write_text(json.dumps(planned))
    run = CliRunner().invoke(
        cli, ["drift", str(tmp_path), str(shipped.path("data", "lab")), "-o", "json"]
    )
    assert run.exit_code == 1, run.output
    assert {row["status"] for row in json.loads(run.stdout)} >= {"open", "applied"}
