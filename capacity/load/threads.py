"""Work that compiled code does without the interpreter's lock, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt

THREADS: Final = min(4, os.cpu_count() or 1)
# Things below which a second thread costs more than it brings
_FEW: Final = 256


def parallel(run: Callable[[slice], None], work: npt.NDArray[np.int64], few: int = _FEW) -> None:
    """Run parts of about equal work, one a thread.

    Parameters
    ----------
    run
        Does the things of a slice.
    work
        What each thing costs, in any unit.
    few
        Things below which one thread does all.

    Examples
    --------
    >>> done = np.zeros(1000)
    >>> def mark(part: slice) -> None:
    ...     done[part] += 1
    >>> parallel(mark, np.ones(1000, np.int64))
    >>> bool((done == 1).all())
    True
    """
    many = len(work)
    if many < few or THREADS == 1:
        run(slice(0, many))
        return
    until = np.cumsum(work)
    cuts = np.searchsorted(until, np.linspace(0, until[-1], THREADS + 1)[1:-1])
    edges = [0, *cuts.tolist(), many]
    parts = [slice(*edge) for edge in zip(edges, edges[1:], strict=False)]
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(run, parts))
