"""What holds for all policies: order, addition, denial, counting, covering."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.cilium import policy
from capacity.cilium.policy import auth
from capacity.cilium.policy.allocation import Identity
from capacity.cilium.policy.cidrs import contains, without
from capacity.cilium.policy.labels import Prefix, cidr_key, parse_prefix, prefix_of_key
from capacity.cilium.policy.mapstate import EVERY_PORT, Insertion, Key, MapState, insert_all
from capacity.cilium.policy.mapstate import allow_localhost as let_in
from capacity.cilium.policy.ports import masked_ports
from capacity.cilium.policy.selectors import WILDCARD
from capacity.cilium.policy.universe import Universe, universe
from tests.cilium.test_policy import shop, web

VERSIONS = ("1.16", "1.17")
FEW = settings(max_examples=25, deadline=None)
ROW = ["endpoint", "direction", "identity", "protocol", "port", "prefix_length"]

port = st.sampled_from(["80", "443", "8080"])
peers = st.sampled_from(
    [
        {},
        {"fromEndpoints": [{"matchLabels": {"app": "api"}}]},
        {"fromEndpoints": [{}]},
        {"fromEntities": ["cluster"]},
        {"fromEntities": ["host"]},
        {"fromCIDR": ["10.0.0.0/8"]},
        {"fromCIDR": ["10.1.0.0/16"]},
        {"fromEntities": ["world"]},
    ]
)
ports = st.one_of(
    st.just({}),
    st.tuples(port, st.sampled_from(["TCP", "UDP", "ANY"]), st.sampled_from([0, 8095])).map(
        lambda one: {
            "toPorts": [{"ports": [dict(zip(("port", "protocol", "endPort"), one, strict=True))]}]
        }  # fmt: skip
    ),
)
traffic = st.tuples(peers, ports).map(lambda two: {**two[0], **two[1]})
objects = st.tuples(st.sampled_from(["ingress", "ingressDeny"]), st.lists(traffic, min_size=1, max_size=2)).map(  # noqa: E501
    lambda two: web(**{two[0]: two[1]})
)  # fmt: skip
allowing = st.lists(traffic, min_size=1, max_size=2).map(lambda rules: web(ingress=rules))


def entries(*told: dict[str, Any], version: str) -> set[tuple[Any, ...]]:
    listed = policy.resolve(shop(*told), version=version)
    return set(listed.drop("rules").iter_rows())


@FEW
@given(st.lists(objects, min_size=2, max_size=4), st.sampled_from(VERSIONS))
def test_order_of_policies_changes_nothing(told: list[dict[str, Any]], version: str) -> None:
    assert entries(*told, version=version) == entries(*reversed(told), version=version)


@FEW
@given(st.lists(objects, max_size=3), allowing, st.sampled_from(VERSIONS))
def test_an_allowing_rule_removes_nothing_that_an_allowing_one_let_in(
    told: list[dict[str, Any]], more: dict[str, Any], version: str
) -> None:
    first = web(ingress=[{"fromEntities": ["health"]}])
    before = reachable(policy.resolve(shop(first, *told), version=version))
    after = reachable(policy.resolve(shop(first, *told, more), version=version))
    assert before <= after


def reachable(listed: pl.DataFrame) -> set[tuple[int, str, int]]:
    """Peers, protocols and ports that the datapath lets in: deny wins, of what matches."""
    one = listed.filter(endpoint="shop/web-0", direction="ingress")
    rows = one.select("identity", "protocol", "port", "prefix_length", "action").rows()
    numbers = {row[0] for row in rows} | {1, 4, 258}
    found = set()
    for number in numbers - {0}:
        for protocol in ("TCP", "UDP", "SCTP"):
            for at in (22, 80, 443, 8080, 8095):
                actions = {
                    action
                    for who, of, first, bits, action in rows
                    if who in (0, number)
                    and of in ("ANY", protocol)
                    and (first ^ at) >> (16 - bits) == 0
                }
                if actions == {"allow"}:
                    found.add((number, protocol, at))
    return found


@FEW
@given(st.lists(objects, min_size=1, max_size=4), st.sampled_from(VERSIONS))
def test_both_insertion_rules_let_in_the_same_pods(
    told: list[dict[str, Any]], version: str
) -> None:
    def pods(of: str) -> set[tuple[int, str, int]]:
        listed = policy.resolve(shop(*told), version=of)
        return {one for one in reachable(listed) if one[0] < 1 << 24 and one[0] not in (2, 9, 10)}

    assert pods("1.16") == pods("1.17")


@FEW
@given(st.lists(objects, max_size=4), st.sampled_from((*VERSIONS, "1.20")))
def test_counts_are_those_of_the_listing(told: list[dict[str, Any]], version: str) -> None:
    tables = shop(*told)
    listed = policy.resolve(tables, version=version).group_by("endpoint").agg(
        ingress=(pl.col("direction") == "ingress").sum().cast(pl.Int64),
        deny=(pl.col("action") == "deny").sum().cast(pl.Int64),
        total=pl.len().cast(pl.Int64),
    )  # fmt: skip
    counted = policy.count(tables, version=version).select(listed.columns)
    assert listed.sort("endpoint").equals(counted.sort("endpoint"))


@FEW
@given(st.lists(objects, min_size=1, max_size=3), st.sampled_from(VERSIONS))
def test_no_entry_is_listed_twice(told: list[dict[str, Any]], version: str) -> None:
    listed = policy.resolve(shop(*told), version=version)
    assert not listed.select(ROW).is_duplicated().any()


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_masked_ports_cover_a_range_exactly_and_once(start: int, end: int) -> None:
    covered = [
        port for first, bits in masked_ports(start, end)
        for port in range(first, first + (1 << 16 - bits))
    ]  # fmt: skip
    is_all = start == 0 and end in (0, 65535)
    wanted = range(65536) if is_all else range(start, max(start, end) + 1)
    assert covered == list(wanted)


prefixes = st.tuples(st.integers(0, 255), st.integers(0, 8)).map(
    lambda two: Prefix(4, (two[0] >> 8 - two[1] << 8 - two[1]) << 24, two[1])
)


@given(prefixes, st.lists(prefixes, max_size=4))
def test_a_cidr_without_others_covers_what_is_left_exactly(
    prefix: Prefix, holes: list[Prefix]
) -> None:
    def blocks(one: Prefix) -> list[int]:
        first = one.address >> 24
        return list(range(first, first + (1 << 8 - one.length)))

    left = [block for one in without(prefix, holes) for block in blocks(one)]
    gone = {block for one in holes for block in blocks(one)}
    assert sorted(left) == [block for block in blocks(prefix) if block not in gone]


@given(st.sampled_from([4, 6]), st.data())
def test_a_prefix_is_read_back_from_its_label(version: int, data: st.DataObject) -> None:
    width = 32 if version == 4 else 128
    length = data.draw(st.integers(0, width))
    number = data.draw(st.integers(0, 2**width - 1))
    prefix = Prefix(version, number >> width - length << width - length, length)
    assert parse_prefix(str(prefix)) == prefix
    assert prefix_of_key(cidr_key(prefix)) == prefix
    assert contains(prefix, prefix)


KEYS = (EVERY_PORT, Key(6, 0, 0), Key(6, 80, 16), Key(6, 80, 12), Key(17, 53, 16))
insertion = st.tuples(
    st.sampled_from(KEYS),
    st.one_of(st.just(1), st.lists(st.integers(1, 13), min_size=1, max_size=4).map(
        lambda bits: sum({1 << bit for bit in bits}))),
    st.booleans(),
)  # fmt: skip


def small() -> Universe:
    labels = [("cidr:10.0.0.0/8", "reserved:world"), ("cidr:10.1.0.0/16", "reserved:world")]
    local = [Identity((1 << 24) + n, one) for n, one in enumerate(labels, 1)]
    return universe([Identity(256, ("k8s:app=a",)), *local])


def plain(state: MapState) -> tuple[dict[Key, int], dict[Key, int]]:
    return state.allows, state.denies


@pytest.mark.parametrize("has_companions", [True, False])
@settings(max_examples=150, deadline=None)
@given(told=st.lists(insertion, max_size=6))
def test_sets_give_what_inserting_one_by_one_gives(
    told: list[tuple[Key, int, bool]], has_companions: bool
) -> None:
    # In the agent's order, and everyone first at each port
    ordered = sorted(told, key=lambda one: (*one[0], one[1] != 1))
    made = [Insertion((key,), bits, is_deny) for key, bits, is_deny in ordered]
    known = small()
    by_sets = insert_all(made, known, has_companions=has_companions)
    let_in(by_sets, 2, has_companions=has_companions)
    one_by_one = auth.resolve(
        [auth.Treated(WILDCARD, None, one) for one in made],
        known,
        1,
        has_companions=has_companions,
    )
    assert plain(by_sets) == plain(one_by_one)
