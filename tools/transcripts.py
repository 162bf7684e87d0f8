"""Write docs/transcripts.md: the users' jobs, each as one command with what it prints.

Run from the top of the tree: python tools/transcripts.py. A test runs the commands again.
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from capacity.cli import cli

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "transcripts.md"
_MOST = 40
# A comparison is of use only as a whole
_WHOLE = 90
_LAB = "data/lab --nodes 500 --cilium 1.17"


@dataclass(frozen=True)
class Job:
    """Who wants what, and the command; `is_slow`: the test does not run it again."""

    who: str
    wants: str
    command: str
    note: str = ""
    is_slow: bool = False


JOBS = (
    Job("Platform engineer", "what breaks first, at how many nodes, and what to set",
        f"capacity plan {_LAB}", "With `--out plan` the Helm values stand in plan/manifests/."),
    Job("SRE", "a report a week, unattended",
        "capacity report plan data/lab --out weekly --run monday",
        "`weekly-report.yaml` of each plan runs it in the cluster. This page's test leaves it out: "
        "it takes ten seconds, and other tests run the report.", is_slow=True),
    Job("Security team", "which policies make the entries of an endpoint",
        "capacity policies explain docs/examples/cluster shop/web-0 --cilium 1.17"),
    Job("CI gate", "does a pull request overflow a map",
        "capacity check --inventory docs/examples/cluster --policies docs/examples/policies "
        "--cilium 1.17"),
    Job("Cluster-mesh architect", "one cluster of 5,000 nodes or five of 1,000",
        "capacity shapes --nodes 5000 --pods-per-node 30 --services 4000 --identities 6000 "
        "--policy-entries 3000 --agent-memory 2Gi --churn 30 --cilium 1.17 --split 1x5000 "
        "--split 5x1000",
        "`--chart mesh.html` draws it, `--split 5x1000 --values mesh` writes Helm values for each "
        "cluster: ID, name, maxConnectedClusters, node map, replicas. `capacity fleet plan` does "
        "the same for clusters that run, and tells which of these cannot be changed any more."),
    Job("Edge team", "sizes of load balancer maps from services",
        "capacity services entries docs/examples/cluster --cilium 1.17"),
    Job("Cost owner", "requests and limits, and their price",
        f"capacity plan {_LAB} --price-cpu 20 --price-memory 3",
        "`capacity resources` does the same for workloads."),
    Job("Upgrade planner", "what changes, and what to do before",
        "capacity upgrade --from 1.16 --to 1.18"),
    Job("User of a managed service", "what can I change, whom do I ask",
        f"capacity plan {_LAB} --managed aks"),
    Job("Consultant", "what a folder of bugtool outputs holds, offline",
        "capacity read tests/golden/dbg", "A sysdump's zip is named the same way."),
)  # fmt: skip


def run(command: str) -> tuple[int, str]:
    """Run a command from where the tree's folders are; give its exit code and both its outputs."""
    done = CliRunner().invoke(cli, command.split()[1:])
    return done.exit_code, "\n".join(line.rstrip() for line in done.output.splitlines())


def shown(text: str, most: int = _MOST) -> str:
    """Cut a long output."""
    lines = text.strip("\n").split("\n")
    more = len(lines) - most
    return "\n".join(lines[:most] + ([f"… {more} more lines"] if more > 0 else []))


def page() -> str:
    """Give the whole page."""
    parts = [
        "# The jobs, each with one command",
        "",
        "Made by `python tools/transcripts.py`; a test runs the commands again and compares words",
        "and exit codes (numbers may differ in their last digits from machine to machine).",
        "",
    ]
    for job in JOBS:
        code, text = run(job.command)
        parts += [f"## {job.who}: {job.wants}", "", "```console", f"$ {job.command}"]
        most = _WHOLE if "--split" in job.command else _MOST
        parts += [shown(text, most), f"(exit code {code})", "```", ""]
        parts += [job.note, ""] if job.note else []
    return "\n".join(parts)


def main() -> None:
    """Write the page; what the commands write goes into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        for part in ("data", "docs", "tests"):
            Path(part).symlink_to(ROOT / part)
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
