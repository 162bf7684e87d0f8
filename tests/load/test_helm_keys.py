"""Helm values that Cilium's chart does not know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from capacity import facts
from capacity.load import helm
from capacity.load.inventories import read_inventory

Put = Callable[[str, str | bytes], Path]
PUBLIC = Path(__file__).resolve().parents[2].parent / "shared" / "public" / "values"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("k8sServiceHots", "k8sServiceHost"),
        ("bpf.policyMapmax", "bpf.policyMapMax"),
        ("bpf.mapDynamicSizeratio", "bpf.mapDynamicSizeRatio"),
        ("operator.replica", "operator.replicas"),
    ],
)
def test_a_slip_of_the_pen_is_named_with_what_was_meant(put: Put, written: str, meant: str) -> None:
    values: dict[str, object] = {"bpf": {"lbMapMax": 65536}}
    within = values
    *above, last = written.split(".")
    for name in above:
        within = within.setdefault(name, {})  # type: ignore[assignment]
    within[last] = 1
    [row] = read_inventory(put("values.yaml", yaml.safe_dump(values))).sources.to_dicts()
    wanted = f"{written}: no value of Cilium's chart; did you mean {meant}?"
    assert wanted in row["reason"]
    assert (row["read"], row["kept"]) == (1, 1)


def test_what_the_user_names_is_never_unknown() -> None:
    values = {
        "extraConfig": {"bpf-lb-map-max": "1"},
        "podAnnotations": {"a.example/b": "c"},
        "resources": {"limits": {"example.com/gpu": 1}},
        "nodeSelector": {"pool": "edge"},
        "operator": {"tolerations": [{"key": "a"}], "extraEnv": [{"name": "B", "value": "c"}]},
        "global": {"anything": {"at": "all"}},
    }
    assert list(helm.unknown_keys(values)) == []


@pytest.mark.parametrize("version", facts.VERSIONS)
def test_values_of_each_version_are_known(version: str) -> None:
    rows = facts.chart_values(version).filter(kind="value")
    assert len(rows) > 300
    values: dict[str, object] = {}
    for key in rows["key"].to_list():
        within = values
        *above, last = key.split(".")
        for name in above:
            within = within.setdefault(name, {})  # type: ignore[assignment]
        within[last] = "x"
    # What a later chart fails on is told, whatever the version
    assert [note for note in helm.unknown_keys(values) if " since " not in note] == []


def test_every_option_that_facts_name_a_value_of_is_in_the_chart() -> None:
    known = set(facts.chart_values()["key"])
    named = set(facts.options().drop_nulls("helm_value")["helm_value"])
    assert {key for key in named if not key.startswith("extraConfig")} <= known


@given(st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.dictionaries(st.sampled_from(["bpf", "enabled", "a", "operator"]), inner),
    max_leaves=8,
))  # fmt: skip
def test_any_values_are_looked_at(values: object) -> None:
    if isinstance(values, dict):
        told = list(helm.unknown_keys(values))
        assert all(": no value of Cilium's chart" in one for one in told)


def test_values_of_public_repositories_are_nearly_all_known() -> None:
    if not PUBLIC.is_dir():
        pytest.skip("public values are not here (../shared/public/values)")
    read, unknown = 0, []
    for path in sorted(PUBLIC.rglob("*.y*ml")):
        try:
            documents = list(yaml.safe_load_all(path.read_text()))
        except yaml.YAMLError:
            continue
        for document in documents:
            values = helm.values_of(document)
            if values is not None:
                read += 1
                unknown += [(path.name, one) for one in helm.unknown_keys(values)]
    assert read
    assert len(unknown) <= 2 * read, unknown[:20]
