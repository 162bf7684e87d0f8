"""Public exports of other projects: all are read, with the counts that others find."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import capacity
from capacity.errors import ExportError
from capacity.load import exposition
from capacity.load.lines import ExactLines
from capacity.load.scan import CompiledLines

NAMES = (
    "cadvisor_prometheus_metrics.txt", "datadog_cadvisor_1_21.txt",
    "datadog_cadvisor_post_1_16.txt", "datadog_cilium_agent_metrics.txt",
    "datadog_cilium_operator_metrics.txt", "datadog_coredns_18.txt",
    "datadog_envoy_openmetrics.txt", "datadog_kcm_metrics.txt", "datadog_ksm_gke.txt",
    "datadog_ksm_prometheus.txt", "datadog_kube_apiserver_1.28.0.txt",
    "datadog_kube_proxy_iptables_1.21.1.txt", "datadog_kubelet_1_21.txt",
    "newrelic_cadvisor_k8s_1.16.txt", "newrelic_ksm_plain.txt", "node_exporter_e2e_output.txt",
)  # fmt: skip


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "public" / "metrics"


def test_every_file_that_is_there_is_tested(folder: Path) -> None:
    there = {path.name for path in folder.iterdir()}
    assert there == {*NAMES, "provenance.csv", "newrelic_kubelet_stats_summary.json"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", [ExactLines, CompiledLines])
def test_each_is_read_with_the_counts_that_others_find(
    folder: Path, name: str, way: type[ExactLines], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "_lines", lambda _, dialect: way(dialect))
    path = folder / name
    made = capacity.read(path)
    row = made.sources.row(0, named=True)
    lines = [line for line in path.read_text().split("\n") if line.strip() and line[0] != "#"]
    assert row["read"] == len(lines)
    assert "is no sample; wanted" not in (row["reason"] or "")
    with (folder / "provenance.csv").open() as file:
        told = next(one for one in csv.DictReader(file) if one["file"] == name)
    assert row["read"] == int(told["series"])
    assert {line.split("{")[0].split(" ")[0] for line in lines} >= set(made.series["metric"])


@pytest.mark.parametrize("name", [name for name in NAMES if "apiserver" not in name])
def test_each_holds_what_prometheus_client_reads(folder: Path, name: str) -> None:
    made = capacity.read(folder / name)
    own = ("node", "namespace", "pod", "container", "map_name")
    rows = made.samples.join(made.series, on="series").sort("time")
    kept = {}
    for row in rows.rows(named=True):
        labels = {k: row[k] for k in own if row[k]} | json.loads(row["labels"])
        if row["cluster"] != "default":
            labels["cluster"] = row["cluster"]
        kept[key(row["metric"], labels)] = row["value"]
    # Without TYPE lines, for which it renames counters and refuses what is told twice
    text = [line for line in (folder / name).read_text().split("\n") if line[:1] != "#"]
    families = text_string_to_metric_families("\n".join(text))
    wanted = {
        key(sample.name, sample.labels): sample.value
        for family in families
        for sample in family.samples
        if not math.isnan(sample.value)
    }
    created = {name for name, _ in wanted} - {name for name, _ in kept}
    assert all(name.endswith("_created") for name in created)
    assert kept == {k: v for k, v in wanted.items() if k[0] not in created}


def key(name: str, labels: dict[str, str]) -> tuple[str, str]:
    return name, json.dumps({k: v for k, v in labels.items() if v}, sort_keys=True)


def test_series_told_twice_are_kept_once_and_counted(folder: Path) -> None:
    made = capacity.read(folder / "datadog_cilium_operator_metrics.txt")
    row = made.sources.row(0, named=True)
    assert row["read"] == 1_237
    assert made.series.height == made.samples.height == 975
    assert row["kept"] == 1_008
    assert "33 told twice alike" in row["reason"]
    assert "told again with another value, the last one is kept" in row["reason"]


def test_what_is_no_format_of_prometheus_is_refused_in_one_line(folder: Path) -> None:
    path = folder / "newrelic_kubelet_stats_summary.json"
    with pytest.raises(ExportError, match="begins with .* wanted is a Prometheus") as error:
        capacity.read(path)
    assert "\n" not in str(error.value)
