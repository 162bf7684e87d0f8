"""Remote read: the same samples as query_range, from a real Prometheus and from one that errs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import capacity
from capacity.errors import ExportError
from capacity.export import Metrics
from capacity.load import prom_api, remote_read
from capacity.load.checksums import crc32c
from capacity.load.remote_messages import message_class
from tests.load.conftest import POINTS, START, STEP, Reply, Seen, misbehaving
from tests.load.test_prom_api import END, QUICK, told, well
from tests.prometheus_server import Written, serving

STREAMED = {"Content-Type": "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"}
SAMPLED = {"Content-Type": "application/x-protobuf"}


def both(url: str, **more: object) -> tuple[Metrics, Metrics]:
    asked = {"start": START, "end": END, "waits": QUICK} | more
    one, other = (prom_api.fetch(url, remote_read=way, **asked) for way in (True, False))  # type: ignore[arg-type]
    return one, other


# A real server


@pytest.mark.prometheus
@pytest.mark.parametrize("step", [15, 60, 3600])
def test_remote_read_and_query_range_tell_the_same_samples(prometheus: str, step: int) -> None:
    remote, ranged = both(prometheus, metrics=["cilium_.*"], step=step)
    assert told(remote) == told(ranged)
    assert len(told(remote)) > 4 * POINTS * STEP // (step * 1000) // 2
    assert_frame_equal(remote.series.drop("series"), ranged.series.drop("series"),
                       check_row_order=False)  # fmt: skip


@pytest.mark.prometheus
@settings(max_examples=15, deadline=None)
@given(
    first=st.integers(-40 * STEP, POINTS * STEP),
    length=st.integers(0, 400 * STEP),
    step=st.integers(1_000, 10 * STEP),
)
def test_any_times_give_the_same_by_both_ways(
    prometheus: str, first: int, length: int, step: int
) -> None:
    start = START + first
    remote, ranged = both(
        prometheus, metrics=["cilium_bpf_map_pressure", "cilium_endpoint"],
        start=start, end=start + length, step=step / 1000,
    )  # fmt: skip
    assert told(remote) == told(ranged)


@pytest.mark.prometheus
def test_remote_read_is_chosen_where_most_stored_samples_are_wanted(prometheus: str) -> None:
    asked = {"metrics": ["cilium_bpf_map_pressure"], "start": START, "end": END, "waits": QUICK}
    fine = prom_api.fetch(prometheus, step=15, **asked)  # type: ignore[arg-type]
    coarse = prom_api.fetch(prometheus, step=3600, **asked)  # type: ignore[arg-type]
    assert "read by remote read" in fine.sources["reason"][0]
    assert coarse.sources["reason"][0] is None


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus as users have them: metrics share labels, and external ones name it."""
    times = [START + STEP * i for i in range(400)]
    held: list[Written] = [
        (f'{name}{{node="a",pod="cilium-a"}}', times, [float(i) for i in range(400)])
        for name in ("cilium_endpoint", "cilium_identity", "cilium_policy")
    ]
    config = "global: {external_labels: {cluster: prod, replica: a}}"
    with serving(held, tmp_path_factory.mktemp("scraped"), config=config) as url:
        yield url


@pytest.mark.prometheus
def test_remote_read_is_chosen_where_metrics_have_the_same_labels(scraped: str) -> None:
    made = prom_api.fetch(scraped, start=START, end=START + 399 * STEP, step=15, waits=QUICK)
    assert "read by remote read" in made.sources["reason"][0]
    assert len(made.samples) == 3 * 400


@pytest.mark.prometheus
@pytest.mark.parametrize("step", ["15s", "1h"], ids=["remote read", "query_range"])
def test_the_external_label_of_a_server_names_the_cluster(scraped: str, step: str) -> None:
    end = (START + 399 * STEP) / 1000
    made = capacity.read(scraped, start=START / 1000, end=end, step=step)
    assert made.series["cluster"].unique().to_list() == ["prod"]
    named = capacity.read(scraped, start=START / 1000, end=end, step=step, cluster="mine")
    assert named.series["cluster"].unique().to_list() == ["mine"]


@pytest.mark.prometheus
def test_equal_series_of_two_servers_are_of_two_clusters(scraped: str, tmp_path: Path) -> None:
    held = [('cilium_endpoint{node="a",pod="cilium-a"}', [START], [7.0])]
    config = "global: {external_labels: {k8s_cluster: test}}"
    with serving(held, tmp_path, config=config) as other:
        made = capacity.read([scraped, other], start=START / 1000, end=START / 1000, step="15s",
                             metrics="cilium_endpoint")  # fmt: skip
    rows = made.samples.join(made.series, on="series").select("cluster", "node", "value").rows()
    assert rows == [("prod", "a", 0.0), ("test", "a", 7.0)]


@pytest.mark.prometheus
def test_matchers_hold_for_remote_read_too(prometheus: str) -> None:
    remote, ranged = both(prometheus, metrics=["cilium_.*"], matchers='node=~"b|gone"', step=15)
    assert told(remote) == told(ranged)
    assert set(remote.series["node"]) == {"b", "gone"}


# A server that errs: remote read is there, and told wrongly


def frame(data: bytes) -> bytes:
    array = np.frombuffer(data, np.uint8)
    [crc] = crc32c(array, np.array([0]), np.array([len(data)]))
    size, length = b"", len(data)
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return size + bytes([length]) + int(crc).to_bytes(4, "big") + data


def sampled(count: int = 3) -> bytes:
    """An answer of samples: metric up of node a."""
    message = message_class("ReadResponse")()
    series = message.results.add().timeseries.add()
    for name, value in (("__name__", "up"), ("node", "a")):
        series.labels.add(name=name, value=value)
    for i in range(count):
        series.samples.add(timestamp=START + STEP * i, value=float(i))
    return bytes(cramjam.snappy.compress_raw(message.SerializeToString()))


def asked_of(reply: Reply, *more: Reply) -> Metrics:
    """Ask a server whose remote read answers so, one after the other; the last one stays."""
    replies = [reply, *more]

    def remote(seen: Seen) -> Reply:
        if not seen.path.endswith("/read"):
            return well(seen)
        return replies.pop(0) if len(replies) > 1 else replies[0]

    with misbehaving(remote) as (url, _):
        return prom_api.fetch(
            url, metrics=["up"], start=START, end=START + 2 * STEP, step=15, remote_read=True,
            waits=QUICK,
        )  # fmt: skip


def test_servers_that_know_samples_only_are_read() -> None:
    assert told(asked_of(Reply(sampled(), headers=SAMPLED))) == [
        ("up", "a", START + STEP * i, float(i)) for i in range(3)
    ]


def test_an_answer_that_broke_off_is_asked_for_again() -> None:
    whole = Reply(sampled(), headers=SAMPLED)
    for cut in (0, 5, len(sampled()) - 1):
        made = asked_of(whole, Reply(sampled()[:cut], headers=SAMPLED), whole)
        assert len(told(made)) == 3


def test_a_wrong_checksum_is_told_and_nothing_of_it_is_used() -> None:
    broken = bytearray(frame(b"\x0a\x00"))
    broken[1] ^= 1
    empty = Reply(b"", headers=STREAMED)
    with pytest.raises(ExportError, match="the checksum of a frame is wrong"):
        asked_of(empty, Reply(bytes(broken), headers=STREAMED))


def test_a_frame_without_its_end_is_told() -> None:
    cut = Reply(frame(b"\x0a\x00" * 90)[:-3], headers=STREAMED)
    with pytest.raises(ExportError, match="a frame misses its end"):
        asked_of(Reply(b"", headers=STREAMED), cut)


def test_chunks_of_an_unknown_encoding_are_asked_for_as_json() -> None:
    message = message_class("ChunkedReadResponse")()
    series = message.chunked_series.add()
    series.labels.add(name="__name__", value="up")
    series.chunks.add(type=4, data=b"\x00\x01")
    unknown = Reply(frame(message.SerializeToString()), headers=STREAMED)
    made = asked_of(Reply(b"", headers=STREAMED), unknown)
    assert told(made) == [("up", "a", START + STEP * i, float(i)) for i in range(3)]
    assert "partly read by query_range" in made.sources["reason"][0]
    assert "chunks of encoding 4" in made.sources["reason"][0]


def test_native_histograms_are_refused_by_name_and_counted() -> None:
    message = message_class("ChunkedReadResponse")()
    series = message.chunked_series.add()
    series.labels.add(name="__name__", value="up")
    series.chunks.add(type=2, data=b"\x00\x07")
    made = asked_of(
        Reply(b"", headers=STREAMED), Reply(frame(message.SerializeToString()), headers=STREAMED)
    )
    assert made.sources["refused"].to_list() == [7]
    assert "7 native histograms of up are not read" in made.sources["reason"][0]


def test_a_server_without_remote_read_is_told_where_it_is_asked_for() -> None:
    with pytest.raises(ExportError, match=r"HTTP 404; leave out remote_read"):
        asked_of(Reply(b"404 page not found", 404))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_any_bytes_are_an_answer_or_an_error(body: bytes, framed: bool, streamed: bool) -> None:
    if streamed:
        reply = Reply(frame(body) if framed else body, headers=STREAMED)
    else:
        packed = bytes(cramjam.snappy.compress_raw(body)) if framed else body
        reply = Reply(packed, headers=SAMPLED)
    first = Reply(b"", headers=STREAMED)
    try:
        made = asked_of(first, reply)
    except ExportError:
        return
    [(read, kept, refused)] = made.sources.select("read", "kept", "refused").rows()
    assert read == kept + refused
    assert kept == len(made.samples)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('a="b"', [("a", "=", "b")]),
        ('a!="b",c=~"d|e"', [("a", "!=", "b"), ("c", "=~", "d|e")]),
        (r'a="say \"no\""', [("a", "=", 'say "no"')]),
        ("", []),
        ('a="b" or c="d"', None),
        ("a=b", None),
    ],
)
def test_matchers_are_those_of_promql(text: str, wanted: list[remote_read.Matcher] | None) -> None:
    assert remote_read.matchers_of(text) == wanted
