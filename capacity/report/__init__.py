"""A notebook run by papermill → one HTML file that needs no network: charts, tables, no code.

Nothing of a run is stored but the page and its outcome: parameters may hold credentials, so the
executed notebook stays in memory. Runs of several notebooks are in runs.py.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from capacity.errors import CapacityError, SettingsError
from capacity.report import kernel
from capacity.report.notebook import (
    Given,
    declared_parameters,
    find,
    parameters,
    places,
    source_of,
)
from capacity.report.page import figures, page, without
from capacity.telling import Progress, without_secrets
from capacity.warm import Start
from capacity.writing import write

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["Report", "declared_parameters", "is_installed", "make", "report"]

_NEEDED: Final = ("ipykernel", "nbclient", "nbconvert", "nbformat", "papermill", "plotly")
# A cell whose summary is this prints the outcome, as capacity.outcome.to_json gives it
_OUTCOME: Final = "outcome.json"


@dataclass(frozen=True, slots=True)
class Report:
    """A notebook that ran: its page, its outcome where it prints one, its charts as plotly JSON."""

    page: str
    outcome: dict[str, Any] | None
    figures: tuple[dict[str, Any], ...]


def is_installed() -> bool:
    """Tell whether the extra `report` is installed."""
    return all(find_spec(name) is not None for name in _NEEDED)


def report(
    notebook: str | Path,
    settings: Given,
    out: Path,
    *,
    progress: Progress | None = None,
) -> Path:
    """Run a notebook with these settings and write it as one self-contained HTML file.

    Parameters
    ----------
    notebook
        Name of a shipped notebook such as ``"plan"``, or the path of an .ipynb.
    settings
        Handed over as parameters: settings whose fields are the notebook's parameters, or a mapping
        of some of them. Credentials in URLs reach the kernel, not the page.
    out
        The HTML file; replaced in one step.
    progress
        Called with what is done and the share that is done, 0…1.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    SettingsError
        If the extra `report` is not installed, the notebook's parameters are not the settings, or
        the file cannot be written.
    CapacityError
        If a cell fails: the same error that the library raises, without traceback.
    """
    write(out, make(notebook, settings, progress=progress).page)
    return out


def make(
    notebook: str | Path,
    settings: Given,
    *,
    progress: Progress | None = None,
    start: Start | None = None,
    timeout: float | None = None,
    secrets: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    shared: str | None = None,
    title: str | None = None,
) -> Report:
    """Run a notebook and give its page; see `report`.

    Parameters
    ----------
    notebook, settings, progress
        As of `report`.
    start
        From `kernel.kernels`, where several notebooks share one warm interpreter.
    timeout
        Longest time of a cell. [s]
    secrets
        Texts that must not be in what is given, such as tokens.
    env
        Environment of the kernel, besides what is set.
    shared
        Where the page finds plotly.js, relative to itself; it holds its own where left out.
    title
        Of the page; made from notebook and source where left out.
    """
    if not is_installed():
        raise SettingsError("report.html needs `pip install 'cilium-capacity[report]'`")
    path = find(notebook)
    values = parameters(path, settings)
    texts, source = places(settings), without_secrets(source_of(settings))
    with ExitStack() as stack:
        begin = start or stack.enter_context(kernel.kernels())
        say = progress or (lambda name, share: None)
        try:
            executed = kernel.execute(path, values, begin, say, timeout=timeout, env=env or {})
        except CapacityError as error:
            raise type(error)(without(str(error), texts, secrets)) from None
    with warnings.catch_warnings():
        # nbconvert warns about its own future; a reader cannot mend that
        warnings.simplefilter("ignore")
        outcome, charts = _outcome(executed), figures(executed)
        named = f"Capacity {path.stem}" + (f": {source}" if source else "")
        made = page(executed, title or named, shared)
    clean = [without(text, texts, secrets) for text in (made, json.dumps([outcome, charts]))]
    outcome, charts = json.loads(clean[1])
    return Report(clean[0], outcome, tuple(charts))


def _outcome(executed: NotebookNode) -> dict[str, Any] | None:
    """Give what the cell with summary outcome.json printed; None where no cell does."""
    for cell in executed.cells:
        if cell.get("metadata", {}).get("summary") == _OUTCOME:
            printed = "".join(o.text for o in cell.outputs if o.output_type == "stream")
            told: dict[str, Any] = json.loads(printed)
            return told
    return None
