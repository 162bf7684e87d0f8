"""Tell what becomes of each policy in a folder: resolved, or refused and why.

Run: python tools/public_policies.py ../shared/public/policies
Prints the tables of docs/policies.md. Each file is read by itself, as a user would read it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from capacity.cilium import policy
from capacity.errors import ExportError
from capacity.load.inventories import read_inventory

VERSION = "1.17"
RESOLVED = "resolved"
ENDINGS = (".yaml", ".yml", ".json")
PLACEHOLDER = "a placeholder `${…}` is not filled in"
TEMPLATE = "the file is a template; nothing of it is read"
NAMED = re.compile(r": (?P<kind>\w*Policy) (?P<name>.+?): (?P<reason>[^;]*template)")
SCHEMA = {"file": pl.String, "kind": pl.String, "policy": pl.String, "reason": pl.String}


def outcomes(folder: Path) -> pl.DataFrame:
    """Give file, kind, policy and reason of each policy; the reason is null where resolved."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in ENDINGS)
    rows = [
        (path.relative_to(folder).as_posix(), *told) for path in files for told in outcome(path)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def outcome(path: Path) -> Iterator[tuple[str, str, str | None]]:
    """Give kind, name and reason of each policy in a file."""
    try:
        inventory = read_inventory(path)
    except ExportError as wrong:
        for found in NAMED.finditer(str(wrong)):
            yield found["kind"], found["name"], found["reason"]
        return
    told = policy.statuses(inventory, version=VERSION)
    for row in told.iter_rows(named=True):
        reason = None if row["status"] == "ok" else f"{row['status']}: {row['error']}"
        yield row["kind"], row["policy"], reason


def reason_of(text: str) -> str:
    """Give a reason without what is of one policy only."""
    if "${" in text:
        return PLACEHOLDER
    if "a template" in text:
        return TEMPLATE
    return text


def summary(told: pl.DataFrame) -> str:
    """Print how many of each kind are resolved, and why the others are not."""
    refused = pl.col("reason").is_not_null()
    kinds = told.group_by("kind").agg((~refused).sum().alias(RESOLVED), refused.sum()).sort("kind")
    lines = ["| kind | resolved | refused |", "|---|---:|---:|"]
    lines += [f"| {kind} | {good:,} | {bad:,} |" for kind, good, bad in kinds.iter_rows()]
    whys = (
        told.filter(refused)
        .with_columns(why=pl.col("reason").map_elements(reason_of, return_dtype=pl.String))
        .group_by("why", "kind")
        .len()
        .sort("len", "kind", "why", descending=[True, False, False])
    )
    lines += ["", "| refused because | kind | policies |", "|---|---|---:|"]
    lines += [f"| {why} | {kind} | {number} |" for why, kind, number in whys.iter_rows()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(summary(outcomes(Path(sys.argv[1]))) + "\n")
