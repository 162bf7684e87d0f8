"""Coverage-guided fuzzing of every reader, by atheris: `python benchmarks/fuzz_readers.py READER`.

Run for a bounded time with libFuzzer's own options, e.g. ``-max_total_time=120 corpus/``; extra
`fuzz`. Seeds are small inputs of each format. A reader may refuse with an error of ours, nothing
else; what two ways of reading the same bytes say must be equal (text, query_range). Compiled
code has no coverage counters: there fuzzing finds what is visible from outside, as wrong results.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import atheris
import numpy as np

# numba cannot compile what atheris has changed
COMPILED: Final = [
    f"capacity.load.{name}"
    for name in (
        "distinct", "floats", "label_parse", "label_scan", "label_table", "matrix", "order",
        "remote_read", "scan", "steps", "tsdb_block", "tsdb_index", "words", "xor",
    )
]  # fmt: skip

with atheris.instrument_imports(include=["capacity"], exclude=COMPILED):
    import capacity
    from capacity.errors import CapacityError
    from capacity.load import cilium_lists, cilium_maps, exposition, matrix, prom_json, remote_read
    from capacity.load.lines import TEXT, ExactLines, Samples
    from capacity.load.scan import CompiledLines

    _ = (cilium_lists, cilium_maps, exposition, remote_read)

FOLDER: Final = Path(tempfile.mkdtemp(prefix="fuzz"))
ANSWER: Final = (
    b'{"status":"success","data":{"resultType":"matrix","result":['
    b'{"metric":{"__name__":"up","node":"a\\"b"},"values":[[1795392000.123,"1"],[1795392015,"NaN"],'
    b'[1795392030,"-1.5e-7"]]},{"metric":{},"values":[]}]}}'
)
SCRAPE: Final = (
    b'# TYPE up gauge\nup{job="a",x="\\"b\\\\"} 1 1795477137000\nup 2\n'
    b'a_bucket{le="+Inf"} 3.5e3 # {trace="x"} 1\nb NaN\n{"utf.8",a="b"} 0x\n'
)


def read_as(name: str, data: bytes) -> None:
    """Read a file of metrics; an error of ours is an answer."""
    path = FOLDER / name
    path.write_bytes(data)
    try:
        made = capacity.read(path)
    except CapacityError:
        return
    told = made.sources.select("read", "kept", "refused").sum().row(0)
    if told[0] < told[1] or len(made.samples) > told[1]:
        raise AssertionError(f"rows do not add up: {told}, {len(made.samples)} samples")


def inventory_as(name: str, data: bytes) -> None:
    """Read a file of an inventory."""
    path = FOLDER / name
    path.write_bytes(data)
    try:
        capacity.read_inventory(path)
    except CapacityError:
        return


def text(data: bytes) -> None:
    """Compiled lines and the grammar say the same."""
    data = data.rstrip(b"\n") + b"\n"
    told = []
    for lines in (ExactLines(TEXT), CompiledLines(TEXT)):
        samples = lines.learn(data, lines.parse(data, data.count(b"\n")))
        if lines.count:
            lines.add(lines.labels(0)())
        told.append((samples, lines.taken("c")[0].rows()))
    one, other = (_said(*each) for each in told)
    assert one == other, f"{one}\n{other}"


def _said(samples: Samples, labels: list[tuple[str | None, ...]]) -> list[Any]:
    """Give place, labels, value and time of each sample; a text that is no series is refused."""
    columns = (samples.places, samples.texts, samples.values, samples.stamps)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    said = [(at, labels[text], repr(value), repr(stamp)) for at, text, value, stamp in rows]
    good = [row for row in said if row[1][0] is not None]
    bad = [row[0] for row in said if row[1][0] is None]
    return [good, sorted(samples.refused.tolist() + bad)]


def answer(data: bytes) -> None:
    """Compiled reading of an answer says what orjson's does, or leaves it to that."""
    found = matrix.read(data)
    try:
        told = prom_json.parse(data, "x")
    except CapacityError:
        if found is not None:
            raise AssertionError("compiled code reads what is no answer") from None
        return
    if found is not None:
        np.testing.assert_array_equal(found.times, told.times)
        np.testing.assert_array_equal(found.values, told.values)


def index(data: bytes) -> None:
    """A block whose index is anything, its checksums mended by nobody."""
    block = FOLDER / "block" / "01M8BMC84GYB3PZY4ZBMQBF0Z6"
    (block / "chunks").mkdir(parents=True, exist_ok=True)
    (block / "index").write_bytes(b"\xba\xaa\xd7\x00\x02" + data)
    try:
        capacity.read(block.parent)
    except CapacityError:
        return


READERS: Final[Mapping[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]]] = {
    "text": (text, (SCRAPE,)),
    "answer": (answer, (ANSWER, ANSWER.replace(b'"matrix"', b'"vector"'))),
    "scrape": (lambda data: read_as("a.prom", data), (SCRAPE,)),
    "json": (lambda data: read_as("a.json", data), (ANSWER,)),
    "dump": (
        lambda data: read_as("a.dump", b'{__name__="up", job="a"} 1 1700000000000\n' + data),
        (b'{__name__="up", job="a\\n"} 2 1700000001000\n{__name__="up"} {count:1} 1\n',),
    ),
    "csv": (
        lambda data: read_as("a.csv", data),
        (b"time,value,metric,node\n2026-01-01T00:00:00Z,1,up,a\n", b'"Time","up{a=""b""}"\n1,2\n'),
    ),
    "index": (index, (b"\0" * 80,)),
    "yaml": (
        lambda data: inventory_as("a.yaml", data),
        (
            b"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: a}\n"
            b"spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]}\n---\nkind: Node\n",
        ),
    ),
    "kubectl": (
        lambda data: inventory_as("a.json", data),
        (
            b'{"kind":"List","items":[{"kind":"Pod","metadata":{"name":"a","labels":{"x":"y"}},'
            b'"spec":{"nodeName":"n"},"status":{"podIP":"10.0.0.1"}}]}',
            b'[{"id":1,"spec":{},"status":{"identity":{"id":2,"labels":["k8s:a=b"]}}}]',
        ),
    ),
    "tool": (
        lambda data: inventory_as("a.txt", data),
        (
            b"TCP OUT 10.0.0.1:80 -> 10.0.0.2:81 expires=1 RxPackets=0 [ SeenNonSyn ]\n",
            b"POLICY   DIRECTION   LABELS (source:key[=value])   PORT/PROTO   PROXY PORT\n"
            b"Allow    Ingress     reserved:host                 ANY          NONE\n",
            b"1: hash  name cilium_ct4_glo  flags 0x0\n"
            b"\tkey 14B  value 56B  max_entries 65536  memlock 9437184B\n",
        ),
    ),
    "zip": (lambda data: inventory_as("a.zip", b"PK\x03\x04" + data), (b"\0" * 60,)),
}


def main() -> None:
    """Fuzz one reader with libFuzzer's arguments."""
    if len(sys.argv) < 2 or sys.argv[1] not in READERS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(READERS)} [libFuzzer options] [corpus]")
    job, seeds = READERS[sys.argv[1]]
    warnings.simplefilter("ignore")
    corpus = FOLDER / "seeds"
    corpus.mkdir()
    for i, seed in enumerate(seeds):
        (corpus / str(i)).write_bytes(seed)
        job(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus)], job)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
