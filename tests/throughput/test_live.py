"""Costs in production: a simulated cluster whose cost of a packet is known, read as a user's is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import capacity
from capacity.cli_lb import lb
from capacity.errors import ModelError
from capacity.throughput.live import fit, live

COST, BASE, CPUS, STEP = 1800e-9, 0.04, 4, 30
START = 1_767_225_600
GC = "cilium_datapath_conntrack_gc_duration_seconds_sum"


def exposition(
    *, nodes: int = 2, steps: int = 120, flat: bool = False, without: tuple[str, ...] = (),
    restart: int | None = None, seed: int = 0,
) -> str:  # fmt: skip
    """OpenMetrics of agents and node_exporter; CPU 0 takes half of the softirq work."""
    rng = np.random.default_rng(seed)
    lines: dict[str, list[str]] = {}
    for node in range(nodes):
        day = 1 + (0 if flat else 0.6) * np.sin(np.arange(steps) / steps * 6)
        rate = 200_000 * (node + 1) * day * (1 + rng.normal(0, 0.01, steps))
        used = BASE + COST * rate * (1 + rng.normal(0, 0.03, steps))
        counters = {
            "cilium_forward_count_total": [({"direction": "INGRESS"}, rate / 2),
                                           ({"direction": "EGRESS"}, rate / 2)],
            "cilium_forward_bytes_total": [({"direction": "INGRESS"}, rate * 600)],
            "cilium_drop_count_total": [({"reason": "Policy denied"}, rate * 1e-4),
                                        ({"reason": "Stale"}, rate * 1e-6)],
            GC: [({"family": f"ipv{v}"}, rate * 0 + 0.002) for v in (4, 6)],
            "node_softnet_times_squeezed_total": [({"cpu": "0"}, rate * 1e-5)],
            "node_cpu_seconds_total": [
                ({"cpu": str(c), "mode": mode}, used * share if mode == "softirq" else used)
                for c, share in enumerate([0.5, 0.2, 0.2, 0.1]) for mode in ("softirq", "idle")
            ],
        }  # fmt: skip
        for metric, series in counters.items():
            if metric in without:
                continue
            for labels, values in series:
                total = np.cumsum(values * STEP) + 1e6
                if restart is not None and metric.startswith("cilium"):
                    total[restart:] -= total[restart - 1]
                name = ",".join(f'{k}="{v}"' for k, v in {"node": f"n{node}", **labels}.items())
                lines.setdefault(metric, []).extend(
                    f"{metric}{{{name}}} {value:.6f} {START + i * STEP}"
                    for i, value in enumerate(total)
                )
    text = [
        f"# TYPE {m.removesuffix('_total')} {'unknown' if metric == GC else 'counter'}\n"
        + "\n".join(rows)
        for m, rows in lines.items()
    ]
    return "\n".join(text) + "\n# EOF\n"


@pytest.fixture
def export(tmp_path: Path):  # type: ignore[no-untyped-def]
    def make(**told: object) -> Path:
        file = tmp_path / "metrics.om"
        file.write_text(exposition(**told), encoding="utf-8")  # type: ignore[arg-type]
        return file

    return make


@pytest.mark.parametrize("restart", [None, 50])
def test_the_command_finds_the_cost_the_base_and_the_headroom(export, restart: int | None) -> None:  # type: ignore[no-untyped-def]
    told = CliRunner().invoke(lb, ["live", str(export(restart=restart)), "-o", "json"])
    assert told.exit_code == 0, told.output
    rows = {row["node"]: row for row in json.loads(told.stdout)}
    assert set(rows) == {"n0", "n1", "*"}
    for name, scale in (("n0", 1), ("n1", 2)):
        row = rows[name]
        assert row["nanoseconds"] == pytest.approx(COST * 1e9, rel=0.05)
        assert row["low"] < COST * 1e9 < row["high"]
        assert row["base"] == pytest.approx(BASE, abs=0.02)
        most = 200_000 * 1.6 * scale
        free = (0.7 - BASE / CPUS) / (0.5 * (BASE + COST * most) - BASE / CPUS)
        assert row["headroom"] == pytest.approx(free, rel=0.15)
        assert row["drop_reason"] == "Policy denied"
        assert row["frame"] == pytest.approx(600, rel=0.05)
        assert row["drops"] == pytest.approx(row["packets"] * 1.01e-4, rel=0.1)
        assert row["ct_gc"] == pytest.approx(0.004, rel=0.05)
        assert row["squeezes"] == pytest.approx(row["packets"] * 1e-5, rel=0.1)


def test_bounds_cover_the_truth_in_most_of_many_clusters() -> None:
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(60):
        rate = 1e5 * (1 + 0.6 * np.sin(np.arange(60) / 10))
        used = 0.05 + COST * rate * (1 + rng.normal(0, 0.05, 60))
        got = fit(rate, used)
        inside += got.low <= COST <= got.high
    assert inside >= 48


def test_traffic_that_never_varies_tells_no_cost_and_says_so(export) -> None:  # type: ignore[no-untyped-def]
    table = live(capacity.read(str(export(flat=True, nodes=1))))
    row = table.row(0, named=True)
    assert row["nanoseconds"] is None
    assert row["headroom"] is None
    assert row["packets"] == pytest.approx(200_000, rel=0.02)
    assert "hardly varied" in row["note"]


@pytest.mark.parametrize("metric", ["node_cpu_seconds_total", "cilium_forward_count_total"])
def test_an_export_that_lacks_one_side_is_told_which(export, metric: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ModelError, match=metric):
        live(capacity.read(str(export(without=(metric,)))))


def test_what_is_optional_is_unknown_where_it_is_not_there(export) -> None:  # type: ignore[no-untyped-def]
    lacking = ("cilium_drop_count_total", "node_softnet_times_squeezed_total",
               "cilium_forward_bytes_total")  # fmt: skip
    row = live(capacity.read(str(export(without=lacking, nodes=1)))).row(0, named=True)
    assert [row[name] for name in ("drops", "drop_reason", "squeezes", "frame")] == [None] * 4
    assert row["nanoseconds"] == pytest.approx(COST * 1e9, rel=0.05)
