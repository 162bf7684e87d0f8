"""Properties of advice, on rows of use as they may come: nothing twice, nothing below the need."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from capacity.rightsizing.advice import advise
from capacity.rightsizing.strategies import POD_FLOORS, STRATEGIES
from capacity.rightsizing_settings import STRATEGY_NAMES, RightsizingSettings
from capacity.tables import WORKLOADS

MANY = 60
KEYS = ["namespace", "kind", "workload", "container"]


def use(seed: int) -> pl.DataFrame:
    """Give rows of use of containers, a tenth of them killed, throttled, or without a bound."""
    rng = np.random.default_rng(seed)
    parts = []
    for resource, level in (("cpu", 200.0), ("memory", 4e8)):
        low = rng.lognormal(np.log(level), 1.5, MANY)
        rising = np.cumsum(rng.gamma(1, 0.3, (MANY, 4)), axis=1) + 1
        marks = low[:, None] * rising
        request = np.ceil(marks[:, 3] * rng.lognormal(0, 0.7, MANY))
        parts.append(
            pl.DataFrame(
                {
                    "namespace": [f"team-{k % 7}" for k in range(MANY)],
                    "kind": "Deployment",
                    "workload": [f"app-{k}" for k in range(MANY)],
                    "container": "app",
                    "resource": resource,
                    "pods": 2,
                    "running": 2,
                    "replicas": rng.integers(1, 50, MANY),
                    "points": 4000,
                    "hours": 336.0,
                    "p50": low,
                    "p90": marks[:, 0],
                    "p95": marks[:, 1],
                    "p99": marks[:, 2],
                    "largest": marks[:, 3],
                    "start": 0.0,
                    "worst_pod": "x",
                    "vpa50": low,
                    "vpa90": marks[:, 0],
                    "vpa95": marks[:, 1],
                    "confidence": 14.0,
                    "peak_mode": marks[:, 2],
                    "peak_slope": rng.choice([0.0, 0.01], MANY) * low,
                    "peak_scale": 0.02 * low,
                    "kills": rng.binomial(1, 0.1, MANY),
                    "killed_at": marks[:, 3],
                    "restarts": 0.0,
                    "leak": False,
                    "by": "inventory",
                    "throttled": np.where(rng.random(MANY) < 0.1, 0.3, 0.0),
                    "hpa": None,
                    "request": np.where(rng.random(MANY) < 0.1, np.nan, request),
                    "limit": np.where(rng.random(MANY) < 0.3, np.nan, request * 1.5),
                },
                schema_overrides={"hpa": pl.String},
            ).with_columns(  # fmt: skip
                pl.col("request", "limit").fill_nan(None)
            )
        )
    return pl.concat(parts)


def applied(rows: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
    """Give the rows once all targets are set."""
    for bound in ("request", "limit"):
        new = told.filter(pl.col("setting").str.starts_with(bound)).select(
            *KEYS, pl.col("setting").str.split(".").list.get(1).alias("resource"),
            pl.col("target").cast(pl.Float64).alias(bound),
        )  # fmt: skip
        rows = rows.drop(bound).join(new, on=[*KEYS, "resource"])
    return rows


# A seed does not get simpler by being smaller
@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    seed=st.integers(0, 2**32), strategy=st.sampled_from(STRATEGY_NAMES), worth=st.floats(0, 0.5)
)
def test_a_second_run_changes_nothing_and_no_target_lies_below_the_rule(
    seed: int, strategy: str, worth: float
) -> None:
    own = RightsizingSettings(strategy=strategy, worth=worth)
    rows = use(seed)
    told = advise(rows, WORKLOADS.empty(), own)
    again = advise(applied(rows, told), WORKLOADS.empty(), own)
    assert set(again["status"]) == {"ok"}, again.filter(pl.col("status") != "ok")
    for resource, rule in STRATEGIES[strategy].rules.items():
        mine = rows.filter(resource=resource).select(*KEYS, need=rule.request, least=rule.lower)
        got = told.filter(setting=f"requests.{resource}").join(mine, on=KEYS)
        kept = pl.col("status") == "ok"
        # What is kept is enough by the rule's own bound; what is changed is the rule, rounded up
        least = pl.when(kept).then(pl.min_horizontal("need", "least")).otherwise("need")
        assert (got["target"] >= got.select(least - 1e-3).to_series()).all()
        floor = STRATEGIES[strategy].floors[resource] / (2 if strategy in POD_FLOORS else 1)
        changed = got.filter(~kept)
        assert (changed["target"] >= min(floor, changed["target"].max() or 0)).all()
    limits = told.filter(pl.col("setting").str.starts_with("limits.")).sort(*KEYS, "setting")
    requests = told.filter(pl.col("setting").str.starts_with("requests.")).sort(*KEYS, "setting")
    is_held = (limits["target"] >= requests["target"]).fill_null(value=True)
    assert is_held.all()


@pytest.mark.parametrize("price", [0.03, None])
def test_money_is_the_saving_of_all_pods_at_the_price(price: float | None) -> None:
    told = advise(use(1), WORKLOADS.empty(), RightsizingSettings(cpu_price=price))
    cpu = told.filter(setting="requests.cpu")
    if price is None:
        assert told["money"].is_null().all()
        return
    saved = cpu.select((pl.col("current").fill_null(0) - pl.col("target")) * pl.col("replicas"))
    assert (cpu["saving"] == saved.to_series()).all()
    assert cpu["money"].sum() == pytest.approx(saved.sum().item() / 1000 * price * 730)
