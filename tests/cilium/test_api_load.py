"""Load of API server and kvstore: sizes against a real etcd, rates against what each must be."""

from __future__ import annotations

import pytest

from capacity.cilium.api_load import API, KVSTORE, Load, control_plane, etcd_bytes


# Measured on 2026-11-26 with etcd 3.4.23 (Debian 3.4.23-4+b4): 3,000 to 20,000 keys of 57 bytes
# written three times, growth of dbSizeInUse a revision. Command in docs/validation.md
@pytest.mark.parametrize(
    ("value", "measured"),
    [(531, 820.4), (739, 1033.6), (983, 1364.9), (4000, 6083.9), (12_000, 12_190.2)],
)
def test_bytes_of_etcd_are_those_of_a_real_one(value: int, measured: float) -> None:
    assert etcd_bytes(value, 57) == pytest.approx(measured, rel=0.015)


def told(load: Load, server: str = API) -> dict[str, float]:
    return {row["what"]: row["value"] for row in control_plane(load) if row["server"] == server}


def test_slices_save_events_and_add_objects() -> None:
    plain = told(Load(1000, 30_000, 3000, pods_per_second=20))
    slices = told(Load(1000, 30_000, 3000, pods_per_second=20, slices=True))
    # 60 writes a second to 1,000 agents, and 2 new identities a second
    assert plain["events sent to agents"] == pytest.approx(60_000 + 2_000)
    assert slices["events sent to agents"] < plain["events sent to agents"] / 10
    assert slices["ciliumendpointslices stored"] == 300
    assert slices["etcd database"] > plain["etcd database"]


def test_revisions_are_told_where_churn_is_known() -> None:
    still, busy = told(Load(100, 3000, 300)), told(Load(100, 3000, 300, pods_per_second=10))
    assert busy["etcd database"] - still["etcd database"] == pytest.approx(
        10 * 3 * 600 * etcd_bytes(984, 57)
    )
    assert "events sent to agents" not in still


def test_a_kvstore_takes_the_watches_from_the_api_server() -> None:
    load = Load(500, 15_000, 2000, pods_per_second=5, kvstore=True)
    assert told(load)["watches of agents"] == 0
    kvstore = told(load, KVSTORE)
    assert kvstore["watches of agents"] == 1500
    assert kvstore["events sent to agents"] == 2 * 5 * 500
    # 30 pods a node use at most 30 identities each
    assert kvstore["identity-uses stored"] == 500 * 30


def test_twice_the_cluster_is_twice_the_bytes() -> None:
    one, two = told(Load(1000, 30_000, 3000)), told(Load(2000, 60_000, 6000))
    assert two["etcd database"] == pytest.approx(2 * one["etcd database"])
