"""Series as text: the quick way for many and the exact one for one say the same."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capacity.load.labels import LABEL_COLUMNS, label_columns, label_frame, parse_labels

NOTHING = dict.fromkeys(LABEL_COLUMNS)
PIECES = (
    "up", "{", "}", '"', "=", ",", " ", "\\", "a", "b", 'a="1"', 'node="n"', 'b=""', '""', "\x02",
    "\x03", '__name__="up"', '"quoted.name"', "é", "\n", "1",
)  # fmt: skip


def one(text: str) -> dict[str, str | None]:
    labels = parse_labels(text)
    return NOTHING if labels is None else label_columns(labels)


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), min_size=1))
@example(['{x="{a="",y="}'])
@example(["up{a=\x03}"])
@example(['up{a="1",a="2"}'])
def test_many_at_once_are_parsed_as_each_alone(texts: list[str]) -> None:
    assert label_frame(pl.Series(texts)).rows(named=True) == [one(text) for text in texts]


names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,9}", fullmatch=True)
values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@given(names, st.dictionaries(names.filter(lambda n: n != "__name__"), values, max_size=5))
def test_what_is_written_is_read_back(metric: str, labels: dict[str, str]) -> None:
    text = metric + "{" + ",".join(f'{k}="{escaped(v)}"' for k, v in labels.items()) + "}"
    assert parse_labels(text) == {"__name__": metric, **labels}
    row = label_frame(pl.Series([text])).row(0, named=True)
    rest = json.loads(row.pop("labels"))
    assert {k: v for k, v in row.items() if v is not None} | rest == {"metric": metric, **labels}


@pytest.mark.parametrize(
    "text",
    ['up{a="b"', "up{a=b}", 'up{a="1" b="2"}', 'up{a="1",,}', 'up{,a="1"}', '{a="1"}', "", "{}",
     'up{a="1"}x', 'up{a="1"}{b="2"}', 'up{a="1",a="2"}', "5up", "u p", 'up{1a="x"}', 'up{"x"}'],
)  # fmt: skip
def test_what_is_no_series_is_none(text: str) -> None:
    assert parse_labels(text) is None
    assert label_frame(pl.Series([text])).row(0, named=True) == NOTHING


def test_columns_hold_own_labels_and_json_the_others_by_name() -> None:
    text = 'm{z="1",pod="p",map_name="ct4_global",container="c",namespace="n",node="k",a="2"}'
    assert label_frame(pl.Series([text])).row(0, named=True) == {
        "metric": "m", "cluster": None, "node": "k", "namespace": "n", "pod": "p",
        "container": "c", "map_name": "ct4_global", "labels": '{"a": "2", "z": "1"}',
    }  # fmt: skip


def test_names_in_quotes_are_those_of_prometheus_3() -> None:
    assert parse_labels('{"my.metric","k8s.node"="n"}') == {
        "__name__": "my.metric", "k8s.node": "n",
    }  # fmt: skip


def test_a_name_among_the_labels_is_that_of_a_tsdb_dump() -> None:
    assert parse_labels('{__name__="up", job="a"}') == {"__name__": "up", "job": "a"}
