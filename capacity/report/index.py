"""Index pages made anew from the runs on disk: what is there is listed, nothing is remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from capacity.errors import SettingsError
from capacity.report.runs import read_run, runs_of
from capacity.report.site import cluster_page, clusters_page, link
from capacity.writing import write

_LISTED: Final = 60
_FLEET: Final = "+fleet/index.html"


def reindex(out: Path, only: Path | None = None) -> None:
    """Write index.html over all clusters, and the index of each cluster or of one.

    Parameters
    ----------
    out
        Folder of all runs.
    only
        Folder of the one cluster that has a new run; all where left out.

    Raises
    ------
    SettingsError
        If it cannot be written.
    """
    newest = []
    for folder in sorted(f for f in out.iterdir() if f.is_dir() and f.name[0] not in ".+"):
        runs = list(reversed(runs_of(folder)))[:_LISTED]
        if not runs:
            continue
        told = [(run.name, read) for run in runs if (read := _read(run)) is not None]
        if not told:
            continue
        if only is None or folder == only:
            write(folder / "index.html", cluster_page(told[0][1]["cluster"], told))
        newest.append((folder.name, *told[0]))
    is_fleet = (out / _FLEET).is_file()
    more = f"<p>{link('The fleet: what breaks first', *_FLEET.split('/'))}</p>" if is_fleet else ""
    write(out / "index.html", clusters_page(newest, more))


def _read(run: Path) -> dict[str, Any] | None:
    """Give a run's run.json; what somebody broke is not listed and stops nothing."""
    try:
        return read_run(run)
    except SettingsError:
        return None
