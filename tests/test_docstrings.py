"""Docstrings of what the reference of the library shows: nothing of a call is left untold."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import capacity

LIBRARY = Path(__file__).resolve().parents[1] / "docs" / "reference" / "library.md"
MODULES = re.findall(r"automodule:: (\S+)", LIBRARY.read_text(encoding="utf-8"))


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions and methods by their name; properties are told by their summary alone."""
    owners = [(name, getattr(capacity, name)) for name in capacity.__all__]
    for name in MODULES:
        module = importlib.import_module(name)
        own = [n for n, one in vars(module).items() if getattr(one, "__module__", "") == name]
        names = getattr(module, "__all__", None) or [n for n in own if n[0] != "_"]
        owners += [(f"{name}.{n}", getattr(module, n)) for n in names]
    for name, one in owners:
        if not (getattr(one, "__module__", None) or "").startswith("capacity"):
            continue
        if inspect.isfunction(inspect.unwrap(one)):
            yield name, inspect.unwrap(one)
        elif inspect.isclass(one):
            yield from (
                (f"{name}.{key}", method)
                for key, method in vars(one).items()
                if key[0] != "_" and inspect.isfunction(method)
            )


PUBLIC = dict(sorted(public()))


def lacks(function: Callable[..., Any]) -> list[str]:
    """Say what a docstring does not tell."""
    told = inspect.getdoc(function) or ""
    heads = set(re.findall(r"^(\w+)\n-+$", told, re.MULTILINE))
    asked = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    named = re.findall(r"^(\w[\w, ]*?)(?: :.*)?$", told, re.MULTILINE)
    names = {name.strip() for line in named for name in line.split(",")}
    source = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raises = any(isinstance(node, ast.Raise) and node.exc for node in ast.walk(source))
    found = [f"parameter {name}" for name in asked if name not in names]
    if inspect.signature(function).return_annotation not in (None, "None") and not (
        heads & {"Returns", "Yields"}
    ):
        found.append("what it returns")
    if raises and "Raises" not in heads:
        found.append("what it raises")
    return found if told else ["everything"]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_function_tells_parameters_results_and_errors(name: str) -> None:
    assert lacks(PUBLIC[name]) == []


def test_the_public_functions_are_found() -> None:
    assert {"plan", "read", "capacity.facts.maps", "capacity.models.LinearDrivers.fit"} <= set(
        PUBLIC
    )
    assert len(PUBLIC) > 60


def test_what_a_docstring_lacks_is_found() -> None:
    def call(a: int, b: int) -> int:
        """Add.

        Parameters
        ----------
        a
            One.
        """
        if b < 0:
            raise ValueError
        return a + b

    assert lacks(call) == ["parameter b", "what it returns", "what it raises"]
