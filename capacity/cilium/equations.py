"""Equations of facts: sums, differences, products of named drivers. Nothing else is evaluated."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from capacity.errors import FactError

_DOES: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def names(equation: str) -> tuple[str, ...]:
    """Give the drivers that an equation names, in the order in which it names them.

    Parameters
    ----------
    equation
        Drivers and numbers with ``+ - *`` and parentheses.

    Returns
    -------
    tuple of str
        Each driver once.

    Raises
    ------
    FactError
        If it is not such an equation.

    Examples
    --------
    >>> names("pods + nodes * (2 + pods)")
    ('pods', 'nodes')
    """
    found = [node for node in ast.walk(_parsed(equation)) if isinstance(node, ast.Name)]
    return tuple(dict.fromkeys(n.id for n in sorted(found, key=lambda node: node.col_offset)))


def evaluate(equation: str, drivers: Mapping[str, float]) -> float:
    """Give the value of an equation; it is never below 0.

    Parameters
    ----------
    equation
        As for `names`.
    drivers
        A value for each driver that it names, in the unit of the driver.

    Returns
    -------
    float
        Entries, where the equation is one of facts/fill.csv. [1]

    Raises
    ------
    FactError
        If it is not such an equation, or a driver has no value.

    Examples
    --------
    >>> evaluate("(nodes - 1) * pod_cidrs", {"nodes": 301, "pod_cidrs": 1})
    300.0
    """
    return max(_value(_parsed(equation), equation, drivers), 0.0)


@cache
def _parsed(equation: str) -> ast.expr:
    try:
        return ast.parse(equation, mode="eval").body
    except SyntaxError as error:
        raise FactError(f"{equation!r} is no equation: {error.msg}") from None


def _value(node: ast.expr, equation: str, drivers: Mapping[str, float]) -> float:
    if isinstance(node, ast.BinOp) and type(node.op) in _DOES:
        left, right = (_value(part, equation, drivers) for part in (node.left, node.right))
        return _DOES[type(node.op)](left, right)
    if isinstance(node, ast.Name):
        if node.id not in drivers:
            raise FactError(f"{equation!r}: driver {node.id!r} has no value")
        return float(drivers[node.id])
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    raise FactError(f"{equation!r} is no equation: only drivers, numbers, + - * and parentheses")
