"""A plan on disk: outcome.json, tables, manifests; written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import polars as pl

from capacity.errors import SettingsError
from capacity.export import without_secrets
from capacity.manifests import manifests
from capacity.planning import FRAMES, Plan

SCHEMA: Final = "capacity.outcome/1"
_MARK: Final = "outcome.json"


def outcome(plan: Plan) -> dict[str, Any]:
    """Give the machine-readable result (schema capacity.outcome/1); JSON types only."""
    settings = dataclasses.asdict(plan.settings)
    settings["source"] = without_secrets(settings["source"])
    return {
        "schema": SCHEMA,
        "cluster": plan.cluster,
        "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()},
        "verdict": plan.verdict,
        "headline": plan.headline,
        "first_limit": plan.first_limit,
        "findings": records(plan.exhaustion),
        "recommendations": records(plan.recommendation),
        "coverage": records(plan.coverage),
        "warnings": list(plan.warnings),
        "versions": {"capacity": version("cilium-capacity"), "cilium": plan.version},
    }


def to_json(plan: Plan) -> str:
    """Give outcome() as text: the same plan gives the same bytes."""
    return json.dumps(outcome(plan), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Give rows as JSON types; times in RFC 3339."""
    dates = frame.with_columns(pl.selectors.datetime().dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return [{k: _plain(v) for k, v in row.items()} for row in dates.iter_rows(named=True)]


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN; twelve digits are more than any number here holds."""
    if isinstance(value, float):
        return float(f"{value:.12g}") if math.isfinite(value) else None
    return value


def fill(plan: Plan, folder: Path) -> None:
    """Write outcome.json, tables/ and manifests/ of a plan into a folder."""
    (folder / _MARK).write_text(to_json(plan), encoding="utf-8")
    tables = folder / "tables"
    tables.mkdir()
    for name in FRAMES:
        frame: pl.DataFrame = getattr(plan, name)
        frame.write_parquet(tables / f"{name}.parquet")
        frame.write_csv(tables / f"{name}.csv")
    for path, text in manifests(plan).items():
        file = folder / "manifests" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `out` if the block ends well, and vanishes if not.

    An older output of ours at `out` is replaced; anything else there is left alone.

    Raises
    ------
    SettingsError
        If `out` is a file, or a folder that holds something else, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out {out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / _MARK).exists():
        raise SettingsError(
            f"--out {out}: holds files that are not a plan; name a new or empty folder"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise SettingsError(f"--out {out}: {error.strerror}; name a folder you may write") from None
    try:
        work.chmod(0o755)
        yield work
        _replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _replace(work: Path, out: Path) -> None:
    """Move the new folder in; the old one is set aside first, since rename needs an empty place."""
    aside = work.with_name(f"{work.name}-old")
    if out.exists():
        out.replace(aside)
    work.replace(out)
    shutil.rmtree(aside, ignore_errors=True)
