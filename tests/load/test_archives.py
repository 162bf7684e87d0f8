"""Sysdumps: read without unpacking, what could do harm is refused by name, the rest is used.

No real archive was at hand: these are put together of recorded outputs of one agent, in the layout
that cilium/cilium cilium-cli/sysdump and bugtool/cmd of 1.17 write.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.errors import ExportError
from capacity.load import archives, read, read_inventory
from capacity.load.archives import Member, members
from tests.command import run

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "dbg"
STAMP = "20261124-002225"
TOP = f"cilium-sysdump-{STAMP}"
# Node → pod of its agent
AGENTS = {"worker-a": "cilium-x7k2p", "worker-b": "cilium-9zz4q"}
# Command, as cilium-bugtool names its file → recorded output
COMMANDS = {
    "bpftool-map-show": "bpftool_map.txt",
    "cilium-dbg-bpf-lb-list": "bpf_lb_list.txt",
    "cilium-dbg-bpf-ct-list-global": "bpf_ct_global.txt",
    "cilium-dbg-bpf-policy-get---all---numeric": "bpf_policy_numeric.txt",
    "cilium-dbg-metrics-list": "metrics_list.txt",
    "cilium-dbg-status---verbose": "status.txt",
    "cilium-dbg-config--a": "config_all.txt",
    "cilium-dbg-identity-list--o-json": "identity_list.json",
}


def content(name: str) -> bytes:
    return gzip.decompress((GOLDEN / f"{name}.gz").read_bytes())


def pods() -> str:
    items = [
        {
            "metadata": {"name": pod, "namespace": "kube-system", "labels": {"k8s-app": "cilium"}},
            "spec": {"nodeName": node, "hostNetwork": True},
        }
        for node, pod in AGENTS.items()
    ]
    return json.dumps({"apiVersion": "v1", "kind": "PodList", "items": items})


def sysdump() -> dict[str, bytes]:
    files = {f"{TOP}/k8s-pods-{STAMP}.yaml": pods().encode()}
    for pod in AGENTS.values():
        for command, recorded in COMMANDS.items():
            folder = f"{TOP}/cilium-bugtool-{pod}-{STAMP}/cmd"
            files[f"{folder}/{command}.md"] = content(recorded)
    scrape = f"{TOP}/metrics-cilium-operator-5d-cilium-operator-{STAMP}.txt"
    return files | {scrape: b"# TYPE cilium_operator_up gauge\ncilium_operator_up 1\n"}


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def unpacked(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def faults(path: Path) -> dict[str, str]:
    return {str(m).removeprefix(f"{path}!/"): m.fault for m in members(path)
            if isinstance(m, Member) and m.fault is not None}  # fmt: skip


@pytest.mark.parametrize("name", ["dump.zip", "dump.tar.gz"])
def test_an_archive_tells_what_its_folder_tells(tmp_path: Path, name: str) -> None:
    path = (zipped if name.endswith("zip") else tarred)(tmp_path / name, sysdump())
    packed, plain = read_inventory(path), read_inventory(unpacked(tmp_path / "plain", sysdump()))
    for table in ("bpf_maps", "identities", "nodes"):
        assert getattr(packed, table).rows() == getattr(plain, table).rows()
    columns = ["node", "map", "entries", "max_entries", "subject"]
    assert packed.map_entries.select(columns).rows() == plain.map_entries.select(columns).rows()
    assert packed.bpf_maps.group_by("node").len().sort("node").rows() == [
        ("worker-a", 86), ("worker-b", 86),
    ]  # fmt: skip
    assert f"{path}!/{TOP}/" in packed.map_entries["source"][0]
    assert list(tmp_path.iterdir()) != []
    assert {p.name for p in tmp_path.iterdir()} == {name, "plain"}


@pytest.mark.parametrize("name", ["dump.zip", "dump.tar.gz"])
def test_metrics_of_a_sysdump_are_read_by_agent(tmp_path: Path, name: str) -> None:
    path = (zipped if name.endswith("zip") else tarred)(tmp_path / name, sysdump())
    found = read(path)
    pressure = found.select("cilium_bpf_map_pressure", map_name="ipcache")
    assert sorted(pressure["pod"]) == sorted(AGENTS.values())
    assert found.select("cilium_operator_up")["value"].to_list() == [1.0]
    assert found.sources.filter(pl.col("source").str.contains("!/")).height >= 3


def test_the_command_reads_a_sysdump_and_a_folder_without_metrics(tmp_path: Path) -> None:
    dump = zipped(tmp_path / "dump.zip", sysdump())
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "pods.json").write_text(pods())
    (tmp_path / "only" / "bpf_nat.json").write_text("[]")
    for source in (dump, tmp_path / "only"):
        done = run("read", str(source), "-o", "json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        told = {row["table"]: row["rows"] for row in json.loads(done.stdout)["inventory"]}
        assert told["map_entries"] > 0


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../../etc/nodes.json", "leaves the archive"),
        ("/etc/nodes.json", "leaves the archive"),
        ("C:/nodes.json", "leaves the archive"),
        ("a\\..\\nodes.json", "leaves the archive"),
        ("a\nb.json", "cannot be printed"),
        ("inner.zip", "is an archive, or packed"),
        ("nodes.json.gz", "is an archive, or packed"),
    ],
)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_member_that_could_do_harm_is_refused_and_the_rest_is_used(
    tmp_path: Path, name: str, told: str, make: object
) -> None:
    path = tmp_path / ("a.zip" if make is zipped else "a.tgz")
    (zipped if make is zipped else tarred)(path, {name: b"[]", "top/pods.json": pods().encode()})
    assert [fault for fault in faults(path).values() if told in fault]
    read_ = read_inventory(path)
    assert read_.sources.filter(pl.col("read") == 2).height == 1
    assert [why for why in read_.sources["reason"] if why and told in why]


def test_links_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link.json")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            link = tarfile.TarInfo(f"{kind!r}.json".replace("'", ""))
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
    for name, many in (("a.zip", 1), ("a.tar", 3)):
        assert list(faults(tmp_path / name).values()) == ["is a link or a special file"] * many


def test_encrypted_and_strangely_packed_members_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.json": b"{}", "b.json": b"{}"})
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 4)
    struct.pack_into("<H", data, first + 8, 1)
    struct.pack_into("<H", data, second + 10, 99)
    path.write_bytes(data)
    told = faults(path)
    assert "encrypted" in told["a.json"]
    assert "method 99" in told["b.json"]


def test_bombs_are_refused_by_ratio_size_total_and_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.zip", {"a.json": b" " * (archives._SMALL + 1), "b.json": b"{}"})
    assert list(faults(path)) == ["a.json"]
    assert "unpacks to more than 400 times its size" in faults(path)["a.json"]
    monkeypatch.setattr(archives, "MOST_BYTES", 1)
    assert "is larger than 1 bytes" in faults(path)["b.json"]
    monkeypatch.setattr(archives, "MOST_BYTES", 1 << 40)
    monkeypatch.setattr(archives, "MOST_ZIP_BYTES", 1)
    assert "beyond 1 bytes" in faults(path)["b.json"]
    monkeypatch.setattr(archives, "MOST_MEMBERS", 1)
    assert faults(path)["b.json"] == "one member too many"
    monkeypatch.setattr(archives, "MOST_TAR_BYTES", 1 << 16)
    bomb = tarred(tmp_path / "a.tgz", {"a.json": b" " * (1 << 20)})
    assert "more than 65536 bytes unpacked" in next(iter(faults(bomb).values()))


def test_a_member_that_says_it_is_smaller_than_it_is_gives_no_more_than_it_says(
    tmp_path: Path,
) -> None:
    path = zipped(tmp_path / "a.zip", {"a.json": b"[" + b" " * 100_000 + b"]"})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 100)
    path.write_bytes(data)
    with pytest.raises(ExportError, match="a.zip!/a.json"):
        read_inventory(path)


def test_many_refused_members_are_counted(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {f"{i}.zip": b"" for i in range(20)})
    refused = [m for m in members(path) if isinstance(m, Member)]
    assert len(refused) == 6
    assert str(refused[-1].fault).startswith("15 more members: each is an archive")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar"])
def test_what_is_no_archive_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no archive" * 100)
    for reader in (read, read_inventory):
        with pytest.raises(ExportError, match="cannot be read on"):
            reader(tmp_path / name)


def test_an_archive_that_breaks_off_gives_what_stands_before(tmp_path: Path) -> None:
    files = {
        "pods.json": pods().encode(),
        "noise.json": b'"' + os.urandom(99_000).hex().encode() + b'"',
    }
    path = tarred(tmp_path / "a.tgz", files)
    path.write_bytes(path.read_bytes()[:-40_000])
    told = read_inventory(path)
    assert told.sources["read"].sum() >= 2
    assert [why for why in told.sources["reason"] if why and "cannot be read on" in why]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["a.zip", "a.tgz"]), st.data())
def test_no_spoiled_archive_crashes_a_reader(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spoiled")
    files = {"a/pods.json": pods().encode(), "b/bpf_lb_list.txt": content("bpf_lb_list.txt")}
    path = (zipped if name == "a.zip" else tarred)(folder / name, files)
    told = path.read_bytes()
    at = data.draw(st.integers(0, len(told)))
    path.write_bytes(
        told[:at] + data.draw(st.binary(max_size=12)) + told[at + data.draw(st.integers(0, 12)) :]
    )
    for reader in (read, read_inventory):
        with suppress(ExportError):
            reader(path)
