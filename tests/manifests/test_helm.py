"""Helm itself renders what we print: with charts made from the facts, and with Cilium's own.

Cilium's charts are in no package registry: where CAPACITY_CHARTS names a folder with them
(cilium-1.17.0.tgz …) they are rendered too. Helm: python tools/get_helm.py .venv/bin
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from capacity import facts
from capacity.manifests import manifests
from capacity.manifests.subject import Subject
from capacity.values_check import type_fault, wrong_values
from tests.manifests.subjects import AGENT, LB, OPERATOR, subject

POLICY = {"setting": "bpf.policyMapMax", "target": 65536.0}
HIDDEN = {"setting": "extraConfig.bpf-lb-rev-nat-map-max", "target": 131072.0}
FOLDER = os.environ.get("CAPACITY_CHARTS")
CHARTS = [
    pytest.param(path, id=path.stem)
    for path in (sorted(Path(FOLDER).glob("cilium-1.*.tgz")) if FOLDER else ())
] or [pytest.param(None, marks=pytest.mark.skip(reason="CAPACITY_CHARTS names no charts"))]
PRINTED = ("helm-values.yaml", "helm-values-metrics.yaml")


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    found = shutil.which(
        "helm", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if found is None:
        pytest.skip("helm is not installed: python tools/get_helm.py .venv/bin")
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=False)


def schema(version: str) -> dict[str, Any]:
    """Give the schema that the facts tell of a chart: nothing unknown, types where they are known.

    What is free has no schema below it.
    """
    types = dict(facts.chart_types(version).select("key", "types").iter_rows())
    root: dict[str, Any] = {"properties": {"global": {}}, "additionalProperties": False}
    rows = facts.chart_values(version).sort("key").select("key", "kind")
    for key, kind in rows.iter_rows():
        *above, leaf = key.split(".")
        at = root
        for name in above:
            at = at.get("properties", {}).get(name, {})
        if "properties" in at:
            one: dict[str, Any] = {"type": types[key].split()} if key in types else {}
            is_section = kind == "section"
            at["properties"][leaf] = one | (
                {"properties": {}, "additionalProperties": False} if is_section else {}
            )
    return root


def write_chart(version: str, folder: Path) -> None:
    """Write a chart whose schema is that of the facts; it prints the values it gets."""
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("{apiVersion: v2, name: cilium, version: 0.0.1}\n")
    (folder / "values.yaml").write_text("{}\n")
    (folder / "values.schema.json").write_text(json.dumps(schema(version)))
    (folder / "templates" / "values.yaml").write_text("{{ toYaml .Values }}\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = {}
    for version in ("1.14", "1.17", "1.20"):
        out[version] = tmp_path_factory.mktemp("chart") / "cilium"
        write_chart(version, out[version])
    return out


def printed(plan: Subject, folder: Path) -> list[str | Path]:
    texts = manifests(plan)
    arguments: list[str | Path] = []
    for name in PRINTED:
        (folder / name).write_text(texts[name], encoding="utf-8")
        arguments += ["-f", folder / name]
    return arguments


def plan_of(version: str) -> Subject:
    """Give a plan with each kind of setting, whose export tells no metric at all."""
    metrics = facts.metrics(version).drop_nulls("helm")
    missing = metrics.select(
        cluster=pl.lit("c"), want="metric", status=pl.lit("off"), source="metric",
    )  # fmt: skip
    return subject(POLICY, LB, HIDDEN, AGENT, OPERATOR, version=version, coverage=missing)


@pytest.mark.parametrize("version", ["1.14", "1.17", "1.20"])
def test_helm_takes_all_that_is_printed_and_nothing_is_lost(
    made: dict[str, Path], version: str, tmp_path: Path
) -> None:
    done = helm("template", "cilium", made[version], *printed(plan_of(version), tmp_path))
    assert done.returncode == 0, done.stderr
    values = yaml.safe_load(done.stdout)
    for name in PRINTED:
        told = yaml.safe_load((tmp_path / name).read_text())
        assert told, name
        assert leaves(told).items() <= leaves(values).items()


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found = {}
    for name, value in tree.items():
        more = leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and value else None
        found |= more if more is not None else {f"{prefix}{name}": json.dumps(value)}
    return found


@pytest.mark.parametrize(
    "values",
    [{"bpf": {"ctTcpMax": "512k"}}, {"bpf": {"policyMapmax": 5}}, {"cluster": {"id": "3"}},
     {"bpf": 5}, {"operator": {"replicas": 1.5}}, {"ipam": {"operator": []}}],
)  # fmt: skip
def test_what_helm_refuses_is_told_before(
    made: dict[str, Path], values: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    done = helm("template", "cilium", made["1.17"], "-f", tmp_path / "values.yaml")
    assert done.returncode != 0
    assert len(wrong_values(values, "1.17")) == 1


def test_types_are_told_as_a_schema_has_them() -> None:
    assert type_fault("bpf.ctTcpMax", 524288, "1.17") is None
    assert type_fault("bpf.ctTcpMax", True, "1.17") is not None
    assert type_fault("bpf.mapDynamicSizeRatio", 0.0025, "1.16") is None
    assert type_fault("bpf.mapDynamicSizeRatio", "0.0025", "1.17") is None
    assert "takes null or number" in str(type_fault("bpf.mapDynamicSizeRatio", "0.0025", "1.16"))
    assert type_fault("cluster.id", "${id}", "1.17") is None
    # The chart of 1.15 has no schema
    assert type_fault("bpf.ctTcpMax", "512k", "1.15") is None


@pytest.mark.parametrize("chart", CHARTS)
def test_ciliums_own_chart_sets_what_was_planned(chart: Path, tmp_path: Path) -> None:
    version = ".".join(re.findall(r"\d+", chart.name)[:2])
    done = helm("template", "cilium", chart, "-n", "kube-system",
                "--api-versions", "monitoring.coreos.com/v1",
                *printed(plan_of(version), tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [item for item in yaml.safe_load_all(done.stdout) if item]
    named = {(item["kind"], item["metadata"]["name"]): item for item in found}
    config = named["ConfigMap", "cilium-config"]["data"]
    assert config["bpf-policy-map-max"] == "65536"
    assert config["bpf-lb-map-max"] == config["bpf-lb-rev-nat-map-max"] == "131072"
    agent, operator = (
        named[key]["spec"]["template"]["spec"]["containers"][0]["resources"]
        for key in (("DaemonSet", "cilium"), ("Deployment", "cilium-operator"))
    )
    assert agent["limits"]["memory"] == "1536Mi"
    assert operator["requests"]["cpu"] == "250m"
    assert "ServiceMonitor" in {item["kind"] for item in found}
