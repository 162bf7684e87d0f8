"""The loader reads our object and refuses everything else by one error."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.errors import MeasureError
from capacity.measure import loader

OBJECT = loader.shipped()


def test_a_symbol_becomes_a_map_or_a_number() -> None:
    code = loader.Code("xdp", b"\x18\x01" + bytes(14), ((0, "ct_map"),))
    as_map = loader.link(code, {"ct_map": loader.Descriptor(7)})
    as_number = loader.link(code, {"ct_map": 7})
    assert as_map == b"\x18\x11\0\0" + struct.pack("<I", 7) + bytes(8)
    assert as_number == b"\x18\x01\0\0" + struct.pack("<I", 7) + bytes(8)


def test_a_symbol_without_a_value_is_named() -> None:
    code = loader.programs(OBJECT)["xdp/ct"]
    with pytest.raises(MeasureError, match="state_map"):
        loader.link(code, {"ct_map": 3})


@settings(max_examples=40)
@given(st.data())
def test_a_damaged_object_is_refused_or_read_never_worse(data: st.DataObject) -> None:
    damaged = bytearray(OBJECT)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, 200) | st.integers(0, len(OBJECT) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))
    with contextlib.suppress(MeasureError):
        loader.programs(bytes(damaged[:end]))
