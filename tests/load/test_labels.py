"""Series as text: the compiled way for many and the exact one for one say the same."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capacity.load import label_table
from capacity.load.label_table import LabelTable, parsed
from capacity.load.labels import LABEL_COLUMNS, label_columns, label_frame, parse_labels
from capacity.load.scan import CompiledLines
from capacity.load.tsdb_dump import DIALECT

NOTHING = dict.fromkeys(LABEL_COLUMNS)
PIECES = (
    "up", "{", "}", '"', "=", ",", " ", "\\", "a", "b", 'a="1"', 'node="n"', 'b=""', '""', "\x02",
    "\x03", '__name__="up"', '"quoted.name"', "é", "\n", "1", '\\"', "\\n", "\\x", ':', '"a"="2"',
    'le="x y"', '"é"="1"', 'cluster="c\\\\"', 'z="\\t"', "\ud7ff", 'node=""',
)  # fmt: skip


def many(texts: list[bytes], knows_more: bool = False) -> pl.DataFrame:
    """Parse them as few and as many ones."""
    frame = parsed_frame(texts, knows_more)
    with patch.object(label_table, "_FEW", 2):
        assert parsed_frame(texts, knows_more).equals(frame)
    return frame


def parsed_frame(texts: list[bytes], knows_more: bool) -> pl.DataFrame:
    ends = np.cumsum([0, *map(len, texts)])
    parse = DIALECT.parse if knows_more else parse_labels
    table = LabelTable(1)
    # In two blocks
    for cut in ends[: len(ends) // 2 + 1], ends[len(ends) // 2 :]:
        data = np.frombuffer(b"".join(texts)[cut[0] : cut[-1]], np.uint8)
        table.add(parsed(data, cut - cut[0], parse, 1, knows_more=knows_more))
    frame, same = table.taken("", is_once=len(set(texts)) == len(texts))
    if same is not None:
        rows = frame.rows()
        assert same.tolist() == [rows.index(row) for row in rows]
    return frame


def one(text: str) -> dict[str, str | None]:
    labels = parse_labels(text)
    return NOTHING if labels is None else label_columns(labels)


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), min_size=1))
@example(['{x="{a="",y="}'])
@example(["up{a=\x03}"])
@example(['up{a="1",a="2"}'])
@example(['up{__name__=""}', '{"up",__name__=""}', '{""}', 'up{node="1",node=""}'])
@example(
    [
        'up{a="1",b="2"}',
        'up{b="2",a="1"}',
        'up{a="1",b="2",}',
        'up{a="2",b="2"}',
        '{"up",a="1",b="2"}',
    ]
)
@example(['up{a="1",b=""}', 'up{a="1"}', 'up{a="2",b=""}', 'up{a="",b="2"}', "up", 'up{a=""}'])
@example(['{__name__="up",a="1"}', '{__name__="up",a="2"}', '{__name__="x",a="2"}', 'up{a="1"}'])
@example(['up{a="1",b="x y"}', 'up{a="1",b="x\\\\y"}', 'up{a="1",b="x\\y"}', 'up{a="1",b="x z"}'])
@example(['up{a="1"}', "up{a=\x03}", 'up{a="\x02"}', 'up{a="2"}', 'up{a="2"} ', 'up{a="3" }'])
@example(['up{a="\\\\n",b="\\\\\\n"}', '{"a"="1","up"}', 'a:b{c="1"}', 'up{a:b="1"}'])
def test_many_at_once_are_parsed_as_each_alone(texts: list[str]) -> None:
    told = [text.encode() for text in texts]
    assert many(told).rows(named=True) == [one(text) for text in texts]
    dumped = many(told, knows_more=True)
    assert dumped.equals(label_frame(texts, DIALECT.parse))


@given(
    st.lists(st.binary(max_size=30).map(lambda b: b'up{a="' + b + b'"}'), min_size=1, max_size=5)
)
def test_bytes_that_are_no_text_get_the_same_marks(texts: list[bytes]) -> None:
    wanted = [one(text.decode("utf-8", "replace")) for text in texts]
    assert many(texts).rows(named=True) == wanted


def test_many_labels_are_read_as_few_are() -> None:
    for count in (63, 64, 65, 200):
        names = [f"l{i:03}" for i in range(count)][::-1]
        text = "up{" + ",".join(f'{name}="{name}"' for name in names) + "}"
        assert many([text.encode()]).row(0, named=True) == one(text)


PAIRS = st.tuples(
    st.sampled_from(("a", "bb", "node", "pod", '"a"', "cluster", "__name__")),
    st.sampled_from(("", "1", "2", "one value", "another and a longer one", r"\n", r"C:\\x", "é")),
)
LINES = st.tuples(
    st.sampled_from(("up", "down", "a_metric_with_a_longer_name", "")),
    st.lists(PAIRS, max_size=4, unique_by=lambda pair: pair[0]),
    st.sampled_from(("{%s}", "{%s,}", " { %s }", "{%s} ")),
)


@given(st.lists(LINES, min_size=1, max_size=40))
def test_texts_alike_but_for_their_values_are_parsed_as_each_alone(
    lines: list[tuple[str, list[tuple[str, str]], str]],
) -> None:
    texts = [
        name + braces % ",".join(f'{label}="{value}"' for label, value in pairs)
        for name, pairs, braces in lines
    ]
    distinct = [text.encode() for text in dict.fromkeys(texts)]
    for told in distinct, [text.encode() for text in texts]:
        assert many(told).rows(named=True) == [one(text.decode()) for text in told]


def test_more_shapes_than_are_remembered_are_read_as_few_are() -> None:
    # Of one metric, too, whose shapes take each other's place
    texts = [
        f'm{shape % 290}{{l{shape}="{value // 2}",node="n{value % 2}",z="{shape % 3}"}}'
        for value in range(4)
        for shape in range(300)
    ]
    assert many([text.encode() for text in texts]).equals(label_frame(texts))


def test_a_label_that_is_told_may_be_the_same_as_the_name_of_the_cluster() -> None:
    texts = [b'up{cluster="c"}', b"up", b'up{cluster="d"}']
    data, ends = np.frombuffer(b"".join(texts), np.uint8), np.cumsum([0, *map(len, texts)])
    table = LabelTable(1)
    table.add(parsed(data, ends, parse_labels, 1))
    frame, same = table.taken("c", is_once=True)
    assert frame["cluster"].to_list() == ["c", "c", "d"]
    assert same is not None
    assert same.tolist() == [0, 0, 2]


def test_public_series_are_parsed_alike(shared: Path) -> None:
    for path in sorted((shared / "public" / "metrics").glob("*.txt")):
        lines = CompiledLines()
        data = path.read_bytes() + b"\n"
        lines.learn(data, lines.parse(data, data.count(b"\n")))
        told, ends = lines.texts.since(0)
        texts = [told[a:b].tobytes().decode() for a, b in zip(ends, ends[1:], strict=False)]
        lines.add(lines.labels(0)())
        assert lines.taken("")[0].equals(label_frame(texts)), path


names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,9}", fullmatch=True)
values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@given(names, st.dictionaries(names.filter(lambda n: n != "__name__"), values, max_size=5))
def test_what_is_written_is_read_back(metric: str, labels: dict[str, str]) -> None:
    text = metric + "{" + ",".join(f'{k}="{escaped(v)}"' for k, v in labels.items()) + "}"
    assert parse_labels(text) == {"__name__": metric, **labels}
    row = many([text.encode()]).row(0, named=True)
    rest = json.loads(row.pop("labels"))
    assert {k: v for k, v in row.items() if v is not None} | rest == {"metric": metric, **labels}


@pytest.mark.parametrize(
    "text",
    ['up{a="b"', "up{a=b}", 'up{a="1" b="2"}', 'up{a="1",,}', 'up{,a="1"}', '{a="1"}', "", "{}",
     'up{a="1"}x', 'up{a="1"}{b="2"}', 'up{a="1",a="2"}', "5up", "u p", 'up{1a="x"}', 'up{"x"}'],
)  # fmt: skip
def test_what_is_no_series_is_none(text: str) -> None:
    assert parse_labels(text) is None
    assert many([text.encode()]).row(0, named=True) == NOTHING


def test_columns_hold_own_labels_and_json_the_others_by_name() -> None:
    text = 'm{z="1",pod="p",map_name="ct4_global",container="c",namespace="n",node="k",a="2"}'
    assert many([text.encode()]).row(0, named=True) == {
        "metric": "m", "cluster": None, "node": "k", "namespace": "n", "pod": "p",
        "container": "c", "map_name": "ct4_global", "labels": '{"a": "2", "z": "1"}',
    }  # fmt: skip


def test_names_in_quotes_are_those_of_prometheus_3() -> None:
    assert parse_labels('{"my.metric","k8s.node"="n"}') == {
        "__name__": "my.metric", "k8s.node": "n",
    }  # fmt: skip


def test_a_name_among_the_labels_is_that_of_a_tsdb_dump() -> None:
    assert parse_labels('{__name__="up", job="a"}') == {"__name__": "up", "job": "a"}
