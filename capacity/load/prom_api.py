"""Metrics through the Prometheus HTTP API, of any server that speaks it: query_range in time chunks
and shards of series, or remote read where the server has it and it is the cheaper way.
"""  # noqa: D205

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

from capacity.errors import ExportError, SettingsError
from capacity.export import Metrics
from capacity.load import prom_json
from capacity.load.documents import collector_paused
from capacity.load.gather import Selection, Source
from capacity.load.prom_questions import (
    MOST_POINTS,
    PLAIN_NAME,
    Load,
    Range,
    chunks,
    coarser_step,
    default_step,
    expected_load,
    external_labels,
    is_memory,
    label_names,
    metric_names,
    of_cluster,
    rising,
    selector,
    shards,
    span_of,
    times,
    window,
)  # fmt: skip
from capacity.load.prom_server import WAITS, RefusedError, Server, answer, connected

__all__ = ["DEFAULT_METRICS", "FORMAT", "MOST_POINTS", "Range", "chunks", "default_step", "fetch"]

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
_PAIRS: Final = ("cilium_node_connectivity_",)
_BUCKETS: Final = "_bucket"
# Samples of one request: about 1 MB of JSON. While one is parsed the server works on the next.
# Longer ones cost Prometheus 2 more where samples lie on the very times asked for
_REQUEST_SAMPLES: Final = 50_000
# Series of one request: each point of one takes a look at each series' chunks again
_REQUEST_SERIES: Final = 10_000
# Stored samples of one request of remote read: about 1 s, which is lost if the connection breaks,
# and the shortest time of one, as whole chunks of 120 samples come (tsdb/head_append.go, v3.14)
_REMOTE_SAMPLES: Final = 4_000_000
_REMOTE_SCRAPES: Final = 2_000
# Remote read sends every stored sample, query_range one a step: a stored sample costs server and
# client about a third of one in JSON (benchmarks/test_api.py)
_REMOTE_GAIN: Final = 3.0
# Samples above which the server is asked for aggregates: 20 bytes each as a frame, 400 MB, and 5 s
MOST_SAMPLES: Final = 20_000_000
# prometheus/prometheus cmd/prometheus/main.go, default of --query.max-samples
MANY_SAMPLES: Final = 50_000_000
WORKERS: Final = 4
_MOST_TOLD: Final = 20

Progress = Callable[[int, int], None]
Aggregate = Literal["auto", "none", "max"]
Job = Callable[[], list[prom_json.Answer]]


@dataclass(frozen=True, slots=True)
class _Asking:
    """What is asked of a server, and how: a metric's function is that of `functions`, or last."""

    server: Server
    names: Sequence[str]
    matchers: str
    span: Range
    load: Load
    functions: Mapping[str, str]
    window: int
    chunk_points: int


def read(url: str, selection: Selection, step: float | None = None) -> Metrics:
    """Read what is selected from the server at a URL, see `fetch`."""
    return fetch(
        url,
        metrics=selection.metrics,
        start=selection.start,
        end=selection.end,
        step=step,
        cluster=selection.cluster,
        only_cluster=selection.only,
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
    only_cluster: str | None = None,
    headers: Mapping[str, str] | None = None,
    aggregate: Aggregate = "auto",
    quantile: float | None = None,
    most_samples: int = MOST_SAMPLES,
    remote_read: bool | None = None,
    chunk_points: int = MOST_POINTS,
    workers: int = WORKERS,
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
        points a series, and no more than `most_samples` in all unless `aggregate` is ``"none"``.
        Times that are left out are multiples of the step too.
    cluster
        Name of series without a label cluster.
    only_cluster
        The only cluster that is needed, where the label ``cluster`` tells several apart.
    headers
        Further headers.
    aggregate
        What a point of a gauge is. ``"none"``: the last sample within the step. ``"max"``: the
        largest, so that no peak is lost. ``"auto"``: the largest if more than `most_samples` are to
        be expected. Counters always give their last sample. What was aggregated is told in the
        column reason of table sources.
    quantile
        Of gauges in bytes this quantile over each step, 0 to 1, instead of the largest.
    most_samples
        Samples that are not too many.
    remote_read
        Whether to read stored samples by remote read; chosen by what is cheaper where left out.
    chunk_points
        Most points a series of one request, at most 11,000, where Prometheus refuses.
    workers
        Requests at a time.
    waits
        Pauses before attempts are repeated, after HTTP 429, 5xx, or a lost connection. [s]
    progress
        Called with the requests done and all requests.

    Returns
    -------
    Metrics
        One sample a step, at the end of the step: nothing is repeated into the 5 minutes after a
        target vanished, as a plain query would do. Both ways of reading give the same.

    Raises
    ------
    ExportError
        If the server does not answer, refuses, or is none; names the URL without secrets.
    SettingsError
        If an argument cannot be used.

    Warns
    -----
    UserWarning
        If more than 50 million samples are to be expected.
    """
    _check(chunk_points, workers, aggregate, quantile)
    now = time.time()
    span = span_of(start, end, step, now)
    with connected(url, headers, waits) as server:
        asked = DEFAULT_METRICS if metrics is None else metrics
        names = metric_names(server, asked, matchers, span)
        if metrics is None:
            names = [name for name in names if not _is_left_out(name)]
        if only_cluster is not None:
            matchers = of_cluster(server, names, matchers, span, only_cluster)
        load = expected_load(server, names, matchers, span)
        many = sum(load.series.values()) * span.points
        is_many = aggregate == "auto" and many > most_samples
        if is_many and step is None:
            seconds = (span.end - span.start) / 1000
            least = coarser_step(seconds, sum(load.series.values()), most_samples)
            span = span_of(start, end, max(least, span.step / 1000), now)
        functions = {}
        if is_many or aggregate == "max" or (quantile is not None and aggregate != "none"):
            functions = _functions(server, names, quantile, is_all=is_many or aggregate == "max")
        _warn(server, load, span)
        asking = _Asking(
            server, names, matchers, span, load, functions, window(server, span.step), chunk_points
        )
        source = Source(server.name, FORMAT)
        source.notes += _aggregates(asking)
        jobs = _jobs(asking, source, remote_read=remote_read)
        with collector_paused():
            answers = _all(server, jobs, workers, progress)
        wanted = Selection(None, start, end, cluster)
        pairs = [(0, one) for one in answers]
        return prom_json.joined(pairs, [source], wanted, is_joined=True)


def _check(chunk_points: int, workers: int, aggregate: str, quantile: float | None) -> None:
    if not 1 <= chunk_points <= MOST_POINTS:
        raise SettingsError(f"chunk_points: {chunk_points} is not within 1 … {MOST_POINTS}")
    if workers < 1:
        raise SettingsError(f"workers: {workers} is fewer than 1")
    if aggregate not in ("auto", "none", "max"):
        raise SettingsError(f"aggregate: {aggregate!r} is none of auto, none, max")
    if quantile is not None and not 0 <= quantile <= 1:
        raise SettingsError(f"quantile: {quantile} is not within 0 … 1")


def _is_left_out(name: str) -> bool:
    return name.startswith(_PAIRS) or name.endswith(_BUCKETS)


def _warn(server: Server, load: Load, span: Range) -> None:
    expected = sum(load.series.values()) * span.points
    if expected > MANY_SAMPLES:
        warnings.warn(
            f"{server.name}: about {expected:,} samples are to be expected; a longer step, a "
            "shorter range or fewer metrics need less memory",
            stacklevel=3,
        )


def _functions(
    server: Server, names: Sequence[str], quantile: float | None, *, is_all: bool
) -> dict[str, str]:
    """Give the beginning of the call that aggregates each gauge."""
    counters = rising(server, names)
    functions = {}
    for name in names:
        if name in counters:
            continue
        if quantile is not None and is_memory(name):
            functions[name] = f"quantile_over_time({quantile},"
        elif is_all:
            functions[name] = "max_over_time("
    return functions


def _aggregates(asking: _Asking) -> list[str]:
    """Tell what the server aggregates."""
    notes = []
    for function in sorted(set(asking.functions.values())):
        names = [name for name in asking.names if asking.functions.get(name) == function]
        told = ", ".join(names[:_MOST_TOLD])
        more = f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
        notes.append(
            f"aggregated by the server each {asking.span.step / 1000:g} s: "
            f"{function}…[{asking.window}ms]) of {told}{more}; others are their last sample"
        )
    return notes


def _jobs(asking: _Asking, source: Source, *, remote_read: bool | None) -> list[Job]:
    """Give the requests to make: by remote read if it is there and cheaper."""
    if remote_read is not False and not asking.functions and asking.names:
        stored = asking.load.rate * asking.span.step / 1000
        is_cheaper = 0 < stored <= _REMOTE_GAIN
        if is_cheaper or remote_read:
            reason = remote_labels(asking.server, asking.names, asking.matchers, asking.span)
            if isinstance(reason, frozenset):
                step = asking.span.step / 1000
                source.notes.append(f"read by remote read, thinned to {step:g} s")
                return _remote_jobs(asking, reason)
            if remote_read:
                raise ExportError(
                    f"{asking.server.name}: {reason}; leave out remote_read to ask by query_range"
                )
            source.notes.append(f"read by query_range, as there is no remote read ({reason})")
    return list(_query_jobs(asking, asking.names, asking.span))


def remote_labels(
    server: Server, names: Sequence[str], matchers: str, span: Range
) -> frozenset[str] | str:
    """Give the labels that remote read adds to series, or why there is no remote read."""
    # Decoding is compiled, and takes a second to load
    from capacity.load import remote_read

    if remote_read.matchers_of(matchers) is None:
        return "matchers that only query_range understands"
    reason = remote_read.missing(server, span.start)
    if reason is not None:
        return reason
    added = external_labels(server) or frozenset()
    if not added:
        return added
    try:
        own = label_names(server, names, matchers, span)
    except (RefusedError, ExportError):
        return "the server does not tell which labels its series have"
    asked = {name for name, _, _ in remote_read.matchers_of(matchers) or ()}
    if unclear := added & (own | asked):
        return f"external label {min(unclear)} cannot be told from that of series"
    return added


def _query_jobs(asking: _Asking, names: Sequence[str], span: Range) -> Iterator[Job]:
    for name in names:
        series = asking.load.series.get(name, 1)
        parts = shards(asking.server, name, asking.matchers, span, series, _REQUEST_SERIES)
        points = max(1, _REQUEST_SAMPLES * len(parts) // series)
        function = asking.functions.get(name, "last_over_time(")
        for matchers in parts:
            query = f"{function}{selector([name], matchers)}[{asking.window}ms])"
            for chunk in chunks(span, min(asking.chunk_points, points)):
                yield partial(_asked, asking.server, query, name, chunk)


def _asked(server: Server, query: str, name: str, span: Range) -> list[prom_json.Answer]:
    """Ask for a range; in halves if it is too much for the server."""
    question = {"query": query, **times(span), "step": f"{span.step / 1000:.3f}"}
    try:
        told = answer(
            server, "query_range", question, partial(_parsed, server),
            is_divisible=span.points > 1,
        )  # fmt: skip
    except RefusedError as error:
        if error.status in (404, 405):
            raise ExportError(
                f"{server.name}: HTTP {error.status}, no Prometheus API there; give the base URL, "
                "below which /api/v1/query_range answers"
            ) from None
        if error.is_too_much and span.points > 1:
            halves = chunks(span, (span.points + 1) // 2)
            return [one for half in halves for one in _asked(server, query, name, half)]
        raise ExportError(
            f"{server.name}: HTTP {error.status}, Prometheus says: {error.text} (query {query}); "
            "ask for a longer step, a shorter range or fewer metrics"
        ) from None
    if PLAIN_NAME.fullmatch(name):
        # Some servers drop the name of what a function was applied to
        labels = tuple({"__name__": name, **labels} for labels in told.labels)
        return [replace(told, labels=labels)]
    return [told]


def _parsed(server: Server, body: bytes) -> prom_json.Answer:
    return prom_json.parse(body, server.name)


def _remote_jobs(asking: _Asking, hidden_labels: frozenset[str]) -> list[Job]:
    """Group metrics and times to requests of about the same size."""
    stored = asking.load.rate * asking.span.step / 1000 or 1.0
    jobs: list[Job] = []
    group: list[str] = []
    series = 0
    shortest = max(1, round(_REMOTE_SCRAPES / stored))
    for i, name in enumerate(asking.names):
        group.append(name)
        series += asking.load.series.get(name, 1)
        samples_a_point = series * stored
        is_last = i == len(asking.names) - 1
        if is_last or samples_a_point * asking.span.points > _REMOTE_SAMPLES:
            points = max(shortest, int(_REMOTE_SAMPLES / samples_a_point))
            jobs += [
                partial(_remotely, asking, tuple(group), chunk, hidden_labels)
                for chunk in chunks(asking.span, points)
            ]
            group, series = [], 0
    return jobs


def _remotely(
    asking: _Asking, names: Sequence[str], span: Range, hidden_labels: frozenset[str]
) -> list[prom_json.Answer]:
    """Read stored samples; by query_range if the server refuses or keeps them otherwise."""
    from capacity.load import remote_read

    matchers = remote_read.matchers_of(asking.matchers) or []
    is_plain = len(names) == 1 and PLAIN_NAME.fullmatch(names[0])
    pattern = names[0] if is_plain else "|".join(f"(?:{one})" for one in names)
    name = ("__name__", "=" if is_plain else "=~", pattern)
    wanted = remote_read.Wanted(span.start - span.step + 1, span.end, span.start, span.step)
    try:
        return [
            remote_read.read(asking.server, [name, *matchers], wanted, hidden_labels=hidden_labels)
        ]
    except (RefusedError, remote_read.UnsupportedError) as error:
        told = error.text if isinstance(error, RefusedError) else str(error)
        note = f"partly read by query_range, as remote read answers: {told}"
        found = [one for job in _query_jobs(asking, names, span) for one in job()]
        return [replace(one, notes=(*one.notes, note)) for one in found]


def _all(
    server: Server, jobs: Sequence[Job], workers: int, progress: Progress | None
) -> list[prom_json.Answer]:
    """Ask everything, a few questions at a time; the first failure ends all."""
    answers = []
    pool = ThreadPoolExecutor(workers)
    try:
        for done, found in enumerate(pool.map(lambda job: job(), jobs), 1):
            answers += found
            if progress is not None:
                progress(done, len(jobs))
    finally:
        server.stopped.set()
        pool.shutdown(cancel_futures=True)
    return answers
