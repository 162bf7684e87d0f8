"""Which workload a pod is of: by kube-state-metrics, else by the inventory, else by its name."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.export import Metrics

# Random parts of names: kubernetes/apimachinery pkg/util/rand/rand.go, alphanums (v0.32)
_RANDOM: Final = "[bcdfghjklmnpqrstvwxz2456789]"
# A Deployment's ReplicaSet is named by a hash of up to 10 of these (pkg/controller/controller_utils
# .go, ComputeHash), its pods by five more; a CronJob's jobs by minutes since 1970
_PATTERNS: Final = (
    ("Deployment", rf"^(.+)-{_RANDOM}{{1,10}}-{_RANDOM}{{5}}$"),
    ("StatefulSet", r"^(.+)-\d{1,5}$"),
    ("CronJob", rf"^(.+)-\d{{8}}-{_RANDOM}{{5}}$"),
    ("DaemonSet", rf"^(.+)-{_RANDOM}{{5}}$"),
)
_CONTROLLERS: Final = ("Deployment", "StatefulSet", "DaemonSet", "CronJob")


def owners(units: pl.DataFrame, state: Metrics, workloads: pl.DataFrame) -> pl.DataFrame:
    """Give units with kind and workload, and `by`: what told them.

    Parameters
    ----------
    units
        Columns namespace, pod, container, unit.
    workloads
        Table workloads.
    """
    pods = units.select("namespace", "pod").unique()
    told = _by_metrics(state.series)
    named = pods.join(told, on=["namespace", "pod"], how="left")
    rest = named.filter(pl.col("kind").is_null()).select("namespace", "pod")
    owned = named.drop_nulls("kind").with_columns(by=pl.lit("kube_pod_owner"))
    found = pl.concat([owned, _by_name(rest, workloads)])
    return units.join(found, on=["namespace", "pod"], how="left", maintain_order="left")


def _label(name: str) -> pl.Expr:
    return pl.col("labels").str.json_path_match(f"$['{name}']")


def _by_metrics(series: pl.DataFrame) -> pl.DataFrame:
    """Follow owners up: pod → ReplicaSet → Deployment, pod → Job → CronJob.

    Labels: kubernetes/kube-state-metrics docs/metrics/workload (v2.13).
    """
    direct = series.filter(pl.col("metric") == "kube_pod_owner").select(
        "namespace", "pod", kind=_label("owner_kind"), workload=_label("owner_name")
    )
    direct = direct.drop_nulls(["namespace", "pod"]).unique(["namespace", "pod"], keep="last")
    above = {
        "ReplicaSet": ("kube_replicaset_owner", "replicaset"),
        "Job": ("kube_job_owner", "job_name"),
    }
    parents = pl.concat(
        series.filter(pl.col("metric") == metric).select(
            "namespace", kind=pl.lit(kind), workload=_label(label),
            parent_kind=_label("owner_kind"), parent=_label("owner_name"),
        )
        for kind, (metric, label) in above.items()
    ).unique(["namespace", "kind", "workload"], keep="last")  # fmt: skip
    joined = direct.join(parents, on=["namespace", "kind", "workload"], how="left")
    is_owned = pl.col("parent_kind").is_in(_CONTROLLERS)
    # A ReplicaSet whose owner is not told is named by its Deployment and a hash
    stem = pl.col("workload").str.extract(rf"^(.+)-{_RANDOM}{{1,10}}$")
    is_hashed = (pl.col("kind") == "ReplicaSet") & pl.col("parent").is_null() & stem.is_not_null()
    kind = (
        pl.when(is_owned).then("parent_kind").when(is_hashed).then(pl.lit("Deployment"))
        .when(pl.col("kind").is_in(["Node", "<none>"])).then(pl.lit("Pod")).otherwise("kind")
    )  # fmt: skip
    name = (
        pl.when(is_owned).then("parent").when(is_hashed).then(stem)
        .when(pl.col("kind").is_in(["Node", "<none>"])).then("pod").otherwise("workload")
    )  # fmt: skip
    return joined.select("namespace", "pod", kind=kind, workload=name)


def _by_name(pods: pl.DataFrame, workloads: pl.DataFrame) -> pl.DataFrame:
    """Read the workload out of the pod's name; one that the inventory knows wins."""
    known = workloads.select("namespace", "kind", "workload").unique()
    guesses = pods
    for kind, pattern in _PATTERNS:
        stem = pl.col("pod").str.extract(pattern).alias(kind)
        told = known.filter(pl.col("kind") == kind).select(
            "namespace", pl.col("workload").alias(kind), pl.lit(value=True).alias(f"{kind} known")
        )
        guesses = guesses.with_columns(stem).join(told, on=["namespace", kind], how="left")
    order = [kind for kind, _ in _PATTERNS]
    is_known = pl.any_horizontal(pl.col(f"{kind} known") for kind in order).fill_null(value=False)
    certain = pl.coalesce(pl.when(pl.col(f"{kind} known")).then(pl.lit(kind)) for kind in order)
    likely = pl.coalesce(pl.when(pl.col(kind).is_not_null()).then(pl.lit(kind)) for kind in order)
    guesses = guesses.with_columns(kind=pl.coalesce(certain, likely, pl.lit("Pod")))
    name = pl.coalesce(pl.when(pl.col("kind") == kind).then(kind) for kind in order)
    return guesses.select(
        "namespace", "pod", "kind", workload=pl.coalesce(name, "pod"),
        by=pl.when(is_known).then(pl.lit("inventory")).otherwise(pl.lit("pod name")),
    )  # fmt: skip
