"""What to ask a Prometheus server: which metrics, how much there is, in which parts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import yaml

from capacity.errors import ExportError, SettingsError
from capacity.facts import derivations
from capacity.load import prom_json
from capacity.load.gather import CLUSTER
from capacity.load.prom_server import LONG_QUESTION, RefusedError, Server, ask

# prometheus/prometheus web/api/v1/api.go queryRange: "exceeded maximum resolution of 11,000 points
# per timeseries" if (end - start) / step > 11000
MOST_POINTS: Final = 11_000
# Points a series that the default step gives [1], and what it is a multiple of. [s]
_ENOUGH_POINTS: Final = 2_000
_STEP_UNIT: Final = 15
_DEFAULT_RANGE: Final = 30 * 86_400
# Window in which samples are counted, to learn how often targets are scraped. [s]
_COUNTED: Final = 600
# Metrics whose samples are counted, those of most series
_COUNTED_METRICS: Final = 3
PLAIN_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
# Labels that split a metric's series into many parts of about equal size
_SHARD_LABELS: Final = ("node", "instance", "pod", "k8s_node", "host")
# Suffixes of metrics that only rise: prometheus/OpenMetrics specification, "Suffixes"
_RISING: Final = re.compile(r".+_(?:total|count|sum|bucket)")
# Gauges of memory, of which a quantile over time may be asked
_MEMORY: Final = re.compile(r".*(?:memory|mem|rss|heap|alloc).*_bytes|.*_bytes")


@dataclass(frozen=True, slots=True)
class Range:
    """Times asked for in milliseconds: first, last (both included) and step."""

    start: int
    end: int
    step: int

    @property
    def points(self) -> int:
        """Give how many points a series has at most."""
        return (self.end - self.start) // self.step + 1


@dataclass(frozen=True, slots=True)
class Load:
    """What is there: series of each metric, and samples a series and second (0: not known)."""

    series: Mapping[str, int]
    rate: float


def chunks(span: Range, points: int, within: int | None = None) -> Iterator[Range]:
    """Split a range; each point is in one part, for both ends of a range are asked.

    Parameters
    ----------
    points
        Most points of a part.
    within
        Parts end before the multiples of it. [ms]

    >>> list(chunks(Range(0, 50, 10), 4))
    [Range(start=0, end=30, step=10), Range(start=40, end=50, step=10)]
    >>> [part.start for part in chunks(Range(10, 90, 10), 4, within=30)]
    [10, 30, 60, 90]
    """
    left, start = span.points, span.start
    while left:
        many = min(left, max(1, points))
        if within is not None:
            many = min(many, (within - 1 - start % within) // span.step + 1)
        yield Range(start, start + (many - 1) * span.step, span.step)
        left, start = left - many, start + many * span.step


def default_step(seconds: float) -> int:
    """Resolution [s] that gives no more than 2,000 points, a multiple of 15 s.

    >>> default_step(3600), default_step(30 * 86400)
    (15, 1305)
    """
    return _STEP_UNIT * max(1, math.ceil(seconds / (_ENOUGH_POINTS - 1) / _STEP_UNIT))


def coarser_step(seconds: float, series: int, most_samples: int) -> int:
    """Resolution [s] that gives no more than so many samples of all series, a multiple of 15 s.

    >>> coarser_step(30 * 86400, 500_000, 20_000_000)
    66465
    """
    points = max(1, most_samples // max(1, series))
    return _STEP_UNIT * math.ceil(seconds / max(1, points - 1) / _STEP_UNIT)


def span_of(start: int | None, end: int | None, step: float | None, now: float) -> Range:
    """Give the times [ms] to ask for, where none are given the last 30 days; step and now in s.

    Raises
    ------
    SettingsError
        If the times are the wrong way round, or the step is too short.
    """
    last = round(now * 1000) if end is None else end
    first = last - _DEFAULT_RANGE * 1000 if start is None else start
    if first > last:
        raise SettingsError(f"start {first} lies after end {last} (ms); swap them")
    width = round(1000 * (default_step((last - first) / 1000) if step is None else step))
    if width < 1:
        raise SettingsError(f"step: {step!r} s is shorter than 1 ms")
    # Times that nobody gave are the same for every call within a step, so that caches help
    last = last if end is not None else last // width * width
    first = first if start is not None else -(-first // width) * width
    return Range(min(first, last), last, width)


def times(span: Range) -> dict[str, str]:
    """Give first and last time as the API wants them."""
    return {"start": f"{span.start / 1000:.3f}", "end": f"{span.end / 1000:.3f}"}


def selector(names: Sequence[str], matchers: str) -> str:
    """Give a selector of metric names or regular expressions, with further matchers.

    >>> selector(["up"], 'node="a"')
    '{__name__="up",node="a"}'
    """
    if len(names) == 1 and PLAIN_NAME.fullmatch(names[0]):
        name = f'__name__="{names[0]}"'
    else:
        name = f"__name__=~{_quoted('|'.join(f'(?:{name})' for name in names))}"
    return f"{{{name}{',' if matchers else ''}{matchers}}}"


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def metric_names(server: Server, metrics: Sequence[str], matchers: str, span: Range) -> list[str]:
    """Give the metrics that the server has in the range; those asked for where it cannot tell."""
    found: dict[str, None] = {}
    try:
        for group in _groups(metrics):
            question = {"match[]": selector(group, matchers), **times(span)}
            told = ask(server, "label/__name__/values", question)
            found |= dict.fromkeys(str(name) for name in told.get("data") or ())
    except RefusedError as error:
        if error.status in (400, 422):
            raise ExportError(f"{server.name}: Prometheus says: {error.text}") from None
        return list(dict.fromkeys(metrics))
    return sorted(found)


def _groups(metrics: Sequence[str]) -> Iterator[list[str]]:
    """Split names so that a question stays short enough for a URL."""
    group: list[str] = []
    for name in metrics:
        if group and sum(map(len, group)) + len(name) > LONG_QUESTION // 4:
            yield group
            group = []
        group.append(name)
    if group:
        yield group


def expected_load(server: Server, names: Sequence[str], matchers: str, span: Range) -> Load:
    """Give the most series of each metric at the start, middle and end, and how often they come.

    Nothing where the server does not tell: it is only an estimate, the questions themselves tell
    what is wrong.
    """
    counts: dict[str, int] = {}
    rate = 0.0
    try:
        for moment in sorted({span.start, (span.start + span.end) // 2, span.end}):
            now: dict[str, int] = {}
            for group in _groups(names):
                chosen = selector(group, matchers)
                for labels, value in _values(server, f"count by (__name__) ({chosen})", moment):
                    if 1 <= value < math.inf:
                        now[labels.get("__name__", "")] = int(value)
            for name, many in now.items():
                counts[name] = max(counts.get(name, 1), many)
            # One by one: without their names, series of several metrics may be the same
            for name in sorted(now, key=lambda one: -now[one])[:_COUNTED_METRICS]:
                query = f"sum(count_over_time({selector([name], matchers)}[{_COUNTED}s]))"
                if counted := _values(server, query, moment):
                    rate = max(rate, counted[0][1] / now[name] / _COUNTED)
    except (RefusedError, ExportError, ValueError):
        pass
    return Load(counts, rate)


def lies_on(server: Server, load: Load, matchers: str, span: Range) -> bool:
    """Tell whether most samples lie on the very times that are asked for, as copied ones may.

    Targets are scraped at offsets of their own. Judged by the metric of most series.
    """
    name = max(load.series, key=lambda one: load.series[one], default=None)
    if name is None:
        return False
    middle = span.start + span.points // 2 * span.step
    age = f"(round(timestamp({selector([name], matchers)}) * 1000) - {span.start}) % {span.step}"
    try:
        told = _values(server, f"count({age} == 0)", middle)
    except (RefusedError, ExportError):
        return False
    return bool(told) and 2 * told[0][1] > load.series[name]


def of_cluster(
    server: Server, names: Sequence[str], matchers: str, span: Range, cluster: str
) -> str:
    """Give matchers of one cluster's series; the same ones where that might leave out some of it.

    Series without a label belong to the only cluster that Cilium's metrics name, and where other
    labels may name clusters, which of them counts is told when all is read (observe/names.py).
    """
    named: set[str] = set()
    try:
        for group in _groups([name for name in names if name.startswith("cilium_")]):
            question = {"match[]": selector(group, matchers), **times(span)}
            told = ask(server, "label/cluster/values", question).get("data")
            named |= {str(value) for value in told or ()}
        has_others = bool(
            set(derivations.labels("cluster")) & label_names(server, names, matchers, span)
        )
    except (RefusedError, ExportError):
        return matchers
    if cluster == CLUSTER or has_others or cluster not in named or len(named - {""}) == 1:
        return matchers
    return f"{matchers}{',' if matchers else ''}cluster={_quoted(cluster)}"


def _values(server: Server, query: str, moment: int) -> list[tuple[Mapping[str, str], float]]:
    question = {"query": query, "time": f"{moment / 1000:.3f}"}
    told = prom_json.answer_of(ask(server, "query", question), server.name)
    return list(zip(told.labels, told.values.tolist(), strict=False))


def window(server: Server, step: int) -> int:
    """Give the range [ms] behind each point in which the last sample is looked for.

    Ranges of Prometheus 3 leave out their start, those of Prometheus 2 hold it: there a window as
    long as the step would tell a sample on the edge twice. Two points a second apart tell which.
    """
    try:
        told = _values(server, "count_over_time(vector(1)[1s:1s])", 1_000_000_000_000)
    except (RefusedError, ExportError):
        return step
    holds_both = [value for _, value in told] == [2.0]
    return max(1, step - 1) if holds_both else step


def rising(server: Server, names: Sequence[str]) -> set[str]:
    """Give the metrics that are counters, by the server's metadata or else by their names."""
    types: dict[str, str] = {}
    try:
        told = ask(server, "metadata", {}).get("data")
        for name, entries in (told if isinstance(told, dict) else {}).items():
            if isinstance(entries, list) and entries and isinstance(entries[0], dict):
                types[name] = str(entries[0].get("type"))
    except (RefusedError, ExportError):
        pass
    is_known = ("counter", "gauge")
    return {
        name
        for name in names
        if types.get(name) == "counter"
        or (types.get(name) not in is_known and _RISING.fullmatch(name))
    }


def is_memory(name: str) -> bool:
    """Tell whether a quantile over time means something for a gauge: bytes.

    >>> is_memory("process_resident_memory_bytes"), is_memory("cilium_bpf_map_pressure")
    (True, False)
    """
    return _MEMORY.fullmatch(name) is not None


def shards(
    server: Server, name: str, matchers: str, span: Range, series: int, most: int
) -> list[str]:
    """Give matchers that split a metric's series into parts of at most about `most` each.

    The label with the most values splits them; one part is of the series without it.
    """
    if series <= most:
        return [matchers]
    chosen = selector([name], matchers)
    label, values = "", list[str]()
    for candidate in _SHARD_LABELS:
        try:
            told = ask(server, f"label/{candidate}/values", {"match[]": chosen, **times(span)}).get(
                "data"
            )
        except (RefusedError, ExportError):
            return [matchers]
        if isinstance(told, list) and len(told) > len(values):
            label, values = candidate, [str(value) for value in told]
    many = min(len(values), math.ceil(series / most))
    if many < 2:
        return [matchers]
    size = math.ceil(len(values) / many)
    before = f"{matchers}," if matchers else ""
    groups = [values[i : i + size] for i in range(0, len(values), size)]
    patterns = ["|".join(_escaped(value) for value in group if value) for group in groups]
    parts = [f"{before}{label}=~{_quoted(pattern)}" for pattern in patterns if pattern]
    return [*parts, f'{before}{label}=""']


def _escaped(value: str) -> str:
    """Escape a value for Go's regular expressions, which know no escapes but of punctuation."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", value)


def external_labels(server: Server) -> Mapping[str, str] | None:
    """Give the labels that a server adds to remote read only; None if it does not tell."""
    try:
        told: Any = ask(server, "status/config", {}).get("data")
        config = yaml.safe_load(str(told["yaml"]))
        labels = (config.get("global") or {}).get("external_labels") or {}
        return {str(name): str(value) for name, value in labels.items()}
    except (RefusedError, ExportError, yaml.YAMLError, TypeError, KeyError, AttributeError):
        return None


def own_cluster(server: Server) -> str:
    """Give the cluster that a server's external labels name; empty where none does."""
    labels = external_labels(server) or {}
    names = ("cluster", *derivations.labels("cluster"))
    return next((labels[name] for name in names if labels.get(name)), "")


def label_names(server: Server, names: Sequence[str], matchers: str, span: Range) -> frozenset[str]:
    """Give the labels that the series of metrics really have.

    Raises
    ------
    RefusedError, ExportError
        If the server does not tell.
    """
    found: set[str] = set()
    for group in _groups(names):
        question = {"match[]": selector(group, matchers), **times(span)}
        found |= {str(name) for name in ask(server, "labels", question).get("data") or ()}
    return frozenset(found)
