"""A gate's result for machines: JUnit for pipelines, SARIF 2.1.0 for code reviews.

SARIF: docs.oasis-open.org/sarif/sarif/v2.1.0. JUnit has no standard: what GitLab and others read
is a testsuite of testcases, each with or without a failure.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from typing import Any, Final
from xml.etree import ElementTree as Xml

from capacity.policy_check import Gate
from capacity.service_check import ServiceGate
from capacity.service_check import sentence as service_sentence

_RULES: Final = {
    "policy-map-full": "The policy map of an endpoint gets too full",
    "policy-conflict": "Cilium cannot merge the policies of an endpoint any more",
    "policy-rejected": "Cilium would not take this policy",
    "service-map-full": "A load balancer map or the service IDs of a node get too full",
}
_RULE_OF: Final = {"short": "policy-map-full", "conflict": "policy-conflict"}


def junit(result: Gate, services: ServiceGate) -> str:
    """Give JUnit XML: a test case an endpoint or map that changes or is short, one a rejection."""
    cases = []
    for row in result.endpoints.iter_rows(named=True):
        if row["verdict"] == "fits" and row["before"] == row["after"]:
            continue
        case = Xml.Element("testcase", classname="policy map", name=_clean(row["endpoint"]))
        if row["verdict"] in _RULE_OF:
            Xml.SubElement(case, "failure", message=_clean(_sentence(row)))
        cases.append(case)
    for row in result.rejected.iter_rows(named=True):
        case = Xml.Element("testcase", classname="policy", name=_clean(row["policy"]))
        Xml.SubElement(case, "failure", message=_clean(f"{row['status']}: {row['error']}"))
        cases.append(case)
    for row in services.maps.iter_rows(named=True):
        if row["verdict"] == "fits" and row["before"] == row["after"]:
            continue
        case = Xml.Element("testcase", classname="services", name=_clean(row["resource"]))
        if row["verdict"] == "short":
            Xml.SubElement(case, "failure", message=_clean(service_sentence(row)))
        cases.append(case)
    failed = sum(len(case) for case in cases)
    suite = Xml.Element(
        "testsuite", name="capacity check", tests=str(len(cases)), failures=str(failed)
    )
    suite.extend(cases)
    return Xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def sarif(result: Gate, services: ServiceGate) -> str:
    """Give a SARIF log: an error an endpoint or map that gets short, or a rejected policy."""
    found = [
        _result(_RULE_OF[row["verdict"]], _sentence(row), row["endpoint"], row["source"])
        for row in result.failing.iter_rows(named=True)
    ]
    found += [
        _result(
            "policy-rejected",
            f"{row['policy']}: {row['status']}: {row['error']}", row["policy"], row["source"],
        )
        for row in result.rejected.iter_rows(named=True)
    ]  # fmt: skip
    found += [
        _result("service-map-full", service_sentence(row), row["service"] or row["resource"], None)
        for row in services.failing.iter_rows(named=True)
    ]
    rules = [{"id": name, "shortDescription": {"text": text}} for name, text in _RULES.items()]
    driver = {"name": "capacity check", "version": version("cilium-capacity"), "rules": rules}
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": found}],
    }
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def as_json(result: Gate, services: ServiceGate) -> str:
    """Give the result as JSON: passes, headline, endpoints, rejected, services."""
    told = {
        "schema": "capacity.gate/1",
        "passes": result.passes and services.passes,
        "headline": " ".join(filter(None, (result.headline, services.headline))),
        "endpoints": result.endpoints.to_dicts(),
        "rejected": result.rejected.to_dicts(),
        "services": services.maps.to_dicts(),
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _sentence(row: dict[str, Any]) -> str:
    if row["after"] is None:
        return f"{row['endpoint']}: its policies cannot be merged (capacity policies explain)"
    before = "new" if row["before"] is None else f"{row['before']:,}"
    text = f"{row['endpoint']}: {before} → {row['after']:,} of {row['limit']:,} entries"
    if row["policy"]:
        text += f"; most are made by {row['policy']} ({row['policy_entries']:,}), "
        text += f"of these {row['rule_entries']:,} by {row['rule']}"
    return text


def _result(rule: str, text: str, name: str, source: str | None) -> dict[str, Any]:
    place: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": name}]}
    if source is not None:
        # A source names the document within its file after the path
        path = re.sub(r"[#:,]\s*(document\s*)?\d+$", "", source)
        place["physicalLocation"] = {"artifactLocation": {"uri": path}}
    return {"ruleId": rule, "level": "error", "message": {"text": text}, "locations": [place]}


def _clean(text: str) -> str:
    """Leave out what XML 1.0 has no way to write."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
