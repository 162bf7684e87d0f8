"""Requests and limits of workloads: a Kustomize patch each, and VerticalPodAutoscaler objects."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, count
from typing import Any, Final, Literal

import polars as pl

from capacity.errors import ManifestError
from capacity.manifests.values import to_yaml
from capacity.units import bytes_to_quantity, millicores_to_quantity

# kubernetes/autoscaler 55c37cd5eb vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1/types.go
UpdateMode = Literal["Off", "Initial", "Recreate", "InPlaceOrRecreate"]
_VERSIONS: Final = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "CronJob": "batch/v1",
}
_CHANGED: Final = ("raise", "lower", "set", "remove")
# kubernetes/apimachinery pkg/util/validation: names of objects; they come from an export
_NAME: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_WORKLOAD: Final = ("namespace", "kind", "workload")


def patches(rightsizing: pl.DataFrame) -> dict[str, str]:
    """Give the kustomization and a strategic merge patch for each workload that changes.

    A limit that goes is written as null, which deletes it.

    Parameters
    ----------
    rightsizing
        Table rightsizing.

    Returns
    -------
    dict
        Path below a folder → YAML; empty where nothing changes.

    Raises
    ------
    ManifestError
        If a name is none that Kubernetes would take, or a file does not read back.
    """
    changed = rightsizing.filter(
        pl.col("status").is_in(_CHANGED), pl.col("kind").is_in(list(_VERSIONS))
    )
    made = {path: _patch(rows) for path, rows in _by_workload(changed)}
    if not made:
        return {}
    tree = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "patches": [{"path": path} for path in made],
    }
    return {"kustomization.yaml": to_yaml(tree), **made}


def autoscalers(rightsizing: pl.DataFrame, mode: UpdateMode) -> dict[str, str]:
    """Give a VerticalPodAutoscaler for each workload with bounds that the history justifies.

    Only where requests of all its containers are known and no other autoscaler holds the replicas.

    Raises
    ------
    ManifestError
        As `patches`.
    """
    requests = rightsizing.filter(
        pl.col("setting").str.starts_with("requests."),
        pl.col("kind").is_in(["Deployment", "StatefulSet", "DaemonSet"]),
    )
    is_whole = pl.col("target").is_not_null().all().over(_WORKLOAD)
    known = requests.filter(is_whole & pl.col("lower").is_not_null())
    return {path: _autoscaler(rows, mode) for path, rows in _by_workload(known)}


def _by_workload(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    taken: set[str] = set()
    for key, own in rows.sort(*_WORKLOAD, "container", "setting").group_by(
        _WORKLOAD, maintain_order=True
    ):
        namespace, kind, workload = map(str, key)
        names = (namespace, workload, *map(str, own["container"].unique()))
        check_names(names, f"{kind} {workload[:80]!r} in {namespace[:80]!r}")
        path = free_path((namespace, kind.lower(), workload), taken)
        taken.add(path)
        yield path, own


def free_path(names: Iterable[str], taken: Collection[str]) -> str:
    """Give a file's name that is not taken: names hold hyphens themselves, so two may meet."""
    stem = "-".join(names)
    stems = chain((stem,), (f"{stem}-{number}" for number in count(2)))
    return next(path for one in stems if (path := f"{one}.yaml") not in taken)


def check_names(names: Iterable[str], what: str) -> None:
    """Check that names of objects, which make files, are such.

    Raises
    ------
    ManifestError
        If Kubernetes would not take one.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise ManifestError(
                f"{what}: {name[:80]!r} is no name of an object; no manifest is written"
            )


def _quantity(value: int | None, unit: str) -> str | None:
    if value is None:
        return None
    return bytes_to_quantity(value, "up") if unit == "byte" else millicores_to_quantity(value)


def _patch(rows: pl.DataFrame) -> str:
    first = rows.row(0, named=True)
    containers = []
    for (name,), own in rows.group_by("container", maintain_order=True):
        resources: dict[str, dict[str, str | None]] = {}
        for row in own.iter_rows(named=True):
            bound, resource = row["setting"].split(".")
            resources.setdefault(bound, {})[resource] = _quantity(row["target"], row["unit"])
        containers.append({"name": name, "resources": resources})
    spec: dict[str, Any] = {"template": {"spec": {"containers": containers}}}
    if first["kind"] == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    tree = {
        "apiVersion": _VERSIONS[first["kind"]],
        "kind": first["kind"],
        "metadata": {"name": first["workload"], "namespace": first["namespace"]},
        "spec": spec,
    }
    reasons = "; ".join(
        f"{row['container']} {row['setting']}: {row['reason']}"
        for row in rows.iter_rows(named=True)
    )
    return to_yaml(tree, {"spec": reasons})


def _autoscaler(rows: pl.DataFrame, mode: UpdateMode) -> str:
    first = rows.row(0, named=True)
    policies = []
    for (name,), own in rows.group_by("container", maintain_order=True):
        told = {row["setting"].split(".")[1]: row for row in own.iter_rows(named=True)}
        policies.append({
            "containerName": name,
            "minAllowed": {key: _quantity(row["lower"], row["unit"]) for key, row in told.items()},
            "maxAllowed": {key: _quantity(row["upper"], row["unit"]) for key, row in told.items()},
        })  # fmt: skip
    target = {"apiVersion": _VERSIONS[first["kind"]], "kind": first["kind"]}
    return to_yaml({
        "apiVersion": "autoscaling.k8s.io/v1",
        "kind": "VerticalPodAutoscaler",
        "metadata": {"name": first["workload"], "namespace": first["namespace"]},
        "spec": {
            "targetRef": {**target, "name": first["workload"]},
            "updatePolicy": {"updateMode": mode},
            "resourcePolicy": {"containerPolicies": policies},
        },
    })  # fmt: skip
