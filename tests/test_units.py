from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity import units
from capacity.errors import SettingsError


@given(st.integers(0, 1 << 50))
def test_a_request_in_bytes_never_rounds_below_its_need(need: int) -> None:
    written = units.bytes_to_quantity(need, "up")
    assert units.parse_bytes(written) >= need
    assert units.parse_bytes(written) - need < 1 << 20


@given(st.integers(0, 10**7))
def test_millicores_read_back_as_written(millicores: int) -> None:
    assert units.parse_millicores(units.millicores_to_quantity(millicores)) == millicores


@pytest.mark.parametrize("text", ["", "Gi", "1.2.3", "30 GiBs", "1e", "--5", "NaN", "inf"])
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="memory"):
        units.parse_bytes(text)


@pytest.mark.parametrize("text", ["", "abc", "1x", "10 parsecs", "nan", "inf"])
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="horizon"):
        units.parse_duration(text, what="horizon")


def test_decimal_and_binary_suffixes_differ() -> None:
    assert units.parse_quantity("1k") == Decimal(1000)
    assert units.parse_quantity("1Ki") == Decimal(1024)
    assert units.parse_bytes("100m") == 1  # a tenth of a byte, rounded up
