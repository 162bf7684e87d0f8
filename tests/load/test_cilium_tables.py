"""Tables of cilium-dbg, made of recorded JSON and by a real agent, tell what the JSON does."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.inventory import Inventory
from capacity.load.cilium_dbg import read_text
from capacity.load.inventories import read_inventory

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "dbg"
TABLES = GOLDEN.with_name("dbg_tables")
ENDPOINT = (
    "ENDPOINT", "POLICY (ingress)", "POLICY (egress)", "IDENTITY", "LABELS (source:key[=value])",
    "IPv6", "IPv4", "STATUS",
)  # fmt: skip
NODE = ("Name", "IPv4 Address", "Endpoint CIDR", "IPv6 Address", "Endpoint CIDR", "Source")


def recorded(name: str) -> Any:
    return json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes()))


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Print as Go's tabwriter does with every cell closed: as wide as the widest, and 3 blanks."""
    widths = [max(map(len, column)) + 3 for column in zip(*rows, strict=True)]
    padded = (
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )
    return "".join(f"{line}\n" for line in padded)


def endpoint_table(documents: list[Any]) -> str:
    blank = ("",) * 8
    rows = [ENDPOINT, ("", "ENFORCEMENT", "ENFORCEMENT", *blank[3:])]
    for one in documents:
        status = one["status"]
        first, *more = sorted(status["labels"].get("security-relevant") or ["no labels"])
        told = status["networking"]["addressing"]
        address = told[0] if told else {"ipv6": "No address", "ipv4": "No address"}
        ips = address.get("ipv6", ""), address.get("ipv4", "")
        identity = str(status["identity"]["id"])
        rows.append((str(one["id"]), "Enabled", "Disabled (Audit)", identity, first, *ips, "ready"))
        rows += [(*blank[:4], label, *blank[5:]) for label in more]
    return aligned(rows)


def identity_table(documents: list[Any]) -> str:
    rows = [("ID", "LABELS")]
    for one in documents:
        first, *more = one["labels"]
        rows += [(str(one["id"]), first), *(("", label) for label in more)]
    # The last cell of a line is not padded
    return "".join(f"{line.rstrip()}\n" for line in aligned(rows).splitlines())


def service_table(documents: list[Any], *, is_old: bool) -> str:
    rows = [("ID", "Frontend", "Service Type", "Backend")]
    for one in documents:
        told = one["status"]["realized"]
        at = told["frontend-address"]
        backends = [
            f"{number} => {to['ip']}:{to['port']}{'' if is_old else '/TCP'} ({to['state']})"
            for number, to in enumerate(told.get("backend-addresses", []), 1)
        ]
        front = f"{at['ip']}:{at['port']}{'' if is_old else '/TCP'}"
        first, *more = backends or [""]
        rows += [(str(told["id"]), front, one["spec"]["flags"]["type"], first)]
        rows += [("", "", "", backend) for backend in more]
    return aligned(rows if is_old else [row[1:] for row in rows])


def node_table(documents: list[Any]) -> str:
    rows = [NODE]
    for one in documents:
        v4, v6 = (one["primary-address"].get(family, {}) for family in ("ipv4", "ipv6"))
        cells = [told.get(key, "") for told in (v4, v6) for key in ("ip", "alloc-range")]
        rows.append((one["name"], *cells, one["source"]))
    return aligned(rows)


def listed(tmp_path: Path, text: str) -> Inventory:
    path = tmp_path / "list.txt"
    path.write_text(text)
    return read_inventory(path)


def test_a_table_of_endpoints_tells_what_their_json_does_but_names(tmp_path: Path) -> None:
    whole = read_inventory(GOLDEN / "endpoint_list.json.gz")
    told = listed(tmp_path, endpoint_table(recorded("endpoint_list")))
    columns = ["namespace", "labels", "ips", "service_account"]
    assert (
        told.endpoints.select(columns)
        .sort(columns)
        .equals(whole.endpoints.select(columns).sort(columns))
    )
    assert told.sources.select("read", "kept", "refused").row(0) == (
        whole.sources.select("read", "kept", "refused").row(0)
    )


def test_a_table_of_identities_tells_what_their_json_does(tmp_path: Path) -> None:
    told = listed(tmp_path, identity_table(recorded("identity_list")))
    assert told.identities.equals(read_inventory(GOLDEN / "identity_list.json.gz").identities)


@pytest.mark.parametrize("is_old", [True, False])
def test_a_table_of_services_tells_what_their_json_does_but_names(
    tmp_path: Path, *, is_old: bool
) -> None:
    whole = read_inventory(GOLDEN / "service_list.json.gz")
    told = listed(tmp_path, service_table(recorded("service_list"), is_old=is_old))
    columns = ["type", "ports", "cluster_ips", "node_ports", "object"]
    assert (
        told.services.select(columns)
        .sort("object")
        .equals(whole.services.select(columns).sort("object"))
    )
    backends = ["address", "port", "ready"]
    assert (
        told.backends.select(backends)
        .sort(backends)
        .equals(whole.backends.select(backends).sort(backends))
    )


def test_a_table_of_nodes_tells_their_names_and_cidrs(tmp_path: Path) -> None:
    whole = read_inventory(GOLDEN / "node_list.json.gz").nodes
    told = listed(tmp_path, node_table(recorded("node_list"))).nodes
    assert told.select("node", "pod_cidrs").equals(whole.select("node", "pod_cidrs"))
    # Secondary addresses are not in it, so that their number is unknown
    assert told["addresses"].null_count() == len(told)


@pytest.mark.parametrize("name", ["endpoint_list", "service_list"])
def test_tables_of_a_real_agent_are_read_whole(name: str) -> None:
    table, told = (
        read_inventory(path).sources.select("read", "kept", "refused").row(0)
        for path in (TABLES / f"{name}.txt.gz", GOLDEN / f"{name}.json.gz")
    )
    assert table == told


def test_what_is_told_by_name_counts_and_a_table_of_it_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(endpoint_table(recorded("endpoint_list")))
    (tmp_path / "a.json").write_text(json.dumps(recorded("endpoint_list")))
    told = read_inventory(tmp_path)
    assert told.endpoints["pod"].str.starts_with("pod").all()
    assert "7 endpoints of tables without names" in str(told.sources["reason"].to_list())


def test_frontends_of_no_known_service_refuse_the_list_instead_of_a_part_of_it() -> None:
    head = ("Frontend", "Service Type", "Backend")
    one = ("10.0.0.1:80/TCP", "ClusterIP", "1 => 10.1.0.1:80/TCP (active)")
    two = ("10.0.0.2:80/TCP", "ClusterIP", "1 => 10.1.0.1:80/TCP (active)")
    port = ("0.0.0.0:30000/TCP", "NodePort", "1 => 10.1.0.1:80/TCP (active)")
    refused = read_text(aligned([head, one, two, port]).encode(), "a.txt")
    assert refused is not None
    found = refused[1]
    assert (found.read, dict(found.rows), sum(found.left_out.values())) == (3, {}, 2)
    assert found.faults == (
        "NodePort 0.0.0.0 port 30000: of which service this is, is not told; use -o json",
    )
    joined = read_text(aligned([head, one, port]).encode(), "a.txt")
    assert joined is not None
    services = joined[1].rows["cilium-dbg service table"]
    assert [(row[1], row[2]) for row in services] == [("10.0.0.1", "NodePort")]


def test_a_table_that_breaks_off_or_is_shifted_is_refused_by_its_place() -> None:
    text = identity_table(recorded("identity_list"))
    cut = read_text(text[:-3].encode(), "a.txt")
    assert cut is not None
    assert "breaks off" in cut[1].faults[0]
    shifted = read_text(b"ID     LABELS\n300    k8s:a=b\n301 k8s:c=d\n       k8s:e=f\n", "a.txt")
    assert shifted is not None
    found = shifted[1]
    assert (found.read, len(found.rows["cilium-dbg identity"])) == (2, 1)
    assert found.faults == ("line 3: '301 k8s:c=d' is not in the table's columns",)


_LABEL = st.from_regex(r"\A(k8s|cidr|any):[a-z./-]{1,30}(=[a-z0-9.-]{0,20})?\Z")
_IDENTITY = st.fixed_dictionaries(
    {"id": st.integers(0, 1 << 25), "labels": st.lists(_LABEL, min_size=1, max_size=5)}
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_IDENTITY, min_size=1, max_size=20))
def test_any_identities_are_read_or_counted(documents: list[Any]) -> None:
    told = read_text(identity_table(documents).encode(), "a.txt")
    assert told is not None
    found = told[1]
    kept = [(row[0], json.loads(row[1])) for row in found.rows["cilium-dbg identity"]]
    labels = ({k: v for k, _, v in (one.partition("=") for one in told["labels"])}
              for told in documents)  # fmt: skip
    numbers = (one["id"] for one in documents)
    assert kept == [(n, some) for n, some in zip(numbers, labels, strict=True)
                    if 256 <= n < 1 << 24]  # fmt: skip
    assert found.read == len(documents) == len(kept) + sum(found.left_out.values())


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["endpoint_list", "service_list"]),
    st.integers(0, 3000),
    st.binary(max_size=20),
)
def test_no_damage_crashes_a_table_or_loses_entries_silently(
    name: str, place: int, put: bytes
) -> None:
    text = gzip.decompress((TABLES / f"{name}.txt.gz").read_bytes())
    told = read_text(text[:place] + put + text[place + len(put) :], "a.txt")
    if told is None or told[0] != f"cilium-dbg {name.replace('_', ' ')}":
        return
    found = told[1]
    lost = len(found.faults) + sum(found.left_out.values())
    if name == "endpoint_list":
        assert found.read == lost + len(found.rows.get("cilium-dbg endpoint table", ()))
    else:
        assert found.read == lost or found.rows["cilium-dbg service table"]
