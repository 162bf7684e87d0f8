"""Blocks of Prometheus' database, written fast: container metrics of many pods, as cAdvisor tells.

promtool would need hours for 400 million samples of text. Format: prometheus/prometheus
tsdb/docs/format (v3.5) and tsdb/chunkenc/xor.go; what is written is checked by promtool.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.load.checksums import crc32c

CHUNK = 120
HOUR = 3_600_000
Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
CPU, MEMORY = "container_cpu_usage_seconds_total", "container_memory_working_set_bytes"


@njit(cache=True)
def _put(out: Bytes, bit: int, value: np.uint64, many: int) -> int:
    for k in range(many - 1, -1, -1):
        if (value >> np.uint64(k)) & np.uint64(1):
            out[bit >> 3] |= np.uint8(128 >> (bit & 7))
        bit += 1
    return bit


@njit(cache=True)
def _uvarint(out: Bytes, bit: int, value: np.uint64) -> int:
    while value >= np.uint64(128):
        bit = _put(out, bit, (value & np.uint64(127)) | np.uint64(128), 8)
        value >>= np.uint64(7)
    return _put(out, bit, value, 8)


@njit(cache=True)
def _zigzag(value: int) -> np.uint64:
    return np.uint64((value << 1) ^ (value >> 63))


@njit(cache=True)
def _delta_of_delta(out: Bytes, bit: int, dod: int) -> int:
    if dod == 0:
        return _put(out, bit, np.uint64(0), 1)
    for prefix, length, many in ((2, 2, 14), (6, 3, 17), (14, 4, 20)):
        if -((1 << (many - 1)) - 1) <= dod <= 1 << (many - 1):
            bit = _put(out, bit, np.uint64(prefix), length)
            return _put(out, bit, np.uint64(dod), many)
    return _put(out, _put(out, bit, np.uint64(15), 4), np.uint64(dod), 64)


@njit(cache=True)
def _leading(value: np.uint64) -> int:
    many = 0
    while many < 64 and not (value >> np.uint64(63 - many)) & np.uint64(1):
        many += 1
    return many


@njit(cache=True)
def _trailing(value: np.uint64) -> int:
    many = 0
    while many < 64 and not (value >> np.uint64(many)) & np.uint64(1):
        many += 1
    return many


@njit(cache=True)
def _encode(times: Integers, bits: npt.NDArray[np.uint64], out: Bytes) -> int:
    """Encode one chunk after its two bytes of length; give its bytes."""
    out[0], out[1] = len(times) >> 8, len(times) & 255
    bit = _uvarint(out, 16, _zigzag(times[0]))
    bit = _put(out, bit, bits[0], 64)
    delta, lead, trail = 0, 255, 0
    for k in range(1, len(times)):
        now = times[k] - times[k - 1]
        bit = (
            _uvarint(out, bit, np.uint64(now)) if k == 1 else _delta_of_delta(out, bit, now - delta)
        )
        delta = now
        xor = bits[k] ^ bits[k - 1]
        if xor == np.uint64(0):
            bit = _put(out, bit, np.uint64(0), 1)
            continue
        leading, trailing = min(_leading(xor), 31), _trailing(xor)
        if lead != 255 and leading >= lead and trailing >= trail:
            bit = _put(out, bit, np.uint64(2), 2)
        else:
            lead, trail = leading, trailing
            bit = _put(out, bit, np.uint64(3), 2)
            bit = _put(out, bit, np.uint64(lead), 5)
            bit = _put(out, bit, np.uint64((64 - lead - trail) & 63), 6)
        bit = _put(out, bit, xor >> np.uint64(trail), 64 - lead - trail)
    return (bit + 7) // 8


@njit(cache=True)
def encode(
    times: npt.NDArray[np.int64], values: npt.NDArray[np.uint64], chunk: int, out: Bytes,
    ends: Integers,
) -> int:  # fmt: skip
    """Encode series (rows) into chunks, each with length and encoding before and room for a CRC."""
    at, told = 0, 0
    scratch = np.zeros(chunk * 20 + 64, np.uint8)
    for row in range(times.shape[0]):
        for begin in range(0, times.shape[1], chunk):
            scratch[:] = 0
            stop = min(begin + chunk, times.shape[1])
            many = _encode(times[row, begin:stop], values[row, begin:stop], scratch)
            size = many
            while size >= 128:
                out[at] = (size & 127) | 128
                at, size = at + 1, size >> 7
            out[at], out[at + 1] = size, 1
            out[at + 2 : at + 2 + many] = scratch[:many]
            at += 2 + many + 4
            ends[told] = at
            told += 1
    return at


@dataclass
class Block:
    """One block while it is written: chunks in segment files, and where those of a series lie."""

    folder: Path
    segment: int = 0
    at: int = 8
    samples: int = 0
    chunks: int = 0
    series: list[tuple[dict[str, str], Integers, Integers, Integers]] = field(default_factory=list)

    def add(self, labels: list[dict[str, str]], times: Integers, values: Floats) -> None:
        """Add series of the same number of samples."""
        many = -(-times.shape[1] // CHUNK)
        out = np.zeros(times.size * 12 + len(labels) * many * 64, np.uint8)
        ends = np.zeros(len(labels) * many, np.int64)
        size = encode(times, values.view(np.uint64), CHUNK, out, ends)
        begins = np.concatenate([[0], ends[:-1]])
        # The length takes two bytes where the chunk is longer than 127, as those of 120 samples are
        heads = begins + np.where(ends - begins > 133, 2, 1)
        sums = crc32c(out, heads, ends - 4)
        for k in range(4):
            out[ends - 4 + k] = (sums >> np.uint32(24 - 8 * k)).astype(np.uint8)
        if self.at + size > 500 << 20:
            self.segment, self.at = self.segment + 1, 8
        (self.folder / "chunks").mkdir(parents=True, exist_ok=True)
        with (self.folder / "chunks" / f"{self.segment + 1:06d}").open("ab") as file:
            if self.at == 8:
                file.write(bytes.fromhex("85bd40dd01000000"))
            file.write(out[:size].tobytes())
        places = (self.segment << 32) + self.at + begins
        first, last = times[:, ::CHUNK], np.append(times[:, CHUNK - 1 :: CHUNK], times[:, -1:], 1)
        for k, own in enumerate(labels):
            mine = places[k * many : (k + 1) * many]
            self.series.append((own, mine, first[k], last[k, :many]))
        self.at += size
        self.samples += times.size
        self.chunks += len(ends)

    def close(self, start: int, end: int) -> None:
        """Write index and meta.json."""
        (self.folder / "index").write_bytes(_index(self.series))
        stats = {
            "numSamples": self.samples,
            "numSeries": len(self.series),
            "numChunks": self.chunks,
        }
        times = {"minTime": start, "maxTime": end}
        compaction = {"level": 1, "sources": [self.folder.name]}
        meta = {"ulid": self.folder.name, **times, "stats": stats, "compaction": compaction}
        meta["version"] = 1
        (self.folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append((value & 127) | 128)
        value >>= 7
    return bytes([*out, value])


def _signed(value: int) -> bytes:
    return _varint((value << 1) ^ (value >> 63))


def _crc(data: bytes) -> bytes:
    told = crc32c(np.frombuffer(data, np.uint8), np.array([0]), np.array([len(data)]))
    return struct.pack(">I", int(told[0]))


def _table(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body + _crc(body)


def _index(series: list[tuple[dict[str, str], Integers, Integers, Integers]]) -> bytes:
    series.sort(key=lambda one: sorted(one[0].items()))
    words = sorted({word for labels, *_ in series for pair in labels.items() for word in pair})
    number = {word: k for k, word in enumerate(words)}
    out = bytearray(bytes.fromhex("baaad70002"))
    texts = [word.encode() for word in words]
    body = struct.pack(">I", len(words)) + b"".join(_varint(len(t)) + t for t in texts)
    toc = [len(out)]
    out += _table(body)
    out += bytes(-len(out) % 16)
    toc.append(len(out))
    postings: dict[tuple[str, str], list[int]] = {("", ""): []}
    for labels, places, first, last in series:
        out += bytes(-len(out) % 16)
        reference = len(out) // 16
        told = bytearray(_varint(len(labels)))
        for name, value in sorted(labels.items()):
            told += _varint(number[name]) + _varint(number[value])
            postings.setdefault((name, value), []).append(reference)
        postings["", ""].append(reference)
        told += _varint(len(places))
        before, place = 0, 0
        for k in range(len(places)):
            low, high, here = int(first[k]), int(last[k]), int(places[k])
            told += _signed(low) if k == 0 else _varint(low - before)
            told += _varint(high - low)
            told += _varint(here) if k == 0 else _signed(here - place)
            before, place = high, here
        out += _varint(len(told)) + told + _crc(bytes(told))
    toc.append(len(out))
    offsets = []
    for (name, value), references in sorted(postings.items()):
        out += bytes(-len(out) % 4)
        offsets.append((name, value, len(out)))
        out += _table(struct.pack(f">{len(references) + 1}I", len(references), *references))
    places_of = [toc[0], toc[1], 0, toc[2], 0, len(out)]
    out += _table(_offset_table(offsets))
    told_toc = struct.pack(">6Q", *places_of)
    return bytes(out + told_toc + _crc(told_toc))


def _offset_table(offsets: list[tuple[str, str, int]]) -> bytes:
    parts = [struct.pack(">I", len(offsets))]
    for name, value, at in offsets:
        texts = (name.encode(), value.encode())
        parts.append(b"\x02" + b"".join(_varint(len(t)) + t for t in texts) + _varint(at))
    return b"".join(parts)


def write(
    folder: Path, workloads: int, days: int, *, pods: int = 1, scrape: int = 60, hours: int = 36,
    seed: int = 1,
) -> int:  # fmt: skip
    """Write blocks of container metrics of workloads; give the number of samples.

    Times jitter as cAdvisor's own do; CPU counts in nanoseconds, memory in pages.
    """
    rng = np.random.default_rng(seed)
    start = 1_790_000_000_000 // (36 * HOUR) * (36 * HOUR)
    end, samples = start + days * 24 * HOUR, 0
    names = [(k, p) for k in range(workloads) for p in range(pods)]
    totals = np.zeros(len(names))
    levels = rng.lognormal(-2.0, 1.0, workloads)
    sizes = rng.lognormal(19.5, 1.0, workloads)
    for number, low in enumerate(range(start, end, hours * HOUR)):
        high = min(low + hours * HOUR, end)
        block = Block(folder / f"01J{number:023d}")
        points = (high - low) // (scrape * 1000)
        for begin in range(0, len(names), 2000):
            own = names[begin : begin + 2000]
            which = np.array([k for k, _ in own])
            times = (
                low + np.arange(points) * scrape * 1000 + rng.integers(0, 500, (len(own), points))
            )
            day = 1 + 0.5 * np.sin(times / (24 * HOUR) * 2 * np.pi)
            use = rng.gamma(4, 0.25, times.shape) * day * levels[which, None]
            burnt = np.cumsum(use * scrape, axis=1) + totals[begin : begin + 2000, None]
            totals[begin : begin + 2000] = burnt[:, -1]
            held = sizes[which, None] * (1 + 0.1 * (day - 1) + rng.normal(0, 0.02, times.shape))
            for metric, values in ((CPU, burnt.round(9)), (MEMORY, (held // 4096) * 4096)):
                block.add([_labels(metric, *one) for one in own], times, values)
            at = times[:, ::5].copy()
            for metric, more, value in _SET:
                told = [{**_kube(metric, *one), **more} for one in own]
                block.add(told, at, np.full(at.shape, value))
            owners = [{**_kube("kube_pod_owner", *one), "owner_kind": "StatefulSet",
                       "owner_name": f"app-{one[0]:05d}"} for one in own]  # fmt: skip
            block.add(owners, at, np.ones(at.shape))
        block.close(low, high)
        samples += block.samples
    return samples


_SET: list[tuple[str, dict[str, str], float]] = [
    ("kube_pod_container_resource_requests", {"resource": "cpu", "unit": "core"}, 0.5),
    ("kube_pod_container_resource_requests", {"resource": "memory", "unit": "byte"}, 2.0**29),
    ("kube_pod_container_resource_limits", {"resource": "memory", "unit": "byte"}, 2.0**30),
    ("kube_pod_container_status_restarts_total", {}, 0.0),
]


def _names(workload: int, pod: int) -> dict[str, str]:
    return {"namespace": f"team-{workload % 40:02d}", "pod": f"app-{workload:05d}-{pod}"}


def _labels(metric: str, workload: int, pod: int) -> dict[str, str]:
    node = f"node-{(workload * 7 + pod) % 500:03d}"
    labels: dict[str, Any] = {
        "__name__": metric, "container": "app", "endpoint": "https-metrics",
        "id": f"/kubepods/burstable/pod{workload:08x}/{pod:064x}", "image": "registry/app:1",
        "instance": f"{node}:10250", "job": "kubelet", "metrics_path": "/metrics/cadvisor",
        "name": f"{workload:032x}{pod:032x}", "node": node, "service": "kubelet",
        **_names(workload, pod),
    }  # fmt: skip
    return labels | ({"cpu": "total"} if metric == CPU else {})


def _kube(metric: str, workload: int, pod: int) -> dict[str, str]:
    return {"__name__": metric, "job": "kube-state-metrics", "uid": f"{workload:032x}",
            "container": "app", **_names(workload, pod)}  # fmt: skip


if __name__ == "__main__":
    written = write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(f"{written:,} samples\n")
