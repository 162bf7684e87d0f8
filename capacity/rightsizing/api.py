"""A Prometheus-compatible server: stored samples by remote read, else a value a step of its own.

Remote read costs a server little more than sending its chunks, and tells what blocks would tell; to
have quantiles computed by the server costs it a look at each sample for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import polars as pl

from capacity.export import Metrics, source_row
from capacity.load import prom_api, prom_requests, remote_read
from capacity.load.gather import CLUSTER
from capacity.load.labels import LABEL_COLUMNS, label_columns
from capacity.load.prom_json import Answer
from capacity.load.prom_questions import expected_load, span_of
from capacity.load.prom_server import WAITS, RefusedError, Server, connected
from capacity.observe.names import one_cluster
from capacity.rightsizing.part import (
    EDGES,
    EVENTS,
    LONGEST,
    USAGE,
    Part,
    edges,
    joined_metrics,
    of_frames,
    read_at,
)
from capacity.rightsizing.steps import Runs, resample
from capacity.rightsizing_settings import RightsizingSettings
from capacity.tables import SAMPLES, SERIES, SOURCES, check

_DAY: Final = 86_400_000
# Samples of a question: 16 bytes each, twice while they are put together
_QUESTION: Final = 16_000_000
# Chunks hold 120 samples and come whole: of shorter windows most would come twice
_SHORTEST: Final = 6 * 3_600_000
Moment = tuple[int, int]


def parts(url: str, start: int, end: int, settings: RightsizingSettings) -> Iterator[Part]:
    """Read what a server has between two times [ms], oldest first."""
    matchers = _matchers(settings)
    span = span_of(start, end, settings.step_milliseconds / 1000, end / 1000)
    with connected(url, None, WAITS) as server:
        hidden = prom_requests.remote_labels(server, USAGE, matchers, span)
        if isinstance(hidden, frozenset):
            load = expected_load(server, USAGE, matchers, span)
            series = _Series(settings.cluster or CLUSTER)
            asking = _Asking(server, matchers, hidden, series)
            width = _width(max(load.series.values(), default=1) * load.rate)
            at = edges(start, end, width, settings.step_milliseconds)
            done = 0
            try:
                for part in _stored(asking, at, settings):
                    yield part
                    done += 1
            except (RefusedError, remote_read.UnsupportedError):
                # Such as a limit of the server, or an encoding of its chunks
                yield from _stepped(url, at[done], end, settings, start)
            return
    yield from _stepped(url, start, end, settings)


def _matchers(settings: RightsizingSettings) -> str:
    chosen = "|".join(settings.namespaces)
    return f'namespace=~"{chosen}"' if chosen else ""


def _width(rate: float) -> int:
    """Give how long a window of so many samples a second may be, in ms."""
    return min(max(_SHORTEST, int(_QUESTION / max(rate, 1.0) * 1000)), LONGEST)


@dataclass(slots=True)
class _Series:
    """The series that were told so far: each label set once, by number."""

    cluster: str
    numbers: dict[tuple[tuple[str, str], ...], int] = field(default_factory=dict)
    rows: list[dict[str, str | None]] = field(default_factory=list)

    def numbered(self, answer: Answer) -> list[int]:
        """Give the number of each of an answer's series."""
        out = []
        for labels in answer.labels:
            key = tuple(labels.items())
            number = self.numbers.setdefault(key, len(self.rows))
            if number == len(self.rows):
                self.rows.append(label_columns(labels))
            out.append(number)
        return out

    def table(self, numbers: Sequence[int]) -> pl.DataFrame:
        """Give table series of some."""
        own = sorted(set(numbers))
        frame = pl.DataFrame(
            [self.rows[number] for number in own], schema=dict.fromkeys(LABEL_COLUMNS, pl.String)
        )
        told = frame.with_columns(pl.col("cluster").fill_null(self.cluster))
        return check(told.select(pl.Series("series", own, pl.UInt32), pl.all()), SERIES)


@dataclass(frozen=True, slots=True)
class _Asking:
    """Whom to ask, for what, and which labels of the answers are not those of the series."""

    server: Server
    matchers: str
    hidden: frozenset[str]
    series: _Series

    def read(self, names: Sequence[str], span: Moment) -> Answer:
        """Ask for the stored samples of some metrics."""
        name = ("__name__", "=~", "|".join(names)) if len(names) > 1 else (
            "__name__", "=", names[0]
        )  # fmt: skip
        wanted = remote_read.Wanted(*span)
        matchers = [name, *(remote_read.matchers_of(self.matchers) or [])]
        return remote_read.read(self.server, matchers, wanted, hidden_labels=self.hidden)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Questions about a window, which are answered while the window before is worked on."""

    span: Moment
    usage: list[Future[Answer]]
    state: list[Future[Answer]]


def _stored(asking: _Asking, at: list[int], settings: RightsizingSettings) -> Iterator[Part]:
    """Read stored samples window by window, one ahead."""
    windows = list(zip(at, at[1:], strict=False))
    pool = ThreadPoolExecutor(2)

    def ask(number: int) -> _Asked:
        low, high = windows[number]
        moments = read_at(low, high, is_first=number == 0)
        return _Asked(
            (low, high - 1),
            [pool.submit(asking.read, [name], (low, high - 1)) for name in USAGE],
            [
                pool.submit(asking.read, EVENTS, (low, high - 1)),
                *(pool.submit(asking.read, EDGES, moment) for moment in moments),
            ],
        )

    try:
        asked = ask(0)
        for number in range(len(windows)):
            answers = [one.result() for one in asked.usage]
            state = [one.result() for one in asked.state]
            share = (windows[number][1] - at[0]) / (at[-1] - at[0])
            if number + 1 < len(windows):
                asked = ask(number + 1)
            yield _part(asking, answers, state, settings, share)
    finally:
        asking.server.stopped.set()
        pool.shutdown(cancel_futures=True)


def _part(
    asking: _Asking, usage: Sequence[Answer], state: Sequence[Answer],
    settings: RightsizingSettings, share: float,
) -> Part:  # fmt: skip
    told = joined_metrics([_frames(asking.series, one) for one in state])
    numbers = [number for one in usage for number in asking.series.numbered(one)]
    series = asking.series.table(numbers)
    samples = sum(len(one.times) for one in (*usage, *state))
    refused = sum(one.refused for one in (*usage, *state))
    told_of = {why for one in (*usage, *state) for why in (*one.why, *one.notes)}
    why = "; ".join(sorted(told_of))
    sources = source_row(
        asking.server.name, prom_api.FORMAT, read=samples + refused, kept=samples,
        reason=f"read by remote read{'; ' if why else ''}{why}",
    )  # fmt: skip
    if len(set(numbers)) < len(numbers):
        # A series that comes in several frames is put together first
        parts = [_frames(asking.series, one) for one in usage]
        return of_frames(joined_metrics(parts), told, settings, share, sources)
    runs = Runs(
        np.array(numbers, np.uint32),
        np.concatenate([[0], np.cumsum(np.concatenate([one.counts for one in usage]))]),
        np.concatenate([one.times for one in usage]),
        np.concatenate([one.values for one in usage]),
    )
    named = one_cluster(Metrics(series, SAMPLES.empty(), SOURCES.empty()), settings.cluster)
    set_now = one_cluster(told, settings.cluster)
    return Part(named.series, partial(resample, runs), set_now, lambda: sources, share)


def _frames(series: _Series, answer: Answer) -> Metrics:
    """Give an answer as frames."""
    numbers = series.numbered(answer)
    samples = pl.DataFrame({
        "series": np.repeat(np.array(numbers, np.uint32), answer.counts),
        "time": pl.Series(answer.times).cast(SAMPLES.schema["time"]),
        "value": answer.values,
    }).filter(pl.col("value").is_not_nan())  # fmt: skip
    return Metrics(series.table(numbers), samples.sort("series", "time"), SOURCES.empty())


def _stepped(
    url: str, start: int, end: int, settings: RightsizingSettings, first: int | None = None
) -> Iterator[Part]:
    """Ask for a day at a time; of memory the server gives the largest value of each step."""
    step = settings.step_milliseconds / 1000
    cluster, matchers = settings.cluster or CLUSTER, _matchers(settings)
    first = start if first is None else first
    ask = partial(prom_api.fetch, url, matchers=matchers, cluster=cluster)
    at = edges(start, end, _DAY, settings.step_milliseconds)
    for low, high in zip(at, at[1:], strict=False):
        usage = ask(metrics=USAGE, start=low, end=high - 1, step=step, aggregate="max")
        found = [
            ask(metrics=EDGES, start=begin, end=stop, step=step)
            for begin, stop in read_at(low, high, is_first=low == first)
        ]
        found.append(ask(metrics=EVENTS, start=low, end=high - 1, step=3600, aggregate="max"))
        share = (high - first) / (end - first)
        yield of_frames(usage, joined_metrics(found), settings, share)
