"""Eight bytes at once, compiled: compare, hash, find in text, and read digits.

numba has no unaligned load, no product of 128 bits and no count of zero bits: its compiler is told
of them here. `byte` and `word` check no index: who calls does. Tests of all bytes of a word at
once are those of H. S. Warren, Hacker's Delight, 2nd edition, section 6-1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

Bytes = npt.NDArray[np.uint8]

_Function = TypeVar("_Function", bound=Callable[..., Any])

WORD: Final = 8
# Its type is that of a function with the context as first argument
_intrinsic: Any = intrinsic
# A zero of any number's type: to numba 0 has a type of its own, and what is called with it would be
# compiled for that once more
ZERO: Final = cast("int", np.int64(0))
ONE: Final = cast("int", np.int64(1))
NO, YES = cast("tuple[bool, bool]", (np.False_, np.True_))
_NEWLINE, _SPACE, _QUOTE, _ESCAPE = b'\n "\\'
_ONES: Final = np.uint64(0x0101010101010101)
_HIGHS: Final = np.uint64(0x8080808080808080)


def compiled(function: _Function) -> _Function:
    """Compile a function that makes no arrays: nobody counts then who refers to those it is given.

    Counts are shared by all cores, and took up to half of the time.
    """
    options: Any = {"cache": True, "nogil": True, "_nrt": False}
    made: _Function = njit(**options)(function)
    return made


@_intrinsic  # type: ignore[untyped-decorator]
def byte(_: Any, text: Any, at: Any) -> Any:
    """Give one byte; numba's own indexing asks first whether the index is negative."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        found = builder.load(builder.gep(view.data, [arguments[1]]))
        return builder.zext(found, ir.IntType(64))

    return types.int64(text, types.int64), build


@_intrinsic  # type: ignore[untyped-decorator]
def word(_: Any, text: Any, at: Any) -> Any:
    """Give the eight bytes from `at` as a number, the first one lowest."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(view.data, [arguments[1]])
        found = builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)
        return found if sys.byteorder == "little" else builder.bswap(found)

    return types.uint64(text, types.int64), build


@_intrinsic  # type: ignore[untyped-decorator]
def big_word(_: Any, text: Any, at: Any) -> Any:
    """Give the eight bytes from `at` as a number, the first one highest."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(view.data, [arguments[1]])
        found = builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)
        return builder.bswap(found) if sys.byteorder == "little" else found

    return types.uint64(text, types.int64), build


@_intrinsic  # type: ignore[untyped-decorator]
def _put_word(_: Any, text: Any, at: Any, value: Any) -> Any:
    """Write what `word` gives."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, value = arguments
        view = context.make_array(signature.args[0])(context, builder, array)
        place = builder.bitcast(builder.gep(view.data, [at]), ir.IntType(64).as_pointer())
        value = value if sys.byteorder == "little" else builder.bswap(value)
        builder.store(value, place, align=1)
        return context.get_dummy_value()

    return types.void(text, types.int64, types.uint64), build


@_intrinsic  # type: ignore[untyped-decorator]
def _zero_bits(_: Any, mask: Any) -> Any:
    """Count the zero bits below the lowest one."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), build


@_intrinsic  # type: ignore[untyped-decorator]
def leading_zeros(_: Any, value: Any) -> Any:
    """Count the zero bits above the highest one; the value is not 0."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), build


@_intrinsic  # type: ignore[untyped-decorator]
def touch(_: Any, slots: Any, at: Any) -> Any:
    """Ask for what stands there to be brought to the processor's cache."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        place = builder.bitcast(builder.gep(view.data, [arguments[1]]), pointer)
        # To be read, kept in all caches, data
        builder.call(fetch, [place, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(slots, types.uint64), build


@_intrinsic  # type: ignore[untyped-decorator]
def product(_: Any, one: Any, other: Any) -> Any:
    """Give the product of two 64-bit numbers as its high and its low half."""
    pair = types.Tuple((types.uint64, types.uint64))  # type: ignore[no-untyped-call]

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        whole = builder.mul(*(builder.zext(value, wide) for value in arguments))
        high = builder.lshr(whole, ir.Constant(wide, 64))
        halves = [builder.trunc(value, ir.IntType(64)) for value in (high, whole)]
        return context.make_tuple(builder, pair, halves)

    return pair(types.uint64, types.uint64), build


def codes(text: bytes) -> tuple[int, ...]:
    """Give bytes as numbers of one type, for what is compiled once whichever it is called with."""
    return tuple(np.frombuffer(text, np.uint8).astype(np.int64))


def read_only(data: Bytes) -> Bytes:
    """Give a view that is not written to: compiled code is made for each kind, and this is ours."""
    view = data.view()
    view.flags.writeable = False
    return view


@compiled
def _folded(one: np.uint64, other: np.uint64) -> np.uint64:
    high, low = product(one, other)
    folded: np.uint64 = high ^ low
    return folded


@compiled
def hashed(text: Bytes, begin: int, end: int, secret: np.uint64) -> np.uint64:
    """Hash the bytes [begin, end): each 16 are multiplied with one another and the secret.

    The last 16 overlap those before. The scheme is that of wyhash (github.com/wangyi-fudan/wyhash).
    """
    size = end - begin
    state = secret ^ np.uint64(size)
    if size >= 2 * WORD:
        at = begin
        while at + 2 * WORD < end:
            state = _folded(word(text, at) ^ secret, word(text, at + WORD) ^ state)
            at += 2 * WORD
        first, second = word(text, end - 2 * WORD), word(text, end - WORD)
    elif size >= WORD:
        first, second = word(text, begin), word(text, end - WORD)
    else:
        first, second = np.uint64(0), np.uint64(0)
        for at in range(begin, end):
            first = (first << np.uint64(8)) | np.uint64(text[at])
    return _folded(first ^ secret, second ^ state)


@njit(cache=True, nogil=True)
def hashed_all(
    text: Bytes, ends: npt.NDArray[np.int64], secret: np.uint64
) -> npt.NDArray[np.uint64]:
    """Hash texts that follow one another: text i is [ends[i], ends[i + 1])."""
    hashes = np.empty(len(ends) - 1, np.uint64)
    for i in range(len(hashes)):
        hashes[i] = hashed(text, ends[i], ends[i + 1], secret)
    return hashes


@compiled
def is_same(one: Bytes, begin: int, other: Bytes, start: int, size: int) -> bool:
    """Tell whether `size` bytes of two texts are equal."""
    if size < WORD:
        for i in range(size):  # noqa: SIM110 - numba knows no all()
            if one[begin + i] != other[start + i]:
                return False
        return True
    at = 0
    while at + WORD < size:
        if word(one, begin + at) != word(other, start + at):
            return False
        at += WORD
    at = size - WORD
    return bool(word(one, begin + at) == word(other, start + at))


@compiled
def copied(text: Bytes, begin: int, end: int, out: Bytes, at: int) -> int:
    """Copy [begin, end) to `at`, and up to seven bytes behind if there is room; give its end."""
    last = at + end - begin
    if end + WORD > len(text) or last + WORD > len(out):
        for i in range(end - begin):
            out[at + i] = text[begin + i]
        return last
    while at < last:
        _put_word(out, at, word(text, begin))
        at += WORD
        begin += WORD
    return last


@compiled
def _zeros(value: np.uint64) -> np.uint64:
    """Mark the lowest byte that is 0; higher marks may be wrong."""
    return (value - _ONES) & ~value & _HIGHS


@compiled
def found(text: Bytes, at: int, end: int, one: int, two: int, three: int) -> int:
    """Give the first place of any of three bytes in [at, end); the end if there is none."""
    first, second, third = _ONES * np.uint64(one), _ONES * np.uint64(two), _ONES * np.uint64(three)
    while at + WORD <= end:
        value = word(text, at)
        marks = _zeros(value ^ first) | _zeros(value ^ second) | _zeros(value ^ third)
        if marks:
            before: int = _zero_bits(marks) >> 3
            return at + before
        at += WORD
    while at < end:
        last = byte(text, at)
        if last in (one, two, three):
            break
        at += 1
    return at


@compiled
def value_end(text: Bytes, at: int, end: int) -> int:
    """Give the first place of a quote, a backslash or a byte below a space; the end if none."""
    quotes, escapes = _ONES * np.uint64(_QUOTE), _ONES * np.uint64(_ESCAPE)
    spaces = _ONES * np.uint64(_SPACE)
    while at + WORD <= end:
        value = word(text, at)
        marks = _zeros(value ^ quotes) | _zeros(value ^ escapes)
        marks |= (value - spaces) & ~value & _HIGHS
        if marks:
            before: int = _zero_bits(marks) >> 3
            return at + before
        at += WORD
    while at < end:
        last = byte(text, at)
        if last < _SPACE or last in (_QUOTE, _ESCAPE):
            break
        at += 1
    return at


@compiled
def is_plain(text: Bytes, at: int, end: int, other: int) -> bool:
    """Tell whether no byte of [at, end) is below that of a space, or another one."""
    spaces, others = _ONES * np.uint64(32), _ONES * np.uint64(other)
    while at + WORD <= end:
        value = word(text, at)
        if ((value - spaces) & ~value & _HIGHS) | _zeros(value ^ others):
            return False
        at += WORD
    while at < end:
        if byte(text, at) < 32 or byte(text, at) == other:
            return False
        at += 1
    return True


@compiled
def holds_control(text: Bytes, at: int, end: int) -> bool:
    """Tell whether a byte of [at, end) is below that of a space."""
    spaces = _ONES * np.uint64(32)
    while at + WORD <= end:
        value = word(text, at)
        if (value - spaces) & ~value & _HIGHS:
            return True
        at += WORD
    while at < end:
        if byte(text, at) < 32:
            return True
        at += 1
    return False


@compiled
def line_end(text: Bytes, at: int) -> int:
    """Give where the line ends; the end of the text if it does not."""
    wanted = _ONES * np.uint64(_NEWLINE)
    while at + WORD <= len(text):
        marks = _zeros(word(text, at) ^ wanted)
        if marks:
            before: int = _zero_bits(marks) >> 3
            return at + before
        at += WORD
    while at < len(text) and byte(text, at) != _NEWLINE:
        at += 1
    return at


@compiled
def are_digits(value: np.uint64) -> bool:
    """Tell whether eight bytes are digits."""
    carried = (value + np.uint64(0x0606060606060606)) & np.uint64(0xF0F0F0F0F0F0F0F0)
    high = value & np.uint64(0xF0F0F0F0F0F0F0F0)
    return bool(high | carried >> np.uint64(4) == np.uint64(0x3333333333333333))


@compiled
def of_digits(value: np.uint64) -> np.uint64:
    """Give the number that eight digits write: pairs, then fours, then all."""
    value -= np.uint64(0x3030303030303030)
    value = value * np.uint64(10) + (value >> np.uint64(8))
    ones, hundreds = np.uint64(0x000000FF000000FF), np.uint64(0x000F424000000064)
    thousands = np.uint64(0x0000271000000001)
    low = (value & ones) * hundreds
    high = (value >> np.uint64(16) & ones) * thousands
    return (low + high) >> np.uint64(32)
