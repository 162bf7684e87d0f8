"""Write a simulation as the files a user would export, and the README that explains them."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import yaml

from capacity.errors import SettingsError
from capacity.simulate import readme
from capacity.simulate.formats import WRITERS
from capacity.simulate.truth import SCHEMA

if TYPE_CHECKING:
    from capacity.simulate import Simulation

# Samples go to one file a group, so that each stays below 1 MiB at 1,000 nodes and 90 days.
# First match of metric and map counts.
_GROUPS: Final[dict[str, pl.Expr]] = {
    "connections": pl.col("map_name").str.contains("^(ct|snat)"),
    "maps": pl.col("metric").str.contains("^cilium_bpf_"),
    "cpu": pl.col("metric").str.contains("cpu_seconds_total$"),
    "memory": pl.col("metric").str.contains("resident_memory_bytes$"),
    # Of all others; polars 2.1 filters many rows by no expression of literals alone
    "state": pl.col("series").is_not_null(),
}
_LEVEL: Final = 19  # of zstd: slow to write, quick to read


def write(simulation: Simulation, folder: Path) -> Path:
    """Write a simulation; the folder appears whole or not at all.

    Parameters
    ----------
    simulation
        What `simulate` gave.
    folder
        Is made. An earlier simulation there is replaced; anything else is not touched.

    Returns
    -------
    Path
        The folder, with metrics/ (series.parquet and samples-*.parquet, or another format),
        inventory/*.json.gz, inventory/cilium-config.yaml, truth.json and README.md.

    Raises
    ------
    SettingsError
        If the folder holds something else than an earlier simulation, or cannot be written; or
        the format needs a tool that is missing.
    """
    folder = Path(folder)
    _refuse_others(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".simulate-", dir=folder.parent) as place:
            fresh = Path(place) / "new"
            fresh.mkdir()
            _fill(simulation, fresh)
            if folder.exists():
                folder.rename(Path(place) / "old")
            fresh.rename(folder)
    except OSError as error:
        raise SettingsError(f"out: cannot write {folder}: {error.strerror or error}") from error
    return folder


def _refuse_others(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SettingsError(f"out: {folder} is a file; give a folder that is new or empty")
    if not any(folder.iterdir()):
        return
    try:
        ours = json.loads((folder / "truth.json").read_bytes()).get("schema") == SCHEMA
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise SettingsError(
            f"out: {folder} is not empty and holds no earlier simulation (truth.json of schema "
            f"{SCHEMA}); give a folder that is new or empty"
        )


def _fill(simulation: Simulation, folder: Path) -> None:
    for name in ("metrics", "inventory"):
        (folder / name).mkdir()
    _write_metrics(simulation, folder / "metrics")
    made, place = simulation.objects, folder / "inventory"
    _write_list(made.nodes, place / "nodes.json.gz")
    _write_list(made.services, place / "services.json.gz")
    _write_list(made.slices, place / "endpointslices.json.gz")
    if made.pods:
        _write_list(made.pods, place / "pods.json.gz")
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cilium-config", "namespace": "kube-system"},
        "data": made.config,
    }
    text = yaml.safe_dump(config, sort_keys=True)
    (place / "cilium-config.yaml").write_text(text, encoding="utf-8")
    truth = json.dumps(simulation.truth, indent=1, ensure_ascii=False) + "\n"
    (folder / "truth.json").write_text(truth, encoding="utf-8")
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    text = readme.text(simulation.settings, simulation.truth, sizes)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _write_metrics(simulation: Simulation, folder: Path) -> None:
    metrics = simulation.metrics
    if write_format := WRITERS.get(simulation.settings.format):
        write_format(metrics, folder)
        return
    _parquet(metrics.series, folder / "series.parquet")
    left = metrics.series.select("series", "metric", "map_name")
    for name, belongs in _GROUPS.items():
        chosen = left.filter(belongs.fill_null(value=False))
        left = left.join(chosen, on="series", how="anti")
        part = metrics.samples.join(chosen.select("series"), on="series", how="semi")
        _parquet(part.sort("series", "time"), folder / f"samples-{name}.parquet")


def _parquet(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, compression="zstd", compression_level=_LEVEL, statistics=True)


def _write_list(items: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a Kubernetes List; the archive holds no time, so that equal objects are equal bytes."""
    body = {"apiVersion": "v1", "kind": "List", "items": items}
    data = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
    path.write_bytes(gzip.compress(data, 9, mtime=0))
