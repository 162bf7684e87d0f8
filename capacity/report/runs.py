"""A run: notebooks over one cluster, in a folder that appears whole; resumed after a crash.

OUT/CLUSTER/RUN/ holds a page a notebook, outcome.json, summary.md, run.json. While it is made it is
OUT/CLUSTER/.part/, where what is finished stays and is not made again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

from capacity.changes import changes
from capacity.errors import CapacityError, SettingsError
from capacity.report import make
from capacity.report.notebook import Given, find, parameters, places, source_of, values_of
from capacity.report.page import library, without
from capacity.report.pictures import Kind, pictures
from capacity.report.site import error_page, run_page
from capacity.report.summary import summary
from capacity.settings import DEMO
from capacity.telling import Progress, is_url, without_secrets
from capacity.warm import Start
from capacity.writing import told, write

SCHEMA: Final = "capacity.run/1"
RUN: Final = "run.json"
_PART: Final = ".part"
_STATE: Final = "state.json"
_DONE: Final = ".done.json"
Status = Literal["ok", "failed"]


@dataclass(frozen=True, slots=True)
class Task:
    """What a run has to do; `label` names the cluster, `env` is for its kernels alone.

    With `shares_library` pages find plotly.js beside the index of all clusters, once for all.
    """

    label: str
    folder: Path
    run: str
    notebooks: tuple[tuple[str, Given], ...]
    pictures: Kind | None = None
    timeout: float | None = None
    secrets: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    shares_library: bool = False


def run(task: Task, start: Start, *, workers: int = 1, progress: Progress | None = None) -> Path:
    """Make the pages of a run and give its folder; a notebook that fails leaves an error page.

    Parameters
    ----------
    task
        What to run, and where to.
    start
        From `kernel.kernels`.
    workers
        Notebooks at a time.
    progress
        Called with what is done and the share that is done, 0…1.

    Raises
    ------
    SettingsError
        If a parameter is wrong, before anything runs, or the folder cannot be written: what was
        finished by then is kept for the next try.
    """
    for name, settings in task.notebooks:
        parameters(find(name), settings)
    final = task.folder / task.run
    if final.exists():
        raise SettingsError(f"{final}: is there already; a run is never overwritten")
    part = _begin(task)
    say = _together(progress, len(task.notebooks))
    with ThreadPoolExecutor(max_workers=workers) as pool:
        begun = [
            pool.submit(_one, task, part, *pair, start, partial(say, i))
            for i, pair in enumerate(task.notebooks)
        ]
    made = dict(future.result() for future in begun)
    with told(final):
        _finish(task, part, made)
        part.replace(final)
    return final


def _begin(task: Task) -> Path:
    """Open the folder in the making: what an equal run left there is kept, anything else is not."""
    part, wanted = task.folder / _PART, fingerprint(task)
    try:
        known = json.loads((part / _STATE).read_text(encoding="utf-8"))["fingerprint"] == wanted
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    with told(part):
        if not known:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True, exist_ok=True)
            write(part / _STATE, json.dumps({"fingerprint": wanted}))
    return part


def fingerprint(task: Task) -> str:
    """Give what must be equal for finished pages to be taken over: settings, notebooks, data.

    Of data behind a URL nothing is known: pages that an interrupted run made of it are taken over.
    """
    told: list[Any] = [version("cilium-capacity"), task.pictures, task.shares_library]
    for name, settings in task.notebooks:
        text = find(name).read_bytes()
        told.append([name, hashlib.sha256(text).hexdigest(), values_of(settings)])
        told += [_listing(Path(p)) for p in places(settings) if _is_there(p)]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _is_there(place: str) -> bool:
    """Tell whether a text names a file or folder; any text may stand in a parameter."""
    if not place or place == DEMO or is_url(place) or "\0" in place:
        return False
    try:
        return Path(place).exists()
    except OSError:  # too long for a name
        return False


def _listing(place: Path) -> list[Any]:
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _together(progress: Progress | None, parts: int) -> Callable[[int, str, float], None]:
    """Make one share of the shares of several notebooks."""
    done, lock = [0.0] * parts, threading.Lock()

    def say(part: int, name: str, share: float) -> None:
        with lock:
            done[part] = share
            if progress is not None:
                progress(name, sum(done) / parts)

    return say


def _one(
    task: Task, part: Path, name: str, settings: Given, start: Start, say: Progress
) -> tuple[str, dict[str, Any]]:
    """Make one page unless it is there, and give its row of run.json."""
    stem = find(name).stem
    done = part / f".{stem}{_DONE}"
    if done.is_file():
        return stem, json.loads(done.read_text(encoding="utf-8"))
    row: dict[str, Any] = {"status": "ok", "page": f"{stem}.html", "outcome": None, "error": None}
    try:
        made = make(
            name,
            settings,
            start=start,
            timeout=task.timeout,
            secrets=task.secrets,
            progress=say,
            env=task.env,
            shared=shared_library(task.folder.parent) if task.shares_library else None,
        )
    except CapacityError as error:
        text = without(str(error), places(settings), task.secrets)
        write(part / row["page"], error_page(task.label, stem, text))
        return stem, {**row, "status": "failed", "error": text}
    write(part / row["page"], made.page)
    if made.outcome is not None:
        row["outcome"] = f"{stem}.outcome.json"
        write(part / row["outcome"], to_json(made.outcome))
    if task.pictures is not None:
        for i, picture in enumerate(pictures(made.figures, task.pictures), 1):
            write(part / "pictures" / f"{stem}-{i}.{task.pictures}", picture)
    write(done, json.dumps(row))
    return stem, row


def shared_library(out: Path) -> str:
    """Write plotly.js beside the index of all clusters, once; give its place, seen from a run."""
    name, text = library()
    if not (out / name).is_file():
        write(out / name, text)
    return f"../../{name}"


def _finish(task: Task, part: Path, rows: dict[str, dict[str, Any]]) -> None:
    """Write what is said of all notebooks together, and clear the marks of the making."""
    before = newest(task.folder)
    outcome = main_outcome(part, rows)
    old = None if before is None else main_outcome(before, read_run(before)["notebooks"])
    settings = task.notebooks[0][1]
    told = {
        "schema": SCHEMA,
        "cluster": task.label,
        "source": without_secrets(source_of(settings)),
        "notebooks": rows,
        "verdict": None if outcome is None else outcome["verdict"],
        "headline": None if outcome is None else outcome["headline"],
        "first_limit": None if outcome is None else outcome["first_limit"],
        "previous": None if before is None else before.name,
        "changes": [asdict(change) for change in changes(old, outcome)],
        "pictures": sorted(str(p.relative_to(part)) for p in part.glob("pictures/*")),
    }
    if outcome is not None:
        write(part / "outcome.json", to_json(outcome))
    write(part / RUN, to_json(told))
    write(part / "summary.md", summary(told, outcome))
    write(part / "index.html", run_page(told))
    # Marks of the making, and what a killed process left half written
    for mark in (part / _STATE, *part.rglob(".*")):
        mark.unlink(missing_ok=True)


def main_outcome(folder: Path, rows: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Give the outcome of the first notebook that has one."""
    for row in rows.values():
        if row["outcome"] is not None and (folder / row["outcome"]).is_file():
            told: dict[str, Any] = json.loads((folder / row["outcome"]).read_text(encoding="utf-8"))
            return told
    return None


def read_run(folder: Path) -> dict[str, Any]:
    """Give the run.json of a run.

    Raises
    ------
    SettingsError
        If it cannot be read.
    """
    try:
        told: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{folder / RUN}: cannot be read: {error}; remove the folder") from None
    return told


def runs_of(folder: Path) -> list[Path]:
    """Give the finished runs of a cluster, oldest first."""
    if not folder.is_dir():
        return []
    found = (f for f in folder.iterdir() if not f.name.startswith(".") and not f.is_symlink())
    return sorted(f for f in found if (f / RUN).is_file())


def newest(folder: Path) -> Path | None:
    """Give the newest finished run of a cluster."""
    return next(reversed(runs_of(folder)), None)


def prune(folder: Path, keep: int) -> list[str]:
    """Delete all but the newest runs of a cluster; give the names of what went."""
    gone = runs_of(folder)[:-keep] if keep > 0 else []
    for old in gone:
        # Renamed first: what is half deleted is no run any more
        aside = old.with_name(f".{old.name}.gone")
        old.replace(aside)
        shutil.rmtree(aside, ignore_errors=True)
    return [old.name for old in gone]


def exit_code(told: dict[str, Any], *, is_demo: bool = False) -> int:
    """Give 2 if a notebook failed, 1 if the plan is short, else 0; the demo is never short."""
    if any(row["status"] != "ok" for row in told["notebooks"].values()):
        return 2
    return 1 if told["verdict"] == "short" and not is_demo else 0


def causes(told: dict[str, Any]) -> dict[str, list[str]]:
    """Give the notebooks that failed by their cause, which several may share."""
    found: dict[str, list[str]] = {}
    for name, row in told["notebooks"].items():
        if row["error"]:
            found.setdefault(row["error"], []).append(name)
    return found


def to_json(value: Any) -> str:
    """Give a value as JSON text, the same bytes for the same value."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def named(notebooks: Sequence[str], settings: Iterable[Given]) -> tuple[Any, ...]:
    """Give pairs of notebook and settings; notebooks of one name would share a page.

    Raises
    ------
    SettingsError
        If two notebooks have the same name.
    """
    stems = [Path(name).stem for name in notebooks]
    if len(set(stems)) < len(stems):
        raise SettingsError(f"notebooks {', '.join(notebooks)}: two have the same name")
    return tuple(zip(notebooks, settings, strict=True))
