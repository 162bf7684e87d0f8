"""Notebooks and their parameters: names and types are checked before a kernel starts."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from capacity import shipped
from capacity.errors import SettingsError
from capacity.fleet_settings import FleetSettings
from capacity.report import own
from capacity.scenario_settings import ScenarioSettings
from capacity.settings import DRIVER_NAMES, PlanSettings, from_mapping

# What a notebook is run with: the settings of a shipped one, or values of a user's own
Given = PlanSettings | ScenarioSettings | FleetSettings | Mapping[str, Any]
Kind = type[PlanSettings] | type[ScenarioSettings] | type[FleetSettings]
# A shipped notebook and the settings that its parameters cell must equal
NOTEBOOKS: Final[dict[str, Kind]] = {
    "plan": PlanSettings,
    "maps": PlanSettings,
    "policies": PlanSettings,
    "services_lb": PlanSettings,
    "resources": PlanSettings,
    "growth": PlanSettings,
    "scenarios": ScenarioSettings,
    "upgrade": PlanSettings,
    "validation": PlanSettings,
    "fleet": FleetSettings,
}
# What `all` means: the notebooks over one cluster
OF_A_CLUSTER: Final = tuple(name for name, kind in NOTEBOOKS.items() if kind is not FleetSettings)


def find(notebook: str | Path) -> Path:
    """Give the path of a shipped notebook by its name, or of the user's own.

    Raises
    ------
    SettingsError
        If there is no such file.
    """
    path = Path(notebook)
    if path.suffix != ".ipynb":
        if notebook not in NOTEBOOKS:
            known = ", ".join(NOTEBOOKS)
            raise SettingsError(
                f"notebook {notebook}: no such one; shipped are {known}; "
                "all: those over one cluster"
            )
        return shipped.path("notebooks", f"{notebook}.ipynb")
    if not path.is_file():
        raise SettingsError(f"notebook {path}: no such file; name a shipped one such as plan")
    return path


def values_of(given: Given) -> dict[str, Any]:
    """Give what a notebook is run with as plain values by name."""
    return dict(given) if isinstance(given, Mapping) else asdict(given)


def places(given: Given) -> tuple[str, ...]:
    """Give the texts that may be URLs with credentials, also those in lists."""
    flat: list[Any] = list(values_of(given).values())
    flat += [item for value in flat if isinstance(value, list | tuple) for item in value]
    return tuple(value for value in flat if isinstance(value, str))


def source_of(given: Given) -> str:
    """Give the source of a notebook's data, where a parameter of that name tells it."""
    told = values_of(given).get("source")
    return told if isinstance(told, str) else ""


def parameters(path: Path, settings: Given) -> dict[str, Any]:
    """Give the settings as notebook parameters; papermill would only warn at a wrong name.

    Raises
    ------
    SettingsError
        If the notebook's parameters are not the settings' fields, or a value of a user's own
        notebook has another name or type than its parameters.
    """
    if isinstance(settings, Mapping):
        return own.checked(path, settings)
    wanted = {f.name for f in fields(settings)}
    declared = declared_parameters(path)
    if wanted != set(declared):
        raise SettingsError(
            f"notebook {path.name}: its parameters cell lacks {sorted(wanted - set(declared))} and "
            f"has unknown {sorted(set(declared) - wanted)}; it must name the fields of "
            f"{type(settings).__name__}"
        )
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()}
    from_mapping(type(settings), values)
    return values


def settings_for(
    name: str, values: Mapping[str, Any], changes: Iterable[str], said: Collection[str] = ()
) -> Given:
    """Make what a notebook is run with from values by name and changes such as ``nodes=500``.

    A change names a parameter, or a driver (``services=9000``), which goes to parameter `set`.
    A notebook with other parameters than a plan's takes the changes, and those of the values that
    are in `said`.

    Raises
    ------
    SettingsError
        If a name is unknown, or a value has another type than the parameter.

    Examples
    --------
    >>> made = settings_for("plan", {}, ["nodes=500,1000", "cilium=1.20", "services=9000"])
    >>> made.nodes, made.cilium, made.set
    ((500, 1000), '1.20', ('services=9000',))
    """
    kind = _kind(name)
    if kind is None:
        return _own(find(name), {k: values[k] for k in said}, changes)
    if kind is not PlanSettings:
        known_names = {f.name for f in fields(kind)}
        _refuse(name, [k for k in said if k not in known_names], known_names)
        values = {k: v for k, v in values.items() if k in known_names}
    known = {f.name: str(f.type) for f in fields(kind)}
    made, faults = dict(values), []
    for change in changes:
        key, equals, text = (part.strip() for part in change.partition("="))
        if not equals:
            faults.append(f"--set {change}: wanted NAME=VALUE")
        elif key in known and key != "set":
            made[key] = _typed(text, known[key], f"--set {change}")
        elif key in DRIVER_NAMES and "set" in known:
            made["set"] = [*made.get("set", ()), f"{key}={text}"]
        else:
            drivers = f" and no driver ({', '.join(DRIVER_NAMES)})" if "set" in known else ""
            faults.append(
                f"--set {change}: {key!r} is no parameter of notebook {name} "
                f"({', '.join(sorted(known))}){drivers}"
            )
    if faults:
        raise SettingsError("; ".join(faults))
    return from_mapping(kind, made)


def of_all(name: str, changes: Iterable[str], said: Collection[str]) -> tuple[list[str], set[str]]:
    """Give what a notebook takes of changes and options that were said to all of them.

    A plan's take all; others their own parameters, drivers are none of them.
    """
    kind = NOTEBOOKS[name]
    if kind is PlanSettings:
        return list(changes), set(said)
    known = {f.name for f in fields(kind)}
    return [c for c in changes if c.partition("=")[0].strip() in known], known & set(said)


def _kind(name: str) -> Kind | None:
    """Give the settings of a notebook; None where its parameters are its own."""
    if Path(name).suffix != ".ipynb":
        return NOTEBOOKS.get(name, PlanSettings)
    has = own.own_parameters(find(name))
    return PlanSettings if set(has) == {f.name for f in fields(PlanSettings)} else None


def _own(path: Path, said: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """Give the parameters of a user's own notebook: options that were said, and changes."""
    known, texts, faults = own.own_parameters(path), {}, []
    for change in changes:
        key, equals, text = (part.strip() for part in change.partition("="))
        if equals:
            texts[key] = text
        else:
            faults.append(f"-p {change}: wanted NAME=VALUE")
    if faults:
        raise SettingsError("; ".join(faults))
    _refuse(path.name, [key for key in said if key not in known], known)
    return own.checked(path, {**said, **own.from_texts(path, texts)})


def _refuse(name: str, unknown: Sequence[str], known: Iterable[str]) -> None:
    if unknown:
        raise SettingsError(
            f"notebook {name} has no parameters {', '.join(unknown)}; it has "
            f"{', '.join(known) or 'none'}"
        )


def _typed(text: str, annotation: str, where: str) -> Any:
    """Read a text as the type that a field has; 1.20 stays a text where a text is wanted."""
    if text == "" and "None" in annotation:
        return None
    if annotation.startswith("tuple"):
        item = annotation.removeprefix("tuple[").partition(",")[0]
        return [_typed(part.strip(), item, where) for part in text.split(",") if part.strip()]
    for kind in (int, float):
        if annotation.startswith(kind.__name__):
            try:
                return kind(text)
            except ValueError:
                raise SettingsError(f"{where}: {text!r} is not of type {annotation}") from None
    return text


def declared_parameters(path: Path) -> dict[str, tuple[str, Any]]:
    """Give name → (annotation, default) of the cell tagged `parameters`.

    Raises
    ------
    SettingsError
        If the file is no notebook, or has no such cell, or that cell does more than assign.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(c["source"]) for c in cells if "parameters" in _tags(c)]
        tree = ast.parse(sources[0]) if sources else ast.Module([], [])
        return {
            ast.unparse(line.target): (ast.unparse(line.annotation), ast.literal_eval(line.value))
            for line in tree.body
            if isinstance(line, ast.AnnAssign) and line.value is not None
        }
    except (ValueError, KeyError, SyntaxError) as error:
        raise SettingsError(f"notebook {path}: cannot be read: {error}") from None


def _tags(cell: dict[str, Any]) -> list[str]:
    return list(cell.get("metadata", {}).get("tags", []))
