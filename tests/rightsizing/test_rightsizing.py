"""Requests and limits from container metrics whose truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import capacity
from capacity.cli import cli
from capacity.errors import ExportError, ManifestError, SettingsError
from capacity.export import Metrics
from capacity.inventory import Inventory
from capacity.manifests.workload_patches import autoscalers, patches
from capacity.rightsizing import Sizing, rightsize
from capacity.rightsizing.histogram import FIRST_CPU, FIRST_MEMORY, buckets
from capacity.rightsizing.strategies import STRATEGIES
from capacity.rightsizing.view import by_container
from capacity.rightsizing_settings import STRATEGY_NAMES, RightsizingSettings
from capacity.tables import WORKLOADS
from capacity.units import parse_bytes, parse_millicores
from tests.rightsizing.pods import MI, MINUTE, START, Pods, copied

DAY = 288  # steps of 5 minutes
WEB = ("ReplicaSet", "web-7d9f8c6b5d")


def used(n: int = 3 * DAY, level: float = 0.2, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).gamma(4, level / 4, n)


def memory(n: int = 3 * DAY, mean: float = 400, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 15, n) * MI


def web(pods: Pods, **more: object) -> Pods:
    pods.replica_set("web-7d9f8c6b5d", "web")
    for k, name in enumerate(("x2x2x", "z4z4z", "b5b5b")):
        pods.pod(f"web-7d9f8c6b5d-{name}", used(seed=k) * (1 + k), memory(seed=k), owner=WEB,
                 minutes=5, **{"request": (2.0, 2048 * MI), "limit": (4.0, 2048 * MI), **more})  # type: ignore[arg-type]  # fmt: skip
    return pods


def size(source: Pods | Metrics, workloads: pl.DataFrame | None = None, **more: object) -> Sizing:
    metrics = source.metrics() if isinstance(source, Pods) else source
    inventory = Inventory() if workloads is None else Inventory(workloads=workloads)
    return rightsize(metrics, RightsizingSettings(**more), inventory)  # type: ignore[arg-type]


def row(made: Sizing, setting: str, workload: str = "web") -> dict[str, object]:
    found = made.resources.filter(setting=setting, workload=workload)
    assert len(found) == 1
    return found.row(0, named=True)


def applied(made: Sizing) -> pl.DataFrame:
    """Give the workloads as they are after all targets were applied."""
    rows = []
    for key, own in made.resources.group_by("kind", "namespace", "workload", "container"):
        told = {one["setting"]: one for one in own.iter_rows(named=True)}
        is_open = ("unknown", "refused")
        now = [
            one["current" if one["status"] in is_open else "target"]
            for one in (told[f"{b}.{r}"] for r in ("cpu", "memory") for b in ("requests", "limits"))
        ]
        rows.append((*key, own["replicas"][0], *now))
    return pl.DataFrame(rows, schema=WORKLOADS.schema, orient="row")


def test_the_names_of_strategies_are_those_there_are() -> None:
    assert tuple(STRATEGIES) == STRATEGY_NAMES


def test_krr_takes_the_worst_pods_95th_percentile_and_its_peak_and_15_percent() -> None:
    made = size(web(Pods()), strategy="krr")
    # The last interval of a counter has no end yet
    worst = max(np.quantile(used(seed=k)[:-1] * (1 + k), 0.95) for k in range(3))
    peak = max(memory(seed=k).max() for k in range(3))
    cpu, bytes_ = row(made, "requests.cpu"), row(made, "requests.memory")
    assert cpu["target"] == np.ceil(worst * 1000 - 0.01)
    assert bytes_["target"] == np.ceil(peak * 1.15 / MI) * MI
    assert row(made, "limits.cpu")["status"] == "remove"
    assert row(made, "limits.memory")["target"] == bytes_["target"]


def vpa_percentile(values: list[float], weights: list[float], q: float, first: float) -> float:
    """Do what util/histogram.go does, value by value."""
    held = np.zeros(buckets(first, 1e12 if first > 1e6 else 1e6))
    for value, weight in zip(values, weights, strict=True):
        number = 0 if value < first else int(np.log(value * 0.05 / first + 1) / np.log(1.05))
        held[min(number, len(held) - 1)] += weight
    total = 0.0
    for number, weight in enumerate(held):
        total += weight
        if total >= q * held.sum():
            return first * (1.05 ** (number + 1) - 1) / 0.05
    raise AssertionError


def test_vpa_weighs_samples_by_their_age_and_memory_by_daily_peaks() -> None:
    pods = Pods()
    pods.pod("db-0", used(5 * DAY), memory(5 * DAY), owner=("StatefulSet", "db"), minutes=5,
             request=(1.0, 1024 * MI), limit=(2.0, 2048 * MI))  # fmt: skip
    made = size(pods, strategy="vpa")
    rates = used(5 * DAY)[:-1] * 1000
    ages = np.arange(len(rates))[::-1] / DAY
    raw = vpa_percentile(rates.tolist(), (0.5**ages).tolist(), 0.9, FIRST_CPU)
    assert row(made, "requests.cpu", "db")["target"] == np.ceil(raw * 1.15)
    peaks = memory(5 * DAY).reshape(5, DAY).max(axis=1)
    raw = vpa_percentile(peaks.tolist(), (2.0 ** np.arange(5)).tolist(), 0.9, FIRST_MEMORY)
    told = row(made, "requests.memory", "db")
    assert told["target"] == np.ceil(raw * 1.15 / MI) * MI
    raw = vpa_percentile(peaks.tolist(), (2.0 ** np.arange(5)).tolist(), 0.95, FIRST_MEMORY)
    # Five days of a step each five minutes are a day's worth of a sample a minute, five times
    assert told["upper"] == np.ceil(raw * 1.15 * (1 + 1 / 5) / MI) * MI
    assert row(made, "limits.memory", "db")["target"] == pytest.approx(2 * told["target"], rel=0.01)


def test_goldilocks_gives_vpas_bounds_or_its_target() -> None:
    pods = web(Pods())
    vpa = row(size(pods, strategy="vpa"), "requests.cpu")
    bursting = size(pods, strategy="goldilocks-burstable")
    assert row(bursting, "requests.cpu")["target"] == vpa["lower"]
    assert row(bursting, "limits.cpu")["target"] == vpa["upper"]
    same = size(pods, strategy="goldilocks-guaranteed")
    assert row(same, "requests.cpu")["target"] == row(same, "limits.cpu")["target"]
    assert row(same, "requests.cpu")["target"] == vpa["target"]


def test_a_throttling_limit_goes_and_one_that_does_not_stays() -> None:
    pods = web(Pods(), limit=(0.5, 2048 * MI))
    assert row(size(pods), "limits.cpu")["status"] in ("ok", "raise")
    at = START + np.arange(3 * DAY) * 5.0 * MINUTE
    names = {"namespace": "shop", "pod": "web-7d9f8c6b5d-b5b5b", "container": "app"}
    pods.add("container_cpu_cfs_periods_total", at, np.arange(len(at)) * 3000.0, **names)
    pods.add("container_cpu_cfs_throttled_periods_total", at, np.arange(len(at)) * 900.0, **names)
    told = row(size(pods), "limits.cpu")
    assert (told["status"], told["risk"]) == ("remove", "medium")
    assert "throttled in 30 %" in str(told["reason"])


def test_memory_is_raised_above_the_limit_of_an_oom_kill() -> None:
    pods = web(Pods(), request=(0.5, 512 * MI), limit=(4.0, 512 * MI))
    names = {"namespace": "shop", "pod": "web-7d9f8c6b5d-b5b5b", "container": "app"}
    at = np.array([START + 5.0 * DAY * MINUTE])
    oom = "kube_pod_container_status_last_terminated_reason"
    pods.add(oom, at, 1, reason="OOMKilled", **names)
    told = row(size(pods), "requests.memory")
    # A quarter more than the limit that killed it, and the margin of 15 %
    assert (told["target"], told["risk"]) == (736 * MI, "high")
    assert "1 pods killed" in str(told["reason"])


def test_memory_that_rises_like_a_leak_is_refused_but_not_with_its_load() -> None:
    rising = np.linspace(200, 900, 3 * DAY) * MI
    pods = Pods()
    pods.pod("db-0", used(), rising, owner=("StatefulSet", "db"), minutes=5)
    load = np.linspace(0.1, 0.9, 3 * DAY)
    pods.pod("fed-0", load, rising, owner=("StatefulSet", "fed"), minutes=5)
    made = size(pods)
    told = row(made, "requests.memory", "db")
    assert (told["status"], told["target"], told["risk"]) == ("refused", None, "high")
    assert row(made, "requests.memory", "fed")["status"] == "set"


def test_too_little_history_and_none_at_all_are_unknown_and_say_what_to_do() -> None:
    pods = Pods()
    pods.pod("db-0", used(120), memory(120), owner=("StatefulSet", "db"), minutes=5)
    listed = pl.DataFrame(
        [("Deployment", "shop", "quiet", "app", 2, 100, None, None, None)],
        schema=WORKLOADS.schema, orient="row",
    )  # fmt: skip
    made = size(pods, listed)
    assert "10.0 h of history" in str(row(made, "requests.memory", "db")["reason"])
    silent = row(made, "requests.cpu", "quiet")
    assert (silent["status"], silent["current"]) == ("unknown", 100)
    assert "scrape the kubelets" in str(silent["reason"])
    assert row(size(pods, min_history="2h"), "requests.memory", "db")["status"] == "set"


def test_a_request_that_an_autoscaler_divides_by_is_left_alone_unless_asked_for() -> None:
    pods = web(Pods())
    at = np.array([float(START)])
    names = {"namespace": "shop", "horizontalpodautoscaler": "web"}
    pods.add("kube_horizontalpodautoscaler_info", at, 1, scaletargetref_kind="Deployment",
             scaletargetref_name="web", **names)  # fmt: skip
    pods.add("kube_horizontalpodautoscaler_spec_target_metric", at, 70, metric_name="cpu",
             metric_target_type="utilization", **names)  # fmt: skip
    made = size(pods)
    assert row(made, "requests.cpu")["status"] == "refused"
    assert row(made, "requests.memory")["status"] == "lower"
    allowed = row(size(pods, allow_hpa=True), "requests.cpu")
    assert allowed["status"] == "lower"
    assert "autoscaler web" in str(allowed["side_effect"])


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_what_was_applied_is_not_changed_again(strategy: str) -> None:
    pods = web(Pods())
    pods.pod("db-0", used(), memory(), owner=("StatefulSet", "db"), minutes=5)
    made = size(pods, strategy=strategy)
    again = size(pods, applied(made), strategy=strategy)
    assert set(again.resources["status"]) == {"ok"}
    assert not patches(again.resources)
    assert set(made.resources["status"]) > {"lower"}


def test_a_small_difference_is_not_worth_a_rollout_but_a_shortage_of_memory_is() -> None:
    peak = max(memory(seed=k).max() for k in range(3))
    near = web(Pods(), request=(2.0, peak * 1.2), limit=(2.0, peak * 1.2))
    assert row(size(near), "requests.memory")["status"] == "ok"
    assert row(size(near, worth=0.01), "requests.memory")["status"] == "lower"
    short = web(Pods(), request=(2.0, peak * 0.99), limit=(2.0, peak * 0.99))
    assert row(size(short, worth=0.5), "requests.memory")["status"] == "raise"


def test_resets_replaced_pods_and_second_scrapers_change_nothing() -> None:
    plain = web(Pods())
    cut = Pods()
    cut.replica_set("web-7d9f8c6b5d", "web")
    for k, name in enumerate(("x2x2x", "z4z4z", "b5b5b")):
        cores, held = used(seed=k) * (1 + k), memory(seed=k)
        for part, (low, high) in enumerate(((0, 400), (400, 3 * DAY))):
            # The container restarts: another id, and a counter from 0 on
            cut.pod(f"web-7d9f8c6b5d-{name}", cores[low:high], held[low:high], owner=WEB,
                    begin=low, minutes=5, id=str(part), request=(2.0, 2048 * MI),
                    limit=(4.0, 2048 * MI))  # fmt: skip
    twice = copied(plain, [{"prometheus_replica": "a"}, {"prometheus_replica": "b"}])
    targets = size(plain).resources.select("setting", "target", "replicas")
    assert size(twice).resources.select(targets.columns).equals(targets)
    restarted = size(cut).resources.select("setting", "target", "replicas")
    share = restarted["target"].drop_nulls() / targets["target"].drop_nulls()
    assert share.is_between(0.99, 1.01).all()


def test_order_of_rows_changes_nothing() -> None:
    metrics = web(Pods()).metrics()
    mixed = replace(metrics, samples=metrics.samples.sample(fraction=1, shuffle=True, seed=3))
    assert size(mixed).resources.equals(size(metrics).resources)


def test_pods_without_kube_state_metrics_are_known_by_the_inventory_or_their_names() -> None:
    pods = Pods()
    for name in ("api-server-0", "web-7d9f8c6b5d-x2x2x", "agent-x2x2x", "job-28473920-x2x2x"):
        pods.pod(name, used(), memory(), minutes=5)
    made = size(pods)
    assert set(made.resources.select("kind", "workload").unique().rows()) == {
        ("StatefulSet", "api-server"), ("Deployment", "web"), ("DaemonSet", "agent"),
        ("CronJob", "job"),
    }  # fmt: skip
    assert any("told by the names of pods" in text for text in made.warnings)
    listed = pl.DataFrame(
        [("DaemonSet", "shop", "web-7d9f8c6b5d", "app", None, None, None, None, None)],
        schema=WORKLOADS.schema, orient="row",
    )  # fmt: skip
    kinds = size(pods, listed).resources.select("kind", "workload").unique().rows()
    assert ("DaemonSet", "web-7d9f8c6b5d") in kinds


@cache
def requests_at(factor: float, strategy: str) -> tuple[int, int]:
    """Give the requests for CPU and memory of a pod that uses so many times what it did."""
    pods = Pods()
    pods.pod("db-0", used() * factor, memory() * factor, owner=("StatefulSet", "db"), minutes=5)
    made = size(pods, strategy=strategy)
    cpu, held = (row(made, f"requests.{name}", "db")["target"] for name in ("cpu", "memory"))
    return cpu, held  # type: ignore[return-value]


@settings(max_examples=10, deadline=None)
@given(factor=st.floats(1.0, 8.0), strategy=st.sampled_from(STRATEGY_NAMES))
def test_more_use_never_gets_less(factor: float, strategy: str) -> None:
    less, more = requests_at(1.0, strategy), requests_at(factor, strategy)
    assert more[0] >= less[0]
    assert more[1] >= less[1]


def test_patches_read_back_as_the_targets_and_a_limit_that_goes_is_null() -> None:
    made = size(web(Pods()), strategy="krr")
    texts = patches(made.resources)
    assert set(texts) == {"kustomization.yaml", "shop-deployment-web.yaml"}
    patch = yaml.safe_load(texts["shop-deployment-web.yaml"])
    told = patch["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert parse_millicores(told["requests"]["cpu"]) == row(made, "requests.cpu")["target"]
    assert parse_bytes(told["limits"]["memory"]) == row(made, "limits.memory")["target"]
    assert told["limits"]["cpu"] is None
    vpa = yaml.safe_load(autoscalers(made.resources, "Off")["shop-deployment-web.yaml"])
    assert vpa["spec"]["updatePolicy"] == {"updateMode": "Off"}


def test_a_name_that_leaves_the_folder_is_refused() -> None:
    pods = Pods()
    pods.pod("db-0", used(), memory(), owner=("StatefulSet", "../../db"), minutes=5)
    with pytest.raises(ManifestError, match="no name of"):
        patches(size(pods).resources)


def test_prices_turn_savings_into_money() -> None:
    made = size(web(Pods()), cpu_price=0.03, memory_price=0.004)
    cpu = row(made, "requests.cpu")
    assert cpu["money"] == pytest.approx(cpu["saving"] / 1000 * 0.03 * 730)  # type: ignore[operator]
    assert cpu["saving"] == 3 * (2000 - cpu["target"])  # type: ignore[operator]
    assert by_container(made.resources)["money a month"][0] > 0


def test_an_export_without_container_metrics_says_what_is_wanted() -> None:
    pods = Pods()
    pods.replica_set("web-1", "web")
    with pytest.raises(ExportError, match="metrics/cadvisor"):
        size(pods)


def test_settings_tell_all_faults_together() -> None:
    with pytest.raises(SettingsError, match=r"strategy.*worth.*cpu_price"):
        RightsizingSettings(strategy="x", worth=2, cpu_price=-1)


def test_the_command_prints_writes_and_fails_at_high_risk(tmp_path) -> None:
    pods = web(Pods())
    capacity.load.write(pods.metrics(), tmp_path / "fine")
    done = CliRunner().invoke(cli, ["resources", str(tmp_path / "fine"), "-o", "json"])
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)) == 4
    pods.pod("db-0", used(), memory(), owner=("StatefulSet", "db"), minutes=5,
             request=(0.1, 410 * MI), limit=(0.1, 430 * MI))  # fmt: skip
    capacity.load.write(pods.metrics(), tmp_path / "short")
    arguments = [
        "resources",
        str(tmp_path / "short"),
        "--out",
        str(tmp_path / "out"),
        "--vpa",
        "Off",
    ]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 1, done.output
    assert "1 at high risk" in done.stdout
    files = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")
    }
    assert {"kustomize/shop-statefulset-db.yaml", "vpa/shop-deployment-web.yaml"} <= files


def test_a_history_too_long_to_be_true_is_told_with_its_days() -> None:
    pods = web(Pods())
    names = {"namespace": "shop", "pod": "web-7d9f8c6b5d-x2x2x", "container": "app", "id": "1"}
    far = np.array([START + 3_000 * 86_400_000], float)
    pods.add("container_memory_working_set_bytes", far, 400 * MI, **names)
    (told,) = (one for one in size(pods).warnings if "apart" in one)
    assert told.startswith("samples lie 3000 days apart, from 2026-09-21 to 2034-12-08")
    assert not [one for one in size(web(Pods())).warnings if "apart" in one]
