"""The results of a fleet from where they are: a folder that was written, or planned anew."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

import polars as pl

from capacity import shipped
from capacity.errors import SettingsError
from capacity.fleet.members import read_fleet
from capacity.fleet.overview import SCHEMA, Fleet, collected
from capacity.fleet.running import FLEET as FOLDER
from capacity.fleet.running import Job, run_fleet
from capacity.fleet.tables import ADVICE, FLEET, MESH
from capacity.fleet_settings import FleetSettings
from capacity.settings import DEMO
from capacity.tables import MESH_SETTINGS, check

TABLES: Final = {"fleet": FLEET, "advice": ADVICE, "mesh": MESH, "mesh_settings": MESH_SETTINGS}
OUTCOME: Final = "outcome.json"


def of(settings: FleetSettings) -> Fleet:
    """Give the results of a fleet.

    Parameters
    ----------
    settings
        `source` is a folder that `capacity fleet` wrote, or one run in it; or FLEET.yaml, whose
        clusters are planned now.

    Raises
    ------
    SettingsError
        If there are no results, or they cannot be read.
    """
    if settings.source == DEMO:
        return planned(shipped.path("data", "fleet", "FLEET.yaml"), settings)
    place = Path(settings.source)
    return read(place) if place.is_dir() else planned(place, settings)


def planned(path: Path, settings: FleetSettings) -> Fleet:
    """Plan the clusters of FLEET.yaml; nothing of it is kept but what is given."""
    members = read_fleet(path)
    with tempfile.TemporaryDirectory(prefix="capacity-") as folder:
        job = Job("plan", Path(folder), "run", settings.scheduler, settings.workers)
        return collected(members, run_fleet(members, job))


def read(place: Path) -> Fleet:
    """Read the results of a run, or of the newest one of a folder.

    Raises
    ------
    SettingsError
        If there are none, or they are not what `capacity fleet` writes.
    """
    folder = place if (place / OUTCOME).is_file() else newest(place)
    if folder is None:
        raise SettingsError(f"{place}: no results of `capacity fleet plan ... --out` there")
    try:
        told = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
        limits, advice, meshes, to_set = (
            check(pl.read_parquet(folder / f"{name}.parquet"), table)
            for name, table in TABLES.items()
        )
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise SettingsError(
            f"{folder}: cannot be read: {error}; run `capacity fleet` again"
        ) from None
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise SettingsError(f"{folder / OUTCOME}: is not the outcome of a fleet ({SCHEMA})")
    return Fleet(limits, advice, meshes, to_set, told)


def newest(out: Path) -> Path | None:
    """Give the newest run of a folder that `capacity fleet` wrote."""
    runs = (out / FOLDER).glob(f"[!.]*/{OUTCOME}")
    return max((path.parent for path in runs), default=None)
