"""Notebooks by papermill in a real Jupyter kernel that is forked from a warm interpreter.

The kernel is this interpreter with nothing of the user's; each notebook has its own process.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any, Final

from capacity import errors
from capacity.errors import CapacityError
from capacity.telling import Progress
from capacity.warm import CAN_FORK, Start, warmed

if TYPE_CHECKING:
    from nbformat import NotebookNode

# What a kernel imports; importing starts no thread that a fork would miss
_KERNEL: Final = (
    "capacity.kernel", "ipykernel.kernelapp", "ipykernel.ipkernel", "tornado.platform.asyncio",
    "IPython.core.completerlib", "IPython.core.debugger", "IPython.core.oinspect",
    "IPython.extensions.storemagic",
)  # fmt: skip
# What a notebook imports → what is worth importing once, where several notebooks import it
SHARED: Final[dict[str, tuple[str, ...]]] = {
    "capacity": (
        "plotly.graph_objects", "plotly.io", "capacity.planning", "capacity.charts",
        "capacity.display", "capacity.outcome", "capacity.overview",
    ),
    "numpy": ("numpy",),
    "pandas": ("pandas",),
    "plotly": ("plotly.graph_objects", "plotly.io"),
    "polars": ("polars",),
}  # fmt: skip
_ENVIRONMENT: Final = {
    "PLOTLY_RENDERER": "plotly_mimetype",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONWARNINGS": "ignore",
}


@contextmanager
def kernels(
    notebooks: Iterable[Path] = (), *, more: Sequence[str] = (), fork: bool = CAN_FORK
) -> Iterator[Start]:
    """Give what starts kernels; what several of the notebooks import, and `more`, is paid once.

    Nothing else is: a plan's libraries take seconds, which a notebook that plans nothing would wait
    for.
    """
    modules = (*_KERNEL, *shared_imports(notebooks), *more)
    with warmed(modules, env=_ENVIRONMENT, fork=fork) as start:
        yield start


def shared_imports(notebooks: Iterable[Path]) -> tuple[str, ...]:
    """Give the modules to import once, of those that at least two of the notebooks import."""
    counts = Counter(name for path in notebooks for name in set(_imported(path)))
    return tuple(m for name, count in sorted(counts.items()) if count > 1 for m in SHARED[name])


def _imported(path: Path) -> list[str]:
    """Give the names of `SHARED` that the code of a notebook imports; what is odd fails later."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in SHARED if re.search(rf"^\s*(import|from)\s+{name}\b", code, re.M)]


def execute(
    path: Path,
    parameters: dict[str, Any],
    start: Start,
    say: Progress,
    *,
    timeout: float | None,
    env: Mapping[str, str],
) -> NotebookNode:
    """Run a notebook and give it with its outputs; nothing of it is stored.

    Parameters
    ----------
    path
        The notebook.
    parameters
        Its parameters, checked already.
    start
        From `kernels`.
    say
        Called with what is done and the share that is done, 0…1.
    timeout
        Longest time of one cell; None for no limit. [s]
    env
        Environment of the kernel, besides what is set.

    Raises
    ------
    CapacityError
        If a cell fails, or the kernel dies, or a cell takes too long.
    """
    import nbformat
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    say("starting the notebook's kernel", 0.0)
    # A path would be formatted with the parameters: braces in it have a meaning to papermill
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    # papermill asks it for the language to write parameters in
    notebook.metadata["kernelspec"] = {"name": "capacity", "display_name": "", "language": "python"}
    with tempfile.TemporaryDirectory(prefix="capacity-") as folder, warnings.catch_warnings():
        # papermill warns about its own future; a reader cannot mend that
        warnings.simplefilter("ignore")
        with _event_loop(), _manager(Path(folder), start, env) as manager:
            try:
                executed: NotebookNode = execute_notebook(
                    notebook, None, parameters, kernel_name="capacity", progress_bar=False,
                    kernel_manager_class=manager, shutdown_kernel="immediate",
                    on_cell_executed=_teller(say, path.name, len(notebook.cells)),
                    execution_timeout=timeout,
                )  # fmt: skip
            except PapermillExecutionError as error:
                raise _cause(error, path) from None
            except DeadKernelError:
                raise CapacityError(
                    f"notebook {path.name}: its kernel died, most often for want of memory"
                ) from None
            except CellTimeoutError:
                raise CapacityError(
                    f"notebook {path.name}: a cell took longer than {timeout:g} s"
                ) from None
    return executed


@contextmanager
def _event_loop() -> Iterator[None]:
    """Close the loop that the client runs in; each thread of a pool would leave one open."""
    from jupyter_core.utils import ensure_event_loop

    loop = ensure_event_loop()
    try:
        yield
    finally:
        if not loop.is_running():
            loop.close()


def _teller(say: Progress, name: str, cells: int) -> Callable[..., None]:
    def tell(cell: Any, cell_index: int, execute_reply: Any) -> None:
        say(f"running {name}", min((cell_index + 1) / cells, 1.0))

    return tell


@contextmanager
def _manager(folder: Path, start: Start, env: Mapping[str, str]) -> Iterator[type]:
    """Give a kernel manager that knows one kernel, which it gets from `start`.

    Sockets, IPython profile and kernel spec live in `folder`, which no other user can read.
    """
    from jupyter_client.asynchronous.client import AsyncKernelClient
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    (folder / "capacity").mkdir()
    spec = {"display_name": "capacity", "language": "python", "argv": ["capacity-kernel"]}
    (folder / "capacity" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    connection = str(folder / "kernel.json")
    call = {
        "arguments": ["-f", connection, "--IPKernelApp.log_level=ERROR",
                      "--HistoryManager.enabled=False"],
        "folder": str(Path.cwd()),
    }  # fmt: skip
    jobs = []

    class Client(AsyncKernelClient):
        async def _async_wait_for_ready(self, timeout: float | None = None) -> None:
            await _ready(self, timeout)

        wait_for_ready = _async_wait_for_ready

    class ForkedKernel(AsyncKernelManager):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(
                client_factory=Client,
                kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder)]),
                connection_file=connection,
                transport="tcp" if sys.platform == "win32" else "ipc",
                **kwargs,
            )

        async def _async_launch_kernel(self, kernel_cmd: list[str], **kwargs: Any) -> None:
            job = start("capacity.kernel:serve", call, {**env, "IPYTHONDIR": str(folder)})
            jobs.append(job)
            provisioner: Any = self.provisioner
            provisioner.process, provisioner.pid, provisioner.pgid = job, job.pid, job.pid
            self._reconcile_connection_info(provisioner.connection_info)

    try:
        yield ForkedKernel
    finally:
        for job in jobs:
            job.close()


async def _ready(client: Any, timeout: float | None) -> None:
    """Wait until the kernel answers on both channels.

    The library's own wait reads the second channel until it was quiet for 0.2 s: longer than all
    the rest. Messages that are left there belong to this question, and nobody asks for them.
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    while time.monotonic() < end:
        client.kernel_info()
        with suppress(Empty):
            answer = await client.shell_channel.get_msg(timeout=1)
            await client.iopub_channel.get_msg(timeout=0.2)
            client._handle_kernel_info_reply(answer)
            return
        if not await client.is_alive():
            break
    raise CapacityError("the notebook's kernel did not start, most often for want of memory")


def _cause(error: Any, path: Path) -> CapacityError:
    """Give the error that the cell raised: ours as it was, another with its cell's number."""
    text = " ".join(str(error.evalue).split())
    kind = getattr(errors, error.ename, None)
    if isinstance(kind, type) and issubclass(kind, CapacityError):
        return kind(text)
    return CapacityError(
        f"notebook {path.name}, cell {error.cell_index + 1}: {error.ename}: {text}"
    )
