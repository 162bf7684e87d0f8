"""A notebook run by papermill → one HTML file that needs no network: charts, tables, no code.

Nothing of a run is stored but the page: parameters may hold credentials, so the executed notebook
stays in memory. The kernel is this interpreter, whatever kernels the user has installed.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, fields
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from capacity import errors, shipped
from capacity.errors import CapacityError, SettingsError
from capacity.export import without_secrets
from capacity.planning import Progress
from capacity.settings import PlanSettings, from_mapping

if TYPE_CHECKING:
    from nbformat import NotebookNode

_NEEDED: Final = ("ipykernel", "nbclient", "nbconvert", "nbformat", "papermill", "plotly")
_TEMPLATES: Final = Path(__file__).with_name("templates")
_CHART: Final = "application/vnd.plotly.v1+json"
_PLOTLY_HERE: Final = "/* plotly.js goes here */"
_HEADING: Final = re.compile(r"^## +(.+?) *$", re.MULTILINE)


def is_installed() -> bool:
    """Tell whether the extra `report` is installed."""
    return all(find_spec(name) is not None for name in _NEEDED)


def report(
    notebook: str | Path,
    settings: PlanSettings,
    out: Path,
    *,
    progress: Progress | None = None,
) -> Path:
    """Run a notebook with these settings and write it as one self-contained HTML file.

    Parameters
    ----------
    notebook
        Name of a shipped notebook such as ``"plan"``, or the path of an .ipynb whose parameters
        are the fields of the settings.
    settings
        Handed over as parameters. Credentials in URLs reach the kernel, not the page.
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
        If the extra `report` is not installed, or the notebook's parameters are not the settings.
    CapacityError
        If a cell fails: the same error that the library raises, without traceback.
    """
    if not is_installed():
        raise SettingsError("report.html needs `pip install 'cilium-capacity[report]'`")
    path = _notebook(notebook)
    parameters = _parameters(path, settings)
    with warnings.catch_warnings():
        # papermill and nbconvert warn about their own future; a reader cannot mend that
        warnings.simplefilter("ignore")
        executed = _run(path, parameters, settings, progress)
        page = _page(executed, f"Capacity {path.stem}: {without_secrets(settings.source)}")
    _write(out, _clean(page, settings))
    return out


def _notebook(notebook: str | Path) -> Path:
    path = Path(notebook)
    if path.suffix != ".ipynb":
        return shipped.path("notebooks", f"{notebook}.ipynb")
    if not path.is_file():
        raise SettingsError(f"notebook {path}: no such file; name a shipped one such as plan")
    return path


def _parameters(path: Path, settings: PlanSettings) -> dict[str, Any]:
    """Give the settings as notebook parameters; papermill would only warn at a wrong name."""
    wanted = {f.name for f in fields(settings)}
    declared = declared_parameters(path)
    if wanted != set(declared):
        raise SettingsError(
            f"notebook {path.name}: its parameters cell lacks {sorted(wanted - set(declared))} and "
            f"has unknown {sorted(set(declared) - wanted)}; it must name the fields of "
            f"{type(settings).__name__}"
        )
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()}
    from_mapping(type(settings), values)
    return values


def declared_parameters(path: Path) -> dict[str, tuple[str, Any]]:
    """Give name → (annotation, default) of the cell tagged `parameters`.

    Raises
    ------
    SettingsError
        If the file is no notebook, or has no such cell, or that cell does more than assign.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(c["source"]) for c in cells if "parameters" in _tags(c)]
        tree = ast.parse(sources[0]) if sources else ast.Module([], [])
        return {
            ast.unparse(line.target): (ast.unparse(line.annotation), ast.literal_eval(line.value))
            for line in tree.body
            if isinstance(line, ast.AnnAssign) and line.value is not None
        }
    except (ValueError, KeyError, SyntaxError) as error:
        raise SettingsError(f"notebook {path}: cannot be read: {error}") from None


def _tags(cell: dict[str, Any]) -> list[str]:
    return list(cell.get("metadata", {}).get("tags", []))


def _run(
    path: Path, parameters: dict[str, Any], settings: PlanSettings, progress: Progress | None
) -> NotebookNode:
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    say = progress or (lambda name, share: None)
    say("starting the notebook's kernel", 0.0)
    with tempfile.TemporaryDirectory(prefix="capacity-") as folder:
        try:
            executed: NotebookNode = execute_notebook(
                path, None, parameters, kernel_name="capacity", progress_bar=False,
                kernel_manager_class=_kernel_manager(Path(folder)), shutdown_kernel="immediate",
                on_cell_executed=_teller(say, path),
            )  # fmt: skip
        except PapermillExecutionError as error:
            raise _cause(error, path, settings) from None
        except DeadKernelError:
            raise CapacityError(
                f"notebook {path.name}: its kernel died, most often for want of memory"
            ) from None
    return executed


def _teller(say: Progress, path: Path) -> Callable[..., None]:
    cells = len(json.loads(path.read_text(encoding="utf-8"))["cells"])

    def tell(cell: Any, cell_index: int, execute_reply: Any) -> None:
        say(f"running {path.name}", min((cell_index + 1) / cells, 1.0))

    return tell


def _kernel_manager(folder: Path) -> type:
    """Give a kernel manager that knows one kernel: this interpreter, with nothing of the user's.

    Sockets, IPython profile and kernel spec live in `folder`, which no other user can read;
    plotly gives JSON only.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    spec = {
        "display_name": "capacity",
        "language": "python",
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
                 "--IPKernelApp.ignore_cwd=True", "--IPKernelApp.log_level=ERROR"],
        "env": {
            "IPYTHONDIR": str(folder),
            "PLOTLY_RENDERER": "plotly_mimetype",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "PYTHONWARNINGS": "ignore",
        },
    }  # fmt: skip
    (folder / "capacity").mkdir()
    (folder / "capacity" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")

    class ThisInterpreter(AsyncKernelManager):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(
                kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder)]),
                connection_file=str(folder / "kernel.json"),
                transport="tcp" if sys.platform == "win32" else "ipc",
                **kwargs,
            )

    return ThisInterpreter


def _cause(error: Any, path: Path, settings: PlanSettings) -> CapacityError:
    """Give the error that the cell raised: ours as it was, another with its cell's number."""
    text = " ".join(_clean(str(error.evalue), settings).split())
    kind = getattr(errors, error.ename, None)
    if isinstance(kind, type) and issubclass(kind, CapacityError):
        return kind(text)
    return CapacityError(
        f"notebook {path.name}, cell {error.cell_index + 1}: {error.ename}: {text}"
    )


def _page(notebook: NotebookNode, title: str) -> str:
    from nbconvert.exporters import HTMLExporter
    from plotly.offline import get_plotlyjs

    charts = _charts_to_html(notebook)
    words = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = _HEADING.findall("\n".join(words))
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="report",
        extra_template_basedirs=[str(_TEMPLATES)],
        exclude_anchor_links=True,
    )
    told = {"page_title": title, "headings": {h: _slug(h) for h in headings}, "charts": charts}
    page: str = exporter.from_notebook_node(notebook, resources=told)[0]
    for heading in headings:
        page = page.replace(f"<h2>{heading}</h2>", f'<h2 id="{_slug(heading)}">{heading}</h2>')
    # Last, so that five megabytes are not parsed; once, however many charts there are
    return page.replace(_PLOTLY_HERE, get_plotlyjs() if charts else "", 1)


def _slug(heading: str) -> str:
    return re.sub(r"\W+", "-", heading.lower()).strip("-")


def _charts_to_html(notebook: NotebookNode) -> int:
    """Turn figures into numbered HTML in place: their title becomes a caption that wraps."""
    number = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            figure = output.get("data", {}).get(_CHART)
            if figure is not None:
                number += 1
                output["data"] = {"text/html": _chart_html(figure, number)}
    return number


def _chart_html(figure: dict[str, Any], number: int) -> str:
    layout = dict(figure["layout"])
    title = dict(layout.pop("title", {})).get("text", f"Chart {number}").replace("<br>", " ")
    layout["margin"] = {**layout.get("margin", {}), "t": 36}
    layout["height"] = layout.get("height", 450) - 50
    layout["dragmode"] = False
    text = json.dumps(
        {"data": figure["data"], "layout": layout}, sort_keys=True, separators=(",", ":")
    )
    # The title was escaped where it was made; in JSON a < could end the script element
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return (
        f'<figure><figcaption id="chart-{number}-title">{title}</figcaption>'
        f'<div class="scroll"><div id="chart-{number}" class="chart" role="img" tabindex="0" '
        f'aria-labelledby="chart-{number}-title" style="height:{layout["height"]}px"></div></div>'
        f'<script type="application/json" id="chart-{number}-data">{safe}</script></figure>'
    )


def _clean(text: str, settings: PlanSettings) -> str:
    """Take the credentials of the settings' URLs out of a text, plain or as in HTML and JSON."""
    for place in (settings.source, settings.inventory or ""):
        bare = without_secrets(place)
        if bare != place:
            for form in {place, escape(place), json.dumps(place)[1:-1]}:
                text = text.replace(form, bare)
    return text


def _write(out: Path, page: str) -> None:
    """Write under another name and move: a reader never sees half a page."""
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_text(page, encoding="utf-8", newline="\n")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
