"""Prometheus' remote read: samples as the server keeps them, in chunks of its XOR encoding.

Format: prometheus/prometheus prompb/{remote,types}.proto (messages), storage/remote/chunked.go
(frames of STREAMED_XOR_CHUNKS), storage/remote/read_handler.go (negotiation), all of v3.14.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import cramjam
import numpy as np
import numpy.typing as npt
import orjson
import urllib3
from google.protobuf import message
from numba import njit

from capacity.errors import ExportError
from capacity.load.checksums import crc32c
from capacity.load.prom_json import Answer
from capacity.load.prom_server import BrokenOffError, RefusedError, Server, patiently
from capacity.load.remote_messages import message_class
from capacity.load.xor import Floats, Integers, decode
from capacity.telling import few

Matcher = tuple[str, str, str]

# prompb/types.proto, LabelMatcher.Type
_OPERATORS: Final = {"=": 0, "!=": 1, "=~": 2, "!~": 3}
_MATCHER: Final = re.compile(
    r"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"
    r"(\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)\s*(?:,|$)",
    re.ASCII,
)
_SAMPLES, _CHUNKS = 0, 1
_STREAMED: Final = "application/x-streamed-protobuf"
_SAMPLED: Final = "application/x-protobuf"
# prompb/types.proto, Chunk.Encoding; the histograms of 5 and 6 tell when they began
_XOR: Final = 1
_HISTOGRAMS: Final = (2, 3, 5, 6)
# config/config.go, DefaultChunkedReadLimit: frames of more bytes are refused by Prometheus, too
_LARGEST_FRAME: Final = 50_000_000
# The server's limit of 5e7 samples (storage.remote.read-sample-limit) with up to 20 bytes each
_LARGEST_ANSWER: Final = 1 << 30
# Bytes that are decoded at a time, and read from the network
_BATCH: Final = 4 << 20
_PIECE: Final = 1 << 20
# model/value/value.go, StaleNaN
_STALE: Final = np.uint64(0x7FF0000000000002)


class UnsupportedError(Exception):
    """The server keeps samples in an encoding that is not read; its JSON can be."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Times asked for [ms], both included, and the step to thin to from `first` on; 0 for none."""

    start: int
    end: int
    first: int = 0
    step: int = 0


def matchers_of(text: str) -> list[Matcher] | None:
    r"""Give label matchers of PromQL as name, operator and value; None if they are none.

    >>> matchers_of('cluster="prod", node=~`a.*`')
    [('cluster', '=', 'prod'), ('node', '=~', 'a.*')]
    """
    found = []
    at = 0
    while text[at:].strip():
        match = _MATCHER.match(text, at)
        if match is None:
            return None
        name, operator, quoted = match.groups()
        value = _unquoted(quoted)
        if value is None:
            return None
        found.append((name, operator, value))
        at = match.end()
    return found


def _unquoted(text: str) -> str | None:
    body = text[1:-1]
    if text[0] == "`" or "\\" not in body:
        return body
    if text[0] == "'":
        body = body.replace("\\'", "'").replace('"', '\\"')
    try:
        return str(orjson.loads(f'"{body}"'))
    except orjson.JSONDecodeError:
        # Escapes of Go that JSON does not have, such as \x41
        return None


def missing(server: Server, moment: int) -> str | None:
    """Ask for next to nothing; give why the server has no remote read, None if it has it.

    Parameters
    ----------
    moment
        A time within those wanted. [ms]
    """
    try:
        read(server, [("__name__", "=", "capacity_asks_whether_this_is_there")],
             Wanted(moment, moment))  # fmt: skip
    except RefusedError as error:
        return f"HTTP {error.status}"
    except (ExportError, UnsupportedError):
        return "its answer is none of remote read"
    return None


def read(
    server: Server,
    matchers: Sequence[Matcher],
    wanted: Wanted,
    *,
    hidden_labels: frozenset[str] = frozenset(),
) -> Answer:
    """Read samples.

    Parameters
    ----------
    matchers
        Label matchers, all of which must hold.
    wanted
        With a step, of each window ``(first + (k - 1) * step, first + k * step]`` the last sample
        is given, at its end: what ``last_over_time(x[step])`` gives.
    hidden_labels
        Labels to leave out: external ones of the server, which its other answers do not have.

    Returns
    -------
    Answer
        A series may come more than once, in parts. Staleness markers are left out, and counted as
        refused; so are native histograms.

    Raises
    ------
    RefusedError
        If the server refuses this question, or has no remote read.
    UnsupportedError
        If it keeps samples in an encoding that is not known here.
    ExportError
        If no whole answer comes.

    Notes
    -----
    Memory: 16 bytes a sample that is kept, and about 60 MB.
    """
    body = bytes(cramjam.snappy.compress_raw(_request(matchers, wanted).SerializeToString()))
    headers = {
        **server.headers,
        "Accept-Encoding": "identity",
        "Content-Encoding": "snappy",
        "Content-Type": _SAMPLED,
        "X-Prometheus-Remote-Read-Version": "0.1.0",
    }
    url = f"{server.url}/api/v1/read"
    if server.params:
        url += f"?{urllib.parse.urlencode(server.params)}"

    def send() -> urllib3.BaseHTTPResponse:
        return server.pool.request(
            "POST", url, body=body, headers=headers, preload_content=False, decode_content=False
        )

    return patiently(server, send, lambda response: _understood(response, wanted, hidden_labels))


def _request(matchers: Sequence[Matcher], wanted: Wanted) -> Any:
    request = message_class("ReadRequest")()
    query = request.queries.add(start_timestamp_ms=wanted.start, end_timestamp_ms=wanted.end)
    for name, operator, value in matchers:
        query.matchers.add(type=_OPERATORS[operator], name=name, value=value)
    request.accepted_response_types.extend([_CHUNKS, _SAMPLES])
    return request


def _understood(
    response: urllib3.BaseHTTPResponse, wanted: Wanted, hidden_labels: frozenset[str]
) -> Answer:
    kind = response.headers.get("content-type", "")
    gathered = _Gathered([], [], [], [], [0, 0], hidden_labels, set())
    try:
        if kind.startswith(_STREAMED):
            for batch in _batches(response):
                _take_chunks(batch, wanted, gathered)
        elif kind.startswith(_SAMPLED):
            _take_samples(response.data, wanted, gathered)
        else:
            raise RefusedError(response.status, f"it answers {kind or 'no content type'}")
    except message.DecodeError:
        raise BrokenOffError("no message of remote read") from None
    return _answer(gathered)


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What was read: labels, and the samples of each; staleness markers and histograms."""

    labels: list[dict[str, str]]
    counts: list[Integers]
    times: list[Integers]
    values: list[Floats]
    refused: list[int]
    hidden_labels: frozenset[str]
    histograms: set[str]


def _answer(gathered: _Gathered) -> Answer:
    stale, histograms = gathered.refused
    why = [f"{stale} staleness markers, which are no samples"] if stale else []
    if histograms:
        names = few(gathered.histograms)
        why.append(f"{histograms} native histograms of {names} are not read; scrape classic ones")
    return Answer(
        tuple(gathered.labels),
        np.concatenate([np.zeros(0, np.int64), *gathered.counts]),
        np.concatenate([np.zeros(0, np.int64), *gathered.times]),
        np.concatenate([np.zeros(0), *gathered.values]),
        stale + histograms,
        tuple(why),
    )


def _batches(response: urllib3.BaseHTTPResponse) -> Iterator[list[bytes]]:
    """Give the messages of frames, some of them at a time, once their checksums are compared."""
    rest = bytearray()
    for piece in response.stream(_PIECE, decode_content=False):
        rest += piece
        if len(rest) >= _BATCH:
            frames, end = _frames(rest)
            yield frames
            del rest[:end]
    frames, end = _frames(rest)
    if end < len(rest):
        raise BrokenOffError(f"a frame misses its end, {len(rest) - end} bytes are left")
    yield frames


def _frames(data: bytearray) -> tuple[list[bytes], int]:
    """Give the whole frames' messages, and where they end."""
    at, begins, ends, sums = 0, [], [], []
    while True:
        size, begin = _uvarint(data, at)
        if begin < 0 or begin + 4 + size > len(data):
            break
        sums.append(int.from_bytes(data[begin : begin + 4], "big"))
        begins.append(begin + 4)
        at = begin + 4 + size
        ends.append(at)
    # Messages are copies, as the buffer grows again
    whole = bytes(memoryview(data)[:at])
    told = np.array(sums, np.uint32)
    text = np.frombuffer(whole, np.uint8)
    if (crc32c(text, np.array(begins, np.int64), np.array(ends, np.int64)) != told).any():
        raise BrokenOffError("the checksum of a frame is wrong")
    return [whole[begin:end] for begin, end in zip(begins, ends, strict=True)], at


def _uvarint(data: bytearray, at: int) -> tuple[int, int]:
    """Give a length and where it ends; -1 if it is not whole yet."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if value > _LARGEST_FRAME:
            raise BrokenOffError("a frame is larger than any server sends")
        if byte < 0x80:
            return value, at
    return 0, -1


def _take_chunks(frames: Iterable[bytes], wanted: Wanted, gathered: _Gathered) -> None:
    """Decode the chunks of some frames."""
    parse = message_class("ChunkedReadResponse").FromString
    payloads: list[bytes] = []
    chunks: list[int] = []
    for series in chain.from_iterable(parse(frame).chunked_series for frame in frames):
        told = [(chunk.type, chunk.data) for chunk in series.chunks]
        kept = [data for kind, data in told if kind == _XOR]
        if len(kept) < len(told):
            gathered.refused[1] += _histograms(told)
            gathered.histograms.add(_name(series))
        if kept:
            gathered.labels.append(_labels(series.labels, gathered.hidden_labels))
            chunks.append(len(kept))
            payloads += kept
    if not payloads:
        return
    sizes = np.array([len(payload) for payload in payloads], np.int64)
    ends = np.cumsum(sizes)
    data = np.frombuffer(b"".join(payloads), np.uint8)
    decoded = decode(data, ends - sizes, ends, start=wanted.start, end=wanted.end)
    if not decoded.is_whole.all():
        raise BrokenOffError("a chunk holds fewer samples than it says")
    edges = np.cumsum(chunks, dtype=np.int64) - chunks
    counts = np.add.reduceat(decoded.counts, edges)
    _take(decoded.times, decoded.values, counts, wanted, gathered)


def _histograms(chunks: Sequence[tuple[int, bytes]]) -> int:
    """Count the samples of chunks that hold native histograms."""
    for kind, _ in chunks:
        if kind not in (_XOR, *_HISTOGRAMS):
            raise UnsupportedError(f"chunks of encoding {kind}")
    return sum(int.from_bytes(data[:2], "big") for kind, data in chunks if kind != _XOR)


def _name(series: Any) -> str:
    return next((one.value for one in series.labels if one.name == "__name__"), "")


def _labels(labels: Iterable[Any], hidden_labels: frozenset[str]) -> dict[str, str]:
    return {one.name: one.value for one in labels if one.value and one.name not in hidden_labels}


def _take_samples(body: bytes, wanted: Wanted, gathered: _Gathered) -> None:
    """Take an answer of samples, from servers that know no chunks."""
    try:
        if cramjam.snappy.decompress_raw_len(body) > _LARGEST_ANSWER:
            raise BrokenOffError("it is larger than any server sends")
        unpacked = bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError:
        raise BrokenOffError("it is not packed by snappy") from None
    results = message_class("ReadResponse").FromString(unpacked).results
    found = [series for result in results for series in result.timeseries]
    gathered.refused[1] += sum(len(series.histograms) for series in found)
    gathered.histograms.update(_name(series) for series in found if series.histograms)
    gathered.labels.extend(_labels(series.labels, gathered.hidden_labels) for series in found)
    samples = [sample for series in found for sample in series.samples]
    times = np.fromiter((sample.timestamp for sample in samples), np.int64, len(samples))
    values = np.fromiter((sample.value for sample in samples), np.float64, len(samples))
    counts = np.array([len(series.samples) for series in found], np.int64)
    _take(times, values, counts, wanted, gathered)


def _take(
    times: Integers, values: Floats, counts: Integers, wanted: Wanted, gathered: _Gathered
) -> None:
    """Keep what is wanted of samples, in place."""
    kept, stale = _thinned(times, values, counts, wanted.first, wanted.step)
    gathered.refused[0] += stale
    gathered.counts.append(counts)
    is_less = kept < len(times)
    gathered.times.append(times[:kept].copy() if is_less else times)
    gathered.values.append(values[:kept].copy() if is_less else values)


@njit(cache=True, nogil=True)
def _thinned(
    times: Integers, values: Floats, counts: Integers, first: int, step: int
) -> tuple[int, int]:  # pragma: no cover
    """Leave out staleness markers, and all but the last sample of each window; write `counts`.

    A number that is NaN takes the place of one before, as it does in last_over_time.
    """
    bits: npt.NDArray[np.uint64] = values.view(np.uint64)
    at = to = stale = 0
    for series in range(len(counts)):
        begin = to
        for i in range(at, at + counts[series]):
            if bits[i] == _STALE:
                stale += 1
                continue
            time = times[i]
            if step > 0:
                time = first - (first - time) // step * step
                if to > begin and times[to - 1] == time:
                    to -= 1
            times[to] = time
            bits[to] = bits[i]
            to += 1
        at += counts[series]
        counts[series] = to - begin
    return to, stale
