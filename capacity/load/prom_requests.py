"""Requests to a Prometheus server: query_range in time chunks and shards of series, or remote read
where the server has it and it is the cheaper way; a few at a time.
"""  # noqa: D205

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from capacity.errors import ExportError
from capacity.load import prom_json
from capacity.load.gather import Source
from capacity.load.prom_questions import (
    PLAIN_NAME,
    Load,
    Range,
    chunks,
    external_labels,
    label_names,
    selector,
    shards,
    times,
)  # fmt: skip
from capacity.load.prom_server import RefusedError, Server, answer

# Samples of one request: about 1 MB of JSON. While one is parsed the server works on the next
_REQUEST_SAMPLES: Final = 50_000
# Series of one request: each point of one takes a look at each series' chunks again
_REQUEST_SERIES: Final = 10_000
# Where samples lie on the very times asked for, Prometheus 2 seeks anew for each point, in each
# block of a request (storage/buffer.go, merge.go, v2.42): a request stays in one block then, whose
# times are multiples of this [ms] (tsdb/db.go DefaultBlockDuration), if it is not too small so
_BLOCK: Final = 7_200_000
_LEAST_SAMPLES: Final = 5_000
# Stored samples of one request of remote read: about 1 s, which is lost if the connection breaks,
# and the shortest time of one, as whole chunks of 120 samples come (tsdb/head_append.go, v3.14)
_REMOTE_SAMPLES: Final = 4_000_000
_REMOTE_SCRAPES: Final = 2_000
# Remote read sends every stored sample, query_range one a step: a stored sample costs server and
# client about a third of one in JSON (benchmarks/test_api.py)
_REMOTE_GAIN: Final = 3.0

Progress = Callable[[int, int], None]
Job = Callable[[], list[prom_json.Answer]]


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of a server, and how: a metric's function is that of `functions`, or last.

    `is_on_step` tells that samples lie on the very times asked for.
    """

    server: Server
    names: Sequence[str]
    matchers: str
    span: Range
    load: Load
    functions: Mapping[str, str]
    window: int
    chunk_points: int
    is_on_step: bool


def jobs(asking: Asking, source: Source, *, remote_read: bool | None) -> list[Job]:
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
    added = frozenset(external_labels(server) or ())
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


def _query_jobs(asking: Asking, names: Sequence[str], span: Range) -> Iterator[Job]:
    for name in names:
        series = asking.load.series.get(name, 1)
        parts = shards(asking.server, name, asking.matchers, span, series, _REQUEST_SERIES)
        points = max(1, _REQUEST_SAMPLES * len(parts) // series)
        is_worth = series * _BLOCK // span.step >= _LEAST_SAMPLES * len(parts)
        within = _BLOCK if asking.is_on_step and is_worth else None
        function = asking.functions.get(name, "last_over_time(")
        for matchers in parts:
            query = f"{function}{selector([name], matchers)}[{asking.window}ms])"
            for chunk in chunks(span, min(asking.chunk_points, points), within):
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


def _remote_jobs(asking: Asking, hidden_labels: frozenset[str]) -> list[Job]:
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
    asking: Asking, names: Sequence[str], span: Range, hidden_labels: frozenset[str]
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


def answers(
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
