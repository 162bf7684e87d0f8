"""The pipeline of docs/day2.md, step by step as it is written there, as far as it runs here.

capacity, promtool, kubectl and helm are the real ones. kubectl asks a server of ours that gives
objects back; `helm upgrade` needs a cluster, so its values are rendered by `helm template` with a
chart made from the facts.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import capacity
from capacity import shipped
from capacity.outcome import fill
from capacity.settings import PlanSettings
from tests.api_server import api_server
from tests.command import run
from tests.manifests.test_helm import write_chart

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "day2.md"
LAB = shipped.path("data", "lab")
# What the upgrade asks to be set before is set
VALUES = "bpf: {policyMapMax: 16384}\ndnsProxy: {endpointMaxIpPerHostname: 50}\n"
DAEMON: dict[str, Any] = {
    "apiVersion": "apps/v1", "kind": "DaemonSet",
    "metadata": {"name": "cilium", "namespace": "kube-system", "generation": 1},
    "spec": {
        "updateStrategy": {"type": "RollingUpdate"},
        "selector": {"matchLabels": {"k8s-app": "cilium"}},
        "template": {
            "metadata": {"labels": {"k8s-app": "cilium"}},
            "spec": {"containers": [{"name": "cilium-agent", "image": "cilium"}]},
        },
    },
    "status": {"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3,
               "numberAvailable": 3, "numberReady": 3, "currentNumberScheduled": 3,
               "numberMisscheduled": 0},
}  # fmt: skip


def steps() -> dict[str, str]:
    """Name of each step of the workflow and what it runs."""
    (block,) = re.findall(r"```yaml\n(name: cilium\n.*?)```", PAGE.read_text("utf-8"), re.S)
    jobs = yaml.safe_load(block)["jobs"]["roll-out"]["steps"]
    return {step["name"]: step["run"] for step in jobs if "name" in step}


class Pipeline:
    """A checkout of the user's repository, and the cluster that it is rolled out to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.chart = folder, folder / "chart"
        self.objects: list[dict[str, Any]] = [DAEMON]
        self.environment = {
            **os.environ, "PROMETHEUS": str(LAB), "HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip

    def step(self, script: str) -> tuple[int, str]:
        """Run the lines of a step until one fails; give its exit code and all output."""
        told = ""
        for line in script.replace("\\\n", " ").strip().splitlines():
            code, text = self.line(line)
            told += text
            if code:
                return code, told
        return 0, told

    def line(self, line: str) -> tuple[int, str]:
        words = [os.path.expandvars(word) if "$" in word else word for word in shlex.split(line)]
        words = [word.replace("$PROMETHEUS", self.environment["PROMETHEUS"]) for word in words]
        if words[0] == "capacity":
            done = run(*words[1:], cwd=self.folder)
            return done.returncode, done.stdout + done.stderr
        if words[:2] == ["helm", "upgrade"]:
            files = [pair for flag, name in zip(words, words[1:], strict=False) if flag == "-f"
                     for pair in ("-f", name)]  # fmt: skip
            line = shlex.join(["helm", "template", "cilium", str(self.chart), *files])
        tool = shlex.split(line)[0]
        if shutil.which(tool, path=self.environment["PATH"]) is None:
            pytest.skip(f"{tool} is not installed")
        # The lines are those of our own page
        shell = ["bash", "-euo", "pipefail", "-c", line]
        with api_server(self.objects, self.folder) as config:
            found = subprocess.run(  # noqa: S603
                shell, cwd=self.folder, env={**self.environment, "KUBECONFIG": str(config)},
                capture_output=True, text=True, check=False, timeout=20,
            )  # fmt: skip
        return found.returncode, found.stdout + found.stderr


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """What the page says that the repository holds: a dump, values, policies, a plan."""
    made = Pipeline(tmp_path_factory.mktemp("day2"))
    shutil.copytree(ROOT / "docs" / "examples" / "cluster", made.folder / "cluster")
    shutil.copytree(ROOT / "docs" / "examples" / "policies", made.folder / "policies")
    (made.folder / "cilium").mkdir()
    (made.folder / "cilium" / "values.yaml").write_text(VALUES)
    (made.folder / "today").mkdir()
    (made.folder / "plan").mkdir()
    fill(capacity.plan(PlanSettings(str(LAB), nodes=(500,))), made.folder / "plan")
    write_chart("1.17", made.chart)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"bpf-policy-map-max": "16384"},
              "metadata": {"name": "cilium-config", "namespace": "kube-system"}}  # fmt: skip
    made.objects.append(config)
    return made


def test_the_whole_pipeline_runs_and_the_last_step_sees_what_was_not_rolled_out(
    pipeline: Pipeline,
) -> None:
    codes = {name: pipeline.step(script) for name, script in steps().items()}
    *before, last = codes
    for name in before:
        assert codes[name][0] == 0, f"{name}: {codes[name][1]}"
    # The stand-in installs nothing: drift sees it, as it would where a roll-out did nothing
    assert codes[last][0] == 1
    assert "bpf.policyMapMax" in codes[last][1]
    assert "open" in codes[last][1]
    values = yaml.safe_load(codes["Install, and go back where agents do not come up"][1])
    assert values["bpf"]["policyMapMax"] == 65_536


def test_a_step_that_finds_something_stops_the_pipeline(pipeline: Pipeline) -> None:
    told = steps()
    values = pipeline.folder / "cilium" / "values.yaml"
    values.write_text("bpf: {policyMapMax: 64k}\n")
    code, text = pipeline.step(told["What the upgrade asks for before"])
    assert code == 1
    assert "dnsProxy.endpointMaxIpPerHostname" in text
    code, text = pipeline.step(told["Values, policies and services that do not fit"])
    assert code == 2
    assert "Helm refuses it" in text
    values.write_text(VALUES)
    pods = pipeline.objects[0]["status"] | {"updatedNumberScheduled": 1}
    pipeline.objects[0] = pipeline.objects[0] | {"status": pods}
    script = told["Every agent runs"].replace("30m", "1s")
    assert pipeline.step(script)[0] != 0
    pipeline.objects[0] = DAEMON


def test_kubectl_takes_every_object_that_a_plan_prints(pipeline: Pipeline) -> None:
    made = pipeline.folder / "plan" / "manifests"
    files = [path for path in made.rglob("*.yaml")
             if "kustomize" not in path.parts and "\nkind:" in path.read_text("utf-8")]  # fmt: skip
    assert len(files) >= 3
    named = " ".join(f"-f {path}" for path in files)
    code, text = pipeline.line(f"kubectl apply --dry-run=client --validate=false -o name {named}")
    assert code == 0, text
    kinds = {name.split("/")[0] for name in text.split()}
    assert {"cronjob.batch", "clusterrole.rbac.authorization.k8s.io", "serviceaccount",
            "prometheusrule.monitoring.coreos.com",
            "verticalpodautoscaler.autoscaling.k8s.io"} <= kinds  # fmt: skip
