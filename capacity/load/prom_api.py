"""Metrics through the Prometheus HTTP API: query_range in chunks, of any server that speaks it."""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import httpx
import orjson

from capacity.errors import ExportError, SettingsError
from capacity.export import Metrics
from capacity.load import prom_json
from capacity.load.documents import collector_paused
from capacity.load.gather import Selection, Source
from capacity.load.prom_server import LONG_QUESTION, WAITS, RefusedError, Server, ask, connected

FORMAT: Final = "prometheus-api"
# Families of Cilium's components (cilium/cilium pkg/metrics, operator/metrics, pkg/hubble/metrics,
# clustermesh-apiserver; Envoy has its own names), and what drivers are counted by
DEFAULT_METRICS: Final = (
    "cilium_.+",
    "hubble_.+",
    "envoy_.+",
    "container_memory_working_set_bytes",
    "kube_(node|pod|service)_info",
)
# Not asked for unless named: a series for each pair of nodes (cilium/cilium pkg/metrics,
# NodeConnectivityStatus and …Latency), and histogram buckets, most of all series
_LEFT_OUT: Final = re.compile(r"cilium_node_connectivity_.+|.+_bucket")
# prometheus/prometheus web/api/v1/api.go queryRange: "exceeded maximum resolution of 11,000 points
# per timeseries" if (end - start) / step > 11000
MOST_POINTS: Final = 11_000
# Points a series that the default step gives [1], and what it is a multiple of. [s]
_ENOUGH_POINTS: Final = 2_000
_STEP_UNIT: Final = 15
_DEFAULT_RANGE: Final = 30 * 86_400
# Samples of one request: about 2 MB of JSON. While one is parsed the server works on the next
_REQUEST_SAMPLES: Final = 100_000
# prometheus/prometheus cmd/prometheus/main.go, default of --query.max-samples
MANY_SAMPLES: Final = 50_000_000
_THREADS: Final = 4
_PLAIN_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)

Progress = Callable[[int, int], None]


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


def read(url: str, selection: Selection, step: float | None = None) -> Metrics:
    """Read what is selected from the server at a URL, see `fetch`."""
    return fetch(
        url,
        metrics=selection.metrics,
        start=selection.start,
        end=selection.end,
        step=step,
        cluster=selection.cluster,
    )


def fetch(
    url: str,
    *,
    metrics: Sequence[str] | None = None,
    matchers: str = "",
    start: int | None = None,
    end: int | None = None,
    step: float | None = None,
    cluster: str = "default",
    headers: Mapping[str, str] | None = None,
    client: httpx.Client | None = None,
    chunk_points: int = MOST_POINTS,
    waits: Sequence[float] = WAITS,
    progress: Progress | None = None,
) -> Metrics:
    """Read metrics through the HTTP API.

    Parameters
    ----------
    url
        Base of the API, e.g. ``https://prometheus.example:9090``, with the path prefix of Thanos,
        Mimir or a proxy where there is one. A query string is sent along.
    metrics
        Names or regular expressions; where left out DEFAULT_METRICS without histogram buckets and
        node connectivity, which has a series for each pair of nodes.
    matchers
        Further label matchers of every query, e.g. ``cluster="prod",replica="a"``.
    start, end
        First and last time; the last 30 days where left out. [ms]
    step
        Resolution [s]; where left out the least multiple of 15 s that gives no more than 2,000
        points a series. Times that are left out are multiples of the step too.
    cluster
        Name of series without a label cluster.
    headers, client
        Further headers; a client of one's own, which then is not closed.
    chunk_points
        Most points a series of one request, at most 11,000, where Prometheus refuses.
    waits
        Pauses before attempts are repeated, after HTTP 429, 5xx, or a lost connection. [s]
    progress
        Called with the requests done and all requests.

    Returns
    -------
    Metrics
        The last sample within each step, at the end of the step: nothing is repeated into the 5
        minutes after a target vanished, as a plain query would do.

    Raises
    ------
    ExportError
        If the server does not answer, refuses, or is none; names the URL without secrets.

    Warns
    -----
    UserWarning
        If more than 50 million samples are to be expected.
    """
    if not 1 <= chunk_points <= MOST_POINTS:
        raise SettingsError(f"chunk_points: {chunk_points} is not within 1 … {MOST_POINTS}")
    span = _range(start, end, step, time.time())
    with connected(url, headers, client, waits) as server:
        names = _names(server, DEFAULT_METRICS if metrics is None else metrics, matchers, span)
        if metrics is None:
            names = [name for name in names if not _LEFT_OUT.fullmatch(name)]
        counts = _series_counts(server, names, matchers, span)
        expected = sum(counts.values()) * span.points
        if expected > MANY_SAMPLES:
            warnings.warn(
                f"{server.name}: about {expected:,} samples are to be expected; a longer step, a "
                "shorter range or fewer metrics need less memory",
                stacklevel=2,
            )
        window = _window(server, span.step)
        queries = {
            name: f"last_over_time({_selector([name], matchers)}[{window}ms])" for name in names
        }
        requests = [
            (queries[name], name, chunk)
            for name in names
            for chunk in chunks(span, min(chunk_points, _REQUEST_SAMPLES // counts.get(name, 1)))
        ]
        with collector_paused():
            answers = _all(server, requests, progress)
        source = Source(server.name, FORMAT)
        wanted = Selection(None, start, end, cluster)
        return prom_json.joined([(0, answer) for answer in answers], [source], wanted)


def chunks(span: Range, points: int) -> Iterator[Range]:
    """Split a range; each point is in one part, for both ends of a range are asked.

    >>> list(chunks(Range(0, 50, 10), 4))
    [Range(start=0, end=30, step=10), Range(start=40, end=50, step=10)]
    """
    width = max(1, points) * span.step
    last = span.start + (span.points - 1) * span.step
    for start in range(span.start, last + 1, width):
        yield Range(start, min(start + width - span.step, last), span.step)


def default_step(seconds: float) -> int:
    """Resolution [s] that gives no more than 2,000 points, a multiple of 15 s.

    >>> default_step(3600), default_step(30 * 86400)
    (15, 1305)
    """
    return _STEP_UNIT * max(1, math.ceil(seconds / (_ENOUGH_POINTS - 1) / _STEP_UNIT))


def _range(start: int | None, end: int | None, step: float | None, now: float) -> Range:
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


def _selector(names: Sequence[str], matchers: str) -> str:
    """Give a selector of metric names or regular expressions, with further matchers."""
    if len(names) == 1 and _PLAIN_NAME.fullmatch(names[0]):
        name = f'__name__="{names[0]}"'
    else:
        pattern = orjson.dumps("|".join(f"(?:{name})" for name in names)).decode()
        name = f"__name__=~{pattern}"
    return f"{{{name}{',' if matchers else ''}{matchers}}}"


def _names(server: Server, metrics: Sequence[str], matchers: str, span: Range) -> list[str]:
    """Give the metrics that the server has in the range; those asked for where it cannot tell."""
    found: dict[str, None] = {}
    try:
        for group in _groups(metrics):
            question = {"match[]": _selector(group, matchers), **_times(span)}
            answer = ask(server, "label/__name__/values", question)
            found |= dict.fromkeys(str(name) for name in answer.get("data") or ())
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
    yield group


def _series_counts(
    server: Server, names: Sequence[str], matchers: str, span: Range
) -> dict[str, int]:
    """Give the most series of each metric at the start, middle and end; nothing if not told."""
    counts: dict[str, int] = {}
    try:
        for moment in {span.start, (span.start + span.end) // 2, span.end}:
            for group in _groups(names):
                query = f"count by (__name__) ({_selector(group, matchers)})"
                question = {"query": query, "time": f"{moment / 1000:.3f}"}
                answer = prom_json.answer_of(ask(server, "query", question), server.name)
                values = answer.points["value"]
                for labels, value in zip(answer.labels, values, strict=False):
                    name = labels.get("__name__", "")
                    counts[name] = max(counts.get(name, 1), int(value))
    except (RefusedError, ExportError, ValueError):
        # Only an estimate: the questions themselves tell what is wrong
        return counts
    return counts


def _window(server: Server, step: int) -> int:
    """Give the range [ms] behind each point in which the last sample is looked for.

    Ranges of Prometheus 3 leave out their start, those of Prometheus 2 hold it: there a window as
    long as the step would tell a sample on the edge twice. Two points a second apart tell which.
    """
    question = {"query": "count_over_time(vector(1)[1s:1s])", "time": "1000000000"}
    try:
        answer = prom_json.answer_of(ask(server, "query", question), server.name)
    except (RefusedError, ExportError):
        return step
    holds_both = answer.points["value"].to_list() == [2.0]
    return max(1, step - 1) if holds_both else step


def _times(span: Range) -> dict[str, str]:
    return {"start": f"{span.start / 1000:.3f}", "end": f"{span.end / 1000:.3f}"}


def _all(
    server: Server, requests: Sequence[tuple[str, str, Range]], progress: Progress | None
) -> list[prom_json.Answer]:
    """Ask everything, a few questions at a time; the first failure ends all."""
    answers = []
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for answer in pool.map(lambda one: _asked(server, *one), requests):
            answers.append(answer)
            if progress is not None:
                progress(len(answers), len(requests))
    finally:
        server.stopped.set()
        pool.shutdown(cancel_futures=True)
    return answers


def _asked(server: Server, query: str, name: str, span: Range) -> prom_json.Answer:
    question = {"query": query, **_times(span), "step": f"{span.step / 1000:.3f}"}
    try:
        told = ask(server, "query_range", question)
    except RefusedError as error:
        if error.status in (404, 405):
            raise ExportError(
                f"{server.name}: HTTP {error.status}, no Prometheus API there; give the base URL, "
                "below which /api/v1/query_range answers"
            ) from None
        raise ExportError(
            f"{server.name}: HTTP {error.status}, Prometheus says: {error.text} (query {query}); "
            "ask for a longer step, a shorter range or fewer metrics"
        ) from None
    answer = prom_json.answer_of(told, server.name)
    if _PLAIN_NAME.fullmatch(name):
        # Some servers drop the name of what a function was applied to
        labels = tuple({"__name__": name, **labels} for labels in answer.labels)
        return replace(answer, labels=labels)
    return answer
