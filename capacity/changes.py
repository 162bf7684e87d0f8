"""What changed between two outcomes of a cluster, and why: the weekly diff."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from capacity.telling import amount, resource

# Changes of node counts that are no news: the fit moves a little with each new sample
_NEWS: Final = 0.02
_NEVER: Final = "not in sight"
Outcome = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was: what, how it was, how it is, and why."""

    what: str
    was: str
    now: str
    why: str


def changes(before: Outcome | None, after: Outcome | None) -> list[Change]:
    """Give what changed from one outcome to the next, most telling first.

    Parameters
    ----------
    before, after
        As of `capacity.outcome.outcome`; None gives no changes.

    Examples
    --------
    >>> one = {"verdict": "fits", "findings": [], "settings": {"horizon": "90d"}}
    >>> two = {"verdict": "short", "findings": [], "settings": {"horizon": "1y"}}
    >>> [(c.what, c.was, c.now) for c in changes(one, two)]
    [('verdict', 'fits', 'short'), ('setting horizon', '90d', '1y')]
    """
    if before is None or after is None:
        return []
    return [
        *_verdict(before, after),
        *_resources(before, after),
        *_advice(before, after),
        *_settings(before, after),
        *_versions(before, after),
        *_warnings(before, after),
    ]


def _common_cause(before: Outcome, after: Outcome) -> str:
    """Say what moved everything: settings, versions, or the data alone."""
    changed = [c.what.removeprefix("setting ") for c in _settings(before, after)]
    if changed:
        return f"settings changed: {', '.join(changed)}"
    newer = [c.what for c in _versions(before, after)]
    return f"changed: {', '.join(newer)}" if newer else "newer data"


def _verdict(before: Outcome, after: Outcome) -> Iterator[Change]:
    cause = _common_cause(before, after)
    if before.get("verdict") != after.get("verdict"):
        yield Change("verdict", str(before.get("verdict")), str(after.get("verdict")), cause)
    firsts = [(o.get("first_limit") or {}).get("resource", "nothing") for o in (before, after)]
    if firsts[0] != firsts[1]:
        yield Change("first to run out", firsts[0], firsts[1], cause)


def _resources(before: Outcome, after: Outcome) -> Iterator[Change]:
    old, new = (
        {resource(row): row for row in outcome.get("findings", ())} for outcome in (before, after)
    )
    for name, row in new.items():
        if name not in old:
            yield Change(name, "not planned", _end(row), "it is in the data now")
        elif _is_news(old[name], row):
            yield Change(name, _end(old[name]), _end(row), _why(old[name], row, before, after))
    for name, row in old.items():
        if name not in new:
            yield Change(name, _end(row), "not planned", "it is no longer in the data")


def _end(row: Mapping[str, Any]) -> str:
    """Say when a resource runs out: node count, date, status."""
    if row.get("nodes_early") is None:
        return _NEVER if row.get("status") == "ok" else str(row.get("status"))
    date = str(row["date_early"])[:10] if row.get("date_early") else None
    where = f"{row['nodes_early']:,} nodes" + (f" from {date}" if date else "")
    return f"{where} ({row.get('status')})"


def _is_news(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if old.get("status") != new.get("status") or old.get("limit") != new.get("limit"):
        return True
    return _moved(old.get("nodes_early"), new.get("nodes_early"))


def _moved(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old != new
    return abs(new - old) > _NEWS * max(old, 1)


def _why(old: Mapping[str, Any], new: Mapping[str, Any], before: Outcome, after: Outcome) -> str:
    unit = str(new.get("unit"))
    reasons = []
    if old.get("limit") != new.get("limit"):
        reasons.append(f"limit {amount(old.get('limit'), unit)} to {amount(new['limit'], unit)}")
    uses = [row.get("current") for row in (old, new)]
    if _moved(*uses):
        reasons.append(f"use {amount(uses[0], unit)} to {amount(uses[1], unit)}")
    return "; ".join(reasons) or _common_cause(before, after)


def _advice(before: Outcome, after: Outcome) -> Iterator[Change]:
    told = [
        {
            (str(row["setting"]), row.get("subject")): (row.get("target"), str(row["unit"]))
            for row in outcome.get("recommendations", ())
            if row["status"] in ("raise", "set", "redesign") and row.get("setting")
        }
        for outcome in (before, after)
    ]
    for key in sorted({*told[0], *told[1]}, key=str):
        old, new = told[0].get(key), told[1].get(key)
        if old != new:
            was, now = ("nothing to set" if t is None else amount(*t) for t in (old, new))
            yield Change(f"advice {key[0]}", was, now, _common_cause(before, after))


def _settings(before: Outcome, after: Outcome) -> Iterator[Change]:
    old, new = before.get("settings", {}), after.get("settings", {})
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield Change(
                f"setting {name}", _text(old.get(name)), _text(new.get(name)), "it was changed"
            )


def _versions(before: Outcome, after: Outcome) -> Iterator[Change]:
    old, new = before.get("versions", {}), after.get("versions", {})
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield Change(
                f"version of {name}", _text(old.get(name)), _text(new.get(name)), "another version"
            )


def _warnings(before: Outcome, after: Outcome) -> Iterator[Change]:
    old, new = before.get("warnings", ()), after.get("warnings", ())
    for text in new:
        if text not in old:
            yield Change("warning", "–", text, "it is new")
    for text in old:
        if text not in new:
            yield Change("warning", text, "–", "it no longer holds")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)
