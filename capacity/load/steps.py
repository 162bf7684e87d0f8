"""Samples that a step leaves out, told while files are read: what is kept decides the memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capacity.load.gather import FIRST_MILLISECOND, Selection


@dataclass(frozen=True, slots=True)
class Told:
    """Samples in the order they were told: file, series and value, and time as it is written."""

    sources: npt.NDArray[np.uint32]
    series: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float64]
    stamps: npt.NDArray[np.float64]


def superseded(told: Told, selection: Selection, *, is_in_ms: bool) -> npt.NDArray[np.bool_]:
    """Tell which samples a later one of the same series and step follows in this part.

    Parameters
    ----------
    told
        Samples of a part of the files.
    selection
        `step` and wanted times.
    is_in_ms
        Whether times are written in milliseconds, else seconds. Times far from that unit are left
        alone: of which one they are is told at the end of a file.

    Notes
    -----
    Only the last sample of a step is wanted: one that a later one of its step follows is not,
    whatever else is told. Others are left out when all is read and in order.
    """
    is_small = np.abs(told.stamps) < FIRST_MILLISECOND
    is_sure = (is_small != is_in_ms) & np.isfinite(told.stamps) & ~np.isnan(told.values)
    scale = 1 if is_in_ms else 1000
    times = np.floor(np.where(is_sure, told.stamps * scale, 0) + 0.5).astype(np.int64)
    if selection.start is not None:
        is_sure &= times >= selection.start
    if selection.end is not None:
        is_sure &= times <= selection.end
    steps = times // (selection.step or 1)
    # Stable: where a file goes from time to time, the samples of a series are put together
    order = np.lexsort((times, told.series))
    before, after = order[:-1], order[1:]
    is_followed = is_sure[before] & is_sure[after] & (times[after] > times[before])
    for same in (told.series, told.sources, steps):
        is_followed &= same[after] == same[before]
    is_out = np.zeros(len(times), np.bool_)
    is_out[before] = is_followed
    return is_out
