"""Commands about services, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import run


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    spec = {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"],
            "type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}  # fmt: skip
    service = {"apiVersion": "v1", "kind": "Service", "spec": spec,
               "metadata": {"name": "web", "namespace": "shop"}}  # fmt: skip
    slices = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "shop",
                     "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": [f"10.0.0.{i}"]} for i in (1, 2)], "ports": [{"port": 8080}],
    }  # fmt: skip
    (tmp_path / "dump.json").write_text(json.dumps({"kind": "List", "items": [service, slices]}))
    return tmp_path


def test_entries_tells_maps_ids_and_the_heaviest_services(dump: Path) -> None:
    done = run("services", "entries", dump, "--cilium", "1.17", "-o", "json", cwd=dump)
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert told["maps"][0]["entries"] == 3 * (1 + 2)
    assert told["service_ids"]["used"] == 3
    assert told["heaviest"][0]["service"] == "web"
    assert "1 services take 3 of 65,535 service IDs" in done.stderr


def test_entries_fails_where_the_values_make_a_map_too_small(dump: Path) -> None:
    (dump / "values.yaml").write_text("bpf: {lbMapMax: 8}\nkubeProxyReplacement: true\n")
    arguments = ("services", "entries", dump / "dump.json", "--cilium", "1.17")
    assert run(*arguments, "--values", dump / "values.yaml", cwd=dump).returncode == 1
    assert run(*arguments, cwd=dump).returncode == 0


def test_explain_lists_frontends_and_names_services_where_there_are_none(dump: Path) -> None:
    done = run("services", "explain", dump, "shop/web", "--cilium", "1.17", "-o", "json", cwd=dump)
    kinds = [row["kind"] for row in json.loads(done.stdout)]
    assert sorted(kinds) == ["ClusterIP", "NodePort", "NodePort"]
    wrong = run("services", "explain", dump, "shop/db", "--cilium", "1.17", cwd=dump)
    assert wrong.returncode == 2
    assert "services are shop/web" in wrong.stderr


def test_a_shape_that_does_not_fit_exits_1_and_tells_the_most_that_do(tmp_path: Path) -> None:
    done = run("services", "shape", "--services", "10000", "--type", "LoadBalancer", "--ports", "3",
               "--cilium", "1.17", "-o", "json", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1
    assert json.loads(done.stdout)["service_ids"]["most_services"] == 5461
    assert "no setting adds any" in done.stderr
