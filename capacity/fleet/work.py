"""What a worker does for one cluster: read, plan, and give back only what adds up.

The plan runs in a process of its own, which can be ended when it takes too long and whose death
harms nobody; see warm.py.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from capacity.errors import CapacityError
from capacity.fleet.members import CREDENTIALS, Member, environment, from_plain
from capacity.report import kernel
from capacity.report.notebook import places
from capacity.report.page import without
from capacity.report.runs import Task, run
from capacity.report.secrets import secrets_of
from capacity.settings import DRIVER_NAMES, PlanSettings, from_mapping
from capacity.warm import Start

if TYPE_CHECKING:
    from capacity.inventory import Inventory
    from capacity.planning import Plan

Kind = Literal["plan", "report"]
_ONE_AT_A_TIME: Final = threading.Lock()
# Points of a growth curve that travel
_POINTS: Final = 24
# What a mesh is told of each cluster's options
MESH_OPTIONS: Final = (
    "cluster-id", "cluster-name", "max-connected-clusters", "bpf-node-map-max", "ipam",
)  # fmt: skip
# What a fleet is told of each limit
FINDING: Final = (
    "rank", "component", "subject", "quantity", "unit", "kind", "setting", "current", "limit",
    "usage", "nodes_early", "nodes_median", "date_early", "date_median", "probability", "status",
)  # fmt: skip


ADVICE: Final = ("component", "subject", "setting", "unit", "current", "target", "status")
_TO_DO: Final = ("raise", "set", "redesign", "error")


def warm() -> Start:
    """Give what starts jobs in this process: one warm interpreter for all its threads."""
    with _ONE_AT_A_TIME:
        return _warm()


@cache
def _warm() -> Start:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(kernel.kernels(more=(*kernel.SHARED["capacity"], __name__)))


def perform(told: Mapping[str, Any], kind: Kind, out: str, run_name: str) -> dict[str, Any]:
    """Do all that is to be done for a cluster; a failure is a result, too.

    Parameters
    ----------
    told
        The member, as `members.to_plain` gives it.
    kind
        plan, or report: then its pages are written to `out` as well.
    out, run_name
        Folder of all runs, which this worker must see, and the run's name.
    """
    member, began = from_plain(told), time.monotonic()
    secrets = secrets_of(os.environ)
    row: dict[str, Any] = {"cluster": member.name, "mesh": member.mesh, "status": "ok",
                           "error": None}  # fmt: skip
    try:
        env = environment(member.credentials)
        secrets = secrets_of(os.environ, env)
        asked = {"settings": told["settings"], "env": env, "is_meshed": member.mesh is not None}
        job = warm()("capacity.fleet.work:planned", asked, {})
        with closing(job):
            row |= json.loads(job.answer(member.timeout))
        if kind == "report":
            _pages(member, env, secrets, Path(out), run_name)
    except CapacityError as error:
        late = "took longer" in str(error)
        text = without(str(error), places(member.settings), secrets)
        row |= {"status": "late" if late else "failed", "error": text}
    return row | {"seconds": round(time.monotonic() - began, 3)}


def planned(
    settings: Mapping[str, Any], env: Mapping[str, str], *, is_meshed: bool = False
) -> bytes:
    """Plan a cluster and give its aggregate as JSON; runs in a job, with its own credentials."""
    from capacity.observing import inventory_of
    from capacity.planning import plan

    if env:
        for name in CREDENTIALS.values():
            os.environ.pop(name, None)
        os.environ.update(env)
    asked = from_mapping(PlanSettings, settings)
    made = aggregate(plan(asked))
    if is_meshed:
        made["mesh_options"] = mesh_options(inventory_of(asked))
    return json.dumps(made).encode()


def mesh_options(inventory: Inventory) -> dict[str, Any]:
    """Give what a cluster is set to as part of a mesh, and addresses that its nodes add to it."""
    told = dict(inventory.options.select("option", "value").iter_rows())
    workloads = inventory.workloads.filter(workload="clustermesh-apiserver")
    replicas = workloads["replicas"].drop_nulls()
    return {
        "options": {name: told[name] for name in MESH_OPTIONS if name in told},
        "addresses": float(inventory.nodes["addresses"].fill_null(0).sum()),
        "replicas": None if replicas.is_empty() else int(replicas[0]),
    }


def aggregate(made: Plan) -> dict[str, Any]:
    """Give what a fleet needs of a plan: counts, limits, growth; some kilobytes."""
    import polars as pl

    from capacity.outcome import records

    last = made.drivers.select(
        pl.col(name).drop_nulls().last() for name in DRIVER_NAMES if name in made.drivers.columns
    ).row(0, named=True)
    ahead = made.growth.drop_nulls("q50").sort("time")
    chosen = ahead.gather_every(max(len(ahead) // _POINTS, 1))
    thin = pl.concat([chosen, ahead.tail(1)]).unique("time", maintain_order=True)
    return {
        "version": made.version,
        "verdict": made.verdict,
        "headline": made.headline,
        "first_limit": made.first_limit,
        "warnings": len(made.warnings),
        "time": f"{made.drivers['time'][-1]:%Y-%m-%dT%H:%M:%SZ}",
        "drivers": last,
        "findings": records(made.exhaustion.select(FINDING)),
        # Costs of containers: what maps hold is mostly Cilium's own arithmetic
        "evidence": records(made.evidence.filter(pl.col("component") != "map")),
        "bends": records(made.bends.filter(pl.col("component") != "map")),
        "advice": records(
            made.recommendation.filter(pl.col("status").is_in(_TO_DO)).select(ADVICE)
        ),
        "growth": records(thin.select("time", "q05", "q50", "q95")),
    }


def _pages(
    member: Member, env: Mapping[str, str], secrets: tuple[str, ...], out: Path, run_name: str
) -> None:
    task = Task(
        label=member.name, folder=out / member.folder, run=run_name,
        notebooks=(("plan", member.settings),), timeout=member.timeout, env=dict(env),
        secrets=secrets, shares_library=True,
    )  # fmt: skip
    if not (task.folder / task.run).exists():
        run(task, warm())
