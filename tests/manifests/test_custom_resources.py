"""Objects of kinds that no Kubernetes release has: fields and types of their definitions, strictly.

Which fields there are was read in the definitions (tests/golden/crd_fields.csv names them).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from capacity.manifests import manifests
from capacity.units import parse_bytes, parse_millicores
from tests.manifests.subjects import AGENT, OPERATOR, subject

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "crd_fields.csv"
DURATION = re.compile(r"0|(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?")
PLAIN = {"string": str, "integer": int, "object": dict, "array": list}
Fields = dict[str, dict[str, str]]


def fields(kind: str) -> Fields:
    with GOLDEN.open(encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file) if row["kind"] == kind}


def faults(told: Fields, path: str, value: Any) -> Iterator[str]:
    """What an API server says with fieldValidation=Strict, and with its schema."""
    field = told.get(path)
    if field is None:
        yield f"{path}: unknown field"
    elif field["type"].startswith("map of "):
        for name, one in value.items():
            yield from scalar(f"{path}.{name}", field["type"].removeprefix("map of "), one)
    elif field["type"] in ("object", "array"):
        if not isinstance(value, PLAIN[field["type"]]):
            yield f"{path}: {value!r} is no {field['type']}"
        elif isinstance(value, list):
            for one in value:
                yield from faults(told, f"{path}[]", one)
        else:
            yield from (f"{path}.{n}: missing" for n in field["required"].split() if n not in value)
            for name, one in value.items():
                yield from faults(told, f"{path}.{name}", one)
    else:
        yield from scalar(path, field["type"], value)
        if field["enum"] and value not in field["enum"].split():
            yield f"{path}: {value!r} is none of {field['enum']}"


def scalar(path: str, kind: str, value: Any) -> Iterator[str]:
    if kind == "duration":
        if not isinstance(value, str) or not DURATION.fullmatch(value):
            yield f"{path}: {value!r} is no duration"
    elif kind == "quantity":
        parse = parse_bytes if path.endswith("memory") else parse_millicores
        if not parse(str(value)) > 0:
            yield f"{path}: {value!r} is no quantity"
    elif not isinstance(value, PLAIN[kind]):
        yield f"{path}: {value!r} is no {kind}"


def test_autoscalers_hold_their_definition() -> None:
    requests = AGENT | {"setting": "resources.requests.memory", "lower": 2.0**29}
    text = manifests(subject(AGENT, requests, OPERATOR))["vertical-pod-autoscalers.yaml"]
    made = list(yaml.safe_load_all(text))
    assert len(made) == 2
    told = fields("VerticalPodAutoscaler")
    for item in made:
        assert item["apiVersion"] == "autoscaling.k8s.io/v1"
        assert list(faults(told, "spec", item["spec"])) == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec.targetRef: missing"),
        ({"targetRef": {"kind": "DaemonSet", "name": 5}}, "spec.targetRef.name: 5 is no string"),
        ({"targetRef": {"kind": "D", "name": "x"}, "updatePolicy": {"updateMode": "off"}},
         "'off' is none of Off"),
        ({"targetRef": {"kind": "D", "name": "x"}, "resourcePolicys": {}}, "unknown field"),
        ({"targetRef": {"kind": "D", "name": "x"}, "resourcePolicy": {"containerPolicies": {}}},
         "is no array"),
    ],
)  # fmt: skip
def test_what_the_definition_refuses_is_seen(spec: dict[str, Any], message: str) -> None:
    (found,) = faults(fields("VerticalPodAutoscaler"), "spec", spec)
    assert message in found
