"""Commands that tell how right forecasts were: backtest and ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capacity.cli_options import OUTPUT
from capacity.settings import DEMO, PlanSettings

if TYPE_CHECKING:
    import polars as pl

_CHART = click.option(
    "--chart", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html",
    help="Write the chart of it as one HTML file that needs no network.",
)  # fmt: skip
_DETAIL = click.option(
    "--detail", type=click.Choice(["overall", "scores", "trials"]), default="overall",
    show_default=True, help="Scores over all quantities, of each, or every single forecast.",
)  # fmt: skip


@click.command("backtest")
@click.argument("source", default=DEMO, metavar="[CLUSTER]")
@click.option("--inventory", help="Folder or file of Kubernetes objects.")
@click.option("--cluster", help="Name of the cluster, where the source holds several.")
@click.option("--cilium", metavar="VERSION", help="Cilium version, e.g. 1.18.")
@click.option("--start", help="Start of the history: RFC 3339, epoch seconds, or -180d.")
@click.option("--end", help="End of the history.")
@click.option("--origins", type=click.IntRange(1, 100), default=8, show_default=True,
              help="Past times to forecast from.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draws.")
@_DETAIL
@_CHART
@OUTPUT
def backtest(origins: int, detail: str, chart: Path | None, output: str, **options: Any) -> None:
    """Forecast from past times of a history and compare with what then came.

    Beside ours stand the newest value, Prometheus' predict_linear over 7 days, a straight line,
    and for memory what VPA and KRR would ask for; `skill` is the share of their loss that ours
    saves. The history must span 35 days.

    \b
    Examples:
      capacity backtest ./export --chart backtest.html
      capacity backtest https://prometheus.example:9090 --start -180d -o csv --detail trials
    """
    from capacity.backtesting import backtest as run

    done = run(PlanSettings(**options), origins=origins)
    _show(done.scores, done.trials, detail, output, f"Cluster {done.cluster}")
    for note in done.notes:
        click.echo(f"warning: {note}", err=True)
    _draw(done.scores, chart)


@click.command("ledger")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
                metavar="DIR")  # fmt: skip
@_DETAIL
@_CHART
@OUTPUT
def ledger(folder: Path, detail: str, chart: Path | None, output: str) -> None:
    """Score what past reports forecast, as soon as a later report has seen it come.

    DIR holds what `capacity plan --out` wrote over time, in any depth.

    \b
    Examples:
      capacity plan ./export --out reports/$(date +%F) && capacity ledger reports
      capacity ledger reports -o json --detail scores
    """
    from capacity.ledger import ledger as run
    from capacity.printing import show

    done = run(folder)
    if output == "table":
        show(done.reports, "table", title="Reports")
    _show(done.scores, done.trials, detail, output, "How right they were")
    _draw(done.scores, chart)


def _show(scores: pl.DataFrame, trials: pl.DataFrame, detail: str, output: str, title: str) -> None:
    from capacity.backtesting import overall
    from capacity.printing import show
    from capacity.tables import SCORES, TRIALS

    told = {"overall": overall(scores), "scores": scores, "trials": trials}[detail]
    of = TRIALS if detail == "trials" else SCORES
    show(told, output, of=of, title=title)  # type: ignore[arg-type]


def _draw(scores: pl.DataFrame, chart: Path | None) -> None:
    if chart is None:
        return
    from capacity.charts.backtest import backtest as figure
    from capacity.errors import SettingsError

    try:
        chart.write_text(figure(scores).to_html(include_plotlyjs=True), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--chart {chart}: {error.strerror}") from None
    click.echo(f"written: {chart}", err=True)
