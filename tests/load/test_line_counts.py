"""Connections and rows counted many at once: as a regular expression counts them."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from capacity.load.line_counts import CONNECTION, ENDPOINT, connections, sections

TOKENS = ("TCP", "UDP", "IN", "OUT", "->", "10.0.0.1:80", "[fd00::1]:80", "fd00::1", "", "\t", "x")
LINES = st.lists(st.sampled_from(TOKENS), max_size=7).map(" ".join)
TEXTS = st.tuples(st.lists(LINES, max_size=8).map("\n".join), st.sampled_from(["", "\n", "\r\n"]))


def by_regex(text: bytes) -> tuple[Counter[tuple[bool, bool]], list[bytes]]:
    many: Counter[tuple[bool, bool]] = Counter()
    odd = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", text):
        if match := CONNECTION.match(line):
            many[match[2].count(b":") >= 2, match[1] == b"TCP"] += 1
        elif line.strip():
            odd.append(line)
    return many, odd


@given(TEXTS)
@example(("TCP IN ", ""))
@example(("TCP OUT a:b:c  x", "\n"))
def test_connections_are_counted_as_by_a_regular_expression(parts: tuple[str, str]) -> None:
    text = "".join(parts).encode()
    assert connections(text) == by_regex(text)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=5))
def test_rows_of_each_policy_map_are_counted_without_their_further_labels(
    maps: list[tuple[int, int]],
) -> None:
    text = "".join(
        f"Endpoint ID: {i}\nPath: /x/cilium_policy_{i:05}\n\nPOLICY   DIRECTION\n"
        + ("Allow    Ingress  a\n" + "         b\n" * more) * rows
        + "\n"
        for i, (rows, more) in enumerate(maps)
    )
    expected = [(f"/x/cilium_policy_{i:05}", rows) for i, (rows, _) in enumerate(maps)]
    assert list(sections(text.encode(), b"Path: ")) == expected
    assert text.encode().count(ENDPOINT) == len(maps)


def test_a_map_without_a_copy_has_no_count_and_an_empty_one_none() -> None:
    text = b"## Map: a\nCache is disabled\n\n## Map: b\nCache is empty\n\n## Map: c\nKey\n1\n"
    assert list(sections(text, b"## Map: ")) == [("a", None), ("b", 0), ("c", 1)]


def test_a_text_without_any_map_holds_none() -> None:
    assert list(sections(b"Endpoint ID: 5\n", b"Path: ")) == []
