"""Lines: the compiled way says of each what the exact grammar says."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capacity.load import distinct, floats, words
from capacity.load.lines import ExactLines, Lines, Samples, parse_line
from capacity.load.scan import CompiledLines

Told = list[tuple[int, str, float, float]]


def by_exact(data: bytes) -> tuple[Told, list[int]]:
    lines = ExactLines()
    samples = learnt(lines, data)
    return told(samples, list(lines.numbers)), samples.refused.tolist()


def by_compiled(data: bytes, secret: int = 7) -> tuple[Told, list[int]]:
    lines = CompiledLines(secret=secret)
    samples = learnt(lines, data)
    return told(samples, texts_of(lines.texts)), samples.refused.tolist()


def learnt(lines: Lines, data: bytes) -> Samples:
    return lines.learn(data, lines.parse(data, data.count(b"\n")))


def texts_of(texts: distinct.Texts) -> list[str]:
    data, ends = texts.since(0)
    return [
        data[a:b].tobytes().decode("utf-8", "replace") for a, b in zip(ends, ends[1:], strict=False)
    ]


def told(samples: Samples, texts: list[str]) -> Told:
    columns = (samples.places, samples.texts, samples.values, samples.stamps)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    # NaN is not equal to itself
    return [
        (place, texts[text], *(-1e99 if math.isnan(n) else n for n in (value, stamp)))
        for place, text, value, stamp in rows
    ]


def agree(data: bytes) -> None:
    """The ways differ in one thing: a head that is no series is refused when it is parsed."""
    exact, exact_refused = by_exact(data)
    quick, quick_refused = by_compiled(data)
    good = set(exact)
    assert [row for row in quick if row in good] == exact
    bad = [place for place, *row in quick if (place, *row) not in good]
    assert sorted([*quick_refused, *bad]) == exact_refused


TOKENS = (
    "{", "}", '"', '"', "\\", "a", "up", "=", ",", " ", " ", "1", "2.5", "#", " # {", "\n", "\n",
    "\t", "e", "NaN", '{a="b"}', "} 5", "# TYPE up gauge", 'a="x y"', " 1795479824743", "+Inf",
    "\r\n", "\r", "\x01", "\v", "é", 'b=""', '__name__="q"', "up 1\n", 'up{a="}"} 2 3\n',
    "1e16", "-", "+", ".", "inf", "\x00",
)  # fmt: skip
WRITTEN = (
    b'up 1\n', b'up{a="b"} 1 1795477137000\n', b'up{a="b"} 2 1795477137250\n',
    b'{"my.metric","k8s.node"="n"} 1\n', b'{__name__="up", a="b"} 1.5 1795477137000\n',
    b'a_bucket{le="1"} 5 # {trace_id="x"} 0.67\n', b'b{le="1"} 6 1.5 # {trace_id="x"} 0.67 9\n',
    b'c_total{said="a # {b"} 7\n', b'f{said="x\\\\"} 10 # {trace_id="\\""} 1\n',
    b"x NaN\n", b"x +Inf\n", b"x -infinity 5\n", b"# HELP x y\n", b"\n",
    b"x 1.7954771503143167e+09\n",
    b'up { path = "C:\\\\x" , line="a\\nb",empty="" , } 1 \r\n', b'up{a="\xff"} 1\n',
    b"x 1 1e300\n", b"x 1 1.7954771503143167e+09\n", b"x 12345678901234567890123\n",
)  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS), max_size=60).map("".join))
@example('up\r{a="b"} 1')
@example('up{a="b"}1')
@example("up 1 2 3")
@example("up 1 # {")
@example("up 1# {")
@example('up{a="b"\\} 1')
@example("upx 1\nup 2\nupx 3")
@example('{a="b"} 1\n{a="b"}2\n{a="b"} 3')
def test_compiled_lines_say_what_exact_ones_do(text: str) -> None:
    agree(text.encode() + b"\n")


@given(
    st.lists(st.sampled_from(WRITTEN), min_size=1, max_size=6).map(b"".join),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.lists(st.integers(0, 400), max_size=2),
)
def test_mutated_lines_are_read_alike(
    data: bytes, changes: list[tuple[int, int]], cuts: list[int]
) -> None:
    changed = bytearray(data)
    for at, byte in changes:
        changed[at % len(changed)] = byte
    for at in cuts:
        del changed[at % max(len(changed), 1) : at % max(len(changed), 1) + 3]
    agree(bytes(changed) + b"\n")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_alike(data: bytes) -> None:
    agree(data + b"\n")


def test_public_scrapes_hold_no_line_that_is_not_plain(shared: object) -> None:
    from pathlib import Path

    for path in sorted((Path(str(shared)) / "public" / "metrics").glob("*.txt")):
        data = path.read_bytes() + b"\n"
        lines = CompiledLines()
        parsed = lines.parse(data, data.count(b"\n"))
        assert len(parsed.odd) == 0, path
        agree(data)


@pytest.mark.parametrize(
    ("line", "stamp"), [(b"up 1 999999999999999", True), (b"up 1 1000000000000000", False)]
)
def test_a_time_beyond_all_times_is_no_time(line: bytes, stamp: bool) -> None:
    assert isinstance(parse_line(line), tuple) is stamp
    assert len(by_compiled(line + b"\n")[0]) == stamp


# Numbers


def number(text: str) -> tuple[int, float, int]:
    return floats.number(np.frombuffer(text.encode() + b" ", np.uint8), 0, True)


def is_read_as_python_does(text: str) -> None:
    kind, value, end = number(text)
    assert end == len(text)
    if kind != floats.HARD:
        assert kind == floats.GOOD
        assert struct.pack("d", value) == struct.pack("d", float(text))


@given(st.floats(allow_nan=False))
@example(5e-324)
@example(2.2250738585072014e-308)
@example(1.7976931348623157e308)
@example(-0.0)
def test_doubles_as_text_are_read_to_the_last_bit(value: float) -> None:
    is_read_as_python_does(repr(value))
    is_read_as_python_does(f"{value:.17g}")


@given(st.integers(0, 10**21), st.integers(-360, 330), st.sampled_from(["", "-", "+"]))
@example(9007199254740993, 0, "")
@example(9007199254740993, 22, "")
@example(2**64 - 1, 0, "")
@example(6929495644600919, 17, "-")
def test_decimals_are_read_to_the_last_bit(digits: int, power: int, sign: str) -> None:
    is_read_as_python_does(f"{sign}{digits}e{power}")
    is_read_as_python_does(f"{sign}{digits}.{digits}E{power:+}")


def test_halves_between_two_doubles_are_left_to_python_or_right() -> None:
    for exponent in range(-40, 60):
        half = (2**53 + 1) * 2**exponent if exponent >= 0 else None
        text = str(half) if half else f"{(2**53 + 1)}e{exponent}"
        is_read_as_python_does(text)


@pytest.mark.parametrize("text", ["", ".", "-", "+", "1e", "1e+", "e5", "-.", "in", "na", "x"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert number(text)[0] == floats.BAD


@pytest.mark.parametrize("text", ["inf", "+Inf", "-INFINITY", "nan", "NaN", "Infinity"])
def test_words_are_numbers_where_they_may_be(text: str) -> None:
    kind, value, end = number(text)
    assert (kind, end) == (floats.GOOD, len(text))
    assert str(value) == str(float(text))
    data = np.frombuffer(text.encode(), np.uint8)
    assert floats.number(data, 0, False)[0] == floats.BAD


def test_most_numbers_of_19_digits_need_no_second_look() -> None:
    rng = np.random.default_rng(5)
    texts = [repr(value) for value in rng.random(2_000).tolist()]
    assert sum(number(text)[0] == floats.HARD for text in texts) < 5


# Distinct texts


def numbered(texts: list[bytes], hashes: list[int], known: distinct.Texts) -> list[int]:
    ends = np.cumsum([0, *map(len, texts)])
    data = np.frombuffer(b"".join(texts), np.uint8)
    return distinct.number(
        known, data, ends[:-1], ends[1:], np.array(hashes, np.uint64)
    ).tolist()  # fmt: skip


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=40), st.integers(0, 2))
def test_equal_hashes_do_not_make_texts_equal(texts: list[bytes], bits: int) -> None:
    known, wanted = distinct.Texts(), dict[bytes, int]()
    hashes = [hash(text) & bits for text in texts]
    for _ in range(2):
        numbers = [wanted.setdefault(text, len(wanted)) for text in texts]
        assert numbered(texts, hashes, known) == numbers
    assert known.count == len(wanted)


def test_many_texts_are_numbered_in_their_order_and_found_again() -> None:
    texts = [b"cilium_x{a=%d}" % i * (1 + i % 5) for i in range(20_000)]
    known = distinct.Texts()
    hashes = [hash(text) & (2**64 - 1) for text in texts]
    assert numbered(texts, hashes, known) == list(range(20_000))
    assert numbered(texts[::-1], hashes[::-1], known) == list(range(20_000))[::-1]
    data, ends = known.since(19_999)
    assert (data.tobytes(), ends.tolist()) == (texts[-1], [0, len(texts[-1])])


# Words


@given(st.binary(max_size=40), st.binary(max_size=9), st.integers(0, 2**64 - 1))
def test_a_hash_depends_on_the_bytes_alone(text: bytes, before: bytes, secret: int) -> None:
    def hashed(data: bytes, begin: int) -> int:
        array = np.frombuffer(data + b"\0", np.uint8)
        return int(words.hashed(array, begin, begin + len(text), np.uint64(secret)))

    assert hashed(text, 0) == hashed(before + text + before, len(before))


def test_hashes_differ_with_each_byte_and_with_the_secret() -> None:
    texts = [bytes([i]) * size for size in range(1, 60) for i in (0, 1, 255)]
    made = {
        int(words.hashed(np.frombuffer(text, np.uint8), 0, len(text), np.uint64(secret)))
        for text in texts
        for secret in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
    }
    assert len(made) == 2 * len(texts)


@given(st.binary(max_size=40), st.integers(0, 40), st.sampled_from(b'"\\\n{'))
def test_a_byte_is_found_where_it_first_is(text: bytes, at: int, byte: int) -> None:
    array = np.frombuffer(text, np.uint8)
    place = text.find(bytes([byte]), at)
    at = min(at, len(text))
    assert words.found(array, at, len(text), byte, byte, byte) == (
        len(text) if place < 0 else place
    )
    newline = text.find(b"\n", at)
    assert words.line_end(array, at) == (len(text) if newline < 0 else newline)


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_texts_are_the_same_when_all_bytes_are(one: bytes, other: bytes) -> None:
    size = min(len(one), len(other))
    arrays = [np.frombuffer(text, np.uint8) for text in (one, other)]
    assert words.is_same(arrays[0], 0, arrays[1], 0, size) == (one[:size] == other[:size])
    assert words.is_same(arrays[0], 0, arrays[0], 0, len(one))
