"""Ways to write a policy that may cost fewer entries: suggestions only, judged in `cheaper`.

Each way takes the spec of a policy and gives changed copies of it, each with what was changed.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from capacity.cilium.policy.ports import masked_ports

Spec = Mapping[str, Any]
# Place of the rule in the spec, what changes, the changed spec
Rewrite = tuple[str, str, dict[str, Any]]
DIRECTIONS: Final = ("ingress", "ingressDeny", "egress", "egressDeny")
_LAST_PORT: Final = 0xFFFF
# Rules that a change of many names
_NAMED: Final = 4
# Peers of a rule, by the words of Cilium and of Kubernetes
_PEERS: Final = (
    "Endpoints", "Entities", "CIDR", "CIDRSet", "Requires", "Nodes", "Services", "FQDNs", "Groups",
)  # fmt: skip
_SELECTORS: Final = ("Endpoints", "Entities")


def rules_of(spec: Spec) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Give the rules of a spec that are objects: direction, number, rule."""
    for direction in DIRECTIONS:
        for n, rule in enumerate(spec.get(direction) or []):
            if isinstance(rule, dict):
                yield direction, n, rule


def _changed(spec: Spec, direction: str, n: int, **parts: Any) -> dict[str, Any]:
    made = deepcopy(dict(spec))
    rule = made[direction][n] or {}
    for key, value in parts.items():
        if value is None:
            rule.pop(key, None)
        else:
            rule[key] = value
    made[direction][n] = rule
    return made


def _word(direction: str) -> str:
    return "from" if direction.startswith("in") else "to"


def joined_rules(spec: Spec) -> Iterator[Rewrite]:
    """Join rules that differ in ports only, or in CIDRs only, into the first of them."""
    for direction in DIRECTIONS:
        told = spec.get(direction) or []
        for keys in (("toPorts", "ports"), _lists(direction)):
            groups: dict[str, list[int]] = {}
            for n, rule in enumerate(told):
                if isinstance(rule, dict) and any(rule.get(key) for key in keys):
                    rest = {key: value for key, value in rule.items() if key not in keys}
                    groups.setdefault(json.dumps(rest, sort_keys=True), []).append(n)
            for same in groups.values():
                if len(same) > 1:
                    yield _joined(spec, direction, same, keys)


def _lists(direction: str) -> tuple[str, ...]:
    word = _word(direction)
    return (f"{word}CIDR", f"{word}CIDRSet", word)


def _joined(spec: Spec, direction: str, same: Sequence[int], keys: Sequence[str]) -> Rewrite:
    made = deepcopy(dict(spec))
    told = made[direction]
    for key in keys:
        parts = [one for n in same for one in told[n].get(key) or []]
        if parts:
            told[same[0]][key] = parts
    gone = set(same[1:])
    made[direction] = [rule for n, rule in enumerate(told) if n not in gone]
    # What is joined saves nothing yet: its ports or CIDRs do, merged
    alone = {direction: [made[direction][same[0]]]}
    for merge in (merged_ports, merged_cidrs):
        for _, _, better in merge(alone):
            alone = better
    made[direction][same[0]] = alone[direction][0]
    others = named([f"{direction}[{n}]" for n in same[1:]])
    return f"{direction}[{same[0]}]", f"join with {others}; merge ports and CIDRs", made


def merged_ports(spec: Spec) -> Iterator[Rewrite]:
    """Merge ports and ranges that meet or overlap into ranges."""
    for direction, n, rule in rules_of(spec):
        place = f"{direction}[{n}]"
        for key in ("toPorts", "ports"):
            told = rule.get(key)
            if not isinstance(told, list):
                continue
            merged = _merged_lists(told) if key == "toPorts" else _merged(told)
            if merged != told:
                before, after = (_prefixes(one) for one in (told, merged))
                text = f"merge ports into ranges: {before} port prefixes become {after}"
                yield place, text, _changed(spec, direction, n, **{key: merged})


def _merged_lists(told: Sequence[Any]) -> list[Any]:
    groups: dict[str, tuple[dict[str, Any], list[Any]]] = {}
    for one in told:
        rest = {key: value for key, value in one.items() if key != "ports"}
        group = groups.setdefault(json.dumps(rest, sort_keys=True), (rest, []))
        group[1].extend(one.get("ports") or [])
    return [{"ports": _merged(ports), **rest} if ports else rest for rest, ports in groups.values()]


def _merged(ports: Sequence[Any]) -> list[Any]:
    """Give ports as disjoint ranges by protocol; what is a name stays, once."""
    named: dict[str, Any] = {}
    spans: dict[str, list[tuple[int, int]]] = {}
    is_text = True
    for one in ports:
        span = _span(one)
        if span is None:
            named[json.dumps(one, sort_keys=True)] = one
        else:
            is_text = isinstance(one["port"], str)
            spans.setdefault(str(one.get("protocol") or ""), []).append(span)
    found: list[Any] = []
    for protocol, own in spans.items():
        for first, last in _union(own):
            port: dict[str, Any] = {"port": str(first) if is_text else first}
            port |= {"endPort": last} if last > first else {}
            found.append(port | ({"protocol": protocol} if protocol else {}))
    return [*found, *named.values()]


def _span(told: Any) -> tuple[int, int] | None:
    """Give first and last port; None for a name, for every port, or what is no port."""
    if not isinstance(told, Mapping) or not str(told.get("port") or "").isdecimal():
        return None
    first = int(told["port"])
    last = int(told.get("endPort") or 0)
    if not 0 < first <= _LAST_PORT or last > _LAST_PORT:
        return None
    return first, max(first, last)


def _union(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def _prefixes(told: Sequence[Any]) -> int:
    ports = [port for one in told for port in (one.get("ports") or [] if "ports" in one else [one])]
    spans = [_span(port) for port in ports]
    return sum(len(masked_ports(*span)) for span in spans if span is not None)


def merged_cidrs(spec: Spec) -> Iterator[Rewrite]:
    """Collapse CIDRs without excepts, and excepts of one CIDR: of all rules at once, then of each.

    Rules with the same CIDRs share identities: collapsed in one of them alone, these only get more.
    """
    each = list(_collapsible(spec))
    for some in ([each] if len(each) > 1 else []) + [[one] for one in each]:
        made = deepcopy(dict(spec))
        for direction, n, changed in some:
            made[direction][n] |= changed
        before, after = (
            sum(len(rules[direction][n][key]) for direction, n, changed in some for key in changed)
            for rules in (spec, made)
        )
        places = named([f"{direction}[{n}]" for direction, n, _ in some])
        yield places, f"collapse CIDRs: {before} become {after}", made


def named(places: Sequence[str]) -> str:
    """Name rules or policies, of many the first ones only.

    Examples
    --------
    >>> named(["egress[0]", "egress[1]"]), named(list("abcdef"))
    ('egress[0], egress[1]', 'a, b, c, d and 2 more')
    """
    more = len(places) - _NAMED
    return ", ".join(places[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _collapsible(spec: Spec) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Give the rules whose CIDRs can be fewer: direction, number, what of them changes."""
    for direction, n, rule in rules_of(spec):
        word = _word(direction)
        plain, sets = rule.get(f"{word}CIDR"), rule.get(f"{word}CIDRSet")
        blocks = rule.get(word)
        changed: dict[str, Any] = {}
        if isinstance(plain, list):
            changed[f"{word}CIDR"] = _collapsed(plain)
        if isinstance(sets, list):
            changed[f"{word}CIDRSet"] = _collapsed_sets(sets, lambda one: one)
        if isinstance(blocks, list):
            changed[word] = _collapsed_sets(blocks, lambda one: one.get("ipBlock") or {}, "ipBlock")
        changed = {key: value for key, value in changed.items() if value != rule[key]}
        if changed:
            yield direction, n, changed


def _collapsed(told: Sequence[Any]) -> list[Any]:
    """Give texts of CIDRs as few as there can be; what is no CIDR stays."""
    nets: dict[int, list[Any]] = {4: [], 6: []}
    others = []
    for one in told:
        try:
            net = ipaddress.ip_network(str(one), strict=False)
            nets[net.version].append(net)
        except ValueError:
            others.append(one)
    fewer = [str(net) for own in nets.values() for net in ipaddress.collapse_addresses(own)]
    return [*fewer, *others] if len(fewer) + len(others) < len(told) else list(told)


def _collapsed_sets(
    told: Sequence[Any], block: Callable[[Any], Mapping[str, Any]], wrap: str = ""
) -> list[Any]:
    plain, others = [], []
    for one in told:
        part = block(one) if isinstance(one, Mapping) else {}
        if isinstance(part.get("except"), list) and part["except"]:
            fewer = {**part, "except": _collapsed(part["except"])}
            others.append({wrap: fewer} if wrap else fewer)
        elif part.get("cidr") and not set(part) - {"cidr", "except"}:
            plain.append(part["cidr"])
        else:
            others.append(one)
    fewer_plain = _collapsed(plain)
    if len(fewer_plain) == len(plain) and others == [one for one in told if one in others]:
        return list(told)
    blocks = [{"cidr": cidr} for cidr in fewer_plain]
    return [*([{wrap: one} for one in blocks] if wrap else blocks), *others]


def removals(spec: Spec) -> Iterator[Rewrite]:
    """Leave out one rule, one of its peers, or one of its ports: another rule may cover it."""
    # From the end on: what is left keeps its place
    for direction, n, _ in reversed(list(rules_of(spec))):
        made = deepcopy(dict(spec))
        del made[direction][n]
        yield f"{direction}[{n}]", "leave out the rule: others cover it", made
    for direction, n, rule in rules_of(spec):
        word = _word(direction)
        for key in (*(f"{word}{name}" for name in _PEERS), word):
            told = rule.get(key)
            if isinstance(told, list) and len(told) > 1:
                for m in range(len(told)):
                    left = [one for k, one in enumerate(told) if k != m]
                    text = f"leave out {key}[{m}]: others cover it"
                    yield f"{direction}[{n}]", text, _changed(spec, direction, n, **{key: left})
    yield from _fewer_ports(spec)


def _fewer_ports(spec: Spec) -> Iterator[Rewrite]:
    for direction, n, rule in rules_of(spec):
        lists = rule.get("toPorts") or []
        for m, one in enumerate(lists):
            ports = one.get("ports") or []
            for k in range(len(ports) if len(ports) > 1 else 0):
                left = deepcopy(lists)
                del left[m]["ports"][k]
                text = f"leave out toPorts[{m}].ports[{k}]: others cover it"
                yield f"{direction}[{n}]", text, _changed(spec, direction, n, toPorts=left)
        told = rule.get("ports") or []
        for k in range(len(told) if len(told) > 1 else 0):
            left = [port for at, port in enumerate(told) if at != k]
            text = f"leave out ports[{k}]: others cover it"
            yield f"{direction}[{n}]", text, _changed(spec, direction, n, ports=left)


def denied_excepts(spec: Spec) -> Iterator[Rewrite]:
    """Write what a CIDR excepts as a denial: an entry each, and not all prefixes that remain."""
    for direction, n, rule in rules_of(spec):
        key = f"{_word(direction)}CIDRSet"
        told = rule.get(key)
        if direction.endswith("Deny") or not isinstance(told, list):
            continue
        holes = [hole for one in told for hole in one.get("except") or []]
        if not holes or rule.get("authentication"):
            continue
        plain = [{k: v for k, v in one.items() if k != "except"} for one in told]
        made = _changed(spec, direction, n, **{key: plain})
        denial: dict[str, Any] = {key: [{"cidr": hole} for hole in dict.fromkeys(holes)]}
        if rule.get("toPorts"):
            denial["toPorts"] = [
                {"ports": one["ports"]} for one in rule["toPorts"] if one.get("ports")
            ]  # noqa: E501
        made[f"{direction}Deny"] = [*(made.get(f"{direction}Deny") or []), denial]
        text = f"deny what is excepted ({len(holes)} CIDRs); no rule to come can allow it then"
        yield f"{direction}[{n}]", text, made


def everyone(spec: Spec, *, is_kubernetes: bool) -> Iterator[Rewrite]:
    """Select everyone where a rule selects by labels or entities: one entry a port."""
    for direction, n, rule in rules_of(spec):
        word = _word(direction)
        if direction.endswith("Deny"):
            continue
        if is_kubernetes:
            if any("ipBlock" not in peer for peer in rule.get(word) or []):
                made = _changed(spec, direction, n, **{word: None})
                yield f"{direction}[{n}]", f"leave out {word}: anyone, not pods by label", made
            continue
        keys = [f"{word}{name}" for name in _SELECTORS if rule.get(f"{word}{name}")]
        if keys and rule.get(f"{word}Entities") != ["all"]:
            parts: dict[str, Any] = dict.fromkeys(f"{word}{name}" for name in _PEERS)
            made = _changed(spec, direction, n, **{**parts, f"{word}Entities": ["all"]})
            told = list(rule.get(f"{word}Entities") or [])
            what = f"entities {', '.join(map(str, told))}" if told else "pods by label"
            yield f"{direction}[{n}]", f"{word}Entities: [all] instead of {what}", made


def wider_ranges(spec: Spec) -> Iterator[Rewrite]:
    """Widen a range to the next bounds at which it takes half the prefixes or fewer."""
    for direction, n, rule in rules_of(spec):
        for key in ("toPorts", "ports"):
            told = rule.get(key)
            for m, k in _places_of_ports(told, key):
                left: list[Any] = deepcopy(told or [])
                port = left[m]["ports"][k] if key == "toPorts" else left[k]
                span = _span(port)
                wide = _widened(*span) if span else None
                if span is None or wide is None:
                    continue
                before, after = len(masked_ports(*span)), len(masked_ports(*wide))
                text = f"ports {wide[0]}-{wide[1]} instead of {span[0]}-{span[1]}"
                port |= {"port": type(port["port"])(wide[0]), "endPort": wide[1]}
                made = _changed(spec, direction, n, **{key: left})
                yield f"{direction}[{n}]", f"{text}: {after} prefixes, not {before}", made


def _places_of_ports(told: Any, key: str) -> Iterator[tuple[int, int]]:
    if key == "ports":
        yield from ((0, k) for k in range(len(told or [])))
        return
    for m, one in enumerate(told or []):
        yield from ((m, k) for k in range(len(one.get("ports") or [])))


def _widened(first: int, last: int) -> tuple[int, int] | None:
    """Give the narrowest aligned range around another one of at most half its prefixes.

    Examples
    --------
    >>> _widened(1, 65535), _widened(8000, 9000), _widened(80, 80)
    ((0, 65535), (7936, 9215), None)
    """
    most = len(masked_ports(first, last)) // 2
    for step in (1 << n for n in range(17)) if most else ():
        low, high = first // step * step, last // step * step + step - 1
        if len(masked_ports(low, high)) <= most:
            return low, high
    return None
