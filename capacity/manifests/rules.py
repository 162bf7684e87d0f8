"""Prometheus: recording and alert rules whose thresholds are the plan's, and their unit tests.

The share that is used is recorded for each resource, and the share that the plan expects beside it:
alerts compare the two, and tell in advance when a resource runs out.
"""

from __future__ import annotations

from typing import Any, Final

from capacity.manifests.queries import Resource, planned_nodes, resources
from capacity.manifests.subject import Subject
from capacity.manifests.values import to_yaml

# Trend that is looked at, and how far ahead: an agent's rollout and its review fit in a month
_WINDOW: Final = "7d"
_AHEAD: Final = 30 * 86_400
# Below this share a trend is no reason to wake anybody
_FLOOR: Final = 0.5
# Nor below this one a share that is larger than planned
_WORTH: Final = 0.25
_FULL: Final = 0.95
# Share of the node count of the first limit at which to plan again
_NEAR: Final = 0.9
_PRESSURE: Final = "cilium_bpf_map_pressure"
_PERCENT: Final = "{{ $value | humanizePercentage }}"
_NODES: Final = "max by (cluster) (cilium_nodes_all_num)"
_Rule = dict[str, Any]


def text(subject: Subject) -> str | None:
    """Give the rules as Prometheus reads them, None where no metric tells a limited resource."""
    groups = _groups(subject)
    return to_yaml({"groups": groups}) if groups else None


def custom_resource(subject: Subject) -> str | None:
    """Give the same rules as a PrometheusRule for prometheus-operator."""
    groups = _groups(subject)
    if not groups:
        return None
    return to_yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "cilium-capacity", "namespace": "kube-system"},
            "spec": {"groups": groups},
        }
    )


def _groups(subject: Subject) -> list[dict[str, Any]]:
    found = resources(subject)
    if not found:
        return []
    recorded = [rule for item in found for rule in _recorded(item)]
    return [
        {"name": "cilium-capacity.records", "interval": "1m", "rules": recorded},
        {"name": "cilium-capacity.alerts", "interval": "1m", "rules": _alerts(subject, found)},
    ]


def _recorded(item: Resource) -> list[_Rule]:
    labels = {"resource": item.name, "kind": item.kind}
    rules = [{"record": "capacity:usage:ratio", "expr": item.usage, "labels": labels}]
    if item.planned is not None:
        expected = f"vector({min(item.planned, _FULL):.4g})"
        rules.append({"record": "capacity:planned:ratio", "expr": expected,
                      "labels": {"resource": item.name}})  # fmt: skip
    return rules


def _alerts(subject: Subject, found: list[Resource]) -> list[_Rule]:
    days = _AHEAD // 86_400
    rules = [
        _alert(
            "CiliumCapacityRunsOut", "warning", "1h",
            f"predict_linear(capacity:usage:ratio[{_WINDOW}], {_AHEAD}) > 1 "
            f"and capacity:usage:ratio > {_FLOOR}",
            f"{{{{ $labels.resource }}}} runs out within {days} days",
            f"By the trend of {_WINDOW} it needs {_PERCENT} of its limit in {days} days. "
            "Run `capacity plan` and apply its manifests before.",
        ),
        _alert(
            "CiliumCapacityAbovePlan", "warning", "1h",
            "capacity:usage:ratio > on (resource) group_left () capacity:planned:ratio "
            f"and capacity:usage:ratio > {_WORTH}",
            "{{ $labels.resource }} is fuller than planned",
            f"It is at {_PERCENT}, above the 99 % quantile that the plan has for "
            f"{planned_nodes(subject):,} nodes: the plan does not hold any more, make it anew.",
        ),
        _alert(
            "CiliumCapacityFull", "critical", "5m", f"capacity:usage:ratio > {_FULL}",
            "{{ $labels.resource }} is full",
            f"It is at {_PERCENT} of a {{{{ $labels.kind }}}} limit. What happens then stands in "
            "`capacity facts maps`.",
        ),
        _alert(
            "CiliumCapacityBlind", "warning", "30m", "absent(cilium_bpf_map_pressure)",
            "no pressure of BPF maps is scraped",
            "Nobody would see a map run full: look for the agents' scrape job.",
        ),
    ]  # fmt: skip
    return rules + _of_nodes(subject, found)


def _of_nodes(subject: Subject, found: list[Resource]) -> list[_Rule]:
    """Alerts on the node count: near the first limit, and beyond what was planned for."""
    planned = planned_nodes(subject)
    rules = [
        _alert(
            "CiliumCapacityBeyondPlan", "info", "1h", f"{_NODES} > {planned}",
            f"more nodes than the {planned:,} planned for",
            "The plan has ended: make the next one.",
        )
    ]  # fmt: skip
    first = next((item for item in found if item.nodes is not None), None)
    if first is not None and first.nodes is not None:
        near = int(first.nodes * _NEAR)
        rules.append(
            _alert(
                "CiliumCapacityNodesNearLimit", "warning", "1h", f"{_NODES} >= {near}",
                f"{first.name} lasts to {first.nodes:,} nodes",
                f"There are {{{{ $value }}}} nodes. To do: {first.advice}.",
                resource=first.name,
            )
        )  # fmt: skip
    return rules


def _alert(
    name: str, severity: str, wait: str, expr: str, summary: str, description: str, **labels: str
) -> _Rule:
    return {
        "alert": name,
        "expr": expr,
        "for": wait,
        "labels": {"severity": severity, **labels},
        "annotations": {"summary": summary, "description": description},
    }


def tests(subject: Subject) -> str | None:
    """Give unit tests for `promtool test rules`: each rule fires where it must, and only there.

    None where no map tells its pressure: the tests fill one map.
    """
    found = resources(subject)
    item = next(
        (one for one in found if one.usage.startswith(f"max by (cluster) ({_PRESSURE}")), None
    )
    if item is None:
        return None
    rules = {rule["alert"]: rule for rule in _alerts(subject, found)}
    beyond = planned_nodes(subject) + 1
    cases = [_case("an empty cluster is quiet", item, "0x200", "1x200", dict.fromkeys(rules))]
    cases.append(
        _case(
            "no metrics", None, "", "1x200", {"CiliumCapacityBlind": rules["CiliumCapacityBlind"]}
        )
    )
    told = {"{{ $labels.resource }}": item.name, "{{ $labels.kind }}": item.kind}
    labels = {"resource": item.name, "kind": item.kind}
    for name, values, value in (
        ("CiliumCapacityFull", "0.99x200", "99%"),
        ("CiliumCapacityAbovePlan", "0.99x200", "99%"),
        # At 0.001 a minute: 0.78 at 3 h, and 43.2 more in 30 days
        ("CiliumCapacityRunsOut", "0.6+0.001x200", "4398%"),
    ):
        if name == "CiliumCapacityAbovePlan" and item.planned is None:
            continue
        words = told | {_PERCENT: value}
        cases.append(
            _case(f"{name} fires", item, values, "1x200", {name: rules[name]}, labels, words)
        )
    words = {"{{ $value }}": str(beyond)}
    name = "CiliumCapacityBeyondPlan"
    cases.append(
        _case(f"{name} fires", item, "0x200", f"{beyond}x200", {name: rules[name]}, {}, words)
    )
    return to_yaml({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases})


def _case(
    name: str,
    item: Resource | None,
    pressure: str,
    nodes: str,
    rules: dict[str, _Rule | None],
    labels: dict[str, str] | None = None,
    words: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Make a test at 3 hours: the rules that fire (None: it must not), with their texts."""
    series = [{"series": "cilium_nodes_all_num", "values": nodes}]
    if item is not None:
        label = "cilium_policy_v2_*" if item.name == "cilium_policy_*" else item.name
        series.append({"series": f'{_PRESSURE}{{map_name="{label}"}}', "values": pressure})
    return {
        "name": name,
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [
            {"alertname": alert, "eval_time": "3h", "exp_alerts": _told(rule, labels, words)}
            for alert, rule in rules.items()
        ],
    }


def _told(
    rule: _Rule | None, labels: dict[str, str] | None, words: dict[str, str] | None
) -> list[dict[str, Any]]:
    if rule is None:
        return []
    texts = dict(rule["annotations"])
    for template, word in (words or {}).items():
        texts = {key: text.replace(template, word) for key, text in texts.items()}
    return [{"exp_labels": rule["labels"] | (labels or {}), "exp_annotations": texts}]
