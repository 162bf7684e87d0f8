"""Whose a series is: cluster, node, pod and container, whatever labels an export has them in.

Which labels may hold a name is a row of facts/labels.csv; first rows win. Which series are copies
of each other (two Prometheus that scrape one target) is told here too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import polars as pl

from capacity.errors import ExportError
from capacity.export import Metrics
from capacity.facts import derivations
from capacity.observe.presence import is_there

# Tells which node has an address in label internal_ip: kube-state-metrics docs, Node Metrics
NODE_INFO: Final = "kube_node_info"


def named(metrics: Metrics) -> Metrics:
    """Give an export whose series carry cluster, node, pod and container in their own columns.

    A label that the target's own labels hid (``exported_node``) wins over the label it was hidden
    by. Where no label names the node, series that tell both pod and node do, and then the
    addresses of nodes against ``instance``. Samples stay as they are.
    """
    series = metrics.series
    for role in ("namespace", "pod", "container"):
        series = series.with_columns(pl.coalesce(*_told(series, role), role).alias(role))
    hidden = [e for e in _told(series, "node") if e.meta.output_name() == "exported_node"]
    others = [e for e in _told(series, "node") if e.meta.output_name() != "exported_node"]
    series = series.with_columns(node=pl.coalesce(*hidden, "node", *others))
    series = _with_clusters(series)
    return replace(metrics, series=_by_address(_by_pod(series)))


def clusters(metrics: Metrics) -> pl.DataFrame:
    """Give the clusters of an export that `named` gave: name, nodes there are now, and series."""
    times = metrics.samples.group_by("series").agg(
        first=pl.col("time").min(), last=pl.col("time").max(), samples=pl.len()
    )
    seen = metrics.series.join(times, on="series", how="left", maintain_order="left")
    nodes = pl.col("node").filter(is_there()).drop_nulls().n_unique()
    return seen.group_by("cluster").agg(nodes=nodes, series=pl.len()).sort("cluster")


def one_cluster(metrics: Metrics, cluster: str | None = None) -> Metrics:
    """Give the series of one cluster, with their names as `named` gives them.

    Parameters
    ----------
    cluster
        Its name; may be left out where the export holds one cluster only.

    Raises
    ------
    ExportError
        If the export holds several clusters and none is named, or not the one that is.
    """
    metrics = named(metrics)
    found = clusters(metrics)
    if found.is_empty() or (cluster is None and len(found) == 1):
        return metrics
    if cluster not in set(found["cluster"]):
        listed = ", ".join(f"{row[0]} ({row[1]:,} nodes)" for row in found.iter_rows())
        asked = "several clusters" if cluster is None else f"no cluster {cluster!r}"
        raise ExportError(f"the export holds {asked}: choose one with --cluster NAME of {listed}")
    series = metrics.series.filter(pl.col("cluster") == cluster)
    samples = metrics.samples.join(series.select("series"), on="series", how="semi")
    return replace(metrics, series=series, samples=samples)


def copies(series: pl.DataFrame) -> pl.DataFrame:
    """Give series and `copy`: equal numbers are one target's series, scraped more than once.

    Empty where no series of the export has a copy.
    """
    labels = derivations.labels("replica")
    if not _has_any(series, labels):
        return pl.DataFrame(schema={"series": pl.UInt32, "copy": pl.UInt32})
    names = "|".join(labels)
    own = series.with_columns(
        pl.col("labels")
        .str.replace_all(rf'"(?:{names})": ?"(?:[^"\\]|\\.)*"(?:, ?)?', "")
        # the last label of an object leaves the comma before it behind
        .str.replace(r", ?\}$", "}")
    )
    keys = [name for name in own.columns if name != "series"]
    number = pl.struct(keys).rank("dense").cast(pl.UInt32)
    told = own.select("series", copy=number)
    return told.filter(pl.col("copy").is_duplicated())


def _has_any(series: pl.DataFrame, labels: list[str]) -> bool:
    keys = [f'"{label}":' for label in labels]
    return bool(series["labels"].str.contains_any(keys).any())


def _told(series: pl.DataFrame, role: str) -> list[pl.Expr]:
    """Give the values of the labels for a role that the export has, by their order in the facts."""
    return [
        pl.col("labels").str.json_path_match(f"$['{label}']").replace("", None).alias(label)
        for label in derivations.labels(role)
        if _has_any(series, [label])
    ]


def _with_clusters(series: pl.DataFrame) -> pl.DataFrame:
    """Take another label for the cluster where column cluster tells no two series apart."""
    found = _told(series, "cluster")
    if not found or series["cluster"].n_unique() > 1:
        return series
    other = series.select(pl.coalesce(found).alias("name"))["name"]
    names = other.drop_nulls().unique()
    # Series without the label are of the only cluster, or nobody knows of which
    rest = pl.lit(names[0]) if len(names) == 1 else pl.col("cluster")
    return series.with_columns(cluster=pl.coalesce(other, rest))


def _by_pod(series: pl.DataFrame) -> pl.DataFrame:
    if not (series["node"].is_null() & series["pod"].is_not_null()).any():
        return series
    keys = ["cluster", "namespace", "pod"]
    known = series.drop_nulls(["pod", "node"]).select(*keys, found="node")
    known = known.unique().filter(pl.len().over(keys) == 1)
    joined = series.join(known, on=keys, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(node=pl.coalesce("node", "found")).drop("found")


def _by_address(series: pl.DataFrame) -> pl.DataFrame:
    address = pl.col("labels").str.json_path_match("$['internal_ip']")
    told = series.filter(pl.col("metric") == NODE_INFO).select(
        "cluster", address=address, found="node"
    )
    known = told.drop_nulls().unique().filter(pl.len().over("cluster", "address") == 1)
    if known.is_empty() or not series["node"].has_nulls():
        return series
    instance = pl.col("labels").str.json_path_match("$['instance']")
    at = series.with_columns(address=instance.str.replace(r":\d+$", "").str.strip_chars("[]"))
    joined = at.join(known, on=["cluster", "address"], how="left", maintain_order="left")
    return joined.with_columns(node=pl.coalesce("node", "found")).drop("found", "address")
