"""The gate for services, through the command line as a pipeline runs it, and as a function."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from capacity.cilium.services.growth import IDS
from capacity.cilium.services.shapes import shape
from capacity.inventory import Inventory
from capacity.load import read_inventory
from capacity.service_check import service_gate
from tests.command import run

VERSION = "1.17"


def renamed(made: Inventory, prefix: str) -> Inventory:
    name = pl.format("{}-{}", pl.lit(prefix), pl.col("service"))
    return Inventory(
        services=made.services.with_columns(service=name),
        backends=made.backends.with_columns(service=name),
    )


def objects(names: list[str], ports: int = 1) -> list[dict[str, object]]:
    spec = {
        "type": "LoadBalancer",
        "ports": [{"name": f"p{i}", "port": i + 1} for i in range(ports)],
    }
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
         "spec": spec}
        for name in names
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = {"apiVersion": "v1", "kind": "ConfigMap",
              "metadata": {"name": "cilium-config", "namespace": "kube-system"},
              "data": {"bpf-lb-map-max": "20", "kube-proxy-replacement": "true"}}  # fmt: skip
    base = {"kind": "List", "items": [*objects(["a", "b"]), config]}
    (tmp_path / "base.json").write_text(json.dumps(base))
    (tmp_path / "small.json").write_text(json.dumps({"kind": "List", "items": objects(["c"])}))
    large = {"kind": "List", "items": objects(["c", "d"], ports=2)}
    (tmp_path / "large.json").write_text(json.dumps(large))
    return tmp_path


def check(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = run("check", "--inventory", folder / "base.json", "--cilium", VERSION, *arguments,
               cwd=folder)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_change_that_fits_passes_and_one_that_does_not_names_the_service(folder: Path) -> None:
    code, _, told = check(folder, "--services", "small.json")
    assert code == 0
    assert "cilium_lb4_reverse_nat 8 → 12 of 20 (60.0%)" in told
    code, out, told = check(folder, "--services", "large.json", "-o", "json")
    result = json.loads(out)
    short = [row["resource"] for row in result["services"] if row["verdict"] == "short"]
    assert code == 1
    assert result["passes"] is False
    assert short == ["cilium_lb4_reverse_nat", "cilium_lb4_services_v2"]
    assert "shop/c adds most (8 entries)" in told


def test_values_that_shrink_a_map_fail(folder: Path) -> None:
    (folder / "values.yaml").write_text("bpf: {lbMapMax: 8}\n")
    assert check(folder, "--values", "values.yaml")[0] == 1


def test_values_told_for_the_first_time_are_no_change_of_services(tmp_path: Path) -> None:
    """Without options NodePort is assumed on; values that leave it off removed nothing."""
    (tmp_path / "base.json").write_text(json.dumps({"kind": "List", "items": objects(["a"])}))
    (tmp_path / "values.yaml").write_text("cluster: {name: east}\nbpf: {lbMapMax: 1}\n")
    base = read_inventory(tmp_path / "base.json")
    made = service_gate(base, [read_inventory(tmp_path / "values.yaml")], version=VERSION)
    services = made.maps.filter(resource="cilium_lb4_services_v2").row(0, named=True)
    assert services["before"] == services["after"]
    assert services["verdict"] == "short"


def test_junit_and_sarif_tell_of_services(folder: Path) -> None:
    _, out, _ = check(folder, "--services", "large.json", "-o", "junit")
    failed = [case.get("name") for case in ElementTree.fromstring(out) if len(case)]
    assert "cilium_lb4_services_v2" in failed
    _, out, _ = check(folder, "--services", "large.json", "-o", "sarif")
    rules = [found["ruleId"] for found in json.loads(out)["runs"][0]["results"]]
    assert set(rules) == {"service-map-full"}


def test_what_was_short_and_gets_no_fuller_fails_nothing() -> None:
    full = shape(services=70_000)
    result = service_gate(full, version=VERSION)
    verdicts = dict(result.maps.select("resource", "verdict").iter_rows())
    assert verdicts[IDS] == "short before"
    assert result.passes


def test_service_ids_are_told_as_what_no_setting_adds() -> None:
    base, more = shape(services=60_000), renamed(shape(services=6_000), "new")
    result = service_gate(base, [more], version=VERSION)
    row = result.maps.filter(resource=IDS).row(0, named=True)
    assert (row["before"], row["after"], row["verdict"]) == (60_000, 66_000, "short")
    assert "no setting adds service IDs" in str(result.headline)


def test_a_changed_service_takes_the_place_of_its_namesake() -> None:
    base = shape(services=3, ports=5)
    result = service_gate(base, [shape(services=3, ports=2)], version=VERSION)
    row = result.maps.filter(resource=IDS).row(0, named=True)
    assert (row["before"], row["after"]) == (15, 6)
    assert row["service"] is None


def test_without_services_nothing_is_told() -> None:
    result = service_gate(Inventory(), version=VERSION)
    assert result.passes
    assert result.headline is None
