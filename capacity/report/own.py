"""A user's own notebook: the names and types of its parameters, as papermill finds them.

papermill would only warn at a name that is not there, and read 1.20 as 1.2: values are checked, and
texts become what their type says, before a kernel starts.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from capacity.errors import SettingsError

_OPTIONAL: Final = re.compile(r"(?:typing\.)?Optional\[(.+)\]|(.+?)\s*\|\s*None|None\s*\|\s*(.+)")
_MANY: Final = re.compile(r"(?:typing\.)?(?:list|tuple)(?:\[(.+?)(?:,\s*\.\.\.)?\])?", re.I)
_PLAIN: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,), "int": (int,), "float": (float, int), "bool": (bool,), "dict": (dict,),
    "Any": (object,),
}  # fmt: skip
_WORDS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def own_parameters(path: Path) -> dict[str, str]:
    """Give name → type of each parameter; without an annotation the type of its default.

    Raises
    ------
    SettingsError
        If the file is no notebook of Python, or has no cell tagged `parameters`.
    """
    import nbformat
    from papermill import inspect_notebook
    from papermill.exceptions import PapermillException

    with warnings.catch_warnings():
        # papermill warns about its own future, and nbformat of cells without ids
        warnings.simplefilter("ignore")
        try:
            notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
            # Some editors leave the kernel out
            spec = {"name": "python3", "display_name": "Python", "language": "python"}
            notebook.metadata.setdefault("kernelspec", spec)
            # A path would be formatted with the parameters: braces in it have a meaning
            found = inspect_notebook(notebook)
        except (
            ValueError, KeyError, AttributeError, TypeError, OSError, nbformat.ValidationError,
            PapermillException,
        ) as error:  # fmt: skip
            told = str(error).partition("\n")[0]
            raise SettingsError(f"notebook {path}: cannot be read: {told}") from None
    language = notebook.metadata.get("kernelspec", {}).get("language", "python")
    if language != "python":
        raise SettingsError(f"notebook {path}: is written in {language}; wanted one of Python")
    if not any("parameters" in c.metadata.get("tags", []) for c in notebook.cells):
        raise SettingsError(
            f"notebook {path}: has no cell tagged `parameters`; give the cell that assigns the "
            "parameters this tag"
        )
    return {name: _kind(told) for name, told in found.items()}


def _kind(told: Mapping[str, Any]) -> str:
    """Give the type of a parameter: as annotated, or of its default; Any where neither tells."""
    if told["inferred_type_name"] != "None":
        return str(told["inferred_type_name"])
    try:
        default = _literal(told["default"])
    except ValueError:
        return "Any"
    return "Any" if default is None else type(default).__name__


def checked(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Give values whose names and types are those of a notebook's parameters.

    Raises
    ------
    SettingsError
        With all faults in one message.
    """
    known = own_parameters(path)
    faults = [_unknown(path, name, known) for name in values if name not in known]
    faults += [
        f"notebook {path.name}: parameter {name} is of type {known[name]}, not {value!r}"
        for name, value in values.items()
        if name in known and not _fits(value, known[name])
    ]
    if faults:
        raise SettingsError("; ".join(faults))
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _unknown(path: Path, name: str, known: Mapping[str, str]) -> str:
    listed = ", ".join(f"{k}: {v}" for k, v in known.items()) or "none"
    return f"{name!r} is no parameter of notebook {path.name}; it has {listed}"


def from_texts(path: Path, texts: Mapping[str, str]) -> dict[str, Any]:
    """Read texts as the types of a notebook's parameters; 1.20 stays a text where one is wanted.

    Raises
    ------
    SettingsError
        If a name is unknown or a text is not of its type, with all faults in one message.
    """
    known = own_parameters(path)
    made: dict[str, Any] = {}
    faults = []
    for name, text in texts.items():
        if name not in known:
            faults.append(_unknown(path, name, known))
            continue
        try:
            made[name] = read_as(text, known[name])
        except ValueError:
            faults.append(f"{name}={text}: {text!r} is not of type {known[name]}")
    if faults:
        raise SettingsError("; ".join(faults))
    return made


def read_as(text: str, kind: str) -> Any:
    """Read a text as a value of a type, written as in Python's annotations.

    Raises
    ------
    ValueError
        If it is none, or the type is not one that a text can be read as.

    Examples
    --------
    >>> read_as("1.20", "str"), read_as("1,2", "list[int]"), read_as("", "Optional[int]")
    ('1.20', [1, 2], None)
    """
    if (inner := _inner(kind)) is not None:
        return None if text in ("", "None", "null") else read_as(text, inner)
    if (many := _MANY.fullmatch(kind)) is not None:
        if text.startswith("["):
            return _checked(_literal(text), kind)
        return [read_as(part.strip(), many[1] or "str") for part in text.split(",") if part.strip()]
    if kind == "bool":
        if text.lower() not in _WORDS:
            raise ValueError(text)
        return _WORDS[text.lower()]
    if kind in ("int", "float"):
        return int(text) if kind == "int" else float(text)
    if kind == "Any":
        try:
            return _literal(text)
        except ValueError:
            return text
    return text if kind == "str" else _checked(_literal(text), kind)


def _literal(text: str) -> Any:
    """Read a value as Python writes it; ValueError for all that is none."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError(text) from None


def _checked(value: Any, kind: str) -> Any:
    if not _fits(value, kind):
        raise ValueError(value)
    return value


def _inner(kind: str) -> str | None:
    """Give the type inside of an optional one; None where it is not optional."""
    found = _OPTIONAL.fullmatch(kind)
    return None if found is None else next(part for part in found.groups() if part)


def _fits(value: Any, kind: str) -> bool:
    if (inner := _inner(kind)) is not None:
        return value is None or _fits(value, inner)
    if (many := _MANY.fullmatch(kind)) is not None:
        item = many[1] or "Any"
        return isinstance(value, list | tuple) and all(_fits(v, item) for v in value)
    wanted = _PLAIN.get(kind.partition("[")[0], ())
    # True is a number to Python, and to nobody else
    is_odd = isinstance(value, bool) and kind not in ("bool", "Any")
    return isinstance(value, wanted) and not is_odd
