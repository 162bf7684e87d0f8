"""Decimal text to the nearest double, compiled; what is not certain is left to Python's float().

Methods: W. D. Clinger, How to read floating point numbers accurately (PLDI 1990), for short ones;
D. Lemire, Number parsing at a gigabyte per second (Software: Practice and Experience 51, 2021,
section 5), for those of up to 19 digits.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from capacity.load.words import WORD, are_digits, byte, compiled, of_digits, product, word

Bytes = npt.NDArray[np.uint8]

# What `number` says of a text: no number; its value; a number for float()
BAD, GOOD, HARD = 0, 1, 2
_POINT, _MINUS, _PLUS, _ZERO, _EXPONENT = b".-+0e"
_INFINITY: Final = np.frombuffer(b"infinity", np.uint8)
_NAN: Final = np.frombuffer(b"nan", np.uint8)
# Digits of which any number fits 64 bits
_DIGITS: Final = 19
# Up to here integers and powers of ten are doubles themselves
# numba compares unlike integers as doubles
_EXACT: Final = np.uint64(1 << 53)
_POWERS: Final = np.array([10.0**i for i in range(23)])
# Powers of ten beyond which any 19 digits are no normal double
_LOWEST, _HIGHEST = -326, 308


def _mantissas() -> tuple[Any, Any]:
    """Give the first 128 bits of powers of ten, cut off, in two halves."""
    high, low = [], []
    for power in range(_LOWEST, _HIGHEST + 1):
        ten = 10**power if power >= 0 else (1 << 2048) // 10**-power
        bits = ten.bit_length()
        whole = ten >> (bits - 128) if bits >= 128 else ten << (128 - bits)
        high.append(whole >> 64)
        low.append(whole & ((1 << 64) - 1))
    return np.array(high, np.uint64), np.array(low, np.uint64)


_HIGH, _LOW = _mantissas()


@compiled
def number(text: Bytes, at: int, may_be_word: bool) -> tuple[int, float, int]:
    """Read the number that begins at `at`.

    Returns
    -------
    BAD, GOOD or HARD, the value if it is GOOD, and where it ends. Words are inf, infinity, nan.
    """
    is_negative = False
    if at < len(text) and (byte(text, at) == _MINUS or byte(text, at) == _PLUS):
        is_negative = byte(text, at) == _MINUS
        at += 1
    told, end = digits(text, at, np.uint64(0))
    seen, power = end - at, 0
    if end < len(text) and byte(text, end) == _POINT:
        told, last = digits(text, end + 1, told)
        power = end + 1 - last
        seen, end = seen - power, last
    if seen == 0:
        return _named(text, at, is_negative) if may_be_word and end == at else (BAD, 0.0, at)
    if end < len(text) and byte(text, end) | 32 == _EXPONENT:
        exponent, end = _exponent(text, end + 1)
        power += exponent
        if end == 0:
            return BAD, 0.0, at
    if seen > _DIGITS and seen - _zeros(text, at, end) > _DIGITS:
        return HARD, 0.0, end
    is_sure, value = nearest(told, power)
    return GOOD if is_sure else HARD, -value if is_negative else value, end


@compiled
def _zeros(text: Bytes, at: int, end: int) -> int:
    """Count the zeros in front, which are no digits of the number."""
    count = 0
    while at < end and (byte(text, at) == _ZERO or byte(text, at) == _POINT):
        count += byte(text, at) == _ZERO
        at += 1
    return count


@compiled
def digits(text: Bytes, at: int, number: np.uint64) -> tuple[np.uint64, int]:
    """Append digits to a number; what is more than 64 bits overflows."""
    while at + WORD <= len(text):
        value = word(text, at)
        if not are_digits(value):
            break
        number = number * np.uint64(100_000_000) + of_digits(value)
        at += WORD
    while at < len(text):
        digit = byte(text, at) - _ZERO
        if digit < 0 or digit > 9:
            break
        number = number * np.uint64(10) + np.uint64(digit)
        at += 1
    return number, at


@compiled
def _exponent(text: Bytes, at: int) -> tuple[int, int]:
    """Give the exponent and where it ends, which is 0 if there is none."""
    is_negative = False
    if at < len(text) and (byte(text, at) == _MINUS or byte(text, at) == _PLUS):
        is_negative = byte(text, at) == _MINUS
        at += 1
    begin, exponent = at, 0
    while at < len(text) and _ZERO <= byte(text, at) <= _ZERO + 9:
        # Any power beyond this is 0 or infinite
        exponent = min(exponent * 10 + byte(text, at) - _ZERO, 99999)
        at += 1
    return -exponent if is_negative else exponent, at if at > begin else 0


@compiled
def _named(text: Bytes, at: int, is_negative: bool) -> tuple[int, float, int]:
    if _is_word(text, at, _NAN, 3):
        return GOOD, np.nan, at + 3
    size = 8 if _is_word(text, at, _INFINITY, 8) else 3 if _is_word(text, at, _INFINITY, 3) else 0
    if size == 0:
        return BAD, 0.0, at
    return GOOD, -np.inf if is_negative else np.inf, at + size


@compiled
def _is_word(text: Bytes, at: int, wanted: Bytes, size: int) -> bool:
    if at + size > len(text):
        return False
    for i in range(size):  # noqa: SIM110 - numba knows no all()
        if text[at + i] | 32 != wanted[i]:
            return False
    return True


@compiled
def nearest(digits: np.uint64, power: int) -> tuple[bool, float]:
    """Give the double nearest to digits times 10**power, and whether it is sure to be that."""
    if digits == 0:
        return True, 0.0
    if digits <= _EXACT and -22 <= power <= 22:
        value = float(digits)
        return True, value * _POWERS[power] if power >= 0 else value / _POWERS[-power]
    if power < _LOWEST or power > _HIGHEST:
        return False, 0.0
    return _lemire(digits, power)


@compiled
def _lemire(digits: np.uint64, power: int) -> tuple[bool, float]:
    """Multiply with the first 128 bits of the power; not sure where the rest might tell."""
    one, mask = np.uint64(1), np.uint64(0x1FF)
    shift = 0
    while digits >> np.uint64(63) == 0:
        digits <<= one
        shift += 1
    # 217706 / 2**16 is log2(10), near enough for these powers
    exponent = ((217706 * power) >> 16) + 64 + 1023 - shift
    high, low = product(digits, _HIGH[power - _LOWEST])
    if high & mask == mask and low + digits < digits:
        more, rest = product(digits, _LOW[power - _LOWEST])
        total = low + more
        if total < low:
            high += one
        low = total
        if high & mask == mask and low + one == 0 and rest + digits < digits:
            return False, 0.0
    top = high >> np.uint64(63)
    mantissa = high >> (top + np.uint64(9))
    exponent -= int(one ^ top)
    if low == 0 and high & mask == 0 and mantissa & np.uint64(3) == one:
        return False, 0.0
    mantissa = (mantissa + (mantissa & one)) >> one
    if mantissa >> np.uint64(53) > 0:
        mantissa >>= one
        exponent += 1
    # Infinite and subnormal ones round differently
    if exponent < 1 or exponent > 2046:
        return False, 0.0
    bits = np.uint64(exponent) << np.uint64(52) | (mantissa & np.uint64((1 << 52) - 1))
    return True, _double(bits)


@compiled
def _double(bits: np.uint64) -> float:
    return np.uint64(bits).view(np.float64)
