"""What a plan says, one sentence a chart: made from the tables, so that it cannot disagree."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from capacity.backtesting import ALL, OURS
from capacity.forecast import FARTHEST
from capacity.planning import Plan
from capacity.telling import amount as amount
from capacity.telling import resource
from capacity.verdicts import planned_for

# Kind, a word, a sentence: the answer in a box above a page
Answer = tuple[str, str, str]
# Between these a 90 % interval is as wide as it should be
_HELD: Final = (0.87, 0.97)


def backtest(scores: pl.DataFrame) -> Answer:
    """Say how often past forecasts held, and whether a simpler rule would have done better."""
    pooled = scores.filter(pl.col("quantity") == ALL)
    ours = pooled.filter(pl.col("method") == OURS)
    told = int(ours["forecasts"].sum())
    if not told:
        return "unknown", "Not tested", "The history is too short for a forecast from a past time"
    held = float((ours["coverage"] * ours["forecasts"]).sum()) / told
    text = f"{held:.0%} of {told:,} forecasts from past times held what came (90 % should)"
    best = pooled.sort("pinball").unique("horizon", keep="first")["method"].to_list()
    text += f"; least loss of {pooled['method'].n_unique()} methods at {best.count(OURS)} of "
    text += f"{len(best)} distances"
    if held < _HELD[0]:
        return "short", "Too narrow", text
    return ("fits", "Held", text) if held <= _HELD[1] else ("unknown", "Too wide", text)


def upgrade(changes: pl.DataFrame) -> Answer:
    """Say how much the steps of an upgrade change, and how much asks to be dealt with before."""
    steps, acting = changes["step"].n_unique(), len(changes.filter("act"))
    if not steps:
        return "fits", "Nothing to do", "No newer version is known"
    text = f"{len(changes)} changes in {steps} {'step' if steps == 1 else 'steps'}; "
    text += f"{acting} to be dealt with before"
    return ("short", "To do", text) if acting else ("fits", "Nothing to do", text)


def breaks_first(plan: Plan) -> str:
    """Say which resource runs out first, as table exhaustion has it."""
    seen = plan.exhaustion.filter(pl.col("nodes_early").is_not_null())
    if seen.is_empty():
        return f"No limit is in sight up to {farthest(plan):,.0f} nodes"
    first = seen.row(0, named=True)
    short = len(plan.exhaustion.filter(pl.col("status") == "short"))
    at = f"{first['nodes_early']:,} nodes with {percent(plan.settings.risk)} risk"
    if first["nodes_median"] is not None:
        at += f", {first['nodes_median']:,} in the median"
    if not short:
        return f"Nothing runs short within {scope(plan)}; {resource(first)} would first, at {at}"
    count = f"{short} of {len(plan.exhaustion)} resources run short within {scope(plan)}"
    return f"{resource(first)} runs out first, at {at}; {count}"


def fill(plan: Plan) -> str:
    """Say which resource is the fullest today."""
    known = plan.exhaustion.filter(pl.col("usage").is_not_null())
    if known.is_empty():
        return "No resource with a known limit is observed"
    fullest = known.sort("usage", descending=True).row(0, named=True)
    return (
        f"Fullest today is {resource(fullest)}: {fullest['usage']:.0%} of its limit "
        f"at {nodes_now(plan):,.0f} nodes"
    )


def growth(plan: Plan) -> str:
    """Say where the node count leads, or why no dates are told."""
    ahead, now = plan.growth.drop_nulls("q50").tail(1), nodes_now(plan)
    if ahead.is_empty():
        why = next((w for w in plan.warnings if "dates need" in w), "no growth was fitted")
        return f"{now:,.0f} nodes today; {why}"
    row = ahead.row(0, named=True)
    return (
        f"{now:,.0f} nodes today; {row['q50']:,.0f} ({row['q05']:,.0f} to {row['q95']:,.0f}) "
        f"on {row['time']:%Y-%m-%d} if growth goes on as it was"
    )


def memory(plan: Plan) -> str:
    """Say at which node count the memory limits are reached, as table exhaustion has it."""
    rows = plan.exhaustion.filter(pl.col("quantity") == "memory").sort("component")
    if rows.is_empty():
        return "The export holds no memory of agents or operators"
    told = []
    for row in rows.iter_rows(named=True):
        if row["limit"] is None:
            told.append(f"{row['component']} memory has no known limit{_memory_need(plan, row)}")
        elif row["nodes_early"] is None:
            told.append(f"{row['component']} memory stays within {amount(row['limit'], 'byte')}")
        else:
            told.append(
                f"{row['component']} memory may reach its limit of {amount(row['limit'], 'byte')} "
                f"at {row['nodes_early']:,} nodes"
            )
    return capital("; ".join(told))


def _memory_need(plan: Plan, row: dict[str, Any]) -> str:
    rows = plan.forecast.filter(
        pl.col("component") == row["component"], pl.col("quantity") == "memory"
    )
    if rows.is_empty():
        return ""
    last = rows.sort("nodes").row(-1, named=True)
    return f" and may need {amount(last['q95'], 'byte')} at {last['nodes']:,} nodes"


def map_memory(plan: Plan) -> str:
    """Say what the maps of a node cost, over the maps whose charge is known."""
    known = plan.maps.drop_nulls(["memlock", "charged"])
    if known.is_empty():
        total = int(plan.maps["memlock"].sum() or 0)
        return f"BPF maps of a node hold {amount(total, 'byte')}; what is charged is not known"
    kinds = f"{len(known)} kinds of BPF maps cost" if len(known) > 1 else "1 kind of BPF map costs"
    shown, charged = (amount(int(known[name].sum()), "byte") for name in ("memlock", "charged"))
    return f"{kinds} a node {charged} of charged memory; bpftool shows {shown}"


def map_fill(plan: Plan) -> pl.DataFrame:
    """Give the maps with a known limit, the fullest at the planned node count first.

    Columns of table exhaustion, and q05, q50, q95: share of the limit at `planned_nodes`.
    """
    keys = ["cluster", "component", "subject", "quantity"]
    ahead = plan.forecast.filter(pl.col("nodes") == planned_nodes(plan), pl.col("limit") > 0)
    shares = [pl.col(name) / pl.col("limit") for name in ("q05", "q50", "q95")]
    rows = plan.exhaustion.filter(pl.col("component") == "map", pl.col("limit") > 0)
    joined = rows.join(ahead.select(*keys, *shares), on=keys, nulls_equal=True)
    return joined.sort("q95", "subject", descending=[True, False])


def planned_nodes(plan: Plan) -> int:
    """Give the node count to be ready for: the largest asked for, or grown to (95 % quantile)."""
    told = plan.forecast["nodes"]
    grown = plan.growth["q95"].drop_nulls().tail(1)
    most = max(plan.settings.nodes, default=grown[0] if len(grown) else nodes_now(plan))
    return int(told.filter(told <= most).max() or told.min() or 0)  # type: ignore[arg-type]


def fullest(plan: Plan) -> str:
    """Say which map will be the fullest at the planned node count."""
    rows = map_fill(plan)
    if rows.is_empty():
        return "No map with a known limit is observed"
    over = rows.filter(pl.col("q95") >= 1)
    first = rows.row(0, named=True)
    told = f"{resource(first)} may hold {first['q95']:.0%} of its limit"
    count = f"{len(over)} of {len(rows)} maps may be full" if len(over) else "no map may be full"
    return f"At {planned_nodes(plan):,} nodes {count}; {told}"


def policies(plan: Plan) -> str:
    """Say which endpoint's policy map is full first, by the policies of the inventory."""
    known = plan.policy_growth.drop_nulls("entries")
    if known.is_empty():
        return "The inventory holds no policies and pods, so policy maps are not counted"
    row = known.sort(pl.col("entries") / pl.col("limit"), descending=True).row(0, named=True)
    told = f"{row['endpoint']} has the fullest policy map: {row['entries']:,} of {row['limit']:,}"
    ahead = known.drop_nulls("factor").sort("factor").head(1)
    if ahead.is_empty():
        return told + " entries; none grows with the workloads"
    first = ahead.row(0, named=True)
    full = (
        f"first full is that of {first['endpoint']}, at {first['factor']:.2f} times the workloads"
    )
    return f"{told} entries; {full}"


def services(plan: Plan) -> str:
    """Say which load balancer map is full first, by the services of the inventory."""
    if plan.service_growth.is_empty():
        return "The inventory holds no services, so load balancer maps are not counted"
    ahead = plan.service_growth.drop_nulls("factor").sort("factor").head(1)
    if ahead.is_empty():
        return "No load balancer map grows with the services of the inventory"
    row = ahead.row(0, named=True)
    now = f"{row['entries']:,} of {row['limit']:,}"
    return (
        f"{row['resource'].replace('cilium_', 'map ')} runs out first: {now} today, full at "
        f"{row['factor']:.2f} times the nodes if services grow with them"
    )


def sensitive(plan: Plan, name: str | None = None) -> pl.DataFrame:
    """Give the rows of table sensitivity of one resource, what moves it most first.

    Parameters
    ----------
    name
        As `telling.resource` names it; what runs out first, or is fullest, where left out.
    """
    rows = plan.sensitivity
    if name is None and not rows.is_empty():
        first = plan.exhaustion.sort("rank").row(0, named=True)
        name = resource(first)
    names = [resource(row) for row in rows.iter_rows(named=True)]
    return rows.filter(pl.Series(names, dtype=pl.String) == name).sort("rank")


def tornado(plan: Plan, name: str | None = None) -> str:
    """Say which one thing moves a forecast most, and by how much."""
    rows = sensitive(plan, name)
    if rows.is_empty():
        return "Nothing is known of what moves the forecast"
    first = rows.row(0, named=True)
    when = f"{first['nodes']:,} nodes"
    if first["time"] is not None:
        when = f"{first['time']:%Y-%m-%d}, about {when},"
    ends = sorted((first["at_low"], first["at_high"]))
    low, high = (amount(end, first["unit"]) for end in ends)
    text = f"{resource(first)} at {when} rests most on {_told(first)}: {low} to {high}"
    if len(rows) > 1:
        second = rows.row(1, named=True)
        text += f"; then on {_told(second)}"
    return text


def _told(row: dict[str, Any]) -> str:
    """Name a factor, and where it is believed, not observed, say so."""
    known = {"prior": " (from elsewhere: not told by your data)", "judgment": " (a judgment)"}
    return f"{row['factor']}{known.get(row['basis'], '')}"


def what_if(plan: Plan) -> str:
    """Say what the slider of node counts shows."""
    last = int(plan.curves["nodes"].max() or 0)  # type: ignore[arg-type]
    return f"What if: the use of each resource at {nodes_now(plan):,.0f} to {last:,} nodes"


def scope(plan: Plan) -> str:
    """Name how far the plan looks: the horizon, or the node count asked for."""
    return planned_for(plan.settings, has_dates=not plan.growth["q50"].is_null().all())


def nodes_now(plan: Plan) -> float:
    """Give the newest observed node count."""
    seen = plan.growth["observed"].drop_nulls()
    return float(seen[-1])


def farthest(plan: Plan) -> float:
    """Give the largest node count that was looked at; beyond it nothing is in sight."""
    return max(nodes_now(plan) * FARTHEST, *plan.settings.nodes, 0)


def percent(share: float) -> str:
    """Write a share in percent; small risks must not become zero.

    >>> percent(0.01), percent(0.001), percent(0.25)
    ('1%', '0.1%', '25%')
    """
    return f"{100 * share:.3g}%"


def capital(text: str) -> str:
    """Give a text that begins like a sentence; the rest stays as it is.

    >>> capital("map ipcache is full")
    'Map ipcache is full'
    """
    return text[:1].upper() + text[1:]
