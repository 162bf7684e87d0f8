from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import ManifestError
from capacity.manifests import values as trees

characters = st.characters(blacklist_categories=("Cs",))
texts = st.one_of(
    st.text(characters, max_size=20),
    st.lists(st.text(characters, max_size=8), max_size=4).map("\n".join),
)
scalars = st.one_of(st.integers(), texts, st.booleans(), st.none())
keys = st.text(characters, min_size=1, max_size=10).filter(lambda key: "." not in key)


@given(
    st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.dictionaries(keys, inner, max_size=4), st.lists(inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_tree_reads_back_or_is_refused(value: Any) -> None:
    tree = value if isinstance(value, dict) else {"a": value}
    try:
        text = trees.to_yaml(tree)
    except (ManifestError, yaml.YAMLError):
        return  # refused, not written wrong
    assert yaml.safe_load(text) == tree


@given(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x", 1, "1", True, "true"])))
def test_plain_trees_are_never_refused(tree: dict[str, Any]) -> None:
    assert yaml.safe_load(trees.to_yaml({"top": tree, "list": [tree, tree]})) == {
        "top": tree, "list": [tree, tree],
    }  # fmt: skip


def test_lists_and_texts_of_lines_are_written_as_people_do() -> None:
    text = trees.to_yaml(
        {"a": [{"b": 1, "c": "x"}], "d": "one\n  two\n\nthree\n"}, {"a.0.c": "why"}
    )
    assert text == "a:\n  - b: 1\n    # why\n    c: x\nd: |\n  one\n    two\n\n  three\n"


def test_what_does_not_read_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_lines", lambda *_: ["a: 2"])
    with pytest.raises(ManifestError, match="reads back"):
        trees.to_yaml({"a": 1})
