"""Metrics through the Prometheus HTTP API, of any server that speaks it: what is asked for."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

import polars as pl

from capacity.errors import SettingsError
from capacity.export import Metrics
from capacity.load import prom_json, prom_requests
from capacity.load.documents import collector_paused
from capacity.load.gather import Selection, Source
from capacity.load.prom_questions import (
    MOST_POINTS,
    Load,
    Range,
    chunks,
    coarser_step,
    default_step,
    expected_load,
    is_memory,
    lies_on,
    metric_names,
    of_cluster,
    own_cluster,
    rising,
    span_of,
    window,
)  # fmt: skip
from capacity.load.prom_requests import Asking, Progress
from capacity.load.prom_server import WAITS, Server, connected

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
# Samples above which the server is asked for aggregates: 20 bytes each as a frame, 400 MB, and 5 s
MOST_SAMPLES: Final = 20_000_000
# prometheus/prometheus cmd/prometheus/main.go, default of --query.max-samples
MANY_SAMPLES: Final = 50_000_000
WORKERS: Final = 4
_MOST_TOLD: Final = 20

Aggregate = Literal["auto", "none", "max"]


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
        Name of series without a label cluster; where empty, an external label of the server names
        it if no series does.
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
        asking = Asking(
            server, names, matchers, span, load, functions, window(server, span.step),
            chunk_points, lies_on(server, load, matchers, span),
        )  # fmt: skip
        source = Source(server.name, FORMAT)
        source.notes += _aggregates(asking)
        jobs = prom_requests.jobs(asking, source, remote_read=remote_read)
        with collector_paused():
            answers = prom_requests.answers(server, jobs, workers, progress)
        wanted = Selection(None, start, end, cluster)
        pairs = [(0, one) for one in answers]
        found = prom_json.joined(pairs, [source], wanted, is_joined=True)
        if cluster or found.series.is_empty() or (found.series["cluster"] != "").any():
            return found
        return replace(found, series=found.series.with_columns(cluster=pl.lit(own_cluster(server))))


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


def _aggregates(asking: Asking) -> list[str]:
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
