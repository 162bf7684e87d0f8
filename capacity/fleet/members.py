"""FLEET.yaml: clusters with their sources; credentials are named there, never written there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import yaml

from capacity.errors import SettingsError
from capacity.settings import PlanSettings, from_mapping
from capacity.telling import is_url, without_secrets
from capacity.units import parse_duration
from capacity.writing import file_name

# Reference in FLEET.yaml → variable that the reader of the Prometheus API knows
CREDENTIALS: Final = {
    **{f"{name}_file": f"CAPACITY_PROM_{name.upper()}_FILE"
       for name in ("token", "password", "headers", "ca", "cert", "key")},
    **{f"{name}_env": f"CAPACITY_PROM_{name.upper()}"
       for name in ("token", "user", "password", "headers")},
}  # fmt: skip
_KEYS: Final = ("name", "source", "inventory", "mesh", "timeout", "credentials", "settings")
_VARIABLE: Final = re.compile(r"[A-Za-z_]\w*")
_TIMEOUT: Final = "15m"


@dataclass(frozen=True, slots=True)
class Member:
    """A cluster of a fleet; `credentials` are references to files or variables, not secrets."""

    name: str
    settings: PlanSettings
    mesh: str | None = None
    timeout: float = 900.0
    credentials: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of its folder and files."""
        return file_name(self.name)


def read_fleet(path: Path) -> list[Member]:
    """Read FLEET.yaml.

    Parameters
    ----------
    path
        A mapping with `clusters`, a list of name and source (folder, block store, URL) with
        inventory, mesh, timeout, credentials, settings where needed; and `defaults` of these.
        Paths are relative to the file.

    Raises
    ------
    SettingsError
        With all faults in one message: unknown keys, two clusters of a name, credentials that are
        not references, settings of a wrong type.
    """
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        why = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
        raise SettingsError(f"{path}: cannot be read: {why}") from None
    if not isinstance(told, dict) or not isinstance(told.get("clusters"), list):
        raise SettingsError(f"{path}: wanted a mapping with a list `clusters`")
    faults = [f"unknown key {key!r}" for key in told if key not in ("clusters", "defaults")]
    defaults = told.get("defaults") or {}
    members: list[Member] = []
    for i, entry in enumerate(told["clusters"], 1):
        try:
            members.append(_member(entry, defaults, path.parent))
        except SettingsError as error:
            name = entry.get("name") if isinstance(entry, dict) else None
            faults.append(f"cluster {i} ({name}): {error}")
    faults += _doubles(members)
    if faults:
        raise SettingsError(f"{path}: {'; '.join(faults)}")
    if not members:
        raise SettingsError(f"{path}: no clusters")
    return members


def _doubles(members: list[Member]) -> Iterator[str]:
    seen: set[str] = set()
    for member in members:
        # Some file systems do not tell upper from lower case
        if (place := member.folder.lower()) in seen:
            yield f"two clusters are named {member.name!r}"
        seen.add(place)


def _member(entry: Any, defaults: Any, base: Path) -> Member:
    if not isinstance(entry, dict) or not isinstance(defaults, dict):
        raise SettingsError("wanted a mapping")
    unknown = [key for key in {**defaults, **entry} if key not in _KEYS]
    if unknown:
        raise SettingsError(f"unknown keys {unknown}; known: {list(_KEYS)}")
    whole = {**defaults, **entry}
    for key in ("name", "source"):
        if not isinstance(whole.get(key), str) or not whole[key].strip():
            raise SettingsError(f"{key}: wanted a text, have {whole.get(key)!r}")
    values = {**(defaults.get("settings") or {}), **(entry.get("settings") or {})}
    values |= {"source": _place(whole["source"], base)}
    if whole.get("inventory") is not None:
        values["inventory"] = _place(str(whole["inventory"]), base)
    mesh = whole.get("mesh")
    return Member(
        name=whole["name"],
        settings=from_mapping(PlanSettings, values),
        mesh=None if mesh is None else str(mesh),
        timeout=parse_duration(str(whole.get("timeout", _TIMEOUT)), what="timeout"),
        credentials=_credentials(whole.get("credentials") or {}, base),
    )


def _place(place: str, base: Path) -> str:
    if not is_url(place) and "://" not in place:
        return str(base / place)
    if without_secrets(place).split("?")[0] != place.split("?")[0]:
        raise SettingsError(
            f"{without_secrets(place)}: credentials in a URL; name a file or a variable instead: "
            "credentials: {user_env: NAME, password_file: /run/secrets/…}"
        )
    return place


def _credentials(told: Any, base: Path) -> dict[str, str]:
    if not isinstance(told, dict):
        raise SettingsError(f"credentials: wanted a mapping of {sorted(CREDENTIALS)}")
    out = {}
    for key, reference in told.items():
        if key not in CREDENTIALS:
            raise SettingsError(
                f"credentials: unknown {key!r}; wanted a reference, one of {sorted(CREDENTIALS)}"
            )
        if not isinstance(reference, str) or not reference:
            raise SettingsError(f"credentials: {key} names nothing")
        if key.endswith("_env"):
            if not _VARIABLE.fullmatch(reference):
                # Not repeated: somebody may have put the secret itself there
                raise SettingsError(f"credentials: {key} is not the name of a variable")
            out[key] = reference
        else:
            out[key] = str(base / reference)
    return out


def environment(credentials: Mapping[str, str]) -> dict[str, str]:
    """Resolve references where the work is done: variables for the reader of the API.

    Raises
    ------
    SettingsError
        If a variable is not set there.
    """
    out = {}
    for key, reference in credentials.items():
        if not key.endswith("_env"):
            out[CREDENTIALS[key]] = reference
        elif (value := os.environ.get(reference)) is None:
            raise SettingsError(f"credentials: variable {reference} ({key}) is not set here")
        else:
            out[CREDENTIALS[key]] = value
    return out


def to_plain(member: Member) -> dict[str, Any]:
    """Give a member as JSON types, to travel to a worker."""
    settings = {f.name: getattr(member.settings, f.name) for f in fields(member.settings)}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    return {"name": member.name, "settings": plain, "mesh": member.mesh,
            "timeout": member.timeout, "credentials": dict(member.credentials)}  # fmt: skip


def from_plain(told: Mapping[str, Any]) -> Member:
    """Give the member that `to_plain` gave."""
    return Member(**{**told, "settings": from_mapping(PlanSettings, told["settings"])})
