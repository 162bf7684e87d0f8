from __future__ import annotations

from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import ManifestError
from capacity.manifests import KINDS, manifests
from capacity.manifests import values as trees
from capacity.tables import RECOMMENDATION


def advice(*rows: dict[str, Any]) -> pl.DataFrame:
    blank = dict.fromkeys(RECOMMENDATION.schema) | {
        "rank": 1, "cluster": "c", "component": "map", "unit": "1", "status": "raise",
        "reason": "why", "evidence": "e",
    }  # fmt: skip
    return pl.DataFrame([blank | row for row in rows], schema=RECOMMENDATION.schema)


AGENT = {"component": "agent", "setting": "resources.limits.memory", "unit": "byte",
         "target": 1.5 * 2**30, "status": "set"}  # fmt: skip
OPERATOR = {"component": "operator", "setting": "operator.resources.requests.cpu",
            "unit": "millicore", "target": 250.0, "status": "set"}  # fmt: skip
LB = {"setting": "bpf.lbMapMax", "target": 131072.0}


def test_helm_values_hold_changed_keys_with_their_reasons_and_nothing_else() -> None:
    same = {"setting": "bpf.policyMapMax", "target": 16384.0, "status": "ok"}
    text = manifests(advice(LB, same, AGENT, OPERATOR))["helm-values.yaml"]
    assert yaml.safe_load(text) == {
        "bpf": {"lbMapMax": 131072},
        "operator": {"resources": {"requests": {"cpu": "250m"}}},
        "resources": {"limits": {"memory": "1536Mi"}},
    }
    assert text.index("# raise: why") < text.index("lbMapMax")


def test_patches_name_the_charts_objects_and_containers() -> None:
    made = manifests(advice(AGENT, OPERATOR))
    agent = yaml.safe_load(made["kustomize/agent-resources.yaml"])
    assert (agent["kind"], agent["metadata"]["name"]) == ("DaemonSet", "cilium")
    container = agent["spec"]["template"]["spec"]["containers"][0]
    assert container == {"name": "cilium-agent", "resources": {"limits": {"memory": "1536Mi"}}}
    listed = yaml.safe_load(made["kustomize/kustomization.yaml"])["patches"]
    assert {f"kustomize/{item['path']}" for item in listed} == set(made) & {
        "kustomize/agent-resources.yaml", "kustomize/operator-resources.yaml",
    }  # fmt: skip


def test_nothing_to_change_writes_no_manifest() -> None:
    assert manifests(advice({"setting": "bpf.lbMapMax", "target": 1.0, "status": "ok"})) == {}
    assert manifests(advice()) == {}


def test_a_limit_without_a_setting_never_becomes_a_value() -> None:
    redesign = {"setting": "(no setting) service-ids", "status": "redesign", "target": None}
    assert manifests(advice(redesign)) == {}


def test_of_two_rows_for_one_setting_the_larger_wins() -> None:
    text = manifests(advice(LB, LB | {"target": 65536.0}))["helm-values.yaml"]
    assert yaml.safe_load(text) == {"bpf": {"lbMapMax": 131072}}


def test_the_order_of_rows_changes_no_byte() -> None:
    rows = [LB, AGENT, OPERATOR]
    assert manifests(advice(*rows)) == manifests(advice(*rows[::-1]))


def test_a_reason_from_untrusted_labels_cannot_break_out_of_its_comment() -> None:
    text = manifests(advice(LB | {"reason": "x\nevil: true\r\n- y \u2028z: 1"}))["helm-values.yaml"]
    assert yaml.safe_load(text) == {"bpf": {"lbMapMax": 131072}}


scalars = st.one_of(st.integers(), st.text(max_size=20), st.booleans())
keys = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=10).filter(
    lambda key: "." not in key
)


@given(st.recursive(scalars, lambda inner: st.dictionaries(keys, inner, max_size=4), max_leaves=8))
def test_any_tree_reads_back_or_is_refused(value: Any) -> None:
    tree = value if isinstance(value, dict) else {"a": value}
    try:
        text = trees.to_yaml(tree)
    except (ManifestError, yaml.YAMLError):
        return  # refused, not written wrong
    assert yaml.safe_load(text) == tree


def test_what_does_not_read_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_lines", lambda *_: ["a: 2"])
    with pytest.raises(ManifestError, match="reads back"):
        trees.to_yaml({"a": 1})


def test_every_kind_has_a_path_below_the_folder() -> None:
    assert all(not path.startswith(("/", "..")) for path in KINDS)
