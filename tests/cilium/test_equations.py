"""Equations are sums and products of drivers; nothing else is evaluated."""

from __future__ import annotations

import pytest

from capacity.cilium.equations import evaluate, names
from capacity.errors import FactError


def test_an_equation_is_never_below_zero() -> None:
    assert evaluate("nodes - 5", {"nodes": 2}) == 0


@pytest.mark.parametrize(
    "equation", ["__import__('os')", "nodes.real", "nodes / 2", "nodes ** 9", "max(nodes)", "'a'"]
)  # fmt: skip
def test_what_is_no_equation_is_refused_and_not_run(equation: str) -> None:
    with pytest.raises(FactError, match="is no equation"):
        evaluate(equation, {"nodes": 1})


def test_a_driver_without_a_value_is_named() -> None:
    with pytest.raises(FactError, match="'pods' has no value"):
        evaluate("nodes + pods", {"nodes": 1})


def test_names_are_told_once_in_the_order_of_the_equation() -> None:
    assert names("b * (a - 1) + b") == ("b", "a")
