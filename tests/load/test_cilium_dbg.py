"""What cilium-dbg and bpftool print, on recorded outputs: both forms of one list count the same."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.errors import ExportError
from capacity.inventory import Inventory
from capacity.load.cilium_dbg import JSON_READERS, kind_of_name, read_text
from capacity.load.inventories import read_inventory
from capacity.load.inventory_tables import tables_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "dbg"


def content(name: str) -> bytes:
    return gzip.decompress((GOLDEN / f"{name}.gz").read_bytes())


def counted(name: str) -> list[tuple[Any, ...]]:
    rows = read_inventory(GOLDEN / f"{name}.gz").map_entries
    return sorted(rows.select("map", "subject", "entries").iter_rows(), key=str)


@pytest.fixture(scope="module")
def whole() -> Inventory:
    return read_inventory(GOLDEN)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bpf_ct_global.json", "bpf_ct_global.txt"),
        ("bpf_policy_all.json", "bpf_policy_all.txt"),
        ("bpf_policy_all.json", "bpf_policy_numeric.txt"),
        ("bpf_lb_list.json", "bpf_lb_list.txt"),
        ("bpf_metrics.json", "bpf_metrics.txt"),
        ("map_list.json", "map_list.txt"),
        ("map_list.json", "map_list_verbose.txt"),
    ],
)
def test_both_forms_of_a_list_count_the_same(one: str, other: str) -> None:
    assert counted(one) == counted(other)


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        # 1,202 lines, two of them ICMP: `awk '{print $1}' bpf_ct_global.txt | sort | uniq -c`
        (
            "bpf_ct_global.txt",
            [("cilium_ct4_global", None, 1200), ("cilium_ct_any4_global", None, 2)],
        ),
        ("bpf_nat.json", [("cilium_snat_v4_external", None, 0)]),
        ("bpf_auth.json", [("cilium_auth_map", None, 0)]),
        ("bpf_nodeid.json", [("cilium_node_map_v2", None, 5)]),
        ("bpf_lb_revnat.json", [("cilium_lb4_reverse_nat", None, 6)]),
    ],
)  # fmt: skip
def test_the_entries_of_each_map_are_counted(name: str, entries: list[Any]) -> None:
    assert counted(name) == entries


@pytest.mark.parametrize(
    ("name", "label", "size"),
    [
        ("bpf_ipcache.json", "ipcache", 512000),
        ("bpf_lb_backends.txt", "lb4_backends_v3", 65536),
        ("bpf_lb_revnat.json", "lb4_reverse_nat", 65536),
        ("bpf_lb_list.txt", "lb4_services_v2", 65536),
        ("bpf_endpoint.json", "lxc", 65535),
        ("bpf_tunnel.json", "tunnel_map", 65536),
    ],
)
def test_counts_agree_with_the_pressure_the_agent_told_then(
    name: str, label: str, size: int
) -> None:
    told = content("metrics.prom").decode()
    match = re.search(rf'cilium_bpf_map_pressure{{map_name="{label}"}} (\S+)', told)
    assert match is not None
    assert counted(name) == [(f"cilium_{label}", None, round(float(match[1]) * size))]


def test_bpftools_text_tells_the_maps_of_its_json() -> None:
    text, told = (
        read_inventory(GOLDEN / f"bpftool_map.{form}.gz").bpf_maps for form in ("txt", "json")
    )
    assert text.rows() == told.rows()
    assert len(text) == 86


def test_all_outputs_of_one_agent_are_of_its_node(whole: Inventory) -> None:
    assert whole.bpf_maps["node"].unique().to_list() == ["ciliumtest"]
    assert whole.map_entries["node"].unique().to_list() == ["ciliumtest"]
    assert len(whole.bpf_maps) == 86  # told twice, as text and as JSON
    refused = whole.sources.filter(pl.col("refused") > 0)
    assert [Path(name).name for name in refused["source"]] == ["bpf_frag.json.gz"]
    assert "is the help of a command" in refused["reason"][0]


def test_what_the_agent_lists_fills_the_tables_of_kubernetes_objects(whole: Inventory) -> None:
    assert whole.nodes["node"].to_list() == ["ciliumtest", "node0", "node1", "node2"]
    assert len(whole.endpoints) == 7  # of the 8 that cilium_endpoint counts one is the host's
    assert whole.endpoints["node"].unique().to_list() == ["ciliumtest"]
    # cilium_identity{type="cluster_local"} 7
    assert len(whole.identities) == 7
    assert whole.services["service"].to_list() == [
        "svc0",
        "svctraffic",
        *(f"svc{i}" for i in range(1, 5)),
    ]
    assert len(whole.backends) == 51  # as many as cilium_lb4_backends_v3 holds
    assert whole.policies.select("kind", "namespace", "policy", "rules").row(0) == (
        "CiliumNetworkPolicy", "ns0", "pol0", 1,
    )  # fmt: skip


def test_sizes_the_agent_computed_are_no_options_that_are_set(whole: Inventory) -> None:
    assert whole.option("bpf-policy-map-max") == "16384"
    assert float(whole.option("bpf-map-dynamic-size-ratio") or 0) == 0.0025
    assert whole.option("bpf-ct-global-tcp-max") is None
    assert whole.option("kube-proxy-replacement") == "true"


@pytest.mark.parametrize("name", ["status.json", "status.txt"])
def test_status_tells_the_sizes_the_kernel_has(name: str) -> None:
    told = dict(
        read_inventory(GOLDEN / f"{name}.gz").map_entries.select("map", "max_entries").iter_rows()
    )
    real = read_inventory(GOLDEN / "bpftool_map.json.gz").bpf_maps
    kernels = {n.rstrip("0123456789"): m for n, m in real.select("name", "max_entries").iter_rows()}
    for name_, size in told.items():
        cut = next((k for k in kernels if k == name_[:15]), None)
        if cut is not None and "lb" not in cut and "ct" not in cut and "ipv4" not in cut:
            assert kernels[cut] == size, name_
    assert told["cilium_ct4_global"] == 221723
    assert told["cilium_policy_"] == 16384


@pytest.mark.parametrize("name", ["policy_selectors.json", "ip_list.json"])
def test_outputs_without_use_are_named_as_known(name: str) -> None:
    row = read_inventory(GOLDEN / f"{name}.gz").sources.row(0, named=True)
    assert row["format"] in ("cilium-dbg policy selectors", "cilium-dbg ip list")
    assert "known, not used" in row["reason"]
    assert row["read"] == len(json.loads(content(name)))


STANDS_ALONE = ("config_all.txt", "status.txt", "bpftool_map.txt")
CUT = [
    name
    for path in sorted(GOLDEN.glob("*.gz"))
    if (name := path.name.removesuffix(".gz")) not in ("bpf_frag.json", *STANDS_ALONE)
    and not name.startswith("metrics")
    and len(content(name)) > 10
]


@pytest.mark.parametrize("name", CUT)
def test_an_output_that_breaks_off_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    data = content(name)
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3].rstrip())
    with pytest.raises(ExportError, match="breaks off") as refused:
        read_inventory(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_markdown_of_bugtool_is_taken_off_and_a_failed_command_counts_nothing() -> None:
    text = content("bpf_lb_list.txt")
    plain = read_text(text, "a")
    fenced = read_text(b"# cilium-dbg bpf lb list\n\n```\n" + text + b"\n```\n", "a")
    failed = read_text(
        text + b"> Error while running 'cilium-dbg bpf lb list':  exit status 1\n\n", "a"
    )
    assert plain is not None
    assert plain == fenced
    assert failed is not None
    assert not failed[1].rows
    assert "failed: exit status 1" in failed[1].faults[0]


def test_a_list_without_entries_is_told_by_the_name_bugtool_gives_it(tmp_path: Path) -> None:
    assert (
        kind_of_name("kubectl-exec-cilium-x-n-kube-system----cilium-dbg-bpf-nat-list.md") == "nat"
    )
    (tmp_path / "cilium-dbg-bpf-nat-list.md").write_text("\n")
    (tmp_path / "cilium-dbg-bpf-auth-list.md").write_text("No entries found.\n")
    (tmp_path / "cilium-dbg-bpf-ct-list-global.md").write_text("")
    read = read_inventory(tmp_path)
    assert sorted(read.map_entries.select("map", "entries").iter_rows()) == [
        ("cilium_auth_map", 0), ("cilium_snat_v4_external", 0),
    ]  # fmt: skip
    assert read.sources.filter(pl.col("refused") == 1)["reason"][0].startswith("is empty")


def test_folders_are_nodes_where_nothing_names_them(tmp_path: Path) -> None:
    for node in ("a", "b"):
        (tmp_path / node).mkdir()
        (tmp_path / node / "bpf_ct_global.txt").write_bytes(content("bpf_ct_global.txt"))
    assert read_inventory(tmp_path).map_entries["node"].to_list() == ["a", "a", "b", "b"]


def test_the_agents_pod_tells_the_node_of_its_bugtool_folder(tmp_path: Path) -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "cilium-x7k2p", "labels": {"k8s-app": "cilium"}},
        "spec": {"nodeName": "worker-3", "hostNetwork": True},
    }  # fmt: skip
    (tmp_path / "k8s-pods-20261124-001122.json").write_text(json.dumps(pod))
    folder = tmp_path / "cilium-bugtool-cilium-x7k2p-20261124-001122" / "cmd"
    folder.mkdir(parents=True)
    (folder / "bpftool-map-show.md").write_bytes(content("bpftool_map.txt"))
    maps = read_inventory(tmp_path).bpf_maps
    assert maps["node"].unique().to_list() == ["worker-3"]
    assert len(maps) == 86


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
SAMPLES = {
    p.name: json.loads(gzip.decompress(p.read_bytes()))
    for p in sorted(GOLDEN.glob("*.json.gz"))
    if p.name not in ("bpf_frag.json.gz", "bpf_ct_global.json.gz")
}


def spoiled(value: Any, data: st.DataObject, depth: int = 0) -> Any:
    """Put anything into a place of a document."""
    if (
        depth > 5
        or not isinstance(value, list | dict)
        or not value
        or data.draw(st.integers(0, 9)) == 0
    ):
        return data.draw(JSON)
    if isinstance(value, list):
        at = data.draw(st.integers(0, min(len(value), 4) - 1))
        return [*value[:at], spoiled(value[at], data, depth + 1), *value[at + 1 : 5]]
    key = data.draw(st.sampled_from(sorted(value)))
    return value | {key: spoiled(value[key], data, depth + 1)}


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_json_of_nearly_the_right_shape_crashes_a_reader(data: st.DataObject) -> None:
    document = spoiled(SAMPLES[data.draw(st.sampled_from(sorted(SAMPLES)))], data)
    for is_mine, read in JSON_READERS.values():
        if is_mine(document):
            found = read(document, "a.json")
            assert found.read >= len(found.faults)
            tables_of([("a.json", found)])


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(p.name for p in GOLDEN.glob("*.txt.gz"))), st.data())
def test_no_spoiled_text_crashes_a_reader(name: str, data: st.DataObject) -> None:
    text = gzip.decompress((GOLDEN / name).read_bytes())[:20_000]
    at = data.draw(st.integers(0, min(len(text), 3000)))
    spoilt = (
        text[:at] + data.draw(st.binary(max_size=30)) + text[at + data.draw(st.integers(0, 200)) :]
    )
    told = read_text(spoilt, name)
    if told is not None:
        assert told[1].read >= len(told[1].faults)
        tables_of([("a.txt", told[1])])
