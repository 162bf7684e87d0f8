"""Work handed out and collected: on this machine or on a Dask cluster, by the same function.

Each result is on disk as soon as it is there, so an interrupted run goes on where it was. A slow or
broken cluster takes one worker's slot until its time is up, and is a row of the table.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from capacity.errors import SettingsError
from capacity.fleet.members import Member, to_plain
from capacity.fleet.work import Kind, perform
from capacity.settings import DEMO
from capacity.telling import Progress, is_url
from capacity.writing import told, write

# Where results are while a fleet is at work; no cluster's folder can be named so
FLEET: Final = "+fleet"
_PART: Final = ".part"
# Beyond a cluster's own time: to start, to write, to be told. [s]
_SLACK: Final = 120.0
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done: kind, where to, the run's name, and where the work is done."""

    kind: Kind
    out: Path
    run: str
    scheduler: str | None = None
    workers: int = 2


def run_fleet(
    members: Sequence[Member], job: Job, *, progress: Progress | None = None
) -> list[Result]:
    """Give the result of each cluster, in the order of FLEET.yaml, whatever became of it.

    Raises
    ------
    SettingsError
        If results cannot be written, or the scheduler does not answer.
    """
    say = progress or (lambda name, share: None)
    part = job.out / FLEET / _PART
    done = {m.name: kept for m in members if (kept := _kept(part, m, job)) is not None}
    todo = [m for m in members if m.name not in done]
    say(f"{len(done)} of {len(members)} are there", len(done) / len(members))
    spread = _on_dask if job.scheduler else _here
    with spread(todo, job) as results:
        for member, result in results:
            done[member.name] = result
            write(part / f"{member.folder}.json", _stored(member, job, result))
            say(f"{member.name}: {result['status']}", len(done) / len(members))
    return [done[m.name] for m in members]


def clear(out: Path) -> None:
    """Forget the results of a run whose tables are written."""
    with told(out):
        shutil.rmtree(out / FLEET / _PART, ignore_errors=True)


def _stored(member: Member, job: Job, result: Result) -> str:
    mark = _mark(member, job)
    return json.dumps({"mark": mark, "result": result}, ensure_ascii=False, allow_nan=False)


def _kept(part: Path, member: Member, job: Job) -> Result | None:
    """Give a finished result of an interrupted run; what failed is tried again."""
    try:
        stored = json.loads((part / f"{member.folder}.json").read_text(encoding="utf-8"))
        is_same = stored["mark"] == _mark(member, job) and stored["result"]["status"] == "ok"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    kept: Result = stored["result"]
    return kept if is_same else None


def _mark(member: Member, job: Job) -> str:
    """Give what must be equal for a result to be taken over."""
    seen: list[Any] = [version("cilium-capacity"), job.kind, to_plain(member)]
    for place in (member.settings.source, member.settings.inventory):
        if place and place != DEMO and not is_url(place) and "://" not in place:
            files = sorted(Path(place).rglob("*")) or [Path(place)]
            seen += [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


Pairs = Iterator[tuple[Member, Result]]


@contextmanager
def _here(members: Sequence[Member], job: Job) -> Iterator[Pairs]:
    """Work in processes of this machine; threads only wait for them."""
    with ThreadPoolExecutor(max_workers=job.workers) as pool:
        futures = {pool.submit(perform, *_arguments(m, job)): m for m in members}
        try:
            yield ((futures[future], future.result()) for future in as_completed(futures))
        finally:
            for future in futures:
                future.cancel()


def _arguments(member: Member, job: Job) -> tuple[Any, ...]:
    return to_plain(member), job.kind, str(job.out.resolve()), job.run


@contextmanager
def _on_dask(members: Sequence[Member], job: Job) -> Iterator[Pairs]:
    """Work on a Dask cluster; a worker that is lost is replaced, its clusters are done again."""
    if find_spec("distributed") is None:
        raise SettingsError("--scheduler needs `pip install 'cilium-capacity[fleet]'`")
    from distributed import Client

    try:
        client: Any = Client(  # type: ignore[no-untyped-call]
            job.scheduler, timeout=30, name="capacity"
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise SettingsError(f"--scheduler {job.scheduler}: no answer: {error}") from None
    with client:
        futures = {
            client.submit(perform, *_arguments(m, job), key=f"{m.folder}-{job.run}",
                          pure=False, retries=3): m
            for m in members
        }  # fmt: skip
        yield _gathered(futures, lambda count: _patience(members, client, count))


def _patience(members: Sequence[Member], client: Any, waiting: int) -> float:
    """Give how long nothing may come back: the slowest cluster's time, or a lost worker's again."""
    if not client.scheduler_info()["workers"]:
        return _SLACK
    return 2 * max(m.timeout for m in members) + _SLACK * math.ceil(waiting > 0)


def _gathered(futures: dict[Any, Member], patience: Callable[[int], float]) -> Pairs:
    from distributed import wait

    left = set(futures)
    while left:
        try:
            answered: Any = wait(  # type: ignore[no-untyped-call]
                left, timeout=patience(len(left)), return_when="FIRST_COMPLETED"
            )
        except TimeoutError:
            for future in left:
                yield futures[future], _lost(futures[future], "no worker gave an answer in time")
            return
        for future in answered.done:
            # Its worker may be lost after the answer and before it was fetched: it is done again
            if future.status in ("pending", "lost"):
                continue
            member = futures[future]
            if future.status == "finished":
                yield member, future.result()
            else:
                yield member, _lost(member, f"its worker was lost: {future.exception()}")
            future.release()
            left.discard(future)


def _lost(member: Member, why: str) -> Result:
    return {"cluster": member.name, "mesh": member.mesh, "status": "failed", "error": why,
            "seconds": 0.0}  # fmt: skip
