"""Samples that a step leaves out, told while text is read, compiled: what is kept needs memory.

Of each series the last sample is held until a later step begins; so a series in order of time
leaves one sample a step, whatever its scrape interval.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.load.gather import FIRST_MILLISECOND, Selection
from capacity.load.lines import Told

Bits = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]

_FIRST: Final = 1 << 10


@dataclass(slots=True)
class Thinner:
    """Samples held, one a series at most, and by file how many were left out so far.

    Parameters
    ----------
    selection
        `step` and wanted times.
    left_out
        Of each file, zeros at first.
    is_in_ms
        Whether times are written in milliseconds, else seconds. Times far from that unit are left
        alone: of which one they are is told at the end of a file.

    Notes
    -----
    Only the last sample of a step is wanted: one that another of its series, file and step is later
    than is not, whatever else is told. Where times go to and fro more is left, which is thinned
    when all is in order.
    """

    selection: Selection
    left_out: Integers
    is_in_ms: bool
    is_held: Bits = field(default_factory=lambda: np.zeros(_FIRST, np.bool_))
    held: Told = field(default_factory=lambda: _empty(_FIRST))
    times: Integers = field(default_factory=lambda: np.zeros(_FIRST, np.int64))

    def thinned(self, told: Told, is_exempt: Bits) -> Told:
        """Take samples in the order they are told, and give those that are known to stay."""
        if not len(told.series):
            return told
        self._grow(int(told.series.max()) + 1)
        times, is_sure = self._times(told)
        out = _empty(2 * len(times))
        many = _thinned(
            *_columns(told), times, is_sure & ~is_exempt, self.selection.step or 1,
            *_columns(self.held), self.times, self.is_held, self.left_out, *_columns(out),
        )  # fmt: skip
        # Copies, as a slice keeps the whole
        return Told(
            out.sources[:many].copy(), out.series[:many].copy(), out.values[:many].copy(),
            out.stamps[:many].copy(),
        )  # fmt: skip

    def rest(self) -> Told:
        """Give the samples that are held."""
        return self.held.filter(self.is_held)

    def _grow(self, series: int) -> None:
        before = len(self.is_held)
        if series <= before:
            return
        more = series + series // 4 - before
        self.is_held = np.concatenate([self.is_held, np.zeros(more, np.bool_)])
        self.times = np.concatenate([self.times, np.zeros(more, np.int64)])
        held, new = self.held, _empty(more)
        self.held = Told(
            np.concatenate([held.sources, new.sources]),
            np.concatenate([held.series, new.series]),
            np.concatenate([held.values, new.values]),
            np.concatenate([held.stamps, new.stamps]),
        )

    def _times(self, told: Told) -> tuple[Integers, Bits]:
        """Give times [ms], and whether they are sure and wanted."""
        is_small = np.abs(told.stamps) < FIRST_MILLISECOND
        is_sure = (is_small != self.is_in_ms) & np.isfinite(told.stamps) & ~np.isnan(told.values)
        scale = 1 if self.is_in_ms else 1000
        times = np.floor(np.where(is_sure, told.stamps * scale, 0) + 0.5).astype(np.int64)
        if self.selection.start is not None:
            is_sure &= times >= self.selection.start
        if self.selection.end is not None:
            is_sure &= times <= self.selection.end
        return times, is_sure


def _empty(size: int) -> Told:
    return Told(
        np.empty(size, np.uint32), np.empty(size, np.uint32), np.empty(size), np.empty(size)
    )


def _columns(told: Told) -> tuple[Numbers, Numbers, Floats, Floats]:
    return told.sources, told.series, told.values, told.stamps


@njit(cache=True, nogil=True)
def _thinned(
    sources: Numbers, series: Numbers, values: Floats, stamps: Floats, times: Integers,
    is_sure: Bits, step: int,
    held_sources: Numbers, held_series: Numbers, held_values: Floats, held_stamps: Floats,
    held_times: Integers, is_held: Bits, left_out: Integers,
    out_sources: Numbers, out_series: Numbers, out_values: Floats, out_stamps: Floats,
) -> int:  # fmt: skip
    """Fill what stays; give how much. A series' samples stay in the order they were told."""
    many = 0
    for i in range(len(series)):
        one = series[i]
        if is_held[one]:
            is_of_step = (
                is_sure[i]
                and held_sources[one] == sources[i]
                and held_times[one] // step == times[i] // step
            )
            if is_of_step and times[i] < held_times[one]:
                left_out[sources[i]] += 1
                continue
            if is_of_step and times[i] > held_times[one]:
                left_out[sources[i]] += 1
            else:
                out_sources[many], out_series[many] = held_sources[one], one
                out_values[many], out_stamps[many] = held_values[one], held_stamps[one]
                many += 1
        is_held[one] = is_sure[i]
        if is_sure[i]:
            held_sources[one], held_series[one], held_times[one] = sources[i], one, times[i]
            held_values[one], held_stamps[one] = values[i], stamps[i]
        else:
            out_sources[many], out_series[many] = sources[i], one
            out_values[many], out_stamps[many] = values[i], stamps[i]
            many += 1
    return many
